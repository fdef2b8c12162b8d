"""Where to cut a recording: windows of speech, bounded in length, with their edges in silence.

A voice activity detector gives a speech probability for every 32 ms; everything after that is arithmetic on these
probabilities. This module knows no model, no text and no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.reader import RATE_HZ, Samples
from lithophone.audio.vad import CHUNK, SpeechDetector, bundled_detector
from lithophone.errors import OptionError

SPEECH_STARTS, SPEECH_ENDS = 0.5, 0.35
"""Speech begins at the first probability and lasts while the second is reached."""

PADDING_S = 0.4
"""Silence kept on each side of a window: soft onsets and final consonants lie below the thresholds."""

JOINING_S = 1.0
"""Speech on both sides of a shorter silence is kept together: a pause inside a thought, not a change of scene."""

SMOOTHING = 9
"""Chunks (0.3 s) that count as the surroundings of a cut."""

MIN_LIMIT_S = 1.0


@dataclass(frozen=True)
class Window:
    """A stretch of the recording, [start, end) in samples; `speech` is its mean speech probability, 0..1."""

    start: int
    end: int
    speech: float

    @property
    def start_s(self) -> float:
        return self.start / RATE_HZ

    @property
    def end_s(self) -> float:
        return self.end / RATE_HZ


def speech_windows(samples: Samples, limit_s: float = 30.0, *, detector: SpeechDetector | None = None) -> list[Window]:
    """Cut samples (n,), 16 kHz, into windows of at most `limit_s` seconds, in order and without overlap.

    Everything that the detector (default: Silero VAD) calls speech lies in a window, with 0.4 s around it. Silences of
    a second and more lie in none; speech on both sides of a shorter one stays together. Speech that goes on for longer
    than `limit_s` is cut at the quietest point in the second half of the window. No speech: no windows.
    Raises OptionError for a limit below one second, or none.
    """
    if not MIN_LIMIT_S <= limit_s < math.inf:
        raise OptionError(f"limit_s is {limit_s!r}: windows are {MIN_LIMIT_S} s or longer, 30 s are usual")
    assert samples.ndim == 1, f"samples are (n,), not {samples.shape}"
    probabilities = (detector or bundled_detector()).speech_probabilities(samples)
    limit = int(limit_s * RATE_HZ)
    return [
        Window(start, end, _mean_speech(probabilities, start, end))
        for stretch in speech_stretches(probabilities, len(samples))
        for start, end in _pieces(stretch, limit, samples, probabilities)
    ]


def speech_stretches(probabilities: NDArray[np.float32], n_samples: int) -> list[tuple[int, int]]:
    """Speech as [start, end) in samples: short silences closed, padded by 0.4 s, in order and without overlap."""
    joining, padding = int(JOINING_S * RATE_HZ), int(PADDING_S * RATE_HZ)
    joined: list[tuple[int, int]] = []
    for start, end in _speech_runs(probabilities):
        if joined and start - joined[-1][1] < joining:
            start = joined.pop()[0]
        joined.append((start, end))
    return [(max(0, start - padding), min(n_samples, end + padding)) for start, end in joined]


def _speech_runs(probabilities: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Runs of chunks at or above the lower threshold that reach the upper one somewhere, in samples."""
    inside = np.concatenate([[False], probabilities >= SPEECH_ENDS, [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    for first, last in edges.reshape(-1, 2).tolist():
        if probabilities[first:last].max() >= SPEECH_STARTS:
            yield first * CHUNK, last * CHUNK


def _mean_speech(probabilities: NDArray[np.float32], start: int, end: int) -> float:
    return float(probabilities[start // CHUNK : -(-end // CHUNK)].mean())


# --- cutting what is too long


def _pieces(
    stretch: tuple[int, int], limit: int, samples: Samples, probabilities: NDArray[np.float32]
) -> Iterator[tuple[int, int]]:
    """Cut a stretch into pieces of at most `limit` samples; the last is no crumb but a quarter of the limit or more."""
    start, end = stretch
    while end - start > limit:
        latest = min(start + limit, end - limit // 4)
        cut = _quietest(start + limit // 2, latest, samples, probabilities)
        yield start, cut
        start = cut
    yield start, end


def _quietest(earliest: int, latest: int, samples: Samples, probabilities: NDArray[np.float32]) -> int:
    """The sample in [earliest, latest] with the least speech and sound around it.

    Both count alike: the speech probability and the loudness relative to the loudest chunk, each in 0..1. What lies
    around counts as much as the chunk itself, so that a pause wins over a closed stop consonant.
    """
    first, last = -(-earliest // CHUNK), latest // CHUNK
    chunks = samples[first * CHUNK : last * CHUNK].reshape(-1, CHUNK)
    loudness = np.sqrt(np.square(chunks).mean(axis=1))
    cost = probabilities[first:last] + loudness / max(float(loudness.max()), 1e-9)
    return (first + int((cost + _smooth(cost)).argmin())) * CHUNK + CHUNK // 2


def _smooth(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Running mean over SMOOTHING values, the edges repeated outwards."""
    wide = np.pad(values, SMOOTHING // 2, mode="edge")
    return np.convolve(wide, np.full(SMOOTHING, 1 / SMOOTHING), mode="valid")
