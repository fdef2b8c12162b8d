"""Raw samples: types, channels, rates, and what is no recording."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from lithophone.errors import AudioError
from lithophone.server.errors import ApiError
from lithophone.server.raw import RawFormat, RawStream
from tests.sounds import tone

SAMPLES = tone(0.5)


def stored(samples: np.ndarray, width: int) -> bytes:
    if width == 1:
        return (samples * 127 + 128).round().astype("u1").tobytes()
    whole = (samples * (2 ** (8 * width - 1) - 1)).round().astype("<i4")
    return whole.view("u1").reshape(-1, 4)[:, :width].tobytes()


def read(data: bytes | memoryview, form: RawFormat, limit_s: float = 60.0) -> np.ndarray:
    return np.concatenate(list(RawStream(data, form, "the samples", limit_s)))


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_widths_give_the_same_samples(width: int) -> None:
    np.testing.assert_allclose(read(stored(SAMPLES, width), RawFormat(width=width)), SAMPLES, atol=2.0**-6 / width**3)


@pytest.mark.parametrize(("channels", "width"), [(2, 2), (3, 3), (8, 1)])
def test_channels_are_mixed(channels: int, width: int) -> None:
    data = stored(np.repeat(SAMPLES, channels), width)
    found = read(data, RawFormat(width=width, channels=channels))
    np.testing.assert_allclose(found, SAMPLES, atol=0.02)


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 48_000])
def test_rates_are_resampled(rate_hz: int) -> None:
    samples = tone(0.5, rate_hz)
    found = read(stored(samples, 2), RawFormat(rate_hz))
    assert len(found) == pytest.approx(8_000, abs=1)
    np.testing.assert_allclose(found[:7_999], soxr.resample(samples, rate_hz, 16_000)[:7_999], atol=1e-3)


def test_the_length_is_known_and_counted() -> None:
    stream = RawStream(stored(SAMPLES, 2), RawFormat(), "the samples", 60.0)
    assert stream.duration_s == 0.5
    assert sum(map(len, stream)) == 8_000
    assert stream.read_s == 0.5
    assert stream.warnings == []


def test_the_bytes_are_not_copied() -> None:
    data = bytearray(stored(SAMPLES, 2))
    stream = RawStream(memoryview(data), RawFormat(), "the samples", 60.0)
    data[:] = bytes(len(data))
    assert not np.concatenate(list(stream)).any()


def test_what_is_longer_than_the_limit_is_refused() -> None:
    with pytest.raises(ApiError, match="up to 2 s") as refused:
        RawStream(bytes(5 * 8_000 * 4), RawFormat(8_000, 2, 2), "the samples", 2.0)
    assert refused.value.status == 413


def test_a_cut_sample_is_a_warning_and_less_than_one_an_error() -> None:
    stream = RawStream(stored(SAMPLES, 2) + b"\0\0\0", RawFormat(channels=2), "the samples", 60.0)
    assert "its last 3 bytes" in stream.warnings[0]
    with pytest.raises(AudioError, match="3 bytes, less than one sample"):
        RawStream(b"\0\0\0", RawFormat(channels=2), "the samples", 60.0)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ((16_000, 0, 1), "0 bytes"),
        ((16_000, 8, 1), "8 bytes"),
        ((16_000, 2, 0), "0 channels"),
        ((16_000, 2, 9), "9 ch"),
    ],
)
def test_impossible_formats_are_refused(form: tuple[int, int, int], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        RawFormat(*form)
