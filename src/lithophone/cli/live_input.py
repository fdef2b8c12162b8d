"""Live audio for `lithophone listen`: raw PCM from standard input or a microphone, as it comes."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from lithophone.cli import terminal
from lithophone.errors import AudioError, OptionError

BLOCK_S = 0.05
"""Seconds per block of a microphone."""

READ_SIZE = 1 << 13
"""Bytes of standard input read at once, at most."""

MAX_BLOCKS = 16
"""Blocks of standard input read ahead."""

END = object()
"""Behind the last block."""


class LiveInput(Protocol):
    """Blocks of int16 at `rate_hz`; a context manager that starts and stops reading."""

    rate_hz: int

    def __enter__(self) -> LiveInput: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def take(self, wait_s: float) -> bytes | None:
        """All bytes that have come, after waiting for the first; b"" where none came, None at the end."""
        ...

    def stop(self) -> None:
        """No more is read; what has come is still taken."""
        ...


class _Blocks:
    """A queue of blocks that another thread fills, with an error or END behind the last."""

    def __init__(self, size: int = 0) -> None:
        self.queue: queue.Queue[Any] = queue.Queue(size)
        self.stopping = threading.Event()
        self._last: Any = None
        """END or the error, once it has come."""

    def take(self, wait_s: float) -> bytes | None:
        blocks: list[bytes] = []
        while self._last is None and (block := self._next(0.0 if blocks else wait_s)):
            blocks.append(block)
        if blocks or self._last is None:
            return b"".join(blocks)
        if isinstance(self._last, Exception):
            raise self._last
        return None

    def _next(self, wait_s: float) -> bytes:
        """The next block; b"" where none has come."""
        # A thread that is blocked in a read does not notice `stop`.
        if self.stopping.is_set() and self.queue.empty():
            self._last = END
            return b""
        try:
            item = self.queue.get(timeout=wait_s) if wait_s else self.queue.get_nowait()
        except queue.Empty:
            return b""
        if isinstance(item, bytes):
            return item
        self._last = item
        return b""

    def stop(self) -> None:
        self.stopping.set()


class StandardInput(_Blocks):
    """Raw PCM on standard input. Raises OptionError where it is a terminal."""

    def __init__(self, rate_hz: int) -> None:
        super().__init__(MAX_BLOCKS)
        if sys.stdin is None or sys.stdin.isatty():
            raise OptionError(
                "nothing is piped into standard input: arecord -t raw -f S16_LE -r 16000 -c 1 | lithophone listen -"
            )
        self.rate_hz = rate_hz
        self._file: BinaryIO = sys.stdin.buffer

    def __enter__(self) -> StandardInput:
        threading.Thread(target=self._read, daemon=True, name="standard input").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        read: Callable[[int], bytes | None] = getattr(self._file, "raw", self._file).read
        try:
            while not self.stopping.is_set() and (data := read(READ_SIZE)):
                self.queue.put(data)
        except (OSError, ValueError) as error:
            self.queue.put(AudioError(f"standard input cannot be read ({error}): check what is piped into it"))
        self.queue.put(END)


class Microphone(_Blocks):
    """The sound device `name`, or the default one. Raises OptionError for a missing package or device."""

    def __init__(self, name: str | None, rate_hz: int) -> None:
        super().__init__()
        self.overflows = 0
        """Times that the system lost samples."""
        self._stream, self.rate_hz = _opened(_device(name), rate_hz, self._arrived)

    def __enter__(self) -> Microphone:
        self._stream.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self._stream.close()
        super().stop()

    def _arrived(self, data: Any, n_frames: int, times: object, status: Any) -> None:
        self.overflows += bool(status.input_overflow)
        self.queue.put(bytes(data))


def _device(name: str | None) -> int | str | None:
    """Devices are named by their number, or part of their name."""
    return int(name) if name is not None and name.isdecimal() else name


def _opened(device: int | str | None, rate_hz: int, callback: Callable[..., None]) -> tuple[Any, int]:
    """A stream and its rate: the device's own where it refuses `rate_hz`."""
    sound = _sounddevice()
    settings = {"device": device, "channels": 1, "dtype": "int16", "callback": callback}
    try:
        own_hz = int(sound.query_devices(device, "input")["default_samplerate"])
        for rate in dict.fromkeys((rate_hz, own_hz)):
            with contextlib.suppress(sound.PortAudioError):
                return sound.RawInputStream(samplerate=rate, blocksize=int(rate * BLOCK_S), **settings), rate
        raise OptionError(f"the microphone takes neither {rate_hz} nor {own_hz} Hz: name another with --microphone")
    except (sound.PortAudioError, ValueError) as error:
        shown = "no microphone" if device is None else f"no microphone {device!r}"
        raise OptionError(f"{shown} can be opened ({error}): python -m sounddevice lists the devices") from error


def _sounddevice() -> Any:
    with terminal.needs("listen"):
        try:
            import sounddevice
        except OSError as error:
            raise OptionError(
                f"sounddevice finds no PortAudio ({error}): install it (Debian: apt-get install libportaudio2), "
                "or pipe raw PCM into lithophone listen -"
            ) from error
    return sounddevice
