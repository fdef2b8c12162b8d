"""Manifests: what is read, and the line that is to blame."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lithophone.errors import ManifestError
from lithophone.manifest import Entry, read_entries

GOOD = {"audio": "a.wav", "text": "Hello.", "lang": "en", "duration": 1.5, "corpus": "c", "speaker": "s"}


def manifest(folder: Path, *lines: str) -> Path:
    (folder / "a.wav").touch()
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_entries(tmp_path: Path) -> None:
    path = manifest(tmp_path, json.dumps(GOOD), "", json.dumps({"audio": "a.wav", "text": "Non\u2028", "lang": "fr"}))
    assert read_entries(path) == [
        Entry(tmp_path / "a.wav", "Hello.", "en", 1.5, "c", "s", "a.wav"),
        Entry(tmp_path / "a.wav", "Non\u2028", "fr", name="a.wav"),
    ]
    assert [entry.lang for entry in read_entries(path, lang="fr")] == ["fr"]
    assert [entry.lang for entry in read_entries(path, limit=1)] == ["en"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: a list, not an object"),
        ('{"audio": "a.wav", "lang": "en"}', "line 2: text must be there"),
        ('{"audio": "a.wav", "text": 3, "lang": "en"}', "line 2: text must be there, as text"),
        ('{"audio": "b.wav", "text": "", "lang": "en"}', "line 2: there is no file"),
        (json.dumps(GOOD | {"duration": "long"}), "line 2: duration is 'long'"),
        (json.dumps(GOOD | {"duration": -1}), "line 2: duration is -1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_entries(manifest(tmp_path, json.dumps(GOOD), line))


def test_manifests_without_anything(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="has no entries"):
        read_entries(manifest(tmp_path, ""))
    with pytest.raises(ManifestError, match="lang 'ja'"):
        read_entries(manifest(tmp_path, json.dumps(GOOD)), lang="ja")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_entries(tmp_path / "none.jsonl")
