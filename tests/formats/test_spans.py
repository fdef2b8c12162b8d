"""Spans of time, moved apart."""

from __future__ import annotations

import itertools
import random

import pytest

from lithophone.formats.spans import Span, apart


def moved(*spans: tuple[int, int] | tuple[int, int, int]) -> list[tuple[int, int]]:
    return [(span.start, span.end) for span in apart(Span(*span) for span in spans)]


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        ([], []),
        ([(0, 10), (10, 20), (25, 30)], [(0, 10), (10, 20), (25, 30)]),
        ([(0, 300), (290, 500)], [(0, 290), (290, 500)]),
        ([(5, 5)], [(5, 6)]),
        ([(5, 5), (5, 5), (5, 9)], [(5, 6), (6, 7), (7, 9)]),
        ([(0, 9), (0, 9)], [(0, 1), (1, 9)]),
        ([(0, 1000, 600), (100, 1000, 200)], [(0, 600), (600, 1000)]),
        ([(0, 1000, 900), (0, 1000, 100)], [(0, 900), (900, 1000)]),
        ([(0, 1000, 3000), (0, 1000, 1000)], [(0, 750), (750, 1750)]),
        ([(0, 5000, 2000), (300, 900, 200)], [(0, 2000), (2000, 2200)]),
        ([(0, 500, 2000), (300, 900, 200)], [(0, 500), (500, 900)]),
    ],
    ids=["none", "apart", "overlap", "empty", "empties", "equal", "need", "needs", "too_short", "nested", "bounded"],
)
def test_spans_that_overlap_meet(spans: list[tuple[int, int, int]], found: list[tuple[int, int]]) -> None:
    assert moved(*spans) == found


def test_any_spans_come_apart_and_those_that_do_not_overlap_stay() -> None:
    chance = random.Random(7)
    for _ in range(500):
        starts = sorted(chance.randint(0, 60) for _ in range(chance.randint(1, 9)))
        spans = [Span(start, start + chance.choice((0, 1, 5, 30)), chance.randint(1, 40)) for start in starts]
        found = apart(spans)
        assert all(span.start < span.end for span in found)
        assert all(one.end <= other.start for one, other in itertools.pairwise(found))
        assert apart(found) == found
