"""A process that decodes recordings for the server, each in a forked child with limits: a crash costs one request.

Imports no torch. Protocol on the socket at file descriptor 0, for each recording: MESSAGE_SIZE bytes of padded JSON
(name, channel, cpu_s, memory) with two descriptors, that of the recording and that of a pipe for the result. The child
writes frames to the pipe: 4 bytes of length, and that many bytes. The first frame is JSON (duration_s), then blocks of
float32 samples, then an empty frame and JSON (warnings or error).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any

from lithophone.audio.reader import open_audio
from lithophone.audio.source import name_of
from lithophone.errors import LithophoneError

MESSAGE_SIZE = 4096


def serve(connection: socket.socket) -> None:
    """Fork a child for every message, until the server closes its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the server ends this process
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_SIZE, 2, socket.MSG_WAITALL)
        if not message:
            return
        if os.fork() == 0:
            connection.close()
            _child(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _child(asked: dict[str, Any], recording: int, result: int) -> None:
    """Decode one recording and end the process."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # the server stops reading: end at once
    _limit(resource.RLIMIT_CPU, asked["cpu_s"])
    if sys.platform != "darwin":  # which refuses it
        _limit(resource.RLIMIT_AS, asked["memory"])
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, 0)
    try:
        with os.fdopen(recording, "rb") as file, os.fdopen(result, "wb") as out:
            _decode(file, out, asked["name"], asked["channel"])
    except BaseException as error:
        sys.stderr.write(f"decoding failed: {type(error).__name__}\n")  # no text of the recording in logs
        os._exit(1)
    os._exit(0)


def _limit(kind: int, value: float) -> None:
    _, hard = resource.getrlimit(kind)
    most = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
    resource.setrlimit(kind, (most, most))


def _decode(file: Any, out: Any, name: str, channel: int | None) -> None:
    try:
        with open_audio(file, channel=channel) as stream:
            _write(out, json.dumps({"duration_s": stream.duration_s}).encode())
            for block in stream:
                if len(block):
                    _write(out, block.astype("<f4", copy=False).tobytes())
            end: dict[str, Any] = {"warnings": stream.warnings}
    except LithophoneError as error:
        end = {"error": str(error).replace(name_of(file), name)}
    except MemoryError:
        end = {"error": "the recording needs more memory to decode than the server allows"}
    _write(out, b"")
    _write(out, json.dumps(end).encode())
    out.flush()


def _write(out: Any, data: bytes) -> None:
    out.write(struct.pack("<I", len(data)) + data)


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
