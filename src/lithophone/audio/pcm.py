"""Raw 16-bit PCM that comes in pieces of any size -> samples."""

from __future__ import annotations

import numpy as np
import soxr

from lithophone.audio.array import checked_rate
from lithophone.audio.samples import RATE_HZ, Samples


class PCMStream:
    """One channel of little-endian int16 at `rate_hz`; the resampler keeps its state between pieces.

    Raises AudioError for an impossible rate.
    """

    def __init__(self, rate_hz: int = RATE_HZ) -> None:
        self.rate_hz = checked_rate(rate_hz)
        self._resampler = None
        if self.rate_hz != RATE_HZ:
            self._resampler = soxr.ResampleStream(self.rate_hz, RATE_HZ, 1, dtype="float32", quality="HQ")
        self._odd = b""

    @property
    def is_cut(self) -> bool:
        """Whether half a sample waits for its other byte."""
        return bool(self._odd)

    def push(self, data: bytes) -> Samples:
        """The next bytes -> samples (n,), float32, 16 kHz, n >= 0."""
        data = self._odd + data
        whole = len(data) // 2 * 2
        self._odd = data[whole:]
        return self._resampled(np.frombuffer(data[:whole], "<i2").astype(np.float32) / np.float32(32768), last=False)

    def flush(self) -> Samples:
        """The end -> what the resampler held back."""
        return self._resampled(np.zeros(0, np.float32), last=True)

    def _resampled(self, samples: Samples, last: bool) -> Samples:
        if self._resampler is None:
            return samples
        resampled: Samples = self._resampler.resample_chunk(samples, last=last)
        return resampled
