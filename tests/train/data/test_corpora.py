"""Corpora named on a command line: which clips, with what share, and what was dropped for which reason."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lithophone.audio.features import RATE_HZ
from lithophone.errors import ManifestError, OptionError
from lithophone.train.data.corpora import CorpusPart, as_sources, corpus_shares, data_report, read_parts
from tests.sounds import tone


def write_manifest(folder: Path, rows: list[dict[str, object]], seconds: float = 0.3) -> Path:
    folder.mkdir(exist_ok=True)
    for i in range(len(rows)):
        soundfile.write(folder / f"{i}.wav", tone(seconds), RATE_HZ)
    lines = [json.dumps({"audio": f"{i}.wav", "text": "a word", "lang": "en"} | row) for i, row in enumerate(rows)]
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines))
    return path


def part_of(hours: float, tmp_path: Path, weight: float = 1.0) -> CorpusPart:
    (part,) = read_parts(str(write_manifest(tmp_path, [{}])), 80.0, tmp_path / "cache")
    part.corpus.hours = hours
    return CorpusPart(part.name, part.corpus, {}, weight)


def test_what_is_dropped_is_counted_by_reason(tmp_path: Path) -> None:
    """Too long by the manifest, too long in truth, without words, unreadable, and in another language."""
    rows: list[dict[str, object]] = [
        {"corpus": "a"}, {"corpus": "a", "duration": 81.0}, {"corpus": "a", "text": "?!"}, {"corpus": "a"},
        {"corpus": "b"}, {"corpus": "b", "lang": "fr"}, {"corpus": "c"},
    ]  # fmt: skip
    path = write_manifest(tmp_path / "data", rows)
    soundfile.write(tmp_path / "data" / "0.wav", tone(0.6), RATE_HZ)
    (tmp_path / "data" / "3.wav").write_text("no sound")
    soundfile.write(tmp_path / "data" / "4.wav", tone(0.5), RATE_HZ)
    parts = read_parts(f"{path}:en@a+b", 80.0, tmp_path / "cache")
    assert [part.name for part in parts] == ["a:en", "b:en"]
    assert parts[0].dropped == {"no text": 1, "longer than 80 s": 1, "unreadable": 1}
    assert [clip.name for clip in parts[0].corpus.clips] == ["0.wav"]
    assert parts[0].corpus.hours == pytest.approx(0.6 / 3600)
    report = data_report(parts, 1.0, 0.55)
    assert [row["longer than a row"] for row in report] == [1, 0]
    assert [row["share"] for row in report] == pytest.approx([6 / 11, 5 / 11], abs=1e-4)
    assert [part.name for part in read_parts(str(path), 80.0, tmp_path / "cache")] == ["a:en", "b:en", "b:fr", "c:en"]
    with pytest.raises(ManifestError, match=r"none of the 4 clips of a:en can be used; .*'longer than 0.4 s': 2"):
        read_parts(f"{path}:en@a", 0.4, tmp_path / "cache")
    with pytest.raises(ManifestError, match=r"has no clips of 'de'"):
        read_parts(f"{path}:de", 80.0, tmp_path / "cache")


def test_small_corpora_are_sampled_more_often_than_their_size(tmp_path: Path) -> None:
    parts = [part_of(1.0, tmp_path), part_of(100.0, tmp_path)]
    assert corpus_shares(parts, 1.0) == pytest.approx([1 / 101, 100 / 101])
    assert corpus_shares(parts, 0.0) == pytest.approx([0.5, 0.5])
    small, large = corpus_shares(parts, 0.65)
    assert large / small == pytest.approx(100**0.65)


def test_weights_multiply_shares(tmp_path: Path) -> None:
    parts = [part_of(1.0, tmp_path, weight=3.0), part_of(1.0, tmp_path)]
    assert [source.weight for source in as_sources(parts, 0.6)] == pytest.approx([0.75, 0.25])


def test_weight_and_teacher_are_read(tmp_path: Path) -> None:
    path = write_manifest(tmp_path / "data", [{}])
    np.save(tmp_path / "teacher.npy", np.zeros((15, 4), np.float16))
    (tmp_path / "teacher.json").write_text(json.dumps({"0.wav": [0, 15]}))
    (part,) = read_parts(f"{path}:en:2.5:{tmp_path / 'teacher'}", 80.0, tmp_path / "cache")
    assert part.weight == 2.5
    assert part.teacher is not None
    assert part.teacher.size == 4
    assert read_parts(f"{path}::2", 80.0, tmp_path / "cache")[0].weight == 2.0


@pytest.mark.parametrize("weight", ["0", "-1", "much", "inf", "nan"])
def test_a_weight_is_a_number_above_nothing(tmp_path: Path, weight: str) -> None:
    path = write_manifest(tmp_path / "data", [{}])
    with pytest.raises(OptionError, match=f"the weight is '{weight}': it must be a number above 0"):
        read_parts(f"{path}:en:{weight}", 80.0, tmp_path / "cache")
