"""Speed and latency."""

from __future__ import annotations

import math

import pytest

from lithophone.errors import OptionError
from lithophone.metrics.speed import Latency, Speed, latency


def test_speed_is_computed_from_the_sums() -> None:
    whole = Speed(audio_s=10, processing_s=1) + Speed(audio_s=10, processing_s=4)
    assert whole == Speed(20, 5)
    assert whole.rtfx == 4
    assert math.isnan(Speed().rtfx)


def test_percentiles_of_latency() -> None:
    assert latency([0.5]) == Latency(0.5, 0.5, 0.5, 0.5)
    found = latency([n / 100 for n in range(101)][::-1])
    assert (found.p50_s, found.p90_s, found.p95_s, found.p99_s) == pytest.approx((0.5, 0.9, 0.95, 0.99))


def test_no_request_has_no_latency() -> None:
    with pytest.raises(OptionError, match="no latencies"):
        latency([])
