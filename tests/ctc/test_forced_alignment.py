"""Collapsing and forced alignment, against every path there is."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from lithophone.ctc import forced_alignment
from lithophone.ctc.forced_alignment import BLANK, WILDCARD, align, collapse, edit_distance, label_scores, runs


def test_collapse_merges_repeats_then_drops_blanks() -> None:
    assert collapse([0, 3, 3, 0, 3, 5, 5, 0]) == [3, 3, 5]
    assert collapse([]) == []
    assert collapse([0, 0]) == []


def test_runs_know_their_frames() -> None:
    assert runs([0, 3, 3, 0, 3, 5]) == [(3, (1, 3)), (3, (4, 5)), (5, (5, 6))]
    assert runs([]) == []


def random_log_probs(frames: int, seed: int, size: int = 5) -> np.ndarray:
    return np.log(np.random.default_rng(seed).dirichlet(np.full(size, 0.3), size=frames) + 1e-9)


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


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_monotone_and_inside(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = [int(label) for label in rng.choice([1, 2, 3, 4, WILDCARD], size=int(rng.integers(1, 12)))]
    spans = align(random_log_probs(40, seed), labels)
    assert spans is not None
    assert len(spans) == len(labels)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= 40
    assert all(first < end for first, end in spans)


@pytest.mark.parametrize("seed", range(20))
def test_blocks_of_frames_change_no_span(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    labels = [int(label) for label in rng.choice([1, 2, 3, 4, WILDCARD], size=int(rng.integers(1, 12)))]
    log_probs = random_log_probs(40, seed)
    whole = align(log_probs, labels)
    for cells in (1, 100, 333):
        monkeypatch.setattr(forced_alignment, "MAX_CELLS", cells)
        assert align(log_probs, labels) == whole


def test_memory_of_a_long_alignment_is_that_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,500 frames and 1,001 states: 13 MiB in one block."""
    monkeypatch.setattr(forced_alignment, "MAX_CELLS", 100_000)
    log_probs = random_log_probs(1500, 0).astype(np.float32)
    tracemalloc.start()
    spans = align(log_probs, [1, 2, 3, 4] * 125)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spans is not None
    assert peak < 4 << 20


def spoken(path: list[int], size: int = 6) -> np.ndarray:
    """Log posteriors of somebody who surely says `path`, a label a frame."""
    probs = np.full((len(path), size), 0.01)
    probs[np.arange(len(path)), path] = 0.95
    return np.log(probs)


def test_a_wildcard_takes_the_frames_nobody_else_explains() -> None:
    assert align(spoken([1, 0, 3, 3, 0, 2]), [1, WILDCARD, 2]) == [(0, 1), (2, 4), (5, 6)]


def test_a_wildcard_takes_many_labels_and_the_blanks_between_but_none_around() -> None:
    path = [0, 1, 0, 0, 3, 0, 4, 5, 0, 3, 0, 0, 2]
    assert align(spoken(path), [1, WILDCARD, 2]) == [(1, 2), (4, 10), (12, 13)]
    assert align(spoken(path), [WILDCARD, 2]) == [(1, 10), (12, 13)]
    assert align(spoken(path), [WILDCARD]) == [(1, 13)]


def test_a_wildcard_in_silence_is_one_frame() -> None:
    spans = align(spoken([0, 0, 0, 1]), [WILDCARD, 1])
    assert spans is not None
    [(first, end), last] = spans
    assert end == first + 1
    assert last == (3, 4)


def test_scores_are_those_of_the_best_frame() -> None:
    log_probs = np.log([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.1, 0.3]])
    scores = label_scores(log_probs, [1, WILDCARD], [(0, 2), (2, 3)])
    assert scores == [pytest.approx(np.log(0.8)), None]


def distance_by_definition(heard: list[int], labels: list[int]) -> int:
    if not labels:
        return len(heard)
    head, tail = labels[0], labels[1:]
    if head == WILDCARD:
        return min(distance_by_definition(heard[i:], tail) for i in range(len(heard) + 1))
    options = [1 + distance_by_definition(heard, tail)]
    if heard:
        options.append((heard[0] != head) + distance_by_definition(heard[1:], tail))
        options.append(1 + distance_by_definition(heard[1:], labels))
    return min(options)


@pytest.mark.parametrize("seed", range(30))
def test_edit_distance_is_the_least_of_all_ways(seed: int) -> None:
    rng = np.random.default_rng(seed)
    heard = [int(i) for i in rng.integers(1, 4, size=int(rng.integers(0, 6)))]
    labels = [int(i) for i in rng.choice([1, 2, 3, WILDCARD], p=[0.3, 0.3, 0.3, 0.1], size=int(rng.integers(0, 6)))]
    assert edit_distance(heard, labels) == distance_by_definition(heard, labels)


def test_too_few_frames_cannot_hold_a_text() -> None:
    log_probs = np.zeros((2, 3))
    assert align(log_probs, [1, 1]) is None
    assert align(log_probs, [1, 2]) == [(0, 1), (1, 2)]
    assert align(log_probs, []) == []
    assert align(np.zeros((0, 3)), [1]) is None


def test_a_single_frame_holds_a_single_label() -> None:
    assert align(np.zeros((1, 3)), [2]) == [(0, 1)]
    assert align(np.zeros((1, 3)), [WILDCARD]) == [(0, 1)]


def test_repeated_labels_are_kept_apart_by_a_blank() -> None:
    spans = align(spoken([1, BLANK, 1, BLANK, 1]), [1, 1, 1])
    assert spans == [(0, 1), (2, 3), (4, 5)]
