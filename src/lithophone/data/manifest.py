"""Manifests: JSON lines, one clip per line.

    {"audio": "clips/a.wav", "text": "Hello there.", "lang": "en", "duration": 1.5, "corpus": "demo", "speaker": "s1"}

Required:

    audio     path, absolute or relative to the manifest; any Unicode form, / or \\
    text      the reference, empty without speech; for translation, the translation
    lang      code of the language spoken (`en`, `pt-BR`, `zh-CN`)

Optional (null means unknown):

    id        name of the clip, by default `audio`, or `AUDIO#t=START,END`
    duration  seconds of the clip
    corpus    name of the set, for counts by corpus
    speaker   the only speaker
    start, end  part of a longer recording, in seconds; both or none
    keywords  list of words and names for contextual biasing and its metrics
    words     [{"text": "Hello", "start": 0.1, "end": 0.4, "speaker": "s1"}, ...]: reference words, seconds from the
              start of the clip; speaker if known
    translations  {"fr": "Bonjour.", ...}: language code -> translation, for training (metrics compare with `text`)

Other keys and empty lines are ignored.
"""

from __future__ import annotations

import functools
import json
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from lithophone.errors import ManifestError
from lithophone.files import write_whole
from lithophone.languages import base_language, is_language
from lithophone.transcript import Word

REQUIRED = ("audio", "text", "lang")

T = TypeVar("T")

State: TypeAlias = list[float | None]

NO_FILE = -1
"""Size and time of a file without status."""


@dataclass(frozen=True)
class Entry:
    """A clip (a file, or its part from `start_s` to `end_s`) and its reference.

    `duration_s`, `text` and `words` are of the clip.
    """

    audio: Path
    text: str
    lang: str
    duration_s: float | None = None
    corpus: str = ""
    speaker: str = ""
    name: str = ""
    """The id, or the path in the manifest."""
    keywords: tuple[str, ...] = ()
    words: tuple[Word, ...] = ()
    """Times from the start of the clip."""
    start_s: float | None = None
    end_s: float | None = None
    translations: Mapping[str, str] = field(default_factory=dict)
    """Language code -> translation of `text`."""

    @property
    def id(self) -> str:
        """Name in results and messages."""
        return self.name or str(self.audio)

    @property
    def state(self) -> State:
        """What its samples depend on besides the path: size and time of the file, and the part."""
        try:
            found = self.audio.stat()
            file = [found.st_size, found.st_mtime_ns]
        except OSError:
            file = [NO_FILE, NO_FILE]
        return [*file, self.start_s, self.end_s]


def read_entries(path: str | Path, lang: str | None = None, limit: int | None = None) -> list[Entry]:
    """Entries of a manifest, optionally of `lang` only (`pt` includes `pt-BR`), at most `limit`.

    Raises ManifestError if none is left, or with the line number for invalid JSON, missing keys, wrong types, and files
    that are missing or unreachable.
    """
    path = Path(path)
    entries = (entry for _, entry in parsed_lines(path, lambda line: _entry(line, path.parent)))
    found = [entry for entry in entries if is_language(entry.lang, lang)][:limit]
    if not found:
        what = "no entries" if lang is None else f"no entries with lang {lang!r}"
        raise ManifestError(f"{path} has {what}")
    return found


