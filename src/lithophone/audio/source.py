"""A path, bytes or a binary file object -> `Input` for FFmpeg. I/O errors become AudioError."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lithophone.errors import AudioError

SPOOL_SIZE = 1 << 24
"""Bytes of a pipe kept in memory; more go to a temporary file."""

ISO_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot"}
"""First boxes of MP4 and QuickTime, whose index may be last."""

COPY_SIZE = 1 << 20

PEEK_SIZE = 512


def is_file(source: object) -> bool:
    """Path, bytes or file object, not an array."""
    return isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read")


def name_of(source: object) -> str:
    """The source in error messages."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    return f"the {type(source).__name__} given"


class Input:
    """A binary file for FFmpeg; position 0 is that of the file when given.

    A read error ends the file, since FFmpeg and PyAV ignore or print it; `check` raises it. What is read of a pipe is
    kept for `rewind` until `stop_spooling`.
    """

    def __init__(self, file: Any, name: str, label: str = "") -> None:
        self.name = label
        """File name, for formats without a header."""
        self.error: Exception | None = None
        self._file = file
        self._source = name
        self._seekable, self._origin = self._place()
        self._spool: IO[bytes] | None = None if self._seekable else _new_spool()
        self._spooling = not self._seekable
        self._head = b""
        self._peeked = b""
        self._ended = False

    def _place(self) -> tuple[bool, int]:
        try:
            seekable = bool(hasattr(self._file, "seekable") and self._file.seekable())
            return seekable, self._file.tell() if seekable else 0
        except (OSError, ValueError) as error:
            self.error = error
            return False, 0

    def check(self) -> None:
        """Raise AudioError after a read error."""
        if self.error is not None:
            raise AudioError(
                f"{self._source} cannot be read ({self.error}): check the disk, the pipe or the file object"
            ) from self.error

    @property
    def is_empty(self) -> bool:
        return not self._head

    def seekable(self) -> bool:
        return self._seekable

    def peek(self) -> bytes:
        """Up to 512 first bytes; only before anything is read."""
        data = self.read(PEEK_SIZE)
        if self._seekable:
            self.seek(0)
        else:
            self._peeked = data
        return data

    def read(self, size: int = -1) -> bytes:
        if self._peeked:
            data, self._peeked = self._peeked[:size], self._peeked[size:]
            return data
        data = self._read(size) if self.error is None else b""
        self._head = self._head or data[:12]
        self._ended = not data
        return data

    def _read(self, size: int) -> bytes:
        try:
            read = self._file.read if self._seekable else getattr(self._file, "read1", self._file.read)
            data = bytes(read(size) or b"")
            if self._spooling and self._spool is not None:
                self._spool.write(data)
            return data
        except (OSError, ValueError) as error:
            self.error = error
            return b""

    def tell(self) -> int:
        return self.seek(0, 1)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            self._file.seek(offset + self._origin if whence == 0 else offset, whence)
            return int(self._file.tell()) - self._origin
        except (OSError, ValueError) as error:
            self.error = self.error or (None if offset < 0 and whence == 0 else error)
            return -1

    def stop_spooling(self) -> None:
        """Drop the bytes kept of a pipe."""
        if self._spooling:
            self._spooling = False
            self.close()

    def rewind(self) -> bool:
        """Make a pipe seekable, at its beginning, by reading it to its end.

        False if that cannot help: FFmpeg failed early on a format that needs no seeking.
        """
        if not self._spooling or not (self._ended or self._head[4:8] in ISO_BOXES or self._head[:4] == b"caff"):
            return False
        while self.read(COPY_SIZE):
            pass
        self._file, self._spooling, self._seekable = self._spool, False, True
        return self.error is None and self.seek(0) == 0

    def close(self) -> None:
        if self._spool is not None:
            self._spool.close()


def _new_spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(SPOOL_SIZE)


@contextlib.contextmanager
def opened(source: Any, name: str) -> Iterator[Input]:
    """The source as an `Input`. File objects are not closed. Raises AudioError."""
    with contextlib.ExitStack() as stack:
        if isinstance(source, (str, os.PathLike)):
            file = stack.enter_context(_opened_path(os.fsdecode(source)))
            found = Input(file, name, name)
        elif isinstance(source, (bytes, bytearray, memoryview)):
            found = Input(io.BytesIO(source), name)
        else:
            found = Input(_binary(source, name), name, _label(source))
        stack.callback(found.close)
        yield found


def _opened_path(name: str) -> IO[bytes]:
    try:
        return open(name, "rb")
    except IsADirectoryError as error:
        raise AudioError(f"{name} is a folder: give one audio or video file") from error
    except FileNotFoundError as error:
        if re.match(r"\w[\w+.-]+:/", name):
            raise AudioError(f"{name} is a URL: download it, and give the file or its bytes") from error
        raise AudioError(f"{name} does not exist: check the path (now in {Path.cwd()})") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{name} cannot be opened ({error}): give an audio or video file that you may read") from error


def _binary(file: Any, name: str) -> Any:
    if isinstance(file, io.TextIOBase):
        raise AudioError(f"{name} is open as text: open it as binary, open(path, 'rb')")
    return file


def _label(file: Any) -> str:
    """Temporary files may have a number as name."""
    label = getattr(file, "name", "")
    return label if isinstance(label, str) else ""
