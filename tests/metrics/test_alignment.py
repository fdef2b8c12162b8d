"""Alignments against a full matrix: the smallest distance, every token once and in order, ties as promised."""

from __future__ import annotations

import random

import pytest

from lithophone.metrics.alignment import Op, align, align_diagonally
from lithophone.metrics.counts import ErrorCounts, count_errors, count_steps
from tests.metrics.plain import distances, walk

PAIRS = [
    (draw.choices("abcde", k=draw.randint(0, 14)), draw.choices("abcde", k=draw.randint(0, 14)))
    for draw in map(random.Random, range(400))
]


@pytest.mark.parametrize("method", [align, align_diagonally])
def test_alignments_have_the_smallest_distance_and_every_token_once(method) -> None:
    for reference, hypothesis in PAIRS:
        steps = method(reference, hypothesis)
        assert [s.reference for s in steps if s.reference is not None] == list(range(len(reference)))
        assert [s.hypothesis for s in steps if s.hypothesis is not None] == list(range(len(hypothesis)))
        for step in steps:
            pair = step.reference is not None and step.hypothesis is not None
            same = pair and reference[step.reference] == hypothesis[step.hypothesis]
            kinds = {Op.HIT: pair and same, Op.SUBSTITUTE: pair and not same}
            kinds |= {Op.DELETE: step.hypothesis is None, Op.INSERT: step.reference is None}
            assert kinds[step.op]
        assert sum(step.op is not Op.HIT for step in steps) == distances(reference, hypothesis)[-1][-1]


def test_the_diagonal_alignment_is_the_walk_through_the_full_matrix() -> None:
    for reference, hypothesis in PAIRS:
        assert align_diagonally(reference, hypothesis) == walk(reference, hypothesis)


def test_ties_are_told_apart() -> None:
    assert [step.op for step in align("aaP", "aPa")] == [Op.HIT, Op.INSERT, Op.HIT, Op.DELETE]
    assert [step.op for step in align_diagonally("aaP", "aPa")] == [Op.HIT, Op.SUBSTITUTE, Op.SUBSTITUTE]


def test_steps_count_as_the_counts_that_were_never_steps() -> None:
    for reference, hypothesis in PAIRS:
        assert count_steps(align(reference, hypothesis)) == count_errors(reference, hypothesis)
    assert count_steps([]) == ErrorCounts()


def test_long_recordings_are_aligned_diagonally_without_their_matrix() -> None:
    draw = random.Random(0)
    reference = [str(draw.randrange(500)) for _ in range(2000)]
    hypothesis = [draw.choice((word, word, word, "x")) for word in reference]
    steps = align_diagonally(reference, hypothesis)
    assert sum(step.op is not Op.HIT for step in steps) == sum(
        a != b for a, b in zip(reference, hypothesis, strict=True)
    )
