"""Words of a finished text -> words with times and confidence, by aligning the text to the encoder's characters.

Works for every decoder, because it needs only the text. A character stands where the encoder spells it, which is a
frame or two inside its sound. So a word reaches beyond its own characters: half way to the character behind it, mostly
a space, and never farther than `REACH_S`; and as far back, unless the word before is still there. Marks take no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lithophone import kana
from lithophone.decode.ctc import Span, align, label_scores
from lithophone.features import FRAME_S
from lithophone.labels import N_LABELS
from lithophone.longform.confidence import confidence_of, token_pieces, with_written
from lithophone.longform.judge import Heard
from lithophone.longform.spoken import SpokenText, Stretch, spoken_text
from lithophone.replies import Turn
from lithophone.transcript import Word

REACH_S = 0.06
"""How far the sound of a word may reach beyond its first and its last character (`bench/word_times.py`)."""

LogProbs = npt.NDArray[np.float32]


def with_words(
    heard: Heard, log_probs: LogProbs, decode: Callable[[list[int]], str], language: str | None = None
) -> Heard:
    """The same reply with its words timed and weighed, from its character log posteriors (T, V), 20 ms a frame.

    Times that the reply brings itself are kept. `decode` turns token ids into text, `language` is that of the text.
    """
    parsed = heard.parsed
    aligned = timed_words(parsed.text, log_probs, len(log_probs) * FRAME_S, language)
    words = _with_confidence_of(aligned, parsed.words) if parsed.words else aligned
    words = with_written(words, token_pieces(heard.reply.ids, decode), heard.reply.logprobs)
    words = tuple(_with_speakers(words, parsed.turns)) if parsed.turns else words
    untimed = "" if words else _why_untimed(parsed.text, language)
    return replace(heard, parsed=replace(parsed, words=words), aligned=aligned, untimed=untimed)


def timed_words(text: str, log_probs: LogProbs, duration_s: float, language: str | None = None) -> tuple[Word, ...]:
    """Words of `text` with times in seconds from the start of `log_probs` (T, V), and how far they were heard.

    Times rise and stay within `duration_s`. Empty where the frames cannot hold the text, where the text has no labels
    (`spoken.py`), or where the encoder has another label set.
    """
    spoken = spoken_text(text, language)
    labels = spoken.labels
    if log_probs.shape[1] != N_LABELS or not labels:
        return ()
    spans = align(log_probs, labels)
    if spans is None:
        return ()
    return tuple(_words(spoken, spans, label_scores(log_probs, labels, spans), duration_s))


def _words(
    spoken: SpokenText, spans: Sequence[Span], scores: Sequence[float | None], duration_s: float
) -> Iterator[Word]:
    at, last_s = 0, 0.0
    for stretch in spoken.stretches:
        start_s, behind = last_s, at + len(stretch.labels)
        if stretch.labels:
            start_s = min(max(last_s, spans[at][0] * FRAME_S - REACH_S), duration_s)
            last_s = min(_end_s(spans, behind), duration_s)
        yield from _shared(stretch, start_s, last_s, confidence_of(scores[at:behind]))
        at = behind + (spoken.spaced if stretch.labels else 0)


def _end_s(spans: Sequence[Span], behind: int) -> float:
    """Half way from the last character of a word to the one at `behind`, within reach."""
    end_s = spans[behind - 1][1] * FRAME_S
    if behind == len(spans):
        return end_s + REACH_S
    return min((end_s + spans[behind][0] * FRAME_S) / 2, end_s + REACH_S)


def _shared(stretch: Stretch, start_s: float, end_s: float, confidence: float | None) -> Iterator[Word]:
    """The words of a stretch, each as long as it has characters."""
    done = np.cumsum([0, *map(len, stretch.words)])
    edges = np.interp(done, [0, done[-1]], [start_s, end_s]).tolist()
    for word, begin, end in zip(stretch.words, edges[:-1], edges[1:], strict=True):
        yield Word(word, begin, end, confidence)


def _with_confidence_of(aligned: tuple[Word, ...], words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Words with times of their own take over what was heard of the same words."""
    if [word.text for word in aligned] != [word.text for word in words]:
        return words
    return tuple(replace(word, confidence=same.confidence) for word, same in zip(words, aligned, strict=True))


def _with_speakers(words: Iterable[Word], turns: Iterable[Turn]) -> Iterator[Word]:
    """Every word with the speaker of the turn its first character stands in."""
    speakers = [turn.speaker for turn in turns for _ in "".join(turn.text.split())]
    at = 0
    for word in words:
        yield replace(word, speaker=speakers[at])
        at += len(word.text)


def _why_untimed(text: str, language: str | None) -> str:
    """What to tell somebody who asked for the times of words that have none; "" where there are no words."""
    if not text:
        return ""
    if kana.is_japanese(text, language) and not kana.can_read():
        return "the words have no times: Japanese needs its readings, pip install 'lithophone[ja]'"
    return "the words have no times: the text does not fit the characters that were heard"
