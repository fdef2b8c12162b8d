"""Word times and acoustic confidence by CTC forced alignment of any decoder's text.

CTC emits a character a frame or two inside its sound, so a word extends half way to the next character, at most
`REACH_S`, and `REACH_S` before its first, up to the previous word. Punctuation takes no time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from lithophone.audio.features import FRAME_S
from lithophone.ctc.characters import N_LABELS
from lithophone.ctc.confidence import confidence_of
from lithophone.ctc.forced_alignment import Scores, Span, align, label_scores
from lithophone.ctc.pronunciation import AlignmentUnit, SpokenText, spoken_text
from lithophone.transcript import Word

REACH_S = 0.06
"""Seconds a word may extend beyond its characters (`bench/word_times.py`)."""

LogProbs = Scores


def timed_words(text: str, log_probs: LogProbs, duration_s: float, language: str | None = None) -> tuple[Word, ...]:
    """Words of `text` with times in seconds from the start of `log_probs` (T, V), and acoustic confidence.

    Times rise, up to `duration_s` of the samples. Empty for too few frames, text without labels (`pronunciation.py`),
    or another label set.
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
    for unit in spoken.units:
        start_s, behind = last_s, at + len(unit.labels)
        if unit.labels:
            start_s = min(max(last_s, spans[at][0] * FRAME_S - REACH_S), duration_s)
            last_s = min(_end_s(spans, behind), duration_s)
        yield from _shared(unit, start_s, last_s, confidence_of(scores[at:behind]))
        at = behind + (spoken.spaced if unit.labels else 0)


def _end_s(spans: Sequence[Span], behind: int) -> float:
    """Half way from a word's end to the label at `behind`, within `REACH_S`."""
    end_s = spans[behind - 1][1] * FRAME_S
    if behind == len(spans):
        return end_s + REACH_S
    return min((end_s + spans[behind][0] * FRAME_S) / 2, end_s + REACH_S)


def _shared(unit: AlignmentUnit, start_s: float, end_s: float, confidence: float | None) -> Iterator[Word]:
    """Words of a unit, its time divided by their characters."""
    done = np.cumsum([0, *map(len, unit.words)])
    edges = np.interp(done, [0, done[-1]], [start_s, end_s]).tolist()
    for word, begin, end in zip(unit.words, edges[:-1], edges[1:], strict=True):
        yield Word(word, begin, end, confidence)
