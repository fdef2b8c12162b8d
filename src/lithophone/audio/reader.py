"""Any recording -> blocks of samples: float32, 16 kHz, one channel.

Blocks are checked, mixed and resampled one by one: memory does not grow with the recording.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from types import TracebackType
from typing import Any, Protocol, runtime_checkable

import numpy as np
import soxr

from lithophone.audio.array import array_table, checked_rate
from lithophone.audio.container import ContainerBlocks
from lithophone.audio.mixing import Block, joined, mono
from lithophone.audio.samples import RATE_HZ, Samples
from lithophone.audio.source import Input, is_file, name_of, opened
from lithophone.errors import AudioError

__all__ = ["RATE_HZ", "AudioStream", "BlockStream", "Samples", "load_audio", "open_audio"]

BLOCK_SIZE = 1 << 16

logger = logging.getLogger(__name__)


@runtime_checkable
class BlockStream(Protocol):
    """Blocks of samples (n,), float32, 16 kHz, mono; `AudioStream` is one."""

    name: str
    warnings: list[str]
    duration_s: float | None

    def __iter__(self) -> Iterator[Samples]: ...

    def close(self) -> None: ...


def open_audio(
    source: Any,
    rate_hz: float | None = None,
    *,
    channel: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> AudioStream:
    """Open a recording as a stream of blocks (n,), float32, 16 kHz, mono, full scale -1..1.

    source: a path, bytes of a file, a binary file (from its position, not closed; pipes too), or samples: numpy array,
        torch tensor or list, (n,), (n, channels) or (channels, n); the longer axis is time, the first if equal. uint8,
        int16 and int32 are scaled to -1..1, floats are not; a peak above 1000 is refused.
    rate_hz: required for arrays, not allowed for files.
    channel: index from 0; None mixes: the mean, FFmpeg's downmix with a centre channel, the loudest channel where
        channels cancel.
    start_s, end_s: the part to read; 0 is the start of the file's earliest track, pauses between packets are silence.

    Raises AudioError if the source cannot be read or holds no sound; while reading, for NaN, infinity, I/O errors and
    empty recordings. Damaged or cut files give what can be decoded and `AudioStream.warnings`.
    """
    return AudioStream(source, rate_hz, channel, *_stretch(start_s, end_s))


def load_audio(
    source: Any,
    rate_hz: float | None = None,
    *,
    channel: int | None = None,
    start_s: float | None = None,
    end_s: float | None = None,
) -> Samples:
    """All blocks of `open_audio`: samples (n,), n = round(seconds * 16000) to within 1. Logs warnings."""
    with open_audio(source, rate_hz, channel=channel, start_s=start_s, end_s=end_s) as stream:
        buffer = bytearray()  # concatenation would hold the recording twice
        for block in stream:
            buffer += np.ascontiguousarray(block, np.float32).data
        for warning in stream.warnings:
            logger.warning("%s: %s", stream.name, warning)
        return np.frombuffer(buffer, np.float32)


class AudioStream:
    """Blocks of samples (n,) of one recording; a context manager and single-use iterator.

    name: the source in messages. warnings: complete after the last block. channels: of the source. duration_s: seconds
    to come by headers or FFmpeg's estimate, or None.
    """

    def __init__(self, source: Any, rate_hz: float | None, channel: int | None, start_s: float, end_s: float) -> None:
        self.name = name_of(source)
        self.warnings: list[str] = []
        self.channels = 1
        self.duration_s: float | None = None
        self._exit = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self._length_s: float | None = None
            self._start = 0
            blocks = (
                self._file_blocks(source, rate_hz, start_s, stack)
                if is_file(source)
                else self._array_blocks(source, rate_hz)
            )
            self._exit = stack.pop_all()
        if self._length_s is not None:
            self.duration_s = max(0.0, min(end_s, self._length_s) - start_s)
        samples = _resampled(mono(joined(blocks), self.name, channel))
        self._blocks = self._part(samples, round(start_s * RATE_HZ), end_s)

    def __enter__(self) -> AudioStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Samples]:
        return self

    def __next__(self) -> Samples:
        return next(self._blocks)

    def close(self) -> None:
        """Close the file if the stream opened it."""
        self._exit.close()

    def _array_blocks(self, source: Any, rate_hz: float | None) -> Iterable[Block]:
        table = array_table(source)
        if rate_hz is None:
            raise AudioError(f"{self.name} does not say its rate: pass rate_hz, such as load_audio(samples, 16000)")
        rate = checked_rate(rate_hz)
        self._length_s, self.channels = len(table) / rate, table.shape[1]
        return (Block(rate, table[first : first + BLOCK_SIZE]) for first in range(0, len(table), BLOCK_SIZE))

    def _file_blocks(
        self, source: Any, rate_hz: float | None, start_s: float, stack: contextlib.ExitStack
    ) -> Iterable[Block]:
        if rate_hz is not None:
            raise AudioError(
                f"rate_hz={rate_hz!r} was given with {self.name}: files state their own rate; leave it out"
            )
        file = stack.enter_context(opened(source, self.name))
        blocks = self._container(file, start_s)
        stack.callback(blocks.close)
        self._length_s, self._start, self.channels = blocks.duration_s, blocks.start, blocks.channels
        return blocks

    def _container(self, file: Input, start_s: float) -> ContainerBlocks:
        """Read a pipe as it comes, after its end for formats that need seeking."""
        try:
            blocks = ContainerBlocks(file, self.name, start_s, self.warnings.append)
        except AudioError:
            if file.error is not None or file.seekable() or not file.rewind():
                raise
            blocks = ContainerBlocks(file, self.name, start_s, self.warnings.append)
        file.stop_spooling()
        return blocks

    def _part(self, blocks: Iterable[Samples], start: int, end_s: float) -> Iterator[Samples]:
        end = math.inf if end_s == math.inf else round(end_s * RATE_HZ)
        position, read = self._start, 0
        for block in blocks:
            first, last = max(0, start - position), min(len(block), end - position)
            position += len(block)
            if first < last:
                part = block[first : int(last)]
                read += len(part)
                yield part
            if position >= end:
                break
        if not read:
            raise self._nothing(start, position)

    def _nothing(self, start: int, n: int) -> AudioError:
        if n:
            end_s = n / RATE_HZ if n > self._start else self._length_s or 0.0
            return AudioError(f"{self.name} ends at {end_s:.2f} s: nothing lies at {start / RATE_HZ:.2f} s")
        return AudioError(f"{self.name} holds no samples: give a recording that is not empty")


def _stretch(start_s: float | None, end_s: float | None) -> tuple[float, float]:
    start, end = start_s or 0.0, math.inf if end_s is None else end_s
    if not 0 <= start < end:
        raise AudioError(f"a recording has no part from {start_s} to {end_s} s: give 0 <= start_s < end_s")
    return start, end


def _resampled(blocks: Iterable[tuple[int, Samples]]) -> Iterator[Samples]:
    """One resampler per stretch of equal rate: streams may change it."""
    for rate_hz, stretch in groupby(blocks, key=lambda block: block[0]):
        samples = (block for _, block in stretch)
        yield from samples if rate_hz == RATE_HZ else _resampled_stretch(samples, checked_rate(rate_hz))


def _resampled_stretch(blocks: Iterable[Samples], rate_hz: int) -> Iterator[Samples]:
    resampler = soxr.ResampleStream(rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
    for block in blocks:
        yield resampler.resample_chunk(np.ascontiguousarray(block))
    yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
