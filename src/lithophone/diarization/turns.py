"""Speaker turns from embeddings: the most probable sequence of speakers over chunks of speech (Viterbi)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lithophone.audio.samples import RATE_HZ
from lithophone.audio.vad import CHUNK
from lithophone.transcript import Segment

CHANGE, CHANGE_AT_PAUSE = 8.0, 2.0
"""Cost of a change of speakers within a region of speech, and between two: a chunk costs its cosine."""

JOINING_S = 0.5
"""Pauses up to this length do not end a turn."""


@dataclass(frozen=True)
class Region:
    """Speech without pauses, in samples of the recording, with the centres of its parts and their vectors (m, D)."""

    start: int
    end: int
    centres: NDArray[np.float64]
    vectors: NDArray[np.float32]


def speaker_turns(regions: Sequence[Region], speakers: NDArray[np.float32]) -> tuple[Segment, ...]:
    """Turns in order of time, without overlap or text; speakers are "1", "2", ... by first appearance."""
    chunks = [np.arange(region.start + CHUNK // 2, region.end, CHUNK) for region in regions]
    cosines = np.concatenate([_cosines(*one, speakers) for one in zip(regions, chunks, strict=True)])
    costs = np.concatenate([np.r_[CHANGE_AT_PAUSE, np.full(len(some) - 1, CHANGE)] for some in chunks])
    path = best_path(cosines, costs)
    spans: list[Segment] = []
    first = 0
    for region, some in zip(regions, chunks, strict=True):
        spans += _spans(region, path[first : first + len(some)])
        first += len(some)
    return tuple(_numbered(_joined(spans)))


def _cosines(region: Region, chunks: NDArray[np.int64], speakers: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosines of chunks and speakers (T, K), interpolated between parts."""
    found = region.vectors @ speakers.T
    return np.stack([np.interp(chunks, region.centres, column) for column in found.T], axis=1)


def best_path(scores: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.int64]:
    """Scores (T, K), T >= 1, costs of a change before each row (T,) -> the sequence (T,) with the highest sum."""
    n, k = scores.shape
    before = np.empty((n, k), np.int64)
    total = scores[0].copy()
    for t in range(1, n):
        best = int(total.argmax())
        stays = total >= total[best] - costs[t]
        before[t] = np.where(stays, np.arange(k), best)
        total = np.where(stays, total, total[best] - costs[t]) + scores[t]
    path = np.empty(n, np.int64)
    path[-1] = int(total.argmax())
    for t in range(n - 1, 0, -1):
        path[t - 1] = before[t, path[t]]
    return path


def _spans(region: Region, path: NDArray[np.int64]) -> Iterator[Segment]:
    """A turn for every run of one speaker in a region."""
    changes = (np.flatnonzero(np.diff(path)) + 1).tolist()
    for first, last in zip([0, *changes], [*changes, len(path)], strict=True):
        end = region.start + last * CHUNK if last < len(path) else region.end
        yield Segment("", (region.start + first * CHUNK) / RATE_HZ, end / RATE_HZ, speaker=str(path[first]))


def _joined(turns: Iterable[Segment]) -> list[Segment]:
    joined: list[Segment] = []
    for turn in turns:
        before = joined[-1] if joined else None
        if before and before.speaker == turn.speaker and turn.start_s - before.end_s <= JOINING_S:
            joined[-1] = replace(before, end_s=turn.end_s)
        else:
            joined.append(turn)
    return joined


def _numbered(turns: Iterable[Segment]) -> Iterator[Segment]:
    numbers: dict[str | None, str] = {}
    for turn in turns:
        yield replace(turn, speaker=numbers.setdefault(turn.speaker, str(len(numbers) + 1)))
