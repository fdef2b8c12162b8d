"""Blocks of any sample type and channel count -> mono float32."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.samples import Samples
from lithophone.errors import AudioError

MAX_PEAK = 1_000.0
"""Larger floats are unscaled integers."""

JOINED_S = 1.0
"""Seconds per block."""

MIX_FRAME_S = 0.25
"""Seconds per comparison of channel and mix power."""

CROSSFADE_S = 0.01

CANCELLATION = 0.25
"""Channels cancel if the mix has less than this share of the power of uncorrelated channels."""

GAINS = {"FC": 1.0, "FL": 0.5**0.5, "FR": 0.5**0.5, "LFE": 0.0, "LFE2": 0.0}
"""FFmpeg's downmix to mono with a centre channel."""

SURROUND_GAIN = 0.5


class Block(NamedTuple):
    """Consecutive samples (n, channels); `layout`: channel names, if known."""

    rate_hz: int
    table: NDArray[Any]
    layout: tuple[str, ...] = ()


def joined(blocks: Iterable[Block]) -> Iterator[Block]:
    """Blocks of at least `JOINED_S`, to save calls per 20 ms packet."""
    for (rate_hz, layout, _, _), stretch in groupby(blocks, key=_form):
        waiting: list[NDArray[Any]] = []
        n = 0
        for block in stretch:
            waiting.append(block.table)
            n += len(block.table)
            if n >= JOINED_S * rate_hz:
                yield Block(rate_hz, np.concatenate(waiting), layout)
                waiting, n = [], 0
        if waiting:
            yield Block(rate_hz, np.concatenate(waiting), layout)


def _form(block: Block) -> tuple[int, tuple[str, ...], int, np.dtype[Any]]:
    return block.rate_hz, block.layout, block.table.shape[1], block.table.dtype


def mono(blocks: Iterable[Block], name: str, channel: int | None = None) -> Iterator[tuple[int, Samples]]:
    """(rate in Hz, samples (n,)) of the mix, or of one channel. Raises AudioError for impossible values."""
    checked = (Block(b.rate_hz, _scaled(b.table), b.layout) for b in _checked(blocks, name))
    for (rate_hz, layout, n), stretch in groupby(checked, key=lambda b: (b.rate_hz, b.layout, b.table.shape[1])):
        tables = (block.table for block in stretch)
        if channel is not None or n == 1:
            column = _column(channel or 0, n, name)
            yield from ((rate_hz, table[:, column]) for table in tables)
        else:
            yield from ((rate_hz, mixed) for mixed in _mixed(tables, mix_gains(layout, n), rate_hz))


def mix_gains(layout: tuple[str, ...], n: int) -> Samples:
    """Gain per channel: FFmpeg's downmix with a centre, else the mean."""
    if "FC" not in layout:
        return np.full(n, 1 / n, np.float32)
    return np.array([GAINS.get(name, SURROUND_GAIN) for name in layout], np.float32)


def _column(channel: int, n: int, name: str) -> int:
    if not 0 <= channel < n:
        raise AudioError(f"{name} has {n} channel{'s' * (n > 1)}, 0 to {n - 1}: there is no channel {channel}")
    return channel


def _mixed(tables: Iterable[Samples], gains: Samples, rate_hz: int) -> Iterator[Samples]:
    """The mix; where channels cancel, the loudest channel."""
    before = gains
    for frame in _frames(tables, max(1, round(MIX_FRAME_S * rate_hz))):
        now, mixed = gains, frame @ gains
        if (loudest := _loudest_if_cancelled(frame, gains, mixed)) is not None:
            now = np.eye(len(gains), dtype=np.float32)[loudest]
            mixed = frame[:, loudest].copy()
        if not np.array_equal(now, before):
            n = min(len(frame), round(CROSSFADE_S * rate_hz))
            share = np.arange(n, dtype=np.float32) / n
            mixed[:n] = share * mixed[:n] + (1 - share) * (frame[:n] @ before)
        yield mixed
        before = now


def _frames(tables: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Tables of `size` rows, the last shorter."""
    waiting: list[Samples] = []
    n_waiting = 0
    for table in tables:
        waiting.append(table)
        n_waiting += len(table)
        if n_waiting >= size:
            joined = np.concatenate(waiting)
            whole = n_waiting // size * size
            yield from joined[:whole].reshape(-1, size, joined.shape[1])
            waiting, n_waiting = [joined[whole:]], n_waiting - whole
    if n_waiting:
        yield np.concatenate(waiting)


def _loudest_if_cancelled(frame: Samples, gains: Samples, mixed: Samples) -> int | None:
    powers = np.einsum("ij,ij->j", frame, frame) * np.square(gains)
    return int(powers.argmax()) if np.dot(mixed, mixed) < CANCELLATION * powers.sum() else None


def _checked(blocks: Iterable[Block], name: str) -> Iterator[Block]:
    position = 0
    for block in blocks:
        _check_values(block, position, name)
        yield block
        position += len(block.table)


def _check_values(block: Block, position: int, name: str) -> None:
    """Raises AudioError at the first sample not finite or above MAX_PEAK."""
    table = block.table
    if table.dtype.kind != "f" or not table.size:
        return
    bad = ~(np.abs(table) <= MAX_PEAK).all(axis=1)
    if not bad.any():
        return
    first = int(bad.argmax())
    where = f"sample {position + first} ({(position + first) / block.rate_hz:.3f} s) of {name}"
    values = table[first]
    if not np.isfinite(values).all():
        raise AudioError(f"{where} is {values[~np.isfinite(values)][0]}: all samples must be finite; repair the source")
    peak = np.abs(values).max()
    raise AudioError(f"{where} is {peak:g}: floats belong in -1..1; divide integers by their full scale, or pass int16")


def _scaled(table: NDArray[Any]) -> Samples:
    """Integers to -1..1 (uint8: zero at 128), floats unchanged."""
    if table.dtype.kind == "f":
        return table.astype(np.float32, copy=False)
    full_scale = np.float32(2.0 ** (8 * table.dtype.itemsize - 1))
    zero = full_scale if table.dtype.kind == "u" else np.float32(0)
    scaled: Samples = (table.astype(np.float32) - zero) / full_scale
    return scaled
