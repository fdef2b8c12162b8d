"""Recordings at URLs, in fsspec's file system in memory."""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lithophone.batch import urls
from lithophone.batch.recording import Recording
from lithophone.batch.urls import check_protocols, fetch, fetched_ahead, found, is_url, read
from lithophone.errors import FetchError, OptionError

WAV = frozenset({".wav"})


@pytest.fixture(autouse=True)
def store() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    for name in ("a.wav", "b.wav", "sub/c.WAV", "notes.txt"):
        system.pipe_file(f"/talks/{name}", name.encode())
    yield system
    system.rm("/talks", recursive=True)


def test_patterns_and_folders_name_recordings() -> None:
    assert found("memory://talks/*.wav", WAV) == ["memory:///talks/a.wav", "memory:///talks/b.wav"]
    assert [one.rpartition("/")[2] for one in found("memory://talks", WAV)] == ["a.wav", "b.wav", "c.WAV"]
    assert found("memory://talks/absent.wav", WAV) == ["memory://talks/absent.wav"]  # it fails when it is fetched
    with pytest.raises(FetchError, match="names no recording"):
        found("memory://talks/*.mp3", WAV)


def test_a_file_is_fetched_with_its_suffix(tmp_path: Path) -> None:
    copy = fetch("memory://talks/sub/c.WAV?version=1".partition("?")[0], tmp_path)
    assert (copy.read_bytes(), copy.suffix, copy.parent) == (b"sub/c.WAV", ".WAV", tmp_path)
    assert read("memory://talks/notes.txt") == b"notes.txt"


def test_what_cannot_be_fetched_is_named(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"memory://talks/no.wav cannot be fetched \(FileNotFoundError"):
        fetch("memory://talks/no.wav", tmp_path)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://bucket/a.wav", "pip install s3fs"),
        ("gs://bucket/a.wav", "pip install gcsfs"),
        ("nothing://bucket/a.wav", "give a URL whose protocol fsspec knows"),
    ],
)
def test_protocols_without_a_package_are_named(url: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        check_protocols(["memory://talks/a.wav", url])


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("fsspec"):
            raise ModuleNotFoundError("No module named 'fsspec'", name="fsspec")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OptionError, match=r"pip install 'lithophone\[urls\]'"):
        check_protocols(["memory://talks/a.wav"])


def test_windows_drives_are_no_urls() -> None:
    assert not is_url("C:\\talks\\a.wav")
    assert is_url("S3://bucket/a.wav")


# --- ahead of the model


def recording(audio: str) -> Recording:
    return Recording(audio, audio)


def test_chunks_have_files_while_they_are_used() -> None:
    chunks = [
        [recording("memory://talks/a.wav"), recording("/local.wav")],
        [recording("memory://talks/no.wav")],
        [],
        [recording("memory://talks/b.wav")],
    ]
    copies = []
    for chunk, wanted in zip(fetched_ahead(chunks), chunks, strict=True):
        assert [one for one, _ in chunk] == wanted
        assert not any(copy.exists() for copy in copies)
        for one, file in chunk:
            if one.audio == "/local.wav":
                assert file == Path("/local.wav")
            elif one.audio.endswith("no.wav"):
                assert isinstance(file, FetchError)
            else:
                assert isinstance(file, Path)
                assert file.read_bytes().decode() == one.audio.rpartition("/")[2]
                copies.append(file)
    assert len(copies) == 2
    assert not any(copy.parent.parent.exists() for copy in copies)


def test_the_next_chunk_is_fetched_meanwhile_and_no_further_one(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, second = [], threading.Event()

    def slow(url: str, folder: Path) -> Path:
        begun.append(url)
        if url == "memory://1":
            second.set()
        return folder

    monkeypatch.setattr(urls, "fetch", slow)
    taken = fetched_ahead([recording(f"memory://{i}")] for i in range(4))
    next(taken)
    assert second.wait(10)
    assert sorted(begun) == ["memory://0", "memory://1"]
    taken.close()
