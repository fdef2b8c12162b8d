"""Recordings of strangers, decoded in processes with limits (`media_process.py`); read as blocks of samples.

Needs `fork` and sockets that carry descriptors: Linux; other Unix systems are untested.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from lithophone.audio.samples import RATE_HZ, Samples
from lithophone.errors import AudioError
from lithophone.server.errors import ApiError
from lithophone.server.media_process import MESSAGE_SIZE

SILENT_S = 60.0
"""Longest time without a block from the decoder."""

NAME_LIMIT = 200
"""Characters of a file's name in messages."""

FRAME_LIMIT = 1 << 26
"""Largest frame in bytes; the decoder's blocks are far smaller."""


@dataclass(frozen=True)
class MediaLimits:
    """For one recording."""

    cpu_s: float
    memory_mb: float
    duration_s: float


class MediaDecoder:
    """The parent of the decoding processes; started with the first recording, and again if it ends."""

    def __init__(self, limits: MediaLimits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def decode(self, data: bytes | memoryview, name: str, channel: int | None = None) -> MediaStream:
        """Start to decode the bytes of a file; `name` stands in messages."""
        name = name[:NAME_LIMIT]
        limits = {"cpu_s": self.limits.cpu_s, "memory": self.limits.memory_mb * 1e6}
        message = json.dumps({"name": name, "channel": channel, **limits}).encode().ljust(MESSAGE_SIZE)
        read, write = os.pipe()
        try:
            with _memory_file(data) as file:
                self._send(message, [file.fileno(), write])
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        return MediaStream(read, name, self.limits.duration_s)

    def start(self) -> None:
        """Start the process, so that the first request need not wait for it."""
        with self._lock:
            self._connected()

    def close(self) -> None:
        """End the process. Recordings under way are decoded to their end."""
        with self._lock:
            self._disconnect()

    def _disconnect(self) -> None:
        """The process ends when its connection is closed."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.wait(timeout=10)
        self._connection = self._process = None

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        with self._lock:
            try:
                socket.send_fds(self._connected(), [message], descriptors)
            except OSError:  # it has been killed: once more with a new one
                self._disconnect()
                socket.send_fds(self._connected(), [message], descriptors)

    def _connected(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._disconnect()
        if self._connection is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            command = [sys.executable, "-m", "lithophone.server.media_process"]
            self._process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
            theirs.close()
            self._connection = ours
        return self._connection


class MediaStream:
    """Blocks of one recording, a BlockStream. Raises AudioError, and ApiError 413 beyond the longest duration."""

    def __init__(self, descriptor: int, name: str, limit_s: float) -> None:
        self.name, self.limit_s = name, limit_s
        self.warnings: list[str] = []
        self.duration_s: float | None = None
        self.read_s = 0.0
        self._file: BinaryIO | None = os.fdopen(descriptor, "rb", buffering=0)
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Samples]:
        samples = 0
        while data := self._frame():
            block = np.frombuffer(data, "<f4").astype(np.float32, copy=False)
            samples += len(block)
            self.read_s = samples / RATE_HZ
            check_length(self.name, self.read_s, self.limit_s)
            yield block
        end = json.loads(self._frame())
        if "error" in end:
            raise AudioError(end["error"])
        self.warnings += end["warnings"]

    def close(self) -> None:
        """Stop decoding."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        first = self._frame()
        if not first:
            raise AudioError(json.loads(self._frame())["error"])
        self.duration_s = json.loads(first)["duration_s"]
        check_length(self.name, self.duration_s or 0.0, self.limit_s)

    def _frame(self) -> bytes:
        (size,) = struct.unpack("<I", self._read(4))
        assert size <= FRAME_LIMIT, "the decoder writes small blocks"
        return self._read(size)

    def _read(self, size: int) -> bytes:
        assert self._file is not None, "a closed stream is not read"
        data = bytearray()
        while len(data) < size:
            ready, _, _ = select.select([self._file], [], [], SILENT_S)
            part = self._file.read(size - len(data)) if ready else None
            if not part:
                raise AudioError(
                    f"{self.name} cannot be decoded within this server's limits: convert it to FLAC, MP3 or WAV"
                )
            data += part
        return bytes(data)


def check_length(name: str, seconds: float, limit_s: float) -> None:
    """ApiError 413 beyond the limit."""
    if seconds > limit_s:
        raise ApiError(
            413,
            f"{name} has {seconds:.0f} s or more: this server takes recordings up to {limit_s:.0f} s",
            code="audio_too_long",
            param="file",
        )


def _memory_file(data: bytes | memoryview) -> Any:
    """A file of the data in memory, at its beginning; a temporary one without a name where the system has none."""
    in_memory = hasattr(os, "memfd_create")
    file = os.fdopen(os.memfd_create("recording"), "w+b") if in_memory else tempfile.TemporaryFile()  # noqa: SIM115
    file.write(data)
    file.seek(0)
    return file
