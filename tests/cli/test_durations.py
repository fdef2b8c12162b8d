"""Durations before reading: by headers, and by size for most files of a large folder."""

from __future__ import annotations

import io
from pathlib import Path, PurePath

import pytest
import soundfile

from lithophone.cli import durations
from lithophone.cli.durations import expected_durations
from lithophone.cli.sources import InputFile
from tests.sounds import silence, tone, write_container


def file(path: Path) -> InputFile:
    return InputFile(path.name, path, PurePath(path.stem))


def test_headers_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.5), 16_000)
    write_container(tmp_path / "b.mp3", tone(2.0, 48_000), 48_000, "libmp3lame")
    (tmp_path / "c.wav").write_bytes(b"RIFF")
    found = expected_durations([file(tmp_path / name) for name in ("a.wav", "b.mp3", "c.wav")])
    assert found == [1.5, pytest.approx(2.0, abs=0.1), 0.0]


def test_files_beyond_a_number_are_estimated_by_their_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durations, "PROBED", 4)
    lengths_s = [1.0, 4.0, 2.0, 3.0, 1.0, 5.0]
    for i, seconds in enumerate(lengths_s):
        soundfile.write(tmp_path / f"{i}.wav", silence(seconds), 16_000)
        soundfile.write(tmp_path / f"{i}.flac", tone(seconds), 16_000)
    for ending, within in (("wav", 0.01), ("flac", 0.3)):
        found = expected_durations([file(tmp_path / f"{i}.{ending}") for i in range(6)])
        assert found == pytest.approx(lengths_s, rel=within)


def test_a_stream_has_no_duration(tmp_path: Path) -> None:
    assert expected_durations([InputFile("stdin", io.BytesIO(), PurePath("stdin"))]) == [None]
