"""Plots as SVG, drawn by hand: rates with their intervals over classes of clips. Colours are the page's variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 14.0, 52.0
DODGE = 11.0
"""Distance of the systems' points in one class: intervals must not cover each other."""

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
MAX_LINES = 6


@dataclass(frozen=True)
class Point:
    """A rate, with the ends of its interval."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """The rates of one system, a point a class; None where it has no clip."""

    name: str
    points: tuple[Point | None, ...]


def rate_plot(label: str, classes: Sequence[str], notes: Sequence[str], series: Sequence[Series]) -> str:
    """An SVG of rates in percent over `classes`, under which stand `notes`; `label` is for those who cannot see it."""
    step, top = _scale([p for s in series for p in s.points if p])
    lines = range(round(top / step) + 1)
    parts = [_grid_line(n * step, top) for n in lines]
    parts += [_class(i, len(classes), name, note) for i, (name, note) in enumerate(zip(classes, notes, strict=True))]
    for number, one in enumerate(series):
        shift = (number - (len(series) - 1) / 2) * DODGE
        parts.append(_drawn(one, number, len(classes), shift, top))
    size = f"0 0 {WIDTH:g} {HEIGHT:g}"
    return f'<svg class="plot" viewBox="{size}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def _scale(points: Sequence[Point]) -> tuple[float, float]:
    """Distance of the lines, and the top of the axis: intervals are cut at twice the highest rate."""
    finite = [p for p in points if math.isfinite(p.rate)]
    highest = max((p.rate for p in finite), default=0.0)
    wanted = max([min(p.high, 2 * p.rate) for p in finite] + [highest, 0.01])
    step = next((step for step in STEPS if wanted / step <= MAX_LINES), wanted / MAX_LINES)
    return step, step * math.ceil(wanted / step - 1e-9)


def _x(place: int, classes: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / classes


def _y(rate: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(rate, top) / top


def _grid_line(rate: float, top: float) -> str:
    y = _y(rate, top)
    return (
        f'<line class="rule" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" x="{LEFT - 8:g}" y="{y + 4:.1f}" text-anchor="end">{100 * rate:g} %</text>'
    )


def _class(place: int, classes: int, name: str, note: str) -> str:
    x, y = _x(place, classes), HEIGHT - BOTTOM
    return (
        f'<text class="tick" x="{x:.1f}" y="{y + 19:g}" text-anchor="middle">{escape(name)}</text>'
        f'<text class="note" x="{x:.1f}" y="{y + 36:g}" text-anchor="middle">{escape(note)}</text>'
    )


def _drawn(one: Series, number: int, classes: int, shift: float, top: float) -> str:
    placed = [
        (_x(i, classes) + shift, point)
        for i, point in enumerate(one.points)
        if point is not None and math.isfinite(point.rate)
    ]
    path = " ".join(f"{x:.1f},{_y(point.rate, top):.1f}" for x, point in placed)
    marks = "".join(
        f'<line class="whisker" x1="{x:.1f}" x2="{x:.1f}" y1="{_y(p.low, top):.1f}" y2="{_y(p.high, top):.1f}"/>'
        f'<circle cx="{x:.1f}" cy="{_y(p.rate, top):.1f}" r="3.6"><title>{escape(one.name)}: {100 * p.rate:.2f} % '
        f"({100 * p.low:.2f} to {100 * p.high:.2f})</title></circle>"
        for x, p in placed
    )
    return f'<g class="series s{number % 6}"><polyline points="{path}"/>{marks}</g>'
