"""Raw samples without a header, as blocks: `encode=false` of whisper-asr-webservice, chunks of Wyoming."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.array import checked_rate
from lithophone.audio.reader import open_audio
from lithophone.audio.samples import RATE_HZ, Samples
from lithophone.errors import AudioError
from lithophone.server.media import check_length

MAX_CHANNELS = 8
TYPES = {1: "u1", 2: "<i2", 3: "u1", 4: "<i4"}
"""Of samples of 1 to 4 bytes; those of 3 are read byte by byte."""


@dataclass(frozen=True)
class RawFormat:
    """Little-endian integers, signed but for single bytes; channels interleaved. Raises AudioError."""

    rate_hz: int = RATE_HZ
    width: int = 2
    """Bytes of a sample."""
    channels: int = 1

    def __post_init__(self) -> None:
        checked_rate(self.rate_hz)
        if self.width not in TYPES:
            raise AudioError(f"samples have {self.width} bytes: allowed are {', '.join(map(str, TYPES))}")
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise AudioError(f"there are {self.channels} channels: allowed are 1 to {MAX_CHANNELS}")

    @property
    def frame_size(self) -> int:
        """Bytes of one sample of all channels."""
        return self.width * self.channels

    def seconds(self, size: int) -> float:
        """Length of that many bytes."""
        return size / self.frame_size / self.rate_hz


class RawStream:
    """Blocks of raw samples, a BlockStream; the bytes are not copied.

    Raises AudioError for less than one sample, ApiError 413 beyond `limit_s`.
    """

    def __init__(self, data: bytes | memoryview, form: RawFormat, name: str, limit_s: float) -> None:
        self.name, self.warnings, self.read_s = name, list[str](), 0.0
        check_length(name, form.seconds(len(data)), limit_s)
        whole = len(data) // form.frame_size * form.frame_size
        if not whole:
            raise AudioError(f"{name} has {len(data)} bytes, less than one sample")
        if whole < len(data):
            self.warnings.append(f"{name} ends within a sample: its last {len(data) - whole} bytes are left out")
        self._stream = open_audio(_table(memoryview(data)[:whole], form), form.rate_hz)
        self.duration_s = self._stream.duration_s

    def __iter__(self) -> Iterator[Samples]:
        for block in self._stream:
            self.read_s += len(block) / RATE_HZ
            yield block
        self.warnings += self._stream.warnings

    def close(self) -> None:
        self._stream.close()


def _table(data: memoryview, form: RawFormat) -> NDArray[Any]:
    """Samples (n, channels)."""
    samples = np.frombuffer(data, TYPES[form.width])
    if form.width == 3:
        padded = np.zeros((len(samples) // 3, 4), np.uint8)
        padded[:, 1:] = samples.reshape(-1, 3)
        samples = padded.view("<i4")
    table: NDArray[Any] = samples.reshape(-1, form.channels)
    return table
