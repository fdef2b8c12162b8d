"""Clips -> scores with intervals: per corpus and language, per language, per duration; and paired tests of systems.

Nothing is summed over languages, whose normalisers and units differ. The mean of corpora is the mean of their rates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, TypeVar

from lithophone.data.manifest import Entry
from lithophone.errors import OptionError
from lithophone.evaluation.tally import AS_SPOKEN, Tally, Texts, total
from lithophone.metrics.counts import ErrorCounts, F1Counts
from lithophone.metrics.significance import Interval, PairedTest, bootstrap_interval, paired_test
from lithophone.metrics.speed import Latency
from lithophone.metrics.translation import TranslationScore, translation_score

NOTHING_COUNTED = Tally()
DURATION_EDGES_S = (0.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, math.inf)

Key = TypeVar("Key")


@dataclass(frozen=True)
class Clip:
    """One clip of one system: entry, hypothesis (empty if missing), counts."""

    entry: Entry
    text: str
    tally: Tally


@dataclass(frozen=True)
class System:
    """All clips of one system, in the manifest's order."""

    name: str
    clips: tuple[Clip, ...]
    processing_s: float | None = None
    """Seconds of processing, decoding of files included; None for given hypotheses."""
    latency: Latency | None = None
    without_reference: tuple[str, ...] = ()
    texts: Texts = AS_SPOKEN
    about: Mapping[str, Any] = field(default_factory=dict)
    """Origin of the hypotheses: model and options, or a file."""

    @property
    def without_hypothesis(self) -> tuple[str, ...]:
        return tuple(clip.entry.id for clip in self.clips if clip.tally.failed)


@dataclass(frozen=True)
class Score:
    """Counts of one corpus in one language, or of a part of it; scores of one language add."""

    corpus: str
    lang: str
    tally: Tally = NOTHING_COUNTED
    duration: str = ""
    """`5 to 10 s`; empty for all lengths."""
    interval: Interval | None = None
    """Of the rate; None for a sum, a translation score and too few clips."""
    texts: Texts = AS_SPOKEN
    translation: TranslationScore | None = None

    def __add__(self, other: Score) -> Score:
        assert self.lang == other.lang, f"{self.lang} and {other.lang} are not counted the same way"
        return Score(self.corpus, self.lang, self.tally + other.tally, texts=self.texts)

    @property
    def counts(self) -> ErrorCounts:
        """Of words; of characters for Japanese and Mandarin."""
        return self.tally.counts

    @property
    def clips(self) -> int:
        return self.tally.clips

    @property
    def failed(self) -> int:
        return self.tally.failed

    @property
    def audio_s(self) -> float:
        return self.tally.audio_s

    @property
    def measure(self) -> str:
        return self.texts.measure(self.lang)

    @property
    def normalizer(self) -> str:
        return str(self.texts.normalizer_of(self.lang))

    def to_dict(self) -> dict[str, Any]:
        c = self.counts
        return {
            "corpus": self.corpus, "lang": self.lang, **({"duration": self.duration} if self.duration else {}),
            "measure": self.measure, "rate": _finite(c.rate), "interval": interval_dict(self.interval), "hits": c.hits,
            "substitutions": c.substitutions, "deletions": c.deletions, "insertions": c.insertions,
            "clips": self.clips, "failed": self.failed, "empty_references": self.tally.empty_references,
            "audio_s": self.audio_s, "normalizer": self.normalizer, **measures(self),
        }  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    scores: tuple[Score, ...]
    """Per corpus and language, sorted by name."""
    processing_s: float | None
    languages: tuple[Score, ...] = ()
    """Per language, over all corpora."""
    durations: tuple[Score, ...] = ()
    """Per language and length of the clips."""
    latency: Latency | None = None

    @property
    def audio_s(self) -> float:
        return sum(score.audio_s for score in self.scores)

    @property
    def failed(self) -> int:
        return sum(score.failed for score in self.scores)

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of processing; nan for given hypotheses."""
        return self.audio_s / self.processing_s if self.processing_s else math.nan

    @property
    def averages(self) -> dict[str, float]:
        """Mean of the corpora's rates by language, where it has several; corpora weigh the same."""
        rates: dict[str, list[float]] = defaultdict(list)
        for score in self.scores:
            rates[score.lang].append(score.counts.rate)
        return {lang: sum(some) / len(some) for lang, some in rates.items() if len(some) > 1}

    def to_dict(self) -> dict[str, Any]:
        speed: dict[str, Any] = {"audio_s": self.audio_s}
        if self.processing_s is not None:
            speed |= {"processing_s": self.processing_s, "rtfx": self.rtfx, "rtfx_includes_file_decoding": True}
        if self.latency is not None:
            speed["latency"] = vars(self.latency)
        return {
            "scores": [score.to_dict() for score in self.scores],
            "languages": [score.to_dict() for score in self.languages],
            "durations": [score.to_dict() for score in self.durations],
            "averages": {lang: _finite(rate) for lang, rate in self.averages.items()},
            **speed,
        }


@dataclass(frozen=True)
class Resampling:
    level: float = 0.95
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise OptionError(f"level {self.level} must be between 0 and 1: 0.95 is usual")
        if self.resamples < 1:
            raise OptionError(f"{self.resamples} resamples: take 1 or more, 1000 for a paper")


AS_USUAL = Resampling()


@dataclass(frozen=True)
class Comparison:
    """Rate of `a` minus rate of `b` on the same clips."""

    a: str
    b: str
    corpus: str | None
    """None: all corpora of the language."""
    lang: str
    test: PairedTest

    def to_dict(self) -> dict[str, Any]:
        t = self.test
        return {
            "a": self.a, "b": self.b, "corpus": self.corpus, "lang": self.lang, "difference": _finite(t.difference),
            "interval": interval_dict(t.interval), "p_value": t.p_value,
        }  # fmt: skip


