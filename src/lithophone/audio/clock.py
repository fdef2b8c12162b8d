"""Frames with timestamps -> gapless blocks: sample n lies n / rate seconds after 0.

Pauses and lost packets become silence, overlaps are cut, impossible jumps ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.mixing import Block

DRIFT_S = 0.1
"""Smaller deviations of timestamps are rounding or drift (FFmpeg's `aresample=async=1`)."""

EXACT_S = 0.002
"""The same at the start and after a lost packet; Matroska's timestamps are milliseconds."""

MAX_JUMP_S = 10.0
"""Longer jumps are pauses only if the container's length allows."""

MAX_PAUSE_S = 6 * 3600.0

ROUNDING_DIGITS = 9
"""Decimals of a second that survive float sums over hours."""

SILENCE_SIZE = 1 << 16


class Frame(NamedTuple):
    """Decoded samples (n, channels), n >= 0, at `time_s`, after `lost_s` of damaged packets.

    near_damage: this is the first timestamp after damage.
    """

    rate_hz: int
    table: NDArray[Any]
    layout: tuple[str, ...]
    time_s: float | None
    lost_s: float
    near_damage: bool


class SeekMissedError(Exception):
    """The first frame after a seek starts later than the target."""


class Clock:
    """Places frames on a time line.

    length_s: of the container, if known. jumps: timestamps of the format may restart. start_s: seek target; earlier
    samples are dropped.
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
        """Expected start of the next frame."""

    def blocks(self, frames: Iterable[Frame]) -> Iterator[Block]:
        """Raises SeekMissedError if the first block starts after `start_s`."""
        for frame in frames:
            gap = self._gap(frame)
            table = frame.table[max(0, -gap) :]
            yield from _silence(frame, gap)
            if len(table):
                yield Block(frame.rate_hz, table, frame.layout)
                self._first = False
            self.end_s += (max(0, gap) + len(table)) / frame.rate_hz

    def _gap(self, frame: Frame) -> int:
        """Samples of silence before the frame; negative: of overlap."""
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
