"""Voices that sound alike get one number: k-means against points that lie apart, speakers with low and high voices."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lithophone.audio.features import RATE_HZ
from lithophone.data.manifest import read_entries
from lithophone.errors import OptionError
from lithophone.train.data.clips import DecodedCorpus
from lithophone.train.speaker_clusters import k_means, speaker_clusters
from tests.sounds import tone


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a[:, None] == a, b[:, None] == b))


@pytest.mark.parametrize("seed", range(5))
def test_points_that_lie_apart_are_told_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.arange(60) % 4
    vectors = 20.0 * np.eye(4)[truth] + rng.standard_normal((60, 4))
    labels = k_means(vectors, 4, seed)
    assert same_partition(labels, truth)
    assert np.array_equal(labels, k_means(vectors, 4, seed))


def test_every_vector_is_nearest_to_the_mean_of_its_own_cluster() -> None:
    """What Lloyd's rounds end with, on vectors without any order."""
    vectors = np.random.default_rng(7).standard_normal((80, 3))
    labels = k_means(vectors, 6)
    means = np.stack([vectors[labels == cluster].mean(0) for cluster in range(6)])
    distances = ((vectors[:, None] - means) ** 2).sum(-1)
    assert np.array_equal(distances.argmin(1), labels)


def test_equal_vectors_share_a_cluster_and_others_have_their_own() -> None:
    assert k_means(np.zeros((5, 2)), 5).tolist() == [0] * 5
    labels = k_means(np.array([[0.0, 0.0], [3.0, 1.0], [0.0, 0.0], [9.0, 9.0]]), 4)
    assert same_partition(labels, np.array([0, 1, 0, 2]))
    assert len(set(k_means(np.repeat(np.eye(4), 3, axis=0), 3).tolist())) == 3


@pytest.mark.parametrize("clusters", [0, 6])
def test_impossible_numbers_of_clusters_are_refused(clusters: int) -> None:
    with pytest.raises(OptionError, match="clusters of 5 vectors: give 1 to 5"):
        k_means(np.zeros((5, 2)), clusters)


def corpus(folder: Path, voices: dict[str, float]) -> DecodedCorpus:
    """Two clips of every speaker, a tone with overtones at their pitch; and one clip of nobody."""
    folder.mkdir()
    lines = []
    for speaker, pitch_hz in {**voices, "": 777.0}.items():
        for i in range(2):
            sound = sum(tone(0.3, frequency_hz=(k + 0.02 * i) * pitch_hz, peak=0.3 / k) for k in (1, 2, 3))
            soundfile.write(folder / f"{speaker}{i}.wav", sound, RATE_HZ)
            lines.append(json.dumps({"audio": f"{speaker}{i}.wav", "text": "a", "lang": "en", "speaker": speaker}))
    (folder / "m.jsonl").write_text("\n".join(lines))
    return DecodedCorpus(read_entries(folder / "m.jsonl"), folder / "cache")


def test_like_voices_share_a_number_in_all_corpora(tmp_path: Path) -> None:
    one = corpus(tmp_path / "one", {"low": 110.0, "high": 900.0})
    two = corpus(tmp_path / "two", {"low": 905.0, "deep": 108.0})
    first, second = speaker_clusters([one, two], clusters=2)
    assert first.keys() == {"low", "high"}
    assert {*first.values()} == {1, 2}
    assert second == {"low": first["high"], "deep": first["low"]}
    assert len({*speaker_clusters([one])[0].values()}) == 2


def test_nobody_has_no_number(tmp_path: Path) -> None:
    assert speaker_clusters([corpus(tmp_path / "c", {})]) == [{}]
