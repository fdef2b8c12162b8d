"""Input arguments (files, folders, patterns, stdin) -> recordings, in order; nothing is read yet."""

from __future__ import annotations

import codecs
import glob
import os
import re
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import BinaryIO

from lithophone.errors import OptionError

STDIN = "-"
URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
SUFFIXES = frozenset(
    [
        *(".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".asf", ".au", ".avi", ".awb", ".caf"),
        *(".dts", ".eac3", ".flac", ".flv", ".gsm", ".m2ts", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp2"),
        *(".mp3", ".mp4", ".mpeg", ".mpg", ".mts", ".oga", ".ogg", ".ogv", ".opus", ".ra", ".rm", ".snd", ".sph"),
        *(".spx", ".tta", ".vob", ".voc", ".w64", ".wav", ".webm", ".wma", ".wmv", ".wv"),
    ]
)
"""Suffixes taken from folders; files named directly may have any."""


@dataclass(frozen=True)
class InputFile:
    """`label` for messages, `source` to read, `output`: the transcript's path without suffix."""

    label: str
    source: Path | BinaryIO
    output: PurePath


@dataclass(frozen=True)
class Unreadable:
    """An argument, or file below one, that cannot be read."""

    label: str
    reason: str

    def __str__(self) -> str:
        return f"{self.label} {self.reason}"


def find_inputs(arguments: Sequence[str]) -> tuple[list[InputFile], list[Unreadable]]:
    """Recordings, each once with its own output path, and what cannot be read.

    Folders are searched for `SUFFIXES`, hidden files left out. A pattern is expanded where no file has its name.
    """
    found = [one for argument in arguments for one in _inputs_of(argument)]
    inputs = {_identity(one): one for one in reversed(found) if isinstance(one, InputFile)}
    kept = list(reversed(inputs.values()))
    return _apart(kept), [one for one in found if isinstance(one, Unreadable)]


def listed(path: str) -> list[str]:
    """Arguments of a list, one a line or separated by NUL (`find -print0`); - is standard input. Raises OptionError."""
    try:
        data = _piped_list() if path == STDIN else Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise OptionError(f"--from-list {path} cannot be read ({error}): give a text file, or - for a pipe") from error
    lines = data.removeprefix(codecs.BOM_UTF8).split(b"\0") if b"\0" in data else data.splitlines()
    names = [os.fsdecode(line.removeprefix(codecs.BOM_UTF8)) for line in lines if line.strip()]
    if not names:
        raise OptionError(f"--from-list {path} names no recording: give one file, folder or pattern a line")
    return names


def _piped_list() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise OptionError("--from-list - is standard input, and nothing is piped into it: find . | lithophone ...")
    return sys.stdin.buffer.read()


def _inputs_of(argument: str) -> Iterator[InputFile | Unreadable]:
    if argument == STDIN:
        yield _stdin()
        return
    try:
        mode = os.stat(argument).st_mode
    except (OSError, ValueError) as error:
        yield from _absent(argument, error)
        return
    if stat.S_ISDIR(mode):
        yield from _files_below(argument)
    elif stat.S_ISREG(mode) and not _may_read(argument):
        yield Unreadable(argument, "cannot be opened (Permission denied): give a file that you may read")
    else:
        yield InputFile(argument, Path(argument), PurePath(Path(argument).stem))


def _may_read(path: str) -> bool:
    """By the effective user, as opening does; `os.access` takes the real one."""
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def _stdin() -> InputFile | Unreadable:
    if sys.stdin is None or sys.stdin.isatty():
        return Unreadable(STDIN, "is standard input, and nothing is piped into it: lithophone transcribe - < FILE")
    return InputFile("stdin", sys.stdin.buffer, PurePath("stdin"))


def _absent(argument: str, error: OSError | ValueError) -> Iterator[InputFile | Unreadable]:
    """Files of a pattern, or why there are none."""
    if URL.match(argument):
        yield Unreadable(
            argument, f"is a URL, and only files are read: curl -sL '{argument}' | lithophone transcribe -"
        )
        return
    matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []
    for match in matches:
        yield from _inputs_of(match)
    if not matches:
        yield Unreadable(argument, _why_absent(argument, error))


def _why_absent(argument: str, error: OSError | ValueError) -> str:
    if glob.has_magic(argument):
        return f"matches no file (now in {Path.cwd()})"
    if isinstance(error, FileNotFoundError):
        value = ": options that are on or off take no value" if argument in ("True", "False") else ""
        return f"does not exist{value}: check the path (now in {Path.cwd()})"
    return f"cannot be opened ({getattr(error, 'strerror', None) or error}): check the path"


def _files_below(folder: str) -> Iterator[InputFile | Unreadable]:
    """Recordings below a folder, by name; outputs keep its subfolders."""
    refused: list[Unreadable] = []
    count = 0
    for place, folders, names in os.walk(folder, onerror=lambda error: refused.append(_refused(error))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                path = Path(place, name)
                yield InputFile(str(path), path, PurePath(path.relative_to(folder)).with_suffix(""))
                count += 1
    yield from refused
    if not count and not refused:
        yield Unreadable(folder, "is a folder without recordings: give audio or video files")


def _refused(error: OSError) -> Unreadable:
    return Unreadable(str(error.filename), f"cannot be opened ({error.strerror}): give a folder that you may read")


def _identity(one: InputFile) -> str:
    return os.path.realpath(one.source) if isinstance(one.source, Path) else one.label


# --- output paths


def _apart(inputs: list[InputFile]) -> list[InputFile]:
    """Recordings with the same output path get their folders, then their suffixes."""
    clashing = _clashing(inputs)
    if not clashing:
        return inputs
    common = Path(
        os.path.commonpath([_root(one.source, one.output) for one in clashing if isinstance(one.source, Path)])
    )
    for renamed in (_with_folders, _with_ending):
        clashing = _clashing(inputs)
        inputs = [replace(one, output=renamed(one, common)) if one in clashing else one for one in inputs]
    return inputs


def _clashing(inputs: list[InputFile]) -> set[InputFile]:
    counts = Counter(map(_key, inputs))
    return {one for one in inputs if counts[_key(one)] > 1}


def _root(source: Path, output: PurePath) -> Path:
    """The folder that was walked, or the one of a file that was named."""
    return source.absolute().parents[len(output.parts) - 1]


def _key(one: InputFile) -> str:
    """Equal for names that some file systems equate: case, Unicode normalisation."""
    return unicodedata.normalize("NFC", one.output.as_posix()).casefold()


def _with_folders(one: InputFile, common: Path) -> PurePath:
    return _with_ending(one, common).with_suffix("")


def _with_ending(one: InputFile, common: Path) -> PurePath:
    return PurePath(one.source.absolute().relative_to(common)) if isinstance(one.source, Path) else one.output
