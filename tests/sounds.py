"""Recordings made for tests: tones and noise by numpy, containers by PyAV."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]


def tone(seconds: float = 1.0, rate_hz: int = 16_000, frequency_hz: float = 440.0, peak: float = 0.5) -> Samples:
    """A sine (n,)."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    return (peak * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def noise(seconds: float, rate_hz: int = 16_000, peak: float = 0.01, seed: int = 0) -> Samples:
    """White noise (n,)."""
    return np.random.default_rng(seed).uniform(-peak, peak, round(seconds * rate_hz)).astype(np.float32)


FORMANTS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (530, 1840, 2480), (300, 870, 2240))
"""Of a, i, e and u (Peterson and Barney 1952)."""


def sung_vowels(seconds: float, rate_hz: int = 16_000, f0_hz: float = 180.0) -> Samples:
    """A voice (n,) that sings a vowel after the other, half a second each, with vibrato."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * f0_hz * (time_s + 0.003 * np.sin(2 * np.pi * 5.5 * time_s))
    formants = np.array(FORMANTS_HZ)[(time_s / 0.5).astype(int) % len(FORMANTS_HZ)]
    harmonics = np.arange(1, int(4_000 / f0_hz))
    near = np.exp(-(((harmonics[:, None, None] * f0_hz - formants) / 150.0) ** 2)).sum(-1)
    sound = ((near + 0.02) / harmonics[:, None] ** 0.5 * np.sin(harmonics[:, None] * phase)).sum(0)
    return (0.3 * sound / np.abs(sound).max()).astype(np.float32)


def silence(seconds: float, rate_hz: int = 16_000) -> Samples:
    return np.zeros(round(seconds * rate_hz), np.float32)


def write_container(
    path: Path, samples: Samples | None, rate_hz: int = 48_000, codec: str = "aac", picture: str | None = None
) -> Path:
    """Write samples (n,) or (channels, n) at `rate_hz` with an audio codec, and one second of a grey picture with a
    video codec; samples=None leaves the sound out."""
    with av.open(str(path), "w") as container:
        video = _add_picture(container, picture) if picture else None
        audio = container.add_stream(codec, rate=rate_hz, layout=_layout(samples)) if samples is not None else None
        if video is not None:
            _write_picture(container, video)
        if audio is not None and samples is not None:
            _write_samples(container, audio, np.atleast_2d(samples), rate_hz)
    return path


def write_shifted(
    path: Path,
    samples: Samples,
    rate_hz: int,
    codec: str,
    shift_s: Callable[[float], float | None],
    picture: str | None = "mpeg4",
    picture_s: float = 1.0,
) -> Path:
    """As `write_container`, with each audio packet moved by `shift_s(its time)` seconds, or left out for None."""
    with av.open(str(path), "w") as container:
        video = _add_picture(container, picture) if picture else None
        audio: Any = container.add_stream(codec, rate=rate_hz, layout=_layout(samples))
        if video is not None:
            _write_picture(container, video, round(5 * picture_s))
        frame = _audio_frame(np.atleast_2d(samples), rate_hz, audio.layout.name)
        for packet in [*audio.encode(frame), *audio.encode(None)]:
            shift = shift_s(float(packet.pts * packet.time_base))
            if shift is not None:
                ticks = round(shift / packet.time_base)
                packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
                container.mux(packet)
    return path


def onset_s(samples: Samples, threshold: float = 0.2, rate_hz: int = 16_000) -> float:
    """Seconds before the first sample beyond the threshold."""
    return float(np.argmax(np.abs(samples) > threshold)) / rate_hz


def beep(at_s: float, length_s: float, rate_hz: int = 16_000) -> Samples:
    """Silence with 0.3 s of a tone in it."""
    return np.concatenate(
        [silence(at_s, rate_hz), tone(0.3, rate_hz), silence(length_s - at_s - 0.3, rate_hz)],
    )


class Pipe(io.RawIOBase):
    """A file object that cannot seek; raises OSError after `fails_at` bytes."""

    def __init__(self, data: bytes, fails_at: int | None = None) -> None:
        self.rest, self.fails_at = io.BytesIO(data), fails_at

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self.fails_at is not None and self.rest.tell() >= self.fails_at:
            raise OSError(5, "Input/output error")
        return self.rest.readinto(buffer)


def _layout(samples: Samples | None) -> str:
    channels = 1 if samples is None or samples.ndim == 1 else len(samples)
    return {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[channels]


def _write_samples(container: Any, stream: Any, samples: Samples, rate_hz: int) -> None:
    """The encoder's own frame size and sample format come from `stream`; PyAV converts."""
    container.mux(stream.encode(_audio_frame(samples, rate_hz, stream.layout.name)))
    container.mux(stream.encode(None))


def _audio_frame(samples: Samples, rate_hz: int, layout: str) -> Any:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    return frame


def _add_picture(container: Any, codec: str) -> Any:
    stream = container.add_stream(codec, rate=5)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    return stream


def _write_picture(container: Any, stream: Any, n: int = 5) -> None:
    for _ in range(n):
        picture = np.full((64, 64, 3), 128, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode(None))
