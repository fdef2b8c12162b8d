"""Decoded clips: a cache that knows its files, stretches of long recordings, clips that cannot be read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lithophone.audio.features import RATE_HZ
from lithophone.audio.reader import load_audio
from lithophone.data.manifest import Entry, read_entries
from lithophone.train.data import clips as clips_module
from lithophone.train.data.clips import DecodedCorpus
from tests.sounds import tone


def write(path: Path, seconds: float, frequency_hz: float = 440.0) -> None:
    subtype = "FLOAT" if path.suffix == ".wav" else None
    soundfile.write(path, tone(seconds, frequency_hz=frequency_hz), RATE_HZ, subtype=subtype)


def entries_of(folder: Path, rows: Sequence[dict[str, object]]) -> list[Entry]:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps({"text": "a word", "lang": "en"} | row) for row in rows))
    return read_entries(path)


def corpus_of(folder: Path, *rows: dict[str, object]) -> DecodedCorpus:
    return DecodedCorpus(entries_of(folder, rows), folder / "cache")


def names(corpus: DecodedCorpus) -> list[str]:
    return [clip.name for clip in corpus.clips]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded, in order."""
    files: list[str] = []

    def load(path: Path) -> object:
        files.append(Path(path).name)
        return load_audio(path)

    monkeypatch.setattr(clips_module, "load_audio", load)
    return files


def test_samples_are_decoded_once_and_kept(tmp_path: Path, decoded: list[str]) -> None:
    write(tmp_path / "0.wav", 0.5)
    write(tmp_path / "1.wav", 1.0, 600.0)
    corpus = corpus_of(tmp_path, {"audio": "0.wav"}, {"audio": "1.wav"})
    assert corpus.hours == pytest.approx(1.5 / 3600)
    again = corpus_of(tmp_path, {"audio": "0.wav"}, {"audio": "1.wav", "text": "another text"})
    assert decoded == ["0.wav", "1.wav"]
    assert again.clips[1].text == "another text"
    wanted, _ = soundfile.read(tmp_path / "1.wav", dtype="float32")
    np.testing.assert_allclose(again.samples(again.clips[1]), wanted, atol=1e-4)


def test_a_replaced_recording_is_decoded_again(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5)
    before = corpus_of(tmp_path, {"audio": "a.wav"})
    write(tmp_path / "a.wav", 0.8)
    after = corpus_of(tmp_path, {"audio": "a.wav"})
    assert (before.clips[0].length, after.clips[0].length) == (8_000, 12_800)


