"""All counts of one clip; a corpus is the sum of its clips.

Counts that the reference does not allow are zero: punctuation and capitals where it has none, keywords without a list,
times and speakers without words that have them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lithophone.data.manifest import Entry
from lithophone.evaluation.hypotheses import Hypothesis
from lithophone.metrics.counts import ErrorCounts, F1Counts, count_errors
from lithophone.metrics.keywords import BiasedCounts, biased_counts, keyword_counts
from lithophone.metrics.normalize import Normalizer, normalizer_for, normalizer_named
from lithophone.metrics.punctuation import MARKS, PunctuationCounts, capital_counts, punctuation_counts
from lithophone.metrics.speakers import SpeakerCounts, cpwer, wder
from lithophone.metrics.times import TimeErrors, time_errors
from lithophone.metrics.wer import measure_name, units
from lithophone.transcript import Word

NO_ERRORS, NO_MARKS, NOTHING_FOUND = ErrorCounts(), PunctuationCounts(), F1Counts()
NO_BIAS, NO_TIMES, NO_SPEAKERS = BiasedCounts(NO_ERRORS, NO_ERRORS), TimeErrors(), SpeakerCounts()
A_MARK = re.compile(f"[{re.escape(MARKS)}。、，？]")


@dataclass(frozen=True)
class Texts:
    """How texts are compared.

    to: language code of both texts in translation.
    normalizer: name of one normaliser for all languages; default each language's own.
    """

    to: str | None = None
    normalizer: str | None = None

    def language(self, spoken: str) -> str:
        return self.to or spoken

    def measure(self, spoken: str) -> str:
        return measure_name(self.language(spoken))

    def normalizer_of(self, spoken: str) -> Normalizer:
        """Normaliser of both texts. Raises OptionError for an unknown name."""
        lang = self.language(spoken)
        return normalizer_named(self.normalizer, lang) if self.normalizer else normalizer_for(lang)

    def units(self, text: str, spoken: str) -> list[str]:
        """Normalised words, or characters."""
        return units(text, self.language(spoken), self.normalizer_of(spoken))


AS_SPOKEN = Texts()


@dataclass(frozen=True)
class Tally:
    """Counts of one or more clips. `counts` is of words; of characters for Japanese and Mandarin."""

    counts: ErrorCounts = NO_ERRORS
    characters: ErrorCounts = NO_ERRORS
    """Of the normalised text, with single spaces in spaced languages, as jiwer's CER."""
    punctuation: PunctuationCounts = NO_MARKS
    capitals: F1Counts = NOTHING_FOUND
    keywords: F1Counts = NOTHING_FOUND
    biased: BiasedCounts = NO_BIAS
    times: TimeErrors = NO_TIMES
    speakers: SpeakerCounts = NO_SPEAKERS
    cpwer: ErrorCounts = NO_ERRORS
    clips: int = 0
    failed: int = 0
    """Clips without a hypothesis, which counts as empty."""
    empty_references: int = 0
    """Clips whose normalised reference is empty: every word of the hypothesis is an insertion."""
    audio_s: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return total((self, other))

    @property
    def is_punctuated(self) -> bool:
        """Whether both sides have punctuation, so that PER is defined."""
        p = self.punctuation
        return p.correct + p.substitutions > 0 or (p.deletions > 0 and p.insertions > 0)

    @property
    def is_cased(self) -> bool:
        """Whether both sides have capitals."""
        c = self.capitals
        return c.tp > 0 or (c.fp > 0 and c.fn > 0)

    @property
    def has_keywords(self) -> bool:
        return self.keywords != NOTHING_FOUND


def total(tallies: Iterable[Tally]) -> Tally:
    some = list(tallies)
    return Tally(**{name: _summed([getattr(tally, name) for tally in some], zero) for name, zero in ZEROS.items()})


def _summed(values: Sequence[Any], zero: Any) -> Any:
    # Most counts of most clips are the default object itself: no need to add.
    return sum((value for value in values if value is not zero), zero)


