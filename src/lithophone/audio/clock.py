"""Decoded frames with timestamps -> blocks without a gap: what lies at sample n was recorded n / rate seconds after 0.

Pure: reads no file. Pauses and lost packets become silence, overlaps are cut, impossible jumps are skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.mixing import Block

DRIFT_S = 0.1
"""Timestamps that differ less from the count of samples are rounding or drift (as `aresample=async=1` of FFmpeg)."""

EXACT_S = 0.002
"""The same at the start of a track and behind a lost packet; Matroska's timestamps are whole milliseconds."""

MAX_JUMP_S = 10.0
"""A longer jump is no pause unless the container's length allows for it."""

MAX_PAUSE_S = 6 * 3600.0

ROUNDING_DIGITS = 9
"""Decimals of a second that sums of floats over hours keep."""

SILENCE_SIZE = 1 << 16
"""Samples per block of silence."""


class Frame(NamedTuple):
    """Decoded samples (n, channels), n >= 0, at `time_s` of the clock, behind damaged packets of `lost_s`.

    near_damage: the timestamp is the first behind damage.
    """

    rate_hz: int
    table: NDArray[Any]
    layout: tuple[str, ...]
    time_s: float | None
    lost_s: float
    near_damage: bool


class SeekMissedError(Exception):
    """The first frame after a seek begins behind the position that was sought."""


class Clock:
    """Places frames behind each other.

    length_s: length of the container, where it is known. jumps: whether timestamps of the format may start anew.
    start_s: a position that was sought; what lies before it is dropped.
    """

    def __init__(
        self, length_s: float | None, jumps: bool, warn: Callable[[str], None], start_s: float | None = None
    ) -> None:
        self._length_s = length_s
        self._jumps = jumps
        self._warn = warn
        self._sought = start_s is not None
        self._first = True
        self._shift_s = 0.0
        self.end_s = start_s or 0.0
        """Where the next frame should begin."""

    def blocks(self, frames: Iterable[Frame]) -> Iterator[Block]:
        """Raises SeekMissedError before the first block if it lies behind `start_s`."""
        for frame in frames:
            gap = self._gap(frame)
            table = frame.table[max(0, -gap) :]
            yield from _silence(frame, gap)
            if len(table):
                yield Block(frame.rate_hz, table, frame.layout)
                self._first = False
            self.end_s += (max(0, gap) + len(table)) / frame.rate_hz

    def _gap(self, frame: Frame) -> int:
        """Samples of silence before the frame; below 0: samples at its beginning that are there already."""
        time_s = self.end_s + frame.lost_s if frame.time_s is None else frame.time_s + self._shift_s
        gap_s = round(time_s - self.end_s, ROUNDING_DIGITS)
        if self._first and self._sought:
            if gap_s > EXACT_S:
                raise SeekMissedError
            return min(0, round(gap_s * frame.rate_hz))
        exact = frame.near_damage or (self._first and gap_s > 0)
        if abs(gap_s) <= (EXACT_S if exact else DRIFT_S):
            return 0
        if self._is_believable(gap_s):
            return round(gap_s * frame.rate_hz)
        self._shift_s -= gap_s
        if not self._jumps:
            self._warn(f"timestamps jump by {gap_s:.1f} s at {self.end_s:.1f} s: later times may be off")
        return 0

    def _is_believable(self, gap_s: float) -> bool:
        if gap_s < 0:
            return not self._jumps and gap_s >= -MAX_JUMP_S
        if gap_s <= MAX_JUMP_S:
            return True
        in_length = self._length_s is not None and self.end_s + gap_s <= self._length_s + MAX_JUMP_S
        return in_length and gap_s <= MAX_PAUSE_S and (self._first or not self._jumps)


def _silence(frame: Frame, n: int) -> Iterator[Block]:
    zero = np.zeros((1, frame.table.shape[1]), np.float32)
    for start in range(0, n, SILENCE_SIZE):
        shape = (min(SILENCE_SIZE, n - start), zero.shape[1])
        yield Block(frame.rate_hz, np.broadcast_to(zero, shape), frame.layout)