def write_entries(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write a manifest; files below its folder get relative paths. Raises ManifestError."""
    path = Path(path)
    lines = [json.dumps(_to_dict(entry, path.parent), ensure_ascii=False) for entry in entries]
    try:
        write_whole(path, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise ManifestError(f"{path} cannot be written: {error}") from error


def json_object(line: str, needed: str) -> dict[str, Any]:
    """The object in a line. Raises ManifestError that names what is needed."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ManifestError(f"a {type(values).__name__}, not an object with {needed}")
    return values


def json_list(value: object, key: str, of: str) -> list[Any]:
    """The list under a key, empty for None. Raises ManifestError for other types."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ManifestError(f"{key} is a {type(value).__name__}: it must be a list of {of}")
    return value


def timed_words(value: object) -> tuple[Word, ...]:
    """Raises ManifestError unless `words` is a list of objects with text, start and end."""
    return tuple(_word(item) for item in json_list(value, "words", "objects with text, start and end"))


def seconds(value: object, key: str) -> float | None:
    """Raises ManifestError unless the value is a number of 0 or more, or None."""
    if value is None:
        return None
    number = as_number(value)
    if number is None or not 0 <= number < math.inf:
        raise ManifestError(f"{key} is {value!r:.40}: it must be seconds, 0 or more")
    return number


def as_number(value: object) -> float | None:
    """A JSON number, infinity if too large; None for other types."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def stretch(values: Mapping[str, Any]) -> tuple[float, float] | None:
    """`start` and `end`, or None. Raises ManifestError for only one, or end < start."""
    start_s, end_s = seconds(values.get("start"), "start"), seconds(values.get("end"), "end")
    if start_s is None and end_s is None:
        return None
    if start_s is None or end_s is None or end_s < start_s:
        raise ManifestError(f"start is {start_s} and end {end_s}: both must be there, the end not before the start")
    return start_s, end_s


def parsed_lines(path: Path, parse: Callable[[str], T]) -> Iterator[tuple[int, T]]:
    """Line number (from 1) and `parse(line)` for non-empty lines of a UTF-8 file.

    Only line feeds end a line, as in editors. Raises ManifestError for an unreadable file, and those of `parse` with
    file and line number.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    yield from parsed_bytes(str(path), data, parse)


def parsed_bytes(name: str, data: bytes, parse: Callable[[str], T]) -> Iterator[tuple[int, T]]:
    """As `parsed_lines`, of the content of a file `name`."""
    try:
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{name} cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield number, parse(line)
            except ManifestError as error:
                raise ManifestError(f"{name}, line {number}: {error}") from error


def _entry(line: str, root: Path) -> Entry:
    values = json_object(line, ", ".join(REQUIRED))
    wrong = [key for key in REQUIRED if not isinstance(values.get(key), str)]
    if wrong:
        raise ManifestError(f"{', '.join(wrong)} must be there, as text; the keys are {', '.join(values) or 'none'}")
    audio = existing_file(root, values["audio"])
    corpus, speaker = str(values.get("corpus") or ""), str(values.get("speaker") or "")
    duration_s = seconds(values.get("duration"), "duration")
    span = stretch(values)
    start_s, end_s = span or (None, None)
    name = _name(values, span)
    keywords, words = keyword_list(values.get("keywords")), timed_words(values.get("words"))
    if duration_s is None and span:
        duration_s = span[1] - span[0]
    text, lang = values["text"], values["lang"]
    translations = _translations(values.get("translations"), lang)
    return Entry(audio, text, lang, duration_s, corpus, speaker, name, keywords, words, start_s, end_s, translations)


def existing_file(root: Path, name: str) -> Path:
    """The file `root / name`, in any Unicode form and with backslashes allowed as separators.

    Raises ManifestError if there is none or it is unreachable.
    """
    try:
        forms = [name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)]
        paths = [root / form for form in dict.fromkeys([*forms, *(form.replace("\\", "/") for form in forms)])]
        found = next((path for path in paths if path.is_file()), None) or _resembling(paths[-1])
    except (OSError, ValueError) as error:
        raise ManifestError(f"the file {name!r:.200} cannot be reached: {getattr(error, 'strerror', error)}") from error
    if found is None:
        raise ManifestError(f"there is no file {root / name}")
    return found


def _resembling(path: Path) -> Path | None:
    """The file at this path in other Unicode forms."""
    at = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if at.is_dir() and not (at / part).exists():
            part = _names(at, at.stat().st_mtime_ns).get(unicodedata.normalize("NFC", part), part)
        at /= part
    return at if at.is_file() else None


@functools.lru_cache(maxsize=64)
def _names(folder: Path, changed_ns: int) -> dict[str, str]:
    """NFC name -> name in the folder."""
    return {unicodedata.normalize("NFC", path.name): path.name for path in folder.iterdir()}


def _name(values: Mapping[str, Any], span: tuple[float, float] | None) -> str:
    name = values.get("id")
    if name is None:
        return f"{values['audio']}#t={span[0]:.10g},{span[1]:.10g}" if span else str(values["audio"])
    if not isinstance(name, str) or not name:
        raise ManifestError(f"id is {name!r}: it must be text")
    return name


def keyword_list(value: object) -> tuple[str, ...]:
    """Raises ManifestError unless `keywords` is a list of texts with something in them."""
    keywords = json_list(value, "keywords", "texts")
    for keyword in keywords:
        if not isinstance(keyword, str) or not keyword.strip():
            raise ManifestError(f"keywords has {keyword!r}: every keyword must be text with something in it")
    return tuple(keywords)


def _translations(value: object, lang: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ManifestError(
            f"translations is a {type(value).__name__}: it must be an object of language codes and texts"
        )
    for code, text in value.items():
        if not isinstance(text, str) or not text.strip():
            raise ManifestError(f"translations has {text!r} for {code!r}: it must be text with something in it")
        if not code or base_language(code) == base_language(lang):
            raise ManifestError(f"translations has {code!r}: it must be the code of a language other than {lang!r}")
    return dict(value)


def _word(item: object) -> Word:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise ManifestError(f"words has {item!r}: every word must be an object with text, start and end")
    span, speaker = stretch(item), item.get("speaker")
    if span is None:
        raise ManifestError(f"words has {item!r} without start and end: without times leave words out")
    return Word(item["text"], *span, speaker=None if speaker is None else str(speaker))


def _to_dict(entry: Entry, root: Path) -> dict[str, Any]:
    """Without unknown values."""
    values: dict[str, Any] = {"audio": _written(entry.audio, root), "text": entry.text, "lang": entry.lang}
    span = None if entry.start_s is None or entry.end_s is None else (entry.start_s, entry.end_s)
    if entry.name and entry.name != _name(values, span):
        values["id"] = entry.name
    known = {
        "duration": entry.duration_s,
        "corpus": entry.corpus or None,
        "speaker": entry.speaker or None,
        "start": entry.start_s,
        "end": entry.end_s,
        "keywords": entry.keywords or None,
        "words": [_word_dict(word) for word in entry.words] or None,
        "translations": dict(entry.translations) or None,
    }
    return values | {key: value for key, value in known.items() if value is not None}


def _word_dict(word: Word) -> dict[str, Any]:
    values: dict[str, Any] = {"text": word.text, "start": word.start_s, "end": word.end_s}
    return values if word.speaker is None else values | {"speaker": word.speaker}


def _written(audio: Path, root: Path) -> str:
    audio, root = audio.resolve(), root.resolve()
    return audio.relative_to(root).as_posix() if audio.is_relative_to(root) else str(audio)