ZEROS: Mapping[str, Any] = {field.name: field.default for field in fields(Tally)}


def count_clip(
    entry: Entry,
    hypothesis: Hypothesis | None,
    *,
    texts: Texts = AS_SPOKEN,
    keywords: Sequence[str] = (),
    timed: bool = False,
    has_speakers: bool = False,
    audio_s: float | None = None,
) -> Tally:
    """Counts of one clip.

    hypothesis: None counts as empty.
    keywords: list of the clip. Keywords and speakers' words go through the language's own normaliser.
    timed: the system gives word times: an output without them is malformed.
    has_speakers: the system gives speakers: words without one count as deleted.
    audio_s: length, if known better than the entry's.
    """
    lang = texts.language(entry.lang)
    text = hypothesis.text if hypothesis else ""
    ref, hyp = (texts.units(one, entry.lang) for one in (entry.text, text))
    counts = count_errors(ref, hyp)
    characters = counts if measure_name(lang) == "CER" else count_errors(" ".join(ref), " ".join(hyp))
    return Tally(
        counts=counts,
        characters=characters,
        clips=1,
        failed=int(hypothesis is None),
        empty_references=int(not ref),
        audio_s=audio_s if audio_s is not None else entry.duration_s or 0.0,
        **_written(entry.text, text),
        **_listed(entry.text, text, keywords, lang),
        **_timed(entry.words, hypothesis, timed),
        **_spoken(entry.words, hypothesis, lang, has_speakers),
    )


def _written(reference: str, text: str) -> dict[str, Any]:
    """Punctuation and capitals, where the reference has punctuation or both cases."""
    if reference in (reference.lower(), reference.upper()) and not A_MARK.search(reference):
        return {}
    return {"punctuation": punctuation_counts(reference, text), "capitals": capital_counts(reference, text)}


def _listed(reference: str, text: str, keywords: Sequence[str], lang: str) -> dict[str, Any]:
    if not keywords:
        return {}
    return {
        "keywords": keyword_counts(reference, text, keywords, lang),
        "biased": biased_counts(reference, text, keywords, lang),
    }


def _timed(words: Sequence[Word], hypothesis: Hypothesis | None, timed: bool) -> dict[str, Any]:
    if not words or not timed:
        return {}
    hyp = hypothesis.timed_words if hypothesis else ()
    return {"times": time_errors(words, hyp, malformed=not hyp)}


def _spoken(words: Sequence[Word], hypothesis: Hypothesis | None, lang: str, has_speakers: bool) -> dict[str, Any]:
    """WDER and cpWER, where both sides have speakers."""
    ref = [(word.text, word.speaker) for word in words if word.speaker]
    if not ref or not has_speakers:
        return {}
    hyp = speaker_words(hypothesis) if hypothesis else []
    ref, hyp = (_normalized(side, lang) for side in (ref, hyp))
    return {"speakers": wder(ref, hyp), "cpwer": cpwer(_by_speaker(ref), _by_speaker(hyp))}


def speaker_words(hypothesis: Hypothesis) -> list[tuple[str, str]]:
    """(word, speaker) in order: of the words, else of the turns."""
    words = [(word.text, word.speaker) for word in hypothesis.words if word.speaker]
    return words or [(text, turn.speaker) for turn in hypothesis.turns if turn.speaker for text in turn.text.split()]


def _normalized(words: Sequence[tuple[str, str]], lang: str) -> list[tuple[str, str]]:
    """Normalise runs of one speaker together: a number or contraction may be several words."""
    runs: list[tuple[str, list[str]]] = []
    for text, speaker in words:
        if not runs or runs[-1][0] != speaker:
            runs.append((speaker, []))
        runs[-1][1].append(text)
    return [(unit, speaker) for speaker, texts in runs for unit in units(" ".join(texts), lang)]


def _by_speaker(words: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    spoken: dict[str, list[str]] = defaultdict(list)
    for word, speaker in words:
        spoken[speaker].append(word)
    return dict(spoken)
