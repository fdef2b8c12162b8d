"""Clusters of embeddings: those of scipy, in blocks as well, and as many speakers as asked for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage

from lithophone.diarization import clustering
from lithophone.diarization.clustering import SpeakerCount, cluster, find_speakers
from lithophone.errors import OptionError


def voices(*sizes: int, noise: float = 0.5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (N, 32) of speakers with that many parts each, in random order, and their speakers."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.normal(size=(32, 32)))[0][: len(sizes)]
    speakers = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    vectors = centres[speakers] + noise * rng.normal(size=(len(speakers), 32)) / np.sqrt(32)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), speakers


def same(labels: np.ndarray, others: np.ndarray) -> bool:
    """Whether two partitions are equal."""
    return (
        len({*zip(labels.tolist(), others.tolist(), strict=True)}) == len({*labels.tolist()}) == len({*others.tolist()})
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("least_cosine", [0.1, 0.39, 0.6])
def test_clusters_are_those_of_average_linkage(seed: int, least_cosine: float) -> None:
    vectors, _ = voices(20, 9, 14, 3, noise=1.2, seed=seed)
    distances = 1.0 - vectors @ vectors.T
    tree = linkage(distances[np.triu_indices(len(vectors), 1)].astype(np.float64), "average")
    expected = fcluster(tree, 1.0 - least_cosine, "distance")
    assert same(cluster(vectors, np.ones(len(vectors)), least_cosine), expected)


def test_a_long_recording_is_clustered_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clustering, "BLOCK", 40)
    monkeypatch.setattr(clustering, "BLOCK_CLUSTERS", 6)
    sizes: list[int] = []
    make = clustering._Agglomeration.__init__

    def spied(self: clustering._Agglomeration, vectors: np.ndarray, weights: np.ndarray) -> None:
        sizes.append(len(vectors))
        make(self, vectors, weights)

    monkeypatch.setattr(clustering._Agglomeration, "__init__", spied)
    vectors, speakers = voices(100, 60, 30, 17)
    assert same(cluster(vectors, np.ones(len(vectors))), speakers)
    assert max(sizes) <= 40


@pytest.mark.parametrize("sizes", [(30,), (30, 12), (25, 25, 40), (9, 30, 50, 20, 14)])
def test_the_number_of_speakers_is_estimated(sizes: tuple[int, ...]) -> None:
    vectors, speakers = voices(*sizes, noise=0.8)
    found = find_speakers(vectors, np.ones(len(vectors)), SpeakerCount())
    assert same((vectors @ found.T).argmax(1), speakers)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)


def test_a_few_stray_parts_are_no_speaker() -> None:
    vectors, speakers = voices(60, 40, 3)
    found = find_speakers(vectors, np.ones(len(vectors)), SpeakerCount())
    assert len(found) == 2
    assert same((vectors @ found.T).argmax(1)[speakers < 2], speakers[speakers < 2])


@pytest.mark.parametrize(("least", "most", "expected"), [(4, 4, 4), (2, 2, 2), (1, 1, 1), (1, 2, 2), (5, None, 5)])
def test_the_number_of_speakers_is_within_its_bounds(least: int, most: int | None, expected: int) -> None:
    vectors, _ = voices(30, 25, 20, 2, 1)
    assert len(find_speakers(vectors, np.ones(len(vectors)), SpeakerCount(least, most))) == expected


def test_one_part_is_one_speaker() -> None:
    vectors, _ = voices(1)
    assert len(find_speakers(vectors, np.ones(1), SpeakerCount(3, 3))) == 1


def test_bounds_are_in_order() -> None:
    with pytest.raises(OptionError, match="min_speakers is 4 and max_speakers is 3"):
        SpeakerCount(4, 3)