def summarize(system: System, resampling: Resampling = AS_USUAL) -> Evaluation:
    corpora = grouped(system.clips, corpus_and_language)
    scores = [_score(clips, c, lang, resampling, system.texts) for (c, lang), clips in corpora.items()]
    several = {lang for lang in {s.lang for s in scores} if sum(s.lang == lang for s in scores) > 1}
    alone = {score.lang: score for score in scores if score.lang not in several}
    languages = [
        _score(clips, "", lang, resampling, system.texts) if lang in several else replace(alone[lang], corpus="")
        for lang, clips in grouped(system.clips, lambda clip: clip.entry.lang).items()
    ]
    durations = [
        replace(_score(clips, "", lang, resampling, system.texts, False), duration=duration_name(number))
        for (lang, number), clips in grouped(system.clips, language_and_duration).items()
    ]
    return Evaluation(tuple(scores), system.processing_s, tuple(languages), tuple(durations), system.latency)


def compare(systems: Sequence[System], resampling: Resampling = AS_USUAL) -> tuple[Comparison, ...]:
    """Every system with every later one, per language, and per corpus where a language has several."""
    return tuple(found for a, b in combinations(systems, 2) for found in _compared(a, b, resampling))


def _compared(a: System, b: System, resampling: Resampling) -> Iterable[Comparison]:
    assert [x.entry for x in a.clips] == [y.entry for y in b.clips], "systems are compared on the same clips"
    pairs = list(zip(a.clips, b.clips, strict=True))
    languages = grouped(pairs, lambda pair: pair[0].entry.lang)
    corpora = grouped(pairs, lambda pair: corpus_and_language(pair[0]))
    for lang, some in languages.items():
        parts: dict[str | None, Sequence[tuple[Clip, Clip]]] = {None: some}
        parts |= {corpus: part for (corpus, code), part in corpora.items() if code == lang and len(part) < len(some)}
        for corpus, part in parts.items():
            lengths = [y.tally.counts.reference_length for _, y in part]
            if sum(lengths):
                errors = ([x.tally.counts.errors for x, _ in part], [y.tally.counts.errors for _, y in part])
                yield Comparison(a.name, b.name, corpus, lang, paired_test(*errors, lengths, **vars(resampling)))


def grouped(items: Iterable[Any], key: Callable[[Any], Key]) -> dict[Key, list[Any]]:
    """Items by key, keys sorted."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return {name: found[name] for name in sorted(found)}


def corpus_and_language(clip: Clip) -> tuple[str, str]:
    return clip.entry.corpus, clip.entry.lang


def language_and_duration(clip: Clip) -> tuple[str, int]:
    """Language and number of the duration's bucket."""
    return clip.entry.lang, sum(clip.tally.audio_s >= edge for edge in DURATION_EDGES_S) - 1


def duration_name(number: int) -> str:
    low, high = DURATION_EDGES_S[number : number + 2]
    return f"{low:g} s and more" if math.isinf(high) else f"{low:g} to {high:g} s"


def interval_of(tallies: Sequence[Tally], resampling: Resampling) -> Interval | None:
    """Bootstrap interval of the rate over clips; None without reference words, and for too few clips."""
    lengths = [tally.counts.reference_length for tally in tallies]
    if not sum(lengths):
        return None
    return bootstrap_interval([tally.counts.errors for tally in tallies], lengths, **vars(resampling))


def _score(
    clips: Sequence[Clip], corpus: str, lang: str, resampling: Resampling, texts: Texts, is_translated: bool = True
) -> Score:
    tallies = [clip.tally for clip in clips]
    translation = None
    if texts.to and is_translated:
        pairs = ([clip.entry.text for clip in clips], [clip.text for clip in clips])
        translation = translation_score(*pairs, texts.to)
    return Score(corpus, lang, total(tallies), "", interval_of(tallies, resampling), texts, translation)


def measures(score: Score) -> dict[str, Any]:
    """All other measures that the data allow: shares 0..1, times in ms, BLEU and chrF++ 0..100."""
    t = score.tally
    found: dict[str, Any] = {}
    if score.measure == "WER":
        found["cer"] = _finite(t.characters.rate)
    if t.is_punctuated:
        found["per"] = {"rate": t.punctuation.rate, **vars(t.punctuation)}
    if t.is_cased:
        found["capitals"] = _f1_dict(t.capitals)
    if t.has_keywords:
        found["keywords"] = _f1_dict(t.keywords)
        found["b_wer"], found["u_wer"] = _finite(t.biased.biased.rate), _finite(t.biased.unbiased.rate)
    if t.times.outputs:
        times = {"aas_ms": t.times.aas_ms, "start_aas_ms": t.times.start_aas_ms, "both_ms": t.times.both_ms}
        found["times"] = {name: _finite(value) for name, value in times.items()}
        found["times"] |= {"words": t.times.words, "malformed_share": t.times.malformed_share}
    if t.cpwer != ErrorCounts():
        found["wder"], found["cpwer"] = _finite(t.speakers.rate), _finite(t.cpwer.rate)
    if score.translation is not None:
        found["translation"] = {"to": score.texts.to, **vars(score.translation)}
    return found


def _f1_dict(counts: F1Counts) -> dict[str, Any]:
    rates = {"f1": counts.f1, "precision": counts.precision, "recall": counts.recall}
    return {**{name: _finite(value) for name, value in rates.items()}, **vars(counts)}


def interval_dict(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {"low": _finite(interval.low), "high": _finite(interval.high), "level": interval.level}


def _finite(value: float) -> float | None:
    """None for infinity and nan, which JSON lacks."""
    return value if math.isfinite(value) else None
