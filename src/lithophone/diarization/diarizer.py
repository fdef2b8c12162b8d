"""Diarizers: who speaks when in a recording that is read window by window."""

from __future__ import annotations

from functools import cache
from typing import Protocol

import numpy as np

from lithophone.audio.samples import Samples
from lithophone.audio.vad import SpeechDetector, bundled_detector
from lithophone.diarization.clustering import SpeakerCount, find_speakers
from lithophone.diarization.embeddings import PART, Embedder, chunk_regions, embed_parts, neural_embedder, parts_of
from lithophone.diarization.turns import Region, speaker_turns
from lithophone.diarization.weights import SHA256, load_speaker_model
from lithophone.transcript import Segment


class Diarization(Protocol):
    """One recording."""

    def push(self, start: int, samples: Samples) -> None:
        """A window of speech, 16 kHz, and its first sample in the recording; windows come in order."""
        ...

    def turns(self, duration_s: float) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
        """Turns of speakers by start, without text, and warnings, when all windows were pushed."""
        ...


class Diarizer(Protocol):
    """Finds the speakers of recordings; used by several threads at once."""

    @property
    def name(self) -> str:
        """Equal for diarizers that give the same turns: a resumed run needs the same."""
        ...

    def start(self, recording: str | None, start_s: float, count: SpeakerCount) -> Diarization:
        """A recording of that name, None if it has none, or the part of it from `start_s`.

        Raises LithophoneError where nothing is known of it.
        """
        ...


class EmbeddingDiarizer:
    """Speaker embeddings, clustered at the end of the recording; memory grows by 2 kB a second of speech.

    The default embedder is CAM++. Raises OptionError where its package is not installed.
    """

    def __init__(
        self, embedder: Embedder | None = None, detector: SpeechDetector | None = None, name: str = ""
    ) -> None:
        self.name = name or (f"CAM++ {SHA256[:12]}" if embedder is None else "embeddings")
        self._embedder = embedder or neural_embedder(load_speaker_model())
        self._detector = detector or bundled_detector()

    def start(self, recording: str | None, start_s: float, count: SpeakerCount) -> Diarization:
        return _EmbeddingDiarization(self._embedder, self._detector, count)


@cache
def default_diarizer() -> EmbeddingDiarizer:
    """Raises OptionError or CheckpointError."""
    return EmbeddingDiarizer()


class _EmbeddingDiarization:
    def __init__(self, embedder: Embedder, detector: SpeechDetector, count: SpeakerCount) -> None:
        self._embedder, self._detector, self._count = embedder, detector, count
        self._regions: list[Region] = []
        self._weights: list[float] = []

    def push(self, start: int, samples: Samples) -> None:
        stream = self._detector.stream()
        regions = chunk_regions(samples, np.concatenate([stream.push(samples), stream.flush()]))
        parts = [parts_of(*region) for region in regions]
        if not parts:
            return
        vectors = embed_parts(samples, [part for some in parts for part in some], self._embedder)
        for (first, end), some in zip(regions, parts, strict=True):
            own, vectors = vectors[: len(some)], vectors[len(some) :]
            centres = np.array([start + (a + b) / 2 for a, b in some])
            self._regions.append(Region(start + first, start + end, centres, own))
            self._weights += [(b - a) / PART for a, b in some]

    def turns(self, duration_s: float) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
        if not self._regions:
            return (), ()
        vectors = np.concatenate([region.vectors for region in self._regions])
        speakers = find_speakers(vectors, np.array(self._weights), self._count)
        turns = speaker_turns(self._regions, speakers)
        found = len({turn.speaker for turn in turns})
        return turns, _warnings(found, self._count)


def _warnings(found: int, count: SpeakerCount) -> tuple[str, ...]:
    if found >= count.least:
        return ()
    return (f"{count.least} speakers were asked for, and the recording has speech of {found}",)
