"""Clusters of speakers by voice, for speaker tags used in training only."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.cluster.vq import kmeans2

from lithophone.audio.features import N_MELS, log_mel_frames
from lithophone.errors import OptionError
from lithophone.train.data.augment import seeded
from lithophone.train.data.clips import DecodedCorpus

CLUSTERS = 64
CLIPS = 4
"""Clips per speaker for its statistics."""

ROUNDS = 100
LOUD_SHARE = 0.5
"""Share of a clip's frames, the loudest: speech, mostly voiced."""

Vectors = npt.NDArray[np.float64]


def voice_vector(corpus: DecodedCorpus, clip_indices: list[int]) -> Vectors:
    """Mean and standard deviation of every mel band (160,) over loud frames of these clips, level removed."""
    frames = []
    for index in clip_indices:
        mel = log_mel_frames(torch.from_numpy(corpus.samples(corpus.clips[index]))).reshape(-1, N_MELS).double().numpy()
        energy = mel.mean(1)
        loud = mel[energy >= np.quantile(energy, 1.0 - LOUD_SHARE)]
        frames.append(loud - loud.mean())
    joined = np.concatenate(frames)
    return np.concatenate([joined.mean(0), joined.std(0)])


def speaker_clusters(corpora: Sequence[DecodedCorpus], clusters: int = CLUSTERS, seed: int = 0) -> list[dict[str, int]]:
    """Speaker -> cluster number from 1, per corpus; clusters are shared by all corpora.

    At most as many clusters as speakers. Clips without a speaker are left out.
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
    """Vectors (N, D) -> cluster of each (N,), by Lloyd's algorithm from k-means++ starts.

    Equal vectors share a cluster, so there may be fewer. Raises OptionError unless 1 <= clusters <= N.
    """
    if not 1 <= clusters <= len(vectors):
        raise OptionError(f"{clusters} clusters of {len(vectors)} vectors: give 1 to {len(vectors)}")
    distinct = len(np.unique(vectors, axis=0))
    if clusters >= distinct:
        return np.unique(vectors, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        labels = kmeans2(vectors, clusters, iter=ROUNDS, minit="++", seed=seeded(seed, "clusters"))[1]
    return np.asarray(labels, np.int64)
