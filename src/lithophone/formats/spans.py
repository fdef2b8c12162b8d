"""Spans of time that must not overlap: cues of subtitles, intervals of a TextGrid tier."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Whole milliseconds. `need`: those that it should keep where the next span overlaps it, 1 or more."""

    start: int
    end: int
    need: int = 1


def milliseconds(time_s: float) -> int:
    assert time_s >= 0, f"times start at 0, this one is {time_s} s"
    return round(time_s * 1000)


def apart(spans: Iterable[Span]) -> list[Span]:
    """Spans in order of their starts -> as many, none overlapping, each of 1 ms or more.

    Two that overlap meet where the second starts. If the first needs longer, they meet later, at most where both have
    the same share of what they need, and not behind the first one's end.
    """
    kept: list[Span] = []
    for span in spans:
        if kept and span.start < kept[-1].end:
            met = _boundary(kept[-1], span)
            kept[-1] = Span(kept[-1].start, met, kept[-1].need)
            needed = met + span.need if met > span.start else span.end
            span = Span(met, max(span.end, needed), span.need)
        kept.append(Span(span.start, max(span.end, span.start + 1), span.need))
    return kept


def _boundary(first: Span, second: Span) -> int:
    share = (max(first.end, second.end) - first.start) * first.need // (first.need + second.need)
    met = min(max(second.start, first.start + min(first.need, share)), first.end)
    return max(met, first.start + 1)
