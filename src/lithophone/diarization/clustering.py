"""Clusters of speaker embeddings, and the speakers among them.

Agglomerative clustering by the mean cosine between members (average linkage). Long recordings are clustered in blocks
first, so that memory is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lithophone.errors import OptionError

SAME_SPEAKER = 0.39
"""Least mean cosine between the members of two clusters that are one speaker (`docs/diarization.md`)."""

LEAST_WEIGHT, LEAST_SHARE = 6.0, 0.02
"""A smaller cluster is no speaker: full parts, 0.75 s apart, and share of the recording."""

SHORT_SHARE = 0.15
"""Share that suffices in recordings so short that it is less than LEAST_WEIGHT."""

ROUNDS = 4
"""Of reassignment to the nearest speaker."""

BLOCK = 1500
"""Most vectors that are compared with each other."""

BLOCK_CLUSTERS = 200
"""Clusters of a block, at most."""

Vectors = NDArray[np.float32]
Weights = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class SpeakerCount:
    """Bounds of the number of speakers; OptionError where they are not in order."""

    least: int = 1
    most: int | None = None

    def __post_init__(self) -> None:
        if self.most is not None and self.most < self.least:
            raise OptionError(
                f"min_speakers is {self.least} and max_speakers is {self.most}: the first may not be above the second"
            )


def find_speakers(vectors: Vectors, weights: Weights, count: SpeakerCount) -> Vectors:
    """Unit vectors (N, D), N >= 1, with weights (N,) above 0 -> a unit vector for each speaker (K, D).

    K is within `count` if there are as many clusters.
    """
    labels = cluster(vectors, weights)
    sizes = np.bincount(labels, weights).astype(np.float64)
    least = max(min(LEAST_WEIGHT, SHORT_SHARE * sizes.sum()), LEAST_SHARE * sizes.sum())
    large = np.flatnonzero(sizes >= least)
    if len(large) < count.least:
        large = np.argsort(-sizes, kind="stable")[: count.least]
    sums = _sums(vectors, weights, labels)[large]
    if count.most is not None and len(large) > count.most:
        merged = _Agglomeration((sums / sizes[large, None]).astype(np.float32), sizes[large]).run(np.inf, count.most)
        sums = _sums(sums, np.ones(len(sums)), merged)
    speakers = _unit(sums)
    for _ in range(ROUNDS):
        nearest = (vectors @ speakers.T).argmax(1)
        found = _sums(vectors, weights, nearest, len(speakers))
        speakers = np.where(np.bincount(nearest, minlength=len(speakers))[:, None] > 0, _unit(found), speakers)
    return speakers


def cluster(vectors: Vectors, weights: Weights, least_cosine: float = SAME_SPEAKER) -> Labels:
    """Vectors (N, D), N >= 1 -> cluster of each (N,), from 0."""
    labels = np.arange(len(vectors))
    while len(vectors) > BLOCK:
        found = _in_blocks(vectors, weights)
        sums = _sums(vectors, weights, found)
        weights = np.bincount(found, weights).astype(np.float64)
        labels, vectors = found[labels], (sums / weights[:, None]).astype(np.float32)
    return _Agglomeration(vectors, weights).run(least_cosine)[labels]


def _in_blocks(vectors: Vectors, weights: Weights) -> Labels:
    """Clusters of each block of vectors."""
    parts: list[Labels] = []
    n = 0
    for first in range(0, len(vectors), BLOCK):
        block = slice(first, first + BLOCK)
        parts.append(_Agglomeration(vectors[block], weights[block]).run(np.inf, BLOCK_CLUSTERS) + n)
        n = int(parts[-1].max()) + 1
    return np.concatenate(parts)


class _Agglomeration:
    """Average linkage with the nearest neighbour of every cluster kept: O(N) for most merges, O(N^2) memory.

    The mean cosine between the members of two clusters is the product of their means.
    """

    def __init__(self, vectors: Vectors, weights: Weights) -> None:
        n = len(vectors)
        self._sums, self._sizes = vectors * weights[:, None], weights.copy()
        self._near = (vectors @ vectors.T).astype(np.float32)
        np.fill_diagonal(self._near, -np.inf)
        self._labels, self._alive = np.arange(n), np.ones(n, np.bool_)
        self._best = self._near.argmax(1)
        self._cosine = self._near.max(1)

    def run(self, least_cosine: float, most: int | None = None) -> Labels:
        """Merge while two clusters are as near as `least_cosine`, or there are more than `most`."""
        for left in range(len(self._labels), 1, -1):
            i = int(self._cosine.argmax())
            if self._cosine[i] < least_cosine and (most is None or left <= most):
                break
            self._merge(i, int(self._best[i]))
        return np.unique(self._labels, return_inverse=True)[1].reshape(-1)

    def _merge(self, i: int, j: int) -> None:
        self._labels[self._labels == j] = i
        self._sums[i] += self._sums[j]
        self._sizes[i] += self._sizes[j]
        self._alive[j] = False
        self._near[j] = self._near[:, j] = self._cosine[j] = -np.inf
        row = self._sums @ self._sums[i] / (self._sizes * self._sizes[i])
        row[~self._alive] = row[i] = -np.inf
        self._near[i] = self._near[:, i] = row
        changed = (self._best == i) | (self._best == j) | (self._near[i] > self._cosine)
        changed[i] = True
        for k in np.flatnonzero(changed & self._alive).tolist():
            self._best[k] = int(self._near[k].argmax())
            self._cosine[k] = self._near[k, self._best[k]]


def _sums(
    vectors: NDArray[np.floating[Any]], weights: Weights, labels: Labels, n: int | None = None
) -> NDArray[np.float64]:
    """Weighted sums of the vectors of each label (n, D)."""
    sums = np.zeros((int(labels.max()) + 1 if n is None else n, vectors.shape[1]))
    np.add.at(sums, labels, vectors * weights[:, None])
    return sums


def _unit(vectors: NDArray[np.float64]) -> Vectors:
    unit: Vectors = (vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)).astype(np.float32)
    return unit
