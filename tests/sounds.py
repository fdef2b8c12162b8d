"""Recordings made for tests: tones and noise by numpy, containers by PyAV."""

from __future__ import annotations

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


def _layout(samples: Samples | None) -> str:
    channels = 1 if samples is None or samples.ndim == 1 else len(samples)
    return {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[channels]


def _write_samples(container: Any, stream: Any, samples: Samples, rate_hz: int) -> None:
    """The encoder's own frame size and sample format come from `stream`; PyAV converts."""
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=stream.layout.name)
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _add_picture(container: Any, codec: str) -> Any:
    stream = container.add_stream(codec, rate=5)
    stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
    return stream


def _write_picture(container: Any, stream: Any) -> None:
    for _ in range(5):
        picture = np.full((64, 64, 3), 128, np.uint8)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
    container.mux(stream.encode(None))