def test_a_recording_of_the_same_size_and_another_time_is_decoded_again(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5, 300.0)
    before = corpus_of(tmp_path, {"audio": "a.wav"})
    state = (tmp_path / "a.wav").stat()
    write(tmp_path / "a.wav", 0.5, 900.0)
    os.utime(tmp_path / "a.wav", ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    after = corpus_of(tmp_path, {"audio": "a.wav"})
    assert not np.allclose(before.samples(before.clips[0]), after.samples(after.clips[0]), atol=0.1)


def test_a_link_that_points_to_another_recording_is_decoded_again(tmp_path: Path) -> None:
    write(tmp_path / "one.wav", 0.5)
    write(tmp_path / "two.wav", 0.7)
    for target, length in (("one.wav", 8_000), ("two.wav", 11_200)):
        (tmp_path / "a.wav").unlink(missing_ok=True)
        (tmp_path / "a.wav").symlink_to(tmp_path / target)
        assert corpus_of(tmp_path, {"audio": "a.wav"}).clips[0].length == length


def test_a_repaired_recording_comes_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.wav", 0.5)
    (tmp_path / "b.wav").write_text("no sound")
    rows: list[dict[str, object]] = [{"audio": "a.wav"}, {"audio": "b.wav"}]
    assert names(corpus_of(tmp_path, *rows)) == ["a.wav"]
    write(tmp_path / "b.wav", 0.5)
    caplog.clear()
    assert names(corpus_of(tmp_path, *rows)) == ["a.wav", "b.wav"]
    assert caplog.text == ""


def test_unreadable_clips_are_reported_by_every_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.wav", 0.5)
    (tmp_path / "b.wav").write_text("no sound")
    for _ in range(2):
        caplog.clear()
        corpus = corpus_of(tmp_path, {"audio": "a.wav"}, {"audio": "b.wav"})
        assert names(corpus) == ["a.wav"]
        assert len(corpus.unreadable) == 1
        assert caplog.text.count("b.wav: ") == 1


def test_a_disk_that_failed_once_costs_nothing_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has not changed: only reading it again shows that it can be read."""
    write(tmp_path / "a.wav", 0.5)
    write(tmp_path / "b.wav", 0.5)
    rows: list[dict[str, object]] = [{"audio": "a.wav"}, {"audio": "b.wav"}]

    def failing(path: Path) -> object:
        if path.name == "b.wav":
            raise OSError(5, "Input/output error")
        return load_audio(path)

    with monkeypatch.context() as patch:
        patch.setattr(clips_module, "load_audio", failing)
        assert names(corpus_of(tmp_path, *rows)) == ["a.wav"]
    assert names(corpus_of(tmp_path, *rows)) == ["a.wav", "b.wav"]


def test_a_file_that_goes_away_after_the_manifest_was_read_is_one_unreadable_clip(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5)
    write(tmp_path / "b.wav", 0.5)
    entries = entries_of(tmp_path, [{"audio": "a.wav"}, {"audio": "b.wav"}])
    (tmp_path / "b.wav").unlink()
    corpus = DecodedCorpus(entries, tmp_path / "cache")
    assert names(corpus) == ["a.wav"]
    assert "b.wav" in corpus.unreadable[0]


def test_a_name_that_no_file_system_takes_is_one_unreadable_clip(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5)
    good = entries_of(tmp_path, [{"audio": "a.wav"}])
    corpus = DecodedCorpus([*good, Entry(tmp_path / ("n" * 300), "a word", "en", name="long")], tmp_path / "cache")
    assert names(corpus) == ["a.wav"]
    assert corpus.unreadable[0].startswith("long: ")


def test_a_long_recording_with_many_stretches_is_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    write(tmp_path / "long.flac", 5.0)
    rows: list[dict[str, object]] = [{"audio": "long.flac", "start": i / 10, "end": (i + 1) / 10} for i in range(50)]
    corpus = DecodedCorpus([*entries_of(tmp_path, rows)], tmp_path / "cache")
    assert decoded == ["long.flac"]
    assert [clip.length for clip in corpus.clips] == [1_600] * 50
    whole = load_audio(tmp_path / "long.flac")
    np.testing.assert_allclose(corpus.samples(corpus.clips[7]), whole[11_200:12_800], atol=1e-4)


def test_stretches_of_two_recordings_in_turn_are_decoded_once_each_and_keep_their_order(
    tmp_path: Path, decoded: list[str]
) -> None:
    write(tmp_path / "a.wav", 1.0)
    write(tmp_path / "b.wav", 1.0, 900.0)
    rows: list[dict[str, object]] = [
        {"audio": f"{'ab'[i % 2]}.wav", "start": 0.1 * i, "end": 0.1 * i + 0.1, "id": str(i)} for i in range(6)
    ]
    corpus = corpus_of(tmp_path, *rows)
    assert decoded == ["a.wav", "b.wav"]
    assert names(corpus) == ["0", "1", "2", "3", "4", "5"]
    for i, clip in enumerate(corpus.clips):
        whole = load_audio(tmp_path / f"{'ab'[i % 2]}.wav")
        np.testing.assert_allclose(corpus.samples(clip), whole[1600 * i : 1600 * (i + 1)], atol=1e-4)


def test_a_recording_under_two_paths_is_decoded_once(tmp_path: Path, decoded: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "a.wav", 1.0)
    corpus_of(
        tmp_path, {"audio": "a.wav", "start": 0, "end": 0.5}, {"audio": "folder/../a.wav", "start": 0.5, "end": 1}
    )
    assert decoded == ["a.wav"]


@pytest.mark.parametrize(("start", "end"), [(0.5, 3.0), (2.0, 2.5), (0.5, 0.5)], ids=["beyond", "behind", "empty"])
def test_a_stretch_that_is_not_in_its_file_is_left_out_with_both_lengths(
    tmp_path: Path, start: float, end: float
) -> None:
    write(tmp_path / "a.wav", 1.0)
    corpus = corpus_of(tmp_path, {"audio": "a.wav"}, {"audio": "a.wav", "start": start, "end": end, "id": "bad"})
    assert names(corpus) == ["a.wav"]
    assert corpus.unreadable == [
        f"bad: {start:g} to {end:g} s is no stretch of {tmp_path / 'a.wav'}, which has 1.00 s: "
        "correct start and end in the manifest"
    ]


def test_a_stretch_whose_end_is_rounded_up_is_taken_to_the_end_of_the_file(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.996)
    corpus = corpus_of(tmp_path, {"audio": "a.wav", "start": 0.5, "end": 1.0})
    assert [clip.length for clip in corpus.clips] == [round(0.496 * RATE_HZ)]


def test_bad_stretches_do_not_decode_their_file_again_in_the_next_run(tmp_path: Path, decoded: list[str]) -> None:
    write(tmp_path / "a.wav", 1.0)
    rows: list[dict[str, object]] = [{"audio": "a.wav"}, {"audio": "a.wav", "start": 0.0, "end": 9.0}]
    for _ in range(2):
        assert len(corpus_of(tmp_path, *rows).clips) == 1
    assert decoded == ["a.wav"]


def test_languages_are_without_regions(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 0.5)
    corpus = corpus_of(
        tmp_path,
        {"audio": "a.wav", "lang": "pt-BR", "translations": {"en-US": "a word", "fr_CA": "un mot"}},
        {"audio": "a.wav", "lang": "ZH_cn", "id": "b"},
        {"audio": "a.wav", "lang": "ja-t-fr-CA", "id": "c"},
    )
    assert [clip.lang for clip in corpus.clips] == ["pt", "zh", "ja-t-fr"]
    assert dict(corpus.clips[0].translations) == {"en": "a word", "fr": "un mot"}


def test_processes_that_decode_at_once_each_find_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is in the middle of its work when another begins, and ends, the same."""
    write(tmp_path / "0.wav", 0.5)
    write(tmp_path / "1.wav", 1.0)
    entries, cache = entries_of(tmp_path, [{"audio": "0.wav"}, {"audio": "1.wav"}]), tmp_path / "cache"
    others: list[DecodedCorpus] = []

    def load_late(path: Path) -> object:
        if path.name == "1.wav" and not others:
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(os, "getpid", lambda: -1)
                elsewhere.setattr(clips_module, "load_audio", load_audio)
                others.append(DecodedCorpus(entries, cache))
        return load_audio(path)

    monkeypatch.setattr(clips_module, "load_audio", load_late)
    one, (other,) = DecodedCorpus(entries, cache), others
    for corpus in (one, other):
        for clip in corpus.clips:
            np.testing.assert_allclose(corpus.samples(clip), load_audio(tmp_path / clip.name), atol=1e-4)
    assert not list(cache.glob("*.part"))
