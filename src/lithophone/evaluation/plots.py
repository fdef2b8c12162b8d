"""Coordinates of a plot of rates with intervals over classes of clips; `page.html` draws it as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 14, 52
DODGE = 11.0
"""Distance of the systems' points in one class: intervals must not cover each other."""

STEPS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0)
MAX_LINES = 6
COLOURS = 6


@dataclass(frozen=True)
class Point:
    """A rate with its interval."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """Rates of one system by class; None for a class without clips."""

    name: str
    points: tuple[Point | None, ...]


@dataclass(frozen=True)
class GridLine:
    y: float
    text_y: float
    text: str


@dataclass(frozen=True)
class ClassLabel:
    x: float
    name: str
    note: str


@dataclass(frozen=True)
class PlacedPoint:
    x: float
    y: float
    low_y: float
    high_y: float
    title: str


@dataclass(frozen=True)
class PlacedSeries:
    """The points of a system, and the line through them."""

    colour: int
    path: str
    points: tuple[PlacedPoint, ...]


@dataclass(frozen=True)
class Plot:
    """A plot of WIDTH by HEIGHT."""

    label: str
    lines: tuple[GridLine, ...]
    classes: tuple[ClassLabel, ...]
    series: tuple[PlacedSeries, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def rate_plot(label: str, classes: Sequence[str], notes: Sequence[str], series: Sequence[Series]) -> Plot:
    """Rates in percent over `classes`, with `notes` below them; `label` describes the plot."""
    step, top = _scale([p for s in series for p in s.points if p])
    lines = tuple(_grid_line(n * step, top) for n in range(round(top / step) + 1))
    labels = tuple(
        ClassLabel(_x(i, len(classes)), name, note) for i, (name, note) in enumerate(zip(classes, notes, strict=True))
    )
    shifts = [(number - (len(series) - 1) / 2) * DODGE for number in range(len(series))]
    placed = tuple(_placed(one, number, len(classes), shifts[number], top) for number, one in enumerate(series))
    return Plot(label, lines, labels, placed)


def _scale(points: Sequence[Point]) -> tuple[float, float]:
    """Grid step and top of the axis: intervals are cut at twice the highest rate."""
    finite = [p for p in points if math.isfinite(p.rate)]
    highest = max((p.rate for p in finite), default=0.0)
    wanted = max([min(p.high, 2 * p.rate) for p in finite] + [highest, 0.01])
    step = next((step for step in STEPS if wanted / step <= MAX_LINES), wanted / MAX_LINES)
    return step, step * math.ceil(wanted / step - 1e-9)


def _x(place: int, classes: int, shift: float = 0.0) -> float:
    return round(LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / classes + shift, 1)


def _y(rate: float, top: float) -> float:
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(rate, top) / top, 1)


def _grid_line(rate: float, top: float) -> GridLine:
    y = _y(rate, top)
    return GridLine(y, round(y + 4, 1), f"{100 * rate:g} %")


def _placed(one: Series, number: int, classes: int, shift: float, top: float) -> PlacedSeries:
    points = tuple(
        PlacedPoint(
            _x(i, classes, shift), _y(p.rate, top), _y(p.low, top), _y(p.high, top),
            f"{one.name}: {100 * p.rate:.2f} % ({100 * p.low:.2f} to {100 * p.high:.2f})",
        )
        for i, p in enumerate(one.points)
        if p is not None and math.isfinite(p.rate)
    )  # fmt: skip
    return PlacedSeries(number % COLOURS, " ".join(f"{point.x},{point.y}" for point in points), points)
