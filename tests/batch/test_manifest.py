"""Manifests of a batch: what they name, and what is wrong in which line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fsspec
import pytest

from lithophone.batch.manifest import check_names, is_manifest, name_of, read_manifest
from lithophone.batch.recording import Recording, decoded, encoded
from lithophone.errors import ManifestError
from lithophone.pipeline.options import TranscribeOptions

OPTIONS = TranscribeOptions()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "talks/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def manifest(folder: Path, *lines: Any, name: str = "m.jsonl") -> str:
    path = folder / name
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return str(path)


def test_recordings_are_files_and_urls_with_their_own_options(folder: Path) -> None:
    path = manifest(
        folder,
        {"audio": "talks/c.wav", "text": "ignored", "duration": 3},
        "",
        {"audio": str(folder / "a.wav"), "id": "one/first", "lang": "fr", "keywords": ["Norland"], "channel": 1},
        {"audio": "s3://bucket/x/y.flac?versionId=3", "start": 1, "end": 2.5},
    )
    assert read_manifest(path, OPTIONS) == [
        Recording("talks/c", str(folder / "talks/c.wav")),
        Recording("one/first", str(folder / "a.wav"), None, None, 1, "fr", ("Norland",)),
        Recording("bucket/x/y", "s3://bucket/x/y.flac?versionId=3", 1.0, 2.5),
    ]


def test_recordings_pass_through_json_and_manifests(folder: Path) -> None:
    many = [
        Recording("a", str(folder / "a.wav")),
        Recording("b/c", "s3://b/c.wav", 1.0, 2.0, 0, "de", ("Größe",)),
        Recording("none", str(folder / "b.wav"), keywords=()),
    ]
    assert decoded(encoded(many)) == many
    assert read_manifest(manifest(folder, *(one.to_dict() for one in many)), OPTIONS) == many


def test_options_of_a_line_take_the_place_of_the_command_s() -> None:
    common = TranscribeOptions(language="en", keywords=("Ashton",), word_timestamps=True)
    own = Recording("a", "a.wav", language="fr", keywords=()).options(common)
    assert (own.language, own.keywords, own.word_timestamps) == ("fr", (), True)
    assert Recording("a", "a.wav").options(common) == common


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "x"}, "audio must be there, as text; the keys are id"),
        ({"audio": 3}, "audio must be there"),
        ({"audio": ""}, "audio must be there"),
        ({"audio": "absent.wav"}, "there is no file .*absent.wav"),
        ({"audio": "talks"}, "there is no file"),
        ('{"audio": "a.wav"', "not JSON"),
        ("[1]", "a list, not an object with audio"),
        ({"audio": "b.wav", "id": "a"}, "id 'a' is that of .*m.jsonl, line 1 too"),
        ({"audio": "b.wav", "id": "A"}, "id 'A' is that of .*m.jsonl, line 1 too"),
        ({"audio": "a.wav"}, "id 'a' is that of .*m.jsonl, line 1 too"),
        ({"audio": "b.wav", "id": 7}, "id is 7: it must be text"),
        ({"audio": "b.wav", "id": "/b"}, "a name, or a relative path"),
        ({"audio": "b.wav", "id": "x/"}, "a name, or a relative path"),
        ({"audio": "b.wav", "id": "x/../../b"}, "hidden, or outside the folder"),
        ({"audio": "b.wav", "id": "..\\b"}, "hidden, or outside the folder"),
        ({"audio": "b.wav", "id": ".b"}, "hidden, or outside the folder"),
        ({"audio": "b.wav", "lang": "xx"}, "xx"),
        ({"audio": "b.wav", "lang": 1}, "lang is 1: it must be text"),
        ({"audio": "b.wav", "keywords": "Norland"}, "keywords is a str"),
        ({"audio": "b.wav", "start": 3}, "both must be there"),
        ({"audio": "b.wav", "start": 3, "end": 1}, "both must be there"),
        ({"audio": "b.wav", "channel": -1}, "channel is -1"),
        ({"audio": "b.wav", "channel": True}, "channel is True"),
    ],
)
def test_a_line_that_is_wrong_is_named(folder: Path, line: Any, message: str) -> None:
    path = manifest(folder, {"audio": "a.wav"}, line)
    with pytest.raises(ManifestError, match=rf"m.jsonl, line 2: .*{message}"):
        read_manifest(path, OPTIONS)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_an_empty_or_unreadable_manifest_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(ManifestError, match=r"has no recording|cannot be read"):
        read_manifest(str(tmp_path / "m.jsonl"), OPTIONS)
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(str(tmp_path / "absent.jsonl"), OPTIONS)


def test_a_manifest_at_a_url_has_its_recordings_beside_it() -> None:
    lines = b'{"audio": "x/a.wav"}\r\n{"audio": "file:///tmp/b.wav", "id": "b"}\r\n'
    fsspec.filesystem("memory").pipe_file("/sets/m.jsonl", lines)
    found = read_manifest("memory://sets/m.jsonl", OPTIONS)
    assert [(one.name, one.audio) for one in found] == [
        ("sets/x/a", "memory://sets/x/a.wav"),
        ("b", "file:///tmp/b.wav"),
    ]


def test_what_is_a_manifest_is_seen_by_its_suffix() -> None:
    assert all(map(is_manifest, ("a.jsonl", "/x/A.JSONL", "s3://b/c.ndjson", "https://h/m.jsonl?sig=1")))
    assert not any(map(is_manifest, ("a.json", "talks", "a.wav", "s3://b/c.wav", "*.wav")))


@pytest.mark.parametrize(
    ("audio", "name"),
    [
        ("/data/x/a.b.wav", "data/x/a.b"),
        ("../x/a.wav", "x/a"),
        ("x\\a.wav", "x/a"),
        ("https://user:secret@host/x/a%20b.mp3?key=1", "host/x/a b"),
    ],
)
def test_names_are_paths_below_the_folder(audio: str, name: str) -> None:
    assert name_of(audio) == name


def test_recordings_of_several_manifests_share_no_outputs() -> None:
    check_names([("m, line 1", Recording("a", "x")), ("n, line 1", Recording("b", "x"))])
    with pytest.raises(ManifestError, match="n, line 2: id 'É' is that of m, line 1 too"):
        check_names([("m, line 1", Recording("e\u0301", "x")), ("n, line 2", Recording("É", "y"))])
