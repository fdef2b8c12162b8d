"""Words of a finished text -> words with times, by aligning the text to the encoder's character posteriors.

Works for every decoder, because it needs only the text. A word stands where its characters stand; marks around it take
no time of their own. Texts written without spaces are given back without word times.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lithophone.decode.ctc import WILDCARD, align
from lithophone.features import FRAME_S
from lithophone.labels import N_LABELS, character_label, raw_text
from lithophone.transcript import Word

MAX_WILDCARDS = 0.5
"""Share of characters outside the label set beyond which an alignment would mean nothing."""

SPACE = ord(" ")


def timed_words(text: str, log_probs: npt.NDArray[np.float32], duration_s: float) -> tuple[Word, ...]:
    """Words of `text` with times in seconds from the start of `log_probs` (T, V), which are 20 ms frames.

    Empty where the frames cannot hold the text, where most of its characters are outside the label set, or where the
    encoder has another label set.
    """
    words = [(word, _labels(word)) for word in text.split()]
    spoken = [(word, labels) for word, labels in words if labels]
    flat = [label for _, labels in spoken for label in [*labels, SPACE]][:-1]
    if log_probs.shape[1] != N_LABELS or not flat or flat.count(WILDCARD) > MAX_WILDCARDS * len(flat):
        return ()
    spans = align(log_probs, flat)
    return () if spans is None else _words(words, spans, duration_s)


def _labels(word: str) -> list[int]:
    """Labels of a word as the heads were trained on it: raw, with a wildcard for what the set does not hold."""
    labels = (character_label(character) for character in raw_text(word))
    return [WILDCARD if label is None else label for label in labels]


def _words(words: list[tuple[str, list[int]]], spans: list[tuple[int, int]], duration_s: float) -> tuple[Word, ...]:
    timed: list[Word] = []
    at, last_s = 0, 0.0
    for word, labels in words:
        if not labels:
            timed.append(Word(word, last_s, last_s))
            continue
        start_s = spans[at][0] * FRAME_S
        last_s = min(spans[at + len(labels) - 1][1] * FRAME_S, duration_s)
        timed.append(Word(word, min(start_s, last_s), last_s))
        at += len(labels) + 1
    return tuple(timed)
