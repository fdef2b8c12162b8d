"""Speaker embeddings of short overlapping parts of speech."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lithophone.audio.samples import RATE_HZ, Samples
from lithophone.audio.vad import CHUNK
from lithophone.diarization.filterbank import filterbank

PART = int(1.5 * RATE_HZ)
"""Samples of a part that has an embedding."""

HOP = PART // 2

BATCH = 32
"""Parts per call of the network, to bound memory."""

SPEECH_STARTS, SPEECH_ENDS = 0.5, 0.35
"""A run of chunks at or above the second probability is speech if one reaches the first."""

PAUSE = 6
"""Chunks (0.2 s) of silence that separate two regions: speakers may change there."""

PADDING = 2
"""Chunks added at both ends of a region."""

LEAST = 4
"""Chunks of the shortest region."""

Vectors: TypeAlias = NDArray[np.float32]
Embedder: TypeAlias = Callable[[Samples], Vectors]
"""Parts (m, 24000), 16 kHz -> unit vectors (m, D)."""


def speech_regions(probabilities: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Speech probabilities of chunks (n,) -> regions [start, end) in chunks, in order, apart."""
    regions: list[tuple[int, int]] = []
    for start, end in _runs(probabilities >= SPEECH_ENDS):
        if probabilities[start:end].max() < SPEECH_STARTS:
            continue
        if regions and start - regions[-1][1] < PAUSE:
            regions[-1] = regions[-1][0], end
        else:
            regions.append((start, end))
    padded = [(max(0, start - PADDING), min(len(probabilities), end + PADDING)) for start, end in regions]
    return [(start, end) for start, end in padded if end - start >= LEAST]


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Spans of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def parts_of(start: int, end: int) -> list[tuple[int, int]]:
    """Parts of a region in samples, half a part apart; the last one ends with it. A short region is one part."""
    if end - start <= PART:
        return [(start, end)]
    starts = [*range(start, end - PART, HOP), end - PART]
    return [(first, first + PART) for first in starts]


def embed_parts(samples: Samples, parts: Sequence[tuple[int, int]], embedder: Embedder) -> Vectors:
    """Unit vectors (m, D) of parts of the samples; short ones are repeated to full length."""
    found = []
    for first in range(0, len(parts), BATCH):
        found.append(embedder(np.stack([np.resize(samples[a:b], PART) for a, b in parts[first : first + BATCH]])))
    return np.concatenate(found)


def chunk_regions(samples: Samples, probabilities: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Regions in samples, within the recording."""
    return [(a * CHUNK, min(b * CHUNK, len(samples))) for a, b in speech_regions(probabilities)]


def neural_embedder(network: torch.nn.Module) -> Embedder:
    """An embedder of a network that takes filterbanks (B, T, 80) without their mean over time."""

    @torch.inference_mode()
    def embed(parts: Samples) -> Vectors:
        bands = filterbank(torch.from_numpy(parts))
        vectors: Tensor = network(bands - bands.mean(1, keepdim=True))
        unit: Vectors = torch.nn.functional.normalize(vectors, dim=-1).numpy()
        return unit

    return embed
