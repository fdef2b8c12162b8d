"""Manifests: JSON lines with `audio`, `text`, `lang` and, where known, `duration`, `corpus`, `speaker`.

Paths of audio are relative to the manifest. Knows the files, not what is in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lithophone.errors import ManifestError

REQUIRED = ("audio", "text", "lang")


@dataclass(frozen=True)
class Entry:
    """One clip: the file, what is said in it, and the language it is said in."""

    audio: Path
    text: str
    lang: str
    duration_s: float | None = None
    corpus: str = ""
    speaker: str = ""
    name: str = ""
    """The path as the manifest writes it."""


def read_entries(path: str | Path, lang: str | None = None, limit: int | None = None) -> list[Entry]:
    """Entries of a manifest, those of `lang` only, the first `limit` of them.

    Raises ManifestError with the number of the line that is no JSON object, lacks a key, or names a missing file; also
    where nothing is left.
    """
    path = Path(path)
    found = [entry for entry in _entries(path) if lang in (None, entry.lang)][:limit]
    if not found:
        what = "no entries" if lang is None else f"no entries with lang {lang!r}"
        raise ManifestError(f"{path} has {what}")
    return found


def _entries(path: Path) -> Iterator[Entry]:
    for number, line in enumerate(_lines(path), start=1):
        if line.strip():
            try:
                yield _entry(line, path.parent)
            except ManifestError as error:
                raise ManifestError(f"{path}, line {number}: {error}") from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as a manifest: {error}") from error


def _entry(line: str, root: Path) -> Entry:
    values = _object(line)
    wrong = [key for key in REQUIRED if not isinstance(values.get(key), str)]
    if wrong:
        raise ManifestError(f"{', '.join(wrong)} must be there, as text; the keys are {', '.join(values) or 'none'}")
    audio = root / values["audio"]
    if not audio.is_file():
        raise ManifestError(f"there is no file {audio}")
    corpus, speaker = str(values.get("corpus", "")), str(values.get("speaker", ""))
    duration_s = _duration(values.get("duration"))
    return Entry(audio, values["text"], values["lang"], duration_s, corpus, speaker, values["audio"])


def _object(line: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ManifestError(f"not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ManifestError(f"a {type(values).__name__}, not an object with {', '.join(REQUIRED)}")
    return values


def _duration(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ManifestError(f"duration is {value!r}: it must be seconds, 0 or more")
    return float(value)
