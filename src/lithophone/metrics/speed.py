"""RTFx, and percentiles of the latency of single requests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lithophone.errors import OptionError
from lithophone.metrics.counts import Counts


@dataclass(frozen=True)
class Speed(Counts):
    """Seconds of audio, and of processing including the decoding of files."""

    audio_s: float = 0.0
    processing_s: float = 0.0

    @property
    def rtfx(self) -> float:
        """Seconds of audio per second of processing; nan without processing."""
        return self.audio_s / self.processing_s if self.processing_s else math.nan


@dataclass(frozen=True)
class Latency:
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float


def latency(seconds: Sequence[float]) -> Latency:
    """Percentiles, interpolated linearly. Raises OptionError for an empty list."""
    if not seconds:
        raise OptionError("no latencies: measure one request at least")
    return Latency(*(float(value) for value in np.percentile(np.asarray(seconds, dtype=np.float64), (50, 90, 95, 99))))
