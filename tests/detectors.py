"""Voice activity detectors for tests, and the whole-recording form of the segmenter, which judges the one in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.detection import RECORDINGS, SPEECH_ENDS, SPEECH_STARTS
from lithophone.audio.samples import RATE_HZ, Samples
from lithophone.audio.segmenter import PADDING, _smooth
from lithophone.audio.vad import CHUNK, ChunkStream, DetectorStream

Rule = Callable[[Samples, int], NDArray[np.float32]]
"""Chunks (m, 512) and the number of the first one -> probabilities (m,)."""


class RuleDetector:
    """A detector whose streams follow a rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule

    def stream(self) -> DetectorStream:
        return _RuleStream(self.rule)

    def speech_probabilities(self, samples: Samples) -> NDArray[np.float32]:
        stream = self.stream()
        return np.concatenate([stream.push(samples), stream.flush()])


class _RuleStream(ChunkStream):
    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule, self.first = rule, 0

    def probabilities(self, chunks: Samples) -> NDArray[np.float32]:
        found = self.rule(chunks, self.first).astype(np.float32)
        self.first += len(chunks)
        return found


def by_loudness() -> RuleDetector:
    """Everything above 0.05 is speech, so that tones and noise do for recordings."""
    return RuleDetector(lambda chunks, _: np.abs(chunks).max(axis=1) > 0.05)


def by_spans(*spans: tuple[float, float]) -> RuleDetector:
    """Speech lies where `spans` say, in seconds."""

    def rule(chunks: Samples, first: int) -> NDArray[np.float32]:
        time_s = np.arange(first, first + len(chunks)) * CHUNK / RATE_HZ
        return np.any([(start <= time_s) & (time_s < end) for start, end in spans], axis=0).astype(np.float32)

    return RuleDetector(rule)


def by_table(probabilities: NDArray[np.float32]) -> RuleDetector:
    """Probabilities of the chunks, one by one."""
    return RuleDetector(lambda chunks, first: probabilities[first : first + len(chunks)])


def whole_windows(samples: Samples, probabilities: NDArray[np.float32], limit_s: float) -> list[tuple[int, int]]:
    """Windows [start, end) of a whole recording, with all of its probabilities at hand."""
    limit = int(limit_s * RATE_HZ)
    return [
        window
        for stretch in speech_stretches(probabilities, len(samples))
        for window in _pieces(stretch, limit, samples, probabilities)
    ]


def speech_stretches(probabilities: NDArray[np.float32], n_samples: int) -> list[tuple[int, int]]:
    """Speech as [start, end) in samples: short silences closed, padded, in order and without overlap."""
    joined: list[tuple[int, int]] = []
    for start, end in _speech_runs(probabilities):
        if joined and start - joined[-1][1] < RECORDINGS.silence:
            start = joined.pop()[0]
        joined.append((start, end))
    return [(max(0, start - PADDING), min(n_samples, end + PADDING)) for start, end in joined]


def _speech_runs(probabilities: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    """Runs of chunks at or above the lower threshold that reach the upper one somewhere, in samples."""
    inside = np.concatenate([[False], probabilities >= np.float32(SPEECH_ENDS), [False]])
    edges = np.flatnonzero(inside[1:] != inside[:-1])
    for first, last in edges.reshape(-1, 2).tolist():
        if probabilities[first:last].max() >= SPEECH_STARTS:
            yield first * CHUNK, last * CHUNK


def _pieces(
    stretch: tuple[int, int], limit: int, samples: Samples, probabilities: NDArray[np.float32]
) -> Iterator[tuple[int, int]]:
    start, end = stretch
    while end - start > limit:
        cut = _quietest(start + limit // 2, min(start + limit, end - limit // 4), samples, probabilities)
        yield start, cut
        start = cut
    yield start, end


def _quietest(earliest: int, latest: int, samples: Samples, probabilities: NDArray[np.float32]) -> int:
    first, last = math.ceil(earliest / CHUNK), latest // CHUNK
    chunks = samples[first * CHUNK : last * CHUNK].reshape(-1, CHUNK)
    loudness = np.sqrt(np.square(chunks).mean(axis=1))
    cost = probabilities[first:last] + loudness / max(float(loudness.max()), 1e-9)
    return (first + int((cost + _smooth(cost)).argmin())) * CHUNK + CHUNK // 2
