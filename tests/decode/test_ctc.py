"""Collapsing and forced alignment, against every path there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lithophone.decode.ctc import WILDCARD, align, collapse


def test_collapse_merges_repeats_then_drops_blanks() -> None:
    assert collapse([0, 3, 3, 0, 3, 5, 5, 0]) == [3, 3, 5]
    assert collapse([]) == []
    assert collapse([0, 0]) == []


def best_path(log_probs: np.ndarray, labels: list[int]) -> float:
    """Score of the best path among all of them that spell `labels`."""
    frames, size = log_probs.shape
    scores = [
        sum(log_probs[t, label] for t, label in enumerate(path))
        for path in itertools.product(range(size), repeat=frames)
        if collapse(path) == labels
    ]
    return max(scores, default=-np.inf)


@pytest.mark.parametrize("labels", [[1], [1, 2], [1, 1], [2, 1, 2], [1, 1, 2]])
@pytest.mark.parametrize("seed", range(4))
def test_alignment_is_the_best_of_all_paths(labels: list[int], seed: int) -> None:
    log_probs = np.log(np.random.default_rng(seed).dirichlet(np.ones(3), size=6))
    spans = align(log_probs, labels)
    assert spans is not None
    path = [0] * 6
    for label, (first, end) in zip(labels, spans, strict=True):
        path[first:end] = [label] * (end - first)
    assert collapse(path) == labels
    assert sum(log_probs[t, label] for t, label in enumerate(path)) == pytest.approx(best_path(log_probs, labels))


def test_spans_are_monotone_and_inside() -> None:
    log_probs = np.log(np.random.default_rng(0).dirichlet(np.ones(5), size=40))
    spans = align(log_probs, [1, 2, 2, 3, 4, 1])
    assert spans is not None
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= 40


def test_a_wildcard_takes_the_frames_nobody_else_explains() -> None:
    probs = np.full((6, 4), 0.01)
    for t, label in enumerate([1, 0, 3, 3, 0, 2]):
        probs[t, label] = 0.97
    assert align(np.log(probs), [1, WILDCARD, 2]) == [(0, 1), (2, 4), (5, 6)]


def test_too_few_frames_cannot_hold_a_text() -> None:
    log_probs = np.zeros((2, 3))
    assert align(log_probs, [1, 1]) is None
    assert align(log_probs, [1, 2]) == [(0, 1), (1, 2)]
    assert align(log_probs, []) == []
