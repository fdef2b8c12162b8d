"""Blocks of standard input and of a microphone, which is a stand-in here."""

from __future__ import annotations

import io
import os
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

from lithophone.cli.live_input import END, LiveInput, Microphone, StandardInput
from lithophone.errors import AudioError, OptionError


def everything(live_input: LiveInput) -> bytes:
    data = b""
    with live_input:
        while (block := live_input.take(0.5)) is not None:
            data += block
    return data


def stdin_of(file: Any) -> Any:
    return types.SimpleNamespace(buffer=file, isatty=lambda: False)


# --- standard input


def test_all_bytes_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(300_001)
    monkeypatch.setattr(sys, "stdin", stdin_of(io.BytesIO(data)))
    assert everything(StandardInput(16_000)) == data


def test_a_pipe_is_read_as_it_comes_and_a_stop_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as file:
        monkeypatch.setattr(sys, "stdin", stdin_of(file))
        with StandardInput(16_000) as live_input:
            assert live_input.take(0.0) == b""
            os.write(write, b"abc")
            assert live_input.take(5.0) == b"abc"
            assert live_input.take(0.01) == b""
            live_input.stop()
            assert live_input.take(5.0) is None
            assert live_input.take(5.0) is None
        os.close(write)


def test_what_came_before_a_stop_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    live_input = StandardInput.__new__(StandardInput)
    super(StandardInput, live_input).__init__()
    live_input.queue.put(b"abc")
    live_input.stop()
    assert live_input.take(0.0) == b"abc"
    assert live_input.take(0.0) is None


def test_what_came_before_an_error_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise OSError("the disk is gone")
            return data

    monkeypatch.setattr(sys, "stdin", stdin_of(Broken(b"abc")))
    with StandardInput(16_000) as live_input:
        assert live_input.take(5.0) == b"abc"
        with pytest.raises(AudioError, match="standard input cannot be read"):
            live_input.take(5.0)


@pytest.mark.parametrize("stdin", [None, types.SimpleNamespace(isatty=lambda: True)])
def test_a_terminal_is_no_source(monkeypatch: pytest.MonkeyPatch, stdin: object) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(OptionError, match="nothing is piped into standard input"):
        StandardInput(16_000)


# --- microphone


class PortAudioError(Exception):
    pass


class FakeStream:
    def __init__(self, rate_hz: int, callback: Callable[..., None]) -> None:
        self.rate_hz, self.callback, self.closed = rate_hz, callback, False

    def start(self) -> None:
        for block, overflow in ((b"ab", False), (b"cd", True)):
            self.callback(memoryview(block), 1, None, types.SimpleNamespace(input_overflow=overflow))

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in for sounddevice whose device takes `rates`."""
    module: Any = types.ModuleType("sounddevice")
    module.PortAudioError, module.rates, module.opened = PortAudioError, (16_000, 48_000), []

    def query_devices(device: object, kind: str) -> dict[str, float]:
        if device == "no such":
            raise ValueError("No input device matching 'no such'")
        return {"default_samplerate": 48_000.0}

    def stream(*, samplerate: int, callback: Callable[..., None], **settings: Any) -> FakeStream:
        if samplerate not in module.rates:
            raise PortAudioError("Invalid sample rate")
        module.opened.append(settings)
        return FakeStream(samplerate, callback)

    module.query_devices, module.RawInputStream = query_devices, stream
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_blocks_of_a_microphone_come_in_order(sound: Any) -> None:
    microphone = Microphone(None, 16_000)
    with microphone:
        assert microphone.take(0.0) == b"abcd"
        assert microphone.take(0.0) == b""
        microphone.stop()
        assert microphone.take(0.0) is None
    assert (microphone.rate_hz, microphone.overflows) == (16_000, 1)
    assert sound.opened == [{"device": None, "channels": 1, "dtype": "int16", "blocksize": 800}]


def test_the_rate_of_the_device_is_taken_where_it_refuses_ours(sound: Any) -> None:
    sound.rates = (48_000,)
    assert Microphone("3", 16_000).rate_hz == 48_000
    assert sound.opened[0]["device"] == 3


def test_a_device_that_is_not_there_is_wrong_usage(sound: Any) -> None:
    with pytest.raises(OptionError, match=r"no microphone 'no such' can be opened .* lists the devices"):
        Microphone("no such", 16_000)
    sound.rates = ()
    with pytest.raises(OptionError, match="neither 16000 nor 48000 Hz"):
        Microphone(None, 16_000)


def test_a_missing_package_or_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(OptionError, match=r"sounddevice is missing: pip install 'lithophone\[listen\]'"):
        Microphone(None, 16_000)


def test_a_missing_portaudio_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(OptionError, match="apt-get install libportaudio2"):
        Microphone(None, 16_000)


def test_the_end_is_no_block() -> None:
    assert not isinstance(END, bytes)
