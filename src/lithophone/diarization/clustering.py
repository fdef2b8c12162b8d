"""Clusters of speaker embeddings: agglomerative, by the mean cosine between members (average linkage).

Long recordings are clustered in blocks first, so that memory is bounded.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]

SAME_SPEAKER = 0.32
"""Least mean cosine between the embeddings of two clusters that are one speaker."""

BLOCK = 1500
"""Most vectors that are compared with each other."""

BLOCK_CLUSTERS = 200
"""Clusters of a block, at most."""


def cluster(
    vectors: Vectors, weights: NDArray[np.float32], least: int = 1, most: int | None = None,
    same_speaker: float = SAME_SPEAKER,
) -> Labels:
    """Unit vectors (N, D) with weights (N,) above 0 -> cluster (N,), numbered from 0 in order of first appearance.

    Clusters are merged while they are closer than `same_speaker`, within the bounds of their number where N allows it.
    """
    assert least >= 1, "there is a speaker at least"
    assert most is None or most >= least, "the bounds are in order"
    labels = np.arange(len(vectors))
    while len(vectors) > BLOCK:
        merged = _in_blocks(vectors, weights)
        labels, (vectors, weights) = merged[labels], _means(vectors, weights, merged)
    return _renumbered(_agglomerate(vectors, weights, least, most, same_speaker)[labels])


def _in_blocks(vectors: Vectors, weights: NDArray[np.float32]) -> Labels:
    """Clusters of the vectors of each block, as many as are kept of it."""
    parts = []
    n = 0
    for first in range(0, len(vectors), BLOCK):
        part = slice(first, first + BLOCK)
        found = _agglomerate(vectors[part], weights[part], 1, BLOCK_CLUSTERS, 1.0)
        parts.append(found + n)
        n += int(found.max()) + 1
    return np.concatenate(parts)


def _agglomerate(
    vectors: Vectors, weights: NDArray[np.float32], least: int, most: int | None, same_speaker: float
) -> Labels:
    """Merge the closest two clusters until all are below `same_speaker`, within the bounds."""
    n = len(vectors)
    sums, sizes = vectors * weights[:, None], weights.astype(np.float64)
    near = (vectors @ vectors.T).astype(np.float32)
    np.fill_diagonal(near, -np.inf)
    labels, left = np.arange(n), n
    best = near.argmax(1)
    score = near[np.arange(n), best]
    while left > least:
        i = int(score.argmax())
        if score[i] < same_speaker and (most is None or left <= most):
            break
        j = int(best[i])
        labels[labels == labels[j]] = labels[i]
        sums[i] += sums[j]
        sizes[i] += sizes[j]
        near[j], near[:, j], score[j] = -np.inf, -np.inf, -np.inf
        alive = np.isfinite(score)
        row = np.where(alive, (sums @ sums[i]) / (sizes * sizes[i]), -np.inf).astype(np.float32)
        row[i] = -np.inf
        near[i], near[:, i] = row, row
        for k in np.flatnonzero(alive & ((best == i) | (best == j) | (row > score))).tolist():
            best[k] = int(near[k].argmax())
            score[k] = near[k, best[k]]
        best[i] = int(row.argmax())
        score[i] = row[best[i]]
        left -= 1
    return np.unique(labels, return_inverse=True)[1].reshape(-1)


def _means(vectors: Vectors, weights: NDArray[np.float32], labels: Labels) -> tuple[Vectors, NDArray[np.float32]]:
    """Means of clusters, not scaled to unit length, and their weights: linkage stays exact."""
    total = np.bincount(labels, weights).astype(np.float32)
    means = np.zeros((len(total), vectors.shape[1]), np.float32)
    np.add.at(means, labels, vectors * weights[:, None])
    return means / total[:, None], total


def _renumbered(labels: Labels) -> Labels:
    """Numbers by first appearance."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.reshape(-1)]
