"""Raw PCM in pieces of any size."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from lithophone.audio.pcm import PCMStream
from lithophone.errors import AudioError
from tests.sounds import tone


def pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).round().astype("<i2").tobytes()


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize("size", [1, 3, 1_001, 96_000])
def test_pieces_of_any_size_give_the_same_samples(rate_hz: int, size: int) -> None:
    samples = tone(0.2, rate_hz)
    data, stream = pcm(samples), PCMStream(rate_hz)
    parts = [stream.push(data[first : first + size]) for first in range(0, len(data), size)]
    found = np.concatenate([*parts, stream.flush()])
    expected = np.frombuffer(data, "<i2").astype(np.float32) / 32768
    if rate_hz != 16_000:
        expected = soxr.resample(expected, rate_hz, 16_000, quality="HQ")
    assert len(found) == pytest.approx(3_200, abs=1)
    n = min(len(found), len(expected))
    np.testing.assert_allclose(found[:n], expected[:n], atol=2e-4)


def test_an_odd_byte_waits_for_its_other_half() -> None:
    stream = PCMStream()
    assert stream.push(b"\x00\x40\x00").tolist() == [0.5]
    assert stream.is_cut
    assert stream.push(b"\xc0").tolist() == [-0.5]
    assert not stream.is_cut


def test_no_bytes_give_no_samples() -> None:
    assert len(PCMStream(24_000).push(b"")) == 0
    assert len(PCMStream().flush()) == 0


@pytest.mark.parametrize("rate_hz", [0, -16_000, 16_000.5, 10**7, None, "16000"])
def test_an_impossible_rate_is_refused(rate_hz: object) -> None:
    with pytest.raises(AudioError, match="whole number of Hz"):
        PCMStream(rate_hz)  # type: ignore[arg-type]
