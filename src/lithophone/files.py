"""Atomic writes."""

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
"""Written to detect a full disk."""


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file atomically; text as UTF-8, lone surrogates escaped (`\\udc80`). Raises OSError."""
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_changed(path: str | Path, content: str | bytes) -> bool:
    """As `write_whole`, where the file has other content; whether it was written."""
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    with contextlib.suppress(OSError):
        if Path(path).read_bytes() == data:
            return False
    write_whole(path, data)
    return True


def write_json(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write indented JSON atomically."""
    write_whole(path, json.dumps(values, indent=2) + "\n")


@contextlib.contextmanager
def replacing(path: str | Path, *, sync: bool = False, one_writer: bool = False) -> Iterator[Path]:
    """A temporary path, renamed to `path` at the end, removed on error.

    Its name has nine bytes. Permissions follow the umask, links are followed, other than regular files (`/dev/stdout`)
    are written directly.

    sync: fsync before renaming. one_writer: name it `PATH.part`, so that killed processes leave at most one file; only
    one process may write `path`.
    """
    final = Path(os.path.realpath(path))
    if final.exists() and not final.is_file():
        yield final
        return
    partial = _created(final.with_name(f"{final.name}.part")) if one_writer else _created_beside(final)
    mode = partial.stat().st_mode
    try:
        yield partial
        partial.chmod(mode)  # a library may have replaced it by a private file
        if sync:
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)


def check_writable(path: str | Path, option: str) -> None:
    """Check an output path before any work, without a trace; parent folders may be missing.

    Raises OptionError with the option: a folder, too long a name, no permission, a file among the parents, a full disk.
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
                (place / name).stat()  # OSError for too long a name
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
    """A new, empty file instead of any older one."""
    path.unlink(missing_ok=True)
    path.touch(exist_ok=False)
    return path


def _created_beside(final: Path) -> Path:
    """A new, empty file in the same folder."""
    with contextlib.suppress(FileNotFoundError):
        final.stat()  # OSError for too long a name, before writing
    while True:
        partial = final.with_name(f".{secrets.token_hex(4)}")
        with contextlib.suppress(FileExistsError):
            partial.touch(exist_ok=False)
            return partial
