"""Which voices sound alike: speakers of a corpus -> clusters, for tags that are seen in training alone.

A number that two clips of one speaker share, and another speaker does not, tells a model what a turn of the speaker
cannot: that voices have an identity beyond the recording.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from lithophone.audio.features import N_MELS, log_mel_frames
from lithophone.errors import OptionError
from lithophone.train.data.augment import seeded
from lithophone.train.data.clips import DecodedCorpus

CLUSTERS = 64
CLIPS = 4
"""Of each speaker; more change a mean of statistics very little."""

ROUNDS = 100
LOUD_SHARE = 0.5
"""Of the frames: the louder ones are speech, mostly voiced."""

Vectors = npt.NDArray[np.float64]


def voice_vector(corpus: DecodedCorpus, clip_indices: list[int]) -> Vectors:
    """Mean and deviation of every mel band (160,), over the louder half of the frames of these clips.

    The mean of each clip's frames is taken out: how loud a recording is says nothing of the voice.
    """
    frames = []
    for index in clip_indices:
        mel = log_mel_frames(torch.from_numpy(corpus.samples(corpus.clips[index]))).reshape(-1, N_MELS).double().numpy()
        energy = mel.mean(1)
        loud = mel[energy >= np.quantile(energy, 1.0 - LOUD_SHARE)]
        frames.append(loud - loud.mean())
    joined = np.concatenate(frames)
    return np.concatenate([joined.mean(0), joined.std(0)])


def speaker_clusters(corpora: Sequence[DecodedCorpus], clusters: int = CLUSTERS, seed: int = 0) -> list[dict[str, int]]:
    """For every corpus: speaker -> the number of their cluster, from 1. The same number is alike in all corpora.

    There are as many clusters as speakers where these are fewer; clips without a speaker are passed over.
    """
    found: dict[tuple[int, str], list[int]] = {}
    for place, corpus in enumerate(corpora):
        for index, clip in enumerate(corpus.clips):
            if clip.speaker:
                found.setdefault((place, clip.speaker), []).append(index)
    result: list[dict[str, int]] = [{} for _ in corpora]
    if not found:
        return result
    vectors = np.stack([voice_vector(corpora[place], clips[:CLIPS]) for (place, _), clips in found.items()])
    scaled = (vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6)
    numbers = k_means(scaled, min(clusters, len(found)), seed).tolist()
    for (place, speaker), number in zip(found, numbers, strict=True):
        result[place][speaker] = number + 1
    return result


def k_means(vectors: Vectors, clusters: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """Vectors (N, D) -> the cluster of each (N,), 0..clusters - 1, until nothing moves (Lloyd, k-means++ starts).

    A cluster that loses all of its vectors takes the one that lies farthest from its centre. Raises OptionError for
    more clusters than vectors, or none.
    """
    if not 1 <= clusters <= len(vectors):
        raise OptionError(
            f"{clusters} clusters of {len(vectors)} vectors: from 1 up to the number of vectors it may be"
        )
    centres = _starts(vectors, clusters, seeded(seed, "clusters"))
    labels = np.full(len(vectors), -1, np.int64)
    for _ in range(ROUNDS):
        distances = _squared_distances(vectors, centres)
        nearest = distances.argmin(1).astype(np.int64)
        far = distances.min(1)
        for empty in np.setdiff1d(np.arange(clusters), nearest):
            shared = np.bincount(nearest, minlength=clusters)[nearest] > 1
            moved = int(np.where(shared, far, -1.0).argmax())
            nearest[moved], far[moved] = empty, 0.0
        if np.array_equal(nearest, labels):
            break
        labels = nearest
        centres = np.stack([vectors[labels == cluster].mean(0) for cluster in range(clusters)])
    return labels


def _starts(vectors: Vectors, clusters: int, rng: np.random.Generator) -> Vectors:
    """Vectors drawn by their squared distance from those that are drawn already (Arthur & Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(vectors)))]
    while len(chosen) < clusters:
        far = _squared_distances(vectors, vectors[chosen]).min(1)
        far[chosen] = 0.0
        rest = np.setdiff1d(np.arange(len(vectors)), chosen)
        chosen.append(int(rng.choice(len(far), p=far / far.sum()) if far.sum() > 0 else rest[0]))
    starts: Vectors = vectors[chosen]
    return starts


def _squared_distances(vectors: Vectors, centres: Vectors) -> Vectors:
    """(N, D), (K, D) -> (N, K)."""
    found: Vectors = np.stack([np.square(vectors - centre).sum(1) for centre in centres], 1)
    return found
