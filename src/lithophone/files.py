"""Atomic writes: files appear complete or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lithophone.errors import OptionError

PROBE = bytes(4096)
"""Written to find out whether a disk has room for anything."""


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file atomically; text as UTF-8, lone surrogates as `\udc80`. Raises OSError."""
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_json(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write an object as indented JSON, atomically."""
    write_whole(path, json.dumps(values, indent=2) + "\n")


@contextlib.contextmanager
def replacing(path: str | Path, *, sync: bool = False, one_writer: bool = False) -> Iterator[Path]:
    """A temporary path, renamed to `path` at the end and removed after an error.

    Its name has nine bytes, whatever `path` is. Permissions follow the umask, links are followed, and anything but a
    regular file (`/dev/stdout`) is written directly.

    sync: return when the content is on disk. one_writer: name it `PATH.part`, so that killed processes leave one file
    at most; no other process may write the same file meanwhile.
    """
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        yield final
        return
    partial = _created(final.with_name(f"{final.name}.part")) if one_writer else _created_beside(final)
    mode = partial.stat().st_mode
    try:
        yield partial
        partial.chmod(mode)  # a library that writes to a path may have made a private file in its place
        if sync:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: str | Path, option: str) -> None:
    """Check an output path before any work; leaves no trace. Missing parent folders are allowed.

    Raises OptionError, naming the option, for a folder, a name too long, no permission, a file among the parents, a
    full disk.
    """
    final = Path(os.path.realpath(path))
    try:
        if final.is_dir():
            raise IsADirectoryError(f"it is a folder: add the name of a file ({option} {final / 'NAME'})")
        if final.exists() and not final.is_file():
            return
        place = next(folder for folder in final.parents if folder.exists())
        for name in final.relative_to(place).parts:
            with contextlib.suppress(FileNotFoundError):
                (place / name).stat()  # OSError for a name that is too long
        partial = _created_beside(place / "new")
        try:
            partial.write_bytes(PROBE)
        finally:
            partial.unlink()
    except OSError as error:
        raise OptionError(
            f"{option} {path} cannot be written: {error.strerror or error}; choose another place"
        ) from error


def _created(path: Path) -> Path:
    """A new, empty file; replaces an older one."""
    path.unlink(missing_ok=True)
    path.touch(exist_ok=False)
    return path


def _created_beside(final: Path) -> Path:
    """A new, empty file in the same folder."""
    with contextlib.suppress(FileNotFoundError):
        final.stat()  # OSError for a name that is too long, before anything is written
    while True:
        partial = final.with_name(f".{secrets.token_hex(4)}")
        with contextlib.suppress(FileExistsError):
            partial.touch(exist_ok=False)
            return partial
