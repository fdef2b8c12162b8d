"""Word diarisation error rate (WDER) and concatenated minimum-permutation WER (cpWER), of normalised words.

Reference and hypothesis speakers are paired so that errors are fewest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein
from scipy.optimize import linear_sum_assignment

from lithophone.metrics.alignment import align
from lithophone.metrics.counts import Counts, ErrorCounts, count_errors


@dataclass(frozen=True)
class SpeakerCounts(Counts):
    """Aligned words, and those of them with the wrong speaker."""

    words: int = 0
    wrong: int = 0

    @property
    def rate(self) -> float:
        """WDER, 0..1; nan without aligned words."""
        return self.wrong / self.words if self.words else math.nan


def cpwer(reference: Mapping[str, Sequence[str]], hypothesis: Mapping[str, Sequence[str]]) -> ErrorCounts:
    """Concatenated minimum-permutation errors (Watanabe et al. 2020, arXiv 2004.09249) of one recording.

    Both map a speaker to their words in order. A speaker without a partner is paired with silence.
    """
    ref, hyp = _padded(list(reference.values()), list(hypothesis.values()))
    distances = [[Levenshtein.distance(a, b) for b in hyp] for a in ref]
    pairs = _best_pairs(np.array(distances, dtype=np.int64).reshape(len(ref), len(hyp)))
    return sum((count_errors(ref[i], hyp[j]) for i, j in pairs), ErrorCounts())


def wder(reference: Sequence[tuple[str, str]], hypothesis: Sequence[tuple[str, str]]) -> SpeakerCounts:
    """Word diarisation errors (El Shafey et al. 2019, arXiv 1907.05337) of one recording.

    Both are (word, speaker) in order, aligned by words alone. Of hits and substitutions those are wrong whose speakers
    are no pair; insertions and deletions are left to cpWER.
    """
    steps = align([word for word, _ in reference], [word for word, _ in hypothesis])
    met = Counter(
        (reference[step.reference][1], hypothesis[step.hypothesis][1])
        for step in steps
        if step.reference is not None and step.hypothesis is not None
    )
    ref, hyp = (sorted({pair[side] for pair in met}) for side in (0, 1))
    together = np.array([[met[a, b] for b in hyp] for a in ref], dtype=np.int64).reshape(len(ref), len(hyp))
    right = sum(int(together[i, j]) for i, j in _best_pairs(-together))
    words = sum(met.values())
    return SpeakerCounts(words, words - right)


def _padded(ref: list[Sequence[str]], hyp: list[Sequence[str]]) -> tuple[list[Sequence[str]], list[Sequence[str]]]:
    size = max(len(ref), len(hyp))
    return ref + [()] * (size - len(ref)), hyp + [()] * (size - len(hyp))


def _best_pairs(costs: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> list[tuple[int, int]]:
    """Pairs of row and column with the smallest sum of `costs` (rows, columns)."""
    rows, columns = linear_sum_assignment(costs)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))
