"""Manifests of recordings to transcribe: JSON lines.

    {"audio": "talks/a.mp3", "id": "a", "lang": "fr", "keywords": ["Willoughby"], "start": 10.0, "end": 70.0}

Required: `audio`, a URL, or a path, absolute or relative to the manifest.

Optional:

    id        name of the recording and of its outputs, by default `audio` without its suffix
    lang      language spoken, in place of --language
    keywords  words to expect, in place of --keywords
    start, end  part of the recording, in seconds
    channel   channel from 0; by default all are mixed

Other keys and empty lines are ignored, so that manifests of `lithophone evaluate` may be given, with ids where a file
has several parts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from lithophone.batch.recording import Recording
from lithophone.batch.urls import is_url, joined, path_of, read
from lithophone.data.manifest import existing_file, json_object, keyword_list, parsed_bytes, stretch
from lithophone.errors import FetchError, ManifestError, OptionError
from lithophone.pipeline.options import TranscribeOptions

SUFFIXES = (".jsonl", ".ndjson")
"""Of files that are manifests."""


def is_manifest(argument: str) -> bool:
    return PurePosixPath(path_of(argument) if is_url(argument) else argument).suffix.lower() in SUFFIXES


def read_manifest(source: str, options: TranscribeOptions) -> list[Recording]:
    """Recordings of a manifest, a path or a URL.

    Raises ManifestError for an unreadable or empty one, or with the line for invalid JSON, missing or wrong values,
    missing files, ids that are no names of files or come twice, and languages or keywords that the options do not take.
    """
    try:
        data = read(source) if is_url(source) else Path(source).read_bytes()
    except (OSError, FetchError) as error:
        raise ManifestError(f"{source} cannot be read: {error}") from error
    root = "" if is_url(source) else str(Path(source).absolute().parent)
    lines = list(parsed_bytes(source, data, lambda line: _recording(line, source, root, options)))
    if not lines:
        raise ManifestError(f"{source} has no recording: give one JSON object a line, with the key audio")
    check_names((f"{source}, line {number}", one) for number, one in lines)
    return [one for _, one in lines]


def check_names(recordings: Iterable[tuple[str, Recording]]) -> None:
    """ManifestError for two recordings with the same outputs, with the places of both."""
    seen: dict[str, str] = {}
    for place, one in recordings:
        # Some file systems equate case and Unicode normalisation.
        key = unicodedata.normalize("NFC", one.name).casefold()
        if key in seen:
            raise ManifestError(f"{place}: id {one.name!r} is that of {seen[key]} too: give every recording its own id")
        seen[key] = place


def _recording(line: str, source: str, root: str, options: TranscribeOptions) -> Recording:
    values = json_object(line, "audio")
    audio = values.get("audio")
    if not isinstance(audio, str) or not audio:
        raise ManifestError(f"audio must be there, as text; the keys are {', '.join(values) or 'none'}")
    if is_url(source):
        audio = joined(source, audio)
    start_s, end_s = stretch(values) or (None, None)
    keywords = None if values.get("keywords") is None else keyword_list(values["keywords"])
    place = audio if is_url(audio) else str(existing_file(Path(root), audio).absolute())
    language = _text(values, "lang")
    recording = Recording(_name(values, audio), place, start_s, end_s, _channel(values), language, keywords)
    try:
        recording.options(options)
    except OptionError as error:
        raise ManifestError(str(error)) from error
    return recording


def _text(values: dict[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise ManifestError(f"{key} is {value!r}: it must be text")
    return value


def _channel(values: dict[str, Any]) -> int | None:
    value = values.get("channel")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ManifestError(f"channel is {value!r}: it must be a whole number, 0 or more")
    return value


def _name(values: dict[str, Any], audio: str) -> str:
    """The id, or the path of the audio without suffix; ManifestError for what is no relative path."""
    given = _text(values, "id")
    if given is None:
        return name_of(audio)
    parts = PurePosixPath(given.replace("\\", "/")).parts
    if not parts or given.startswith(("/", "\\")) or given.endswith(("/", "\\")) or "\0" in given:
        raise ManifestError(f"id is {given!r}: it must be a name, or a relative path")
    if {"..", "~"} & set(parts) or parts[-1].startswith("."):
        raise ManifestError(f"id is {given!r}: outputs would be hidden, or outside the folder")
    return PurePosixPath(*parts).as_posix()


def name_of(audio: str) -> str:
    """A path or URL as a name below the output folder: without suffix, root, and steps to parent folders."""
    path = path_of(audio) if is_url(audio) else PurePosixPath(PurePath(audio).as_posix().replace("\\", "/"))
    parts = [part for part in path.with_suffix("").parts if part not in ("..", path.anchor)]
    return PurePosixPath(*parts).as_posix()
