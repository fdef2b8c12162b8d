"""Silences left out of a window, and put back into its times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lithophone.audio.samples import RATE_HZ


@dataclass(frozen=True)
class Cut:
    """`length` samples of the recording left out before sample `at` of the window."""

    at: int
    length: int

    @property
    def at_s(self) -> float:
        return self.at / RATE_HZ


def restored(start_s: float, end_s: float, cuts: Sequence[Cut]) -> tuple[float, float]:
    """A span of the window's samples -> the same with the silences put back, in seconds from the window's start.

    Both ends move: a start at a cut lies behind the silence, an end at a cut before it.
    """
    start_s = start_s + _before(start_s, cuts, inclusive=True)
    return start_s, max(start_s, end_s + _before(end_s, cuts, inclusive=False))


def on_one_side(start_s: float, end_s: float, cuts: Sequence[Cut]) -> tuple[float, float]:
    """The longest part of a word that lies between two cuts: no word goes on through a long silence."""
    inside = [cut.at_s for cut in cuts if start_s < cut.at_s < end_s]
    return max(pairwise((start_s, *inside, end_s)), key=lambda part: part[1] - part[0])


def stretch_of(time_s: float, cuts: Sequence[Cut]) -> int:
    """Number of cuts at or before a time of the window's samples."""
    return sum(cut.at_s <= time_s for cut in cuts)


def cut_s(cuts: Sequence[Cut]) -> float:
    """Seconds left out."""
    return sum(cut.length for cut in cuts) / RATE_HZ


def _before(time_s: float, cuts: Sequence[Cut], *, inclusive: bool) -> float:
    return cut_s([cut for cut in cuts if cut.at_s < time_s or (inclusive and cut.at_s == time_s)])
