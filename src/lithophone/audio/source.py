"""Opening a source: a path, bytes or a binary file object becomes an `Input` that FFmpeg can read.

An error of the operating system or of the object itself becomes an AudioError. Nothing is decoded here.
"""

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
"""Bytes of a pipe that are kept in memory; what exceeds them goes into an unnamed temporary file."""

PROBE_SIZE = 1 << 22
"""More bytes than FFmpeg reads before it gives up on an unknown format."""

COPY_SIZE = 1 << 20


def is_file(source: object) -> bool:
    """Whether the source is a path, bytes or a file object, not an array of samples."""
    return isinstance(source, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(source, "read")


def name_of(source: object) -> str:
    """What error messages call the source."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    return f"the {type(source).__name__} given"


class Input:
    """A binary file for FFmpeg. Position 0 is where the file stood; the first error of reading is kept in `error`.

    FFmpeg takes some errors of reading for the end of the file, hence `check`, which raises AudioError afterwards.
    """

    def __init__(self, file: Any, name: str, label: str = "") -> None:
        self.name = label
        """File name by which FFmpeg recognises formats without a header."""
        self.error: Exception | None = None
        self._file = file
        self._source = name
        with self.reading():
            self._seekable = bool(hasattr(file, "seekable") and file.seekable())
            self._origin = file.tell() if self._seekable else 0
        self._spool: IO[bytes] | None = None if self._seekable else _new_spool()
        self._n_read = 0
        self._ended = False

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """AudioError in place of what file objects raise."""
        try:
            yield
        except (OSError, ValueError) as error:
            self.error = error
            raise self._failure() from error

    def check(self) -> None:
        """Raise AudioError if the file could not be read to its end."""
        if self.error is not None:
            raise self._failure() from self.error

    def _failure(self) -> AudioError:
        return AudioError(f"{self._source} cannot be read ({self.error}): check the disk, the pipe or the file object")

    def seekable(self) -> bool:
        return self._seekable

    @property
    def is_empty(self) -> bool:
        """Whether reading gave no byte yet."""
        return self._n_read == 0

    def read(self, size: int = -1) -> bytes:
        with self.reading():
            data = bytes(self._file.read(size) or b"")
            if self._spool is not None:
                self._spool.write(data)
        self._n_read += len(data)
        self._ended = not data
        return data

    def tell(self) -> int:
        with self.reading():
            return int(self._file.tell()) - self._origin

    def seek(self, offset: int, whence: int = 0) -> int:
        with self.reading():
            self._file.seek(offset + self._origin if whence == 0 else offset, whence)
            return int(self._file.tell()) - self._origin

    def stop_spooling(self) -> None:
        """Forget what was read of a pipe: it will not be read again."""
        if self._spool is not None and not self._seekable:
            self._spool.close()
            self._spool = None

    def rewind(self) -> bool:
        """Start again at position 0, seekable from now on. False where that is impossible or in vain.

        A pipe is copied to its end, unless FFmpeg gave up on it early, at an unknown format.
        """
        if self._spool is not None:
            if not self._ended and self._n_read < PROBE_SIZE:
                return False
            self._copy_rest(self._spool)
        elif not self._seekable:
            return False
        self.seek(0)
        return True

    def _copy_rest(self, spool: IO[bytes]) -> None:
        while self.read(COPY_SIZE):
            pass
        self._file, self._spool, self._seekable = spool, None, True

    def close(self) -> None:
        self.stop_spooling()


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
    """The file's name, where it has one: temporary files may have a number."""
    label = getattr(file, "name", "")
    return label if isinstance(label, str) else ""
