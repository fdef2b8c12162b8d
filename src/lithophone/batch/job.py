"""What a batch is: recordings go into files in one folder, by one model with one set of options."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lithophone.batch.recording import Recording
from lithophone.batch.urls import is_url
from lithophone.errors import JournalError
from lithophone.formats import CueOptions
from lithophone.formats.files import output_path
from lithophone.pipeline.journal import FREE_OPTIONS, as_json, differences
from lithophone.pipeline.options import TranscribeOptions
from lithophone.version import __version__

HEADER = ".lithophone-batch.json"
"""What the outputs of a folder were made with."""

SAMPLED = 1 << 16
"""Bytes at both ends of a model's files that tell them from others."""


@dataclass(frozen=True)
class Job:
    """`model` and `folder` are absolute paths."""

    model: Path
    folder: Path
    formats: tuple[str, ...]
    options: TranscribeOptions
    cues: CueOptions
    dtype: str | None = None

    def is_done(self, recording: Recording) -> bool:
        """Whether all outputs are there, and none is older than a file on this machine."""
        try:
            changed_ns = 0 if is_url(recording.audio) else os.stat(recording.audio).st_mtime_ns
            paths = [output_path(self.folder, recording.output, format) for format in self.formats]
            return all(path.is_file() and path.stat().st_mtime_ns >= changed_ns for path in paths)
        except OSError:
            return False

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """The folder, for this run alone.

        Raises JournalError where another process writes to it, or its outputs were made with something else.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / HEADER
        with open(path, "a+b") as file:
            _lock(file, path)
            self._check(file, path)
            yield

    def _check(self, file: Any, path: Path) -> None:
        file.seek(0)
        ours, theirs = self._described(), _parsed(file.read())
        different = [] if theirs is None else list(differences(ours, theirs, "folder"))
        if different:
            raise JournalError(
                f"{path.parent} has outputs of another batch: {'; '.join(different)}. Continue with what these "
                "were made with, or choose another folder"
            )
        if theirs is None:
            file.truncate(0)
            file.write(json.dumps(ours, ensure_ascii=False).encode(errors="backslashreplace") + b"\n")
            file.flush()
            os.fsync(file)

    def _described(self) -> dict[str, Any]:
        options = {k: v for k, v in dataclasses.asdict(self.options).items() if k not in FREE_OPTIONS}
        return {
            "version": __version__,
            "model": self.model.name,
            "files": digest(self.model),
            "dtype": self.dtype,
            "options": as_json(options),
            "cues": as_json(dataclasses.asdict(self.cues)),
        }


def digest(folder: Path) -> str:
    """16 hexadecimal digits of the names, sizes, beginnings and ends of a model's files."""
    sha = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            sha.update(f"{path.name} {path.stat().st_size}\n".encode(errors="backslashreplace"))
            sha.update(file.read(SAMPLED))
            file.seek(-min(SAMPLED, path.stat().st_size), os.SEEK_END)
            sha.update(file.read())
    return sha.hexdigest()[:16]


def is_disk_error(error: OSError) -> bool:
    """Whether no other output can be written either."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def _parsed(data: bytes) -> dict[str, Any] | None:
    """None for a new file, and for one whose writer was killed."""
    with contextlib.suppress(ValueError):
        values = json.loads(data)
        return values if isinstance(values, dict) else None
    return None


def _lock(file: Any, path: Path) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise JournalError(
            f"{path.parent} is written to by another batch: wait for it, or choose another folder"
        ) from error
