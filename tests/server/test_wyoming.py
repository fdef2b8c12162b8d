"""The Wyoming protocol on a real socket, by a client of its own and by the `wyoming` package."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pytest

from lithophone.errors import OptionError
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server import wyoming, wyoming_events
from lithophone.server.settings import Settings
from tests.server.running import SHORT, Running, Short, running
from tests.sounds import silence, tone

RATE = {"rate": 16_000, "width": 2, "channels": 1}
SAMPLES = np.concatenate([silence(0.4), tone(0.5, frequency_hz=300.0), silence(0.4)])
PCM = (SAMPLES * 32767).astype("<i2").tobytes()
SETTINGS = Settings(model=("tiny", "other=elsewhere"), max_upload_mb=5, max_duration_s=60, wyoming_port=0)


class Held(Short):
    """A transcriber whose events wait until they may go on."""

    def __init__(self, transcriber: Transcriber, held: bool = True) -> None:
        super().__init__(transcriber)
        self.begun, self.go, self.cancelled = threading.Event(), threading.Event(), False
        if not held:
            self.go.set()

    def events(self, sources: Any, *, options: Any, cancelled: threading.Event, **given: Any) -> Iterator[Any]:
        self.begun.set()
        while not (self.go.wait(0.02) or cancelled.is_set()):
            pass
        self.cancelled = cancelled.is_set()
        return super().events(sources, options=options, cancelled=cancelled, **given)


def serving(held: Held, settings: Settings = SETTINGS) -> contextlib.AbstractContextManager[Running]:
    return running(settings, lambda name: cast(Transcriber, held))


@pytest.fixture(scope="module")
def server(tiny: Transcriber) -> Iterator[Running]:
    with serving(Held(tiny, held=False)) as one:
        yield one


@pytest.fixture(scope="module")
def expected(tiny: Transcriber) -> str:
    return tiny.transcribe(np.frombuffer(PCM, "<i2"), 16_000, language="en", **SHORT).text


class Client:
    """Writes and reads events."""

    def __init__(self, server: Running) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.app.state.wyoming.port), timeout=30)
        self.file = self.socket.makefile("rwb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # what was not sent
            self.file.close()
        self.socket.close()

    def send(self, kind: str, data: dict[str, Any] | None = None, payload: bytes = b"") -> None:
        body = json.dumps(data).encode() if data else b""
        header = {"type": kind, "version": "1.0", "data_length": len(body), "payload_length": len(payload)}
        self.raw(json.dumps(header).encode() + b"\n" + body + payload)

    def raw(self, data: bytes) -> None:
        self.file.write(data)
        self.file.flush()

    def read(self) -> tuple[str, dict[str, Any]] | None:
        """None where the server has closed the connection."""
        line = self.file.readline()
        if not line:
            return None
        header = json.loads(line)
        return header["type"], json.loads(self.file.read(header.get("data_length", 0)) or b"{}")

    def read_all(self) -> list[tuple[str, dict[str, Any]]]:
        """Until the transcript's end, or that of the connection."""
        found = []
        while (event := self.read()) is not None:
            found.append(event)
            if event[0] == "transcript-stop":
                break
        return found

    def say(self, pcm: bytes = PCM, form: dict[str, int] = RATE, size: int = 1_000) -> None:
        self.send("audio-start", {**form, "timestamp": 0})
        for first in range(0, len(pcm), size):
            self.send("audio-chunk", {**form, "timestamp": 0}, pcm[first : first + size])
        self.send("audio-stop", {"timestamp": 0})


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server) as one:
        yield one


def text_of(events: list[tuple[str, dict[str, Any]]]) -> str:
    [text] = [data["text"] for kind, data in events if kind == "transcript"]
    return str(text)


def test_describe_names_the_models_and_their_languages(client: Client) -> None:
    client.send("describe")
    kind, data = client.read() or ("", {})
    assert kind == "info"
    [program] = data["asr"]
    assert [model["name"] for model in program["models"]] == ["tiny", "other"]
    assert all(model["installed"] for model in program["models"])
    assert program["models"][0]["languages"] == ["en", "fr", "de", "es", "pt", "ja"]
    assert program["supports_transcript_streaming"]


def test_an_utterance_is_transcribed_in_pieces_and_as_a_whole(client: Client, expected: str) -> None:
    client.send("transcribe", {"language": "en"})
    client.say()
    events = client.read_all()
    assert events[0] == ("transcript-start", {"language": "en"})
    assert [kind for kind, _ in events[-2:]] == ["transcript", "transcript-stop"]
    pieces = [data["text"] for kind, data in events if kind == "transcript-chunk"]
    assert "".join(pieces) == text_of(events) == expected != ""


def test_a_language_may_be_told_from_the_speech(client: Client, tiny: Transcriber) -> None:
    expected = tiny.transcribe(np.frombuffer(PCM, "<i2"), 16_000, language="auto", **SHORT)
    client.send("transcribe", {"language": "auto"})
    client.say()
    events = client.read_all()
    assert events[0] == ("transcript-start", {"language": expected.language})
    assert ("transcript", {"text": expected.text, "language": expected.language}) in events


@pytest.mark.parametrize(
    ("rate_hz", "width", "channels"), [(48_000, 2, 2), (8_000, 1, 1), (16_000, 4, 1), (22_050, 3, 1)]
)
def test_audio_has_any_format(client: Client, tiny: Transcriber, rate_hz: int, width: int, channels: int) -> None:
    samples = np.repeat(tone(0.6, rate_hz, 300.0), channels)
    whole = (samples * (2 ** (8 * width - 1) - 1)).round().astype("<i4") + (128 if width == 1 else 0)
    pcm = whole.view("u1").reshape(-1, 4)[:, :width].tobytes()
    client.send("transcribe", {"name": "other"})
    client.say(pcm, {"rate": rate_hz, "width": width, "channels": channels}, size=1_001)
    found = text_of(client.read_all())
    kept = np.round(samples * 127) / 128 if width == 1 else samples
    assert found == tiny.transcribe(kept.astype(np.float32).reshape(-1, channels), rate_hz, **SHORT).text


def test_a_connection_serves_several_utterances(client: Client, tiny: Transcriber, expected: str) -> None:
    client.send("transcribe", {"language": "en"})
    client.say()
    assert text_of(client.read_all()) == expected
    client.send("transcribe", {"language": "ja", "transcript_names": ["Stone"], "transcript_terms": ["granite"]})
    client.say()
    options = {"language": "ja", "keywords": ("Stone", "granite")}
    assert text_of(client.read_all()) == tiny.transcribe(np.frombuffer(PCM, "<i2"), 16_000, **options, **SHORT).text


def test_events_that_come_during_a_transcription_wait(client: Client, expected: str) -> None:
    client.send("transcribe", {"language": "en"})
    client.say()
    client.send("ping", {"text": "after"})
    assert text_of(client.read_all()) == expected
    assert client.read() == ("pong", {"text": "after"})


def test_chunks_need_no_start_and_may_be_inline(client: Client) -> None:
    line = {"type": "audio-chunk", "data": RATE, "payload_length": len(PCM)}
    client.raw(json.dumps(line).encode() + b"\n" + PCM)
    client.send("audio-stop")
    assert text_of(client.read_all())


@pytest.mark.parametrize("pcm", [b"", b"\0"])
def test_no_audio_is_an_empty_transcript(client: Client, pcm: bytes) -> None:
    client.say(pcm)
    assert client.read() == ("transcript", {"text": ""})


def test_silence_is_an_empty_transcript(client: Client) -> None:
    client.say(bytes(32_000))
    assert text_of(client.read_all()) == ""


def test_events_of_other_services_are_left_out(client: Client) -> None:
    client.send("synthesize", {"text": "hello"})
    client.send("select-program", {"name": "lithophone"})
    client.send("ping")
    assert client.read() == ("pong", {})


# --- what is refused


def event(kind: str, data: dict[str, Any] | None = None) -> bytes:
    return json.dumps({"type": kind, "data": data or {}}).encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"GET / HTTP/1.1\r\n", "bad_event", "no JSON"),
        (b"[1]\n", "bad_event", "no JSON object"),
        (b"\xff\xfe\n", "bad_event", "no JSON"),
        (b"[" * 60_000 + b"\n", "bad_event", "no JSON"),
        (b"x" * 200_000, "bad_event", "longer than"),
        (b"{}\n", "bad_event", "no type"),
        (b'{"type": 1}\n', "bad_event", "no type"),
        (b'{"type": "ping", "data": [1]}\n', "bad_event", "data is no object"),
        (b'{"type": "ping", "data_length": 2}\n[]', "bad_event", "no JSON object"),
        (b'{"type": "ping", "data_length": -1}\n', "bad_event", "data_length is -1"),
        (b'{"type": "ping", "data_length": 99999999}\n', "bad_event", "data_length is 99999999"),
        (b'{"type": "audio-chunk", "payload_length": 1e9}\n', "bad_event", "payload_length is"),
        (b'{"type": "audio-chunk", "payload_length": true}\n', "bad_event", "payload_length is True"),
        (event("audio-start", {**RATE, "rate": "fast"}), "bad_event", "rate is 'fast'"),
        (event("audio-start", {**RATE, "rate": 0}), "invalid_audio", "the rate is 0"),
        (event("audio-start", {**RATE, "width": 9}), "invalid_audio", "9 bytes"),
        (event("audio-start", {**RATE, "channels": 0}), "invalid_audio", "0 channels"),
        (event("audio-chunk"), "bad_event", "rate is None"),
        (event("audio-start", RATE) + event("audio-chunk", {**RATE, "rate": 8_000}), "bad_event", "change"),
        (event("transcribe", {"name": "nothing"}), "model_not_found", "not served"),
        (event("transcribe", {"name": ["tiny"]}), "bad_event", "name is"),
        (event("transcribe", {"language": "xx"}), "unsupported_value", "xx"),
        (event("transcribe", {"language": "\ud800"}), "unsupported_value", "language"),
        (event("transcribe", {"transcript_terms": "stone"}), "bad_event", "transcript_terms is"),
    ],
)
def test_bad_events_close_the_connection_with_an_error(client: Client, data: bytes, code: str, message: str) -> None:
    client.raw(data)
    kind, error = client.read() or ("", {})
    assert (kind, error["code"]) == ("error", code)
    assert message in error["text"]
    with contextlib.suppress(ConnectionResetError):  # where it was sent more than was read
        assert client.read() is None


@pytest.mark.parametrize(
    ("form", "size", "code"),
    [
        (RATE, 61 * 32_000, "audio_too_long"),
        ({"rate": 192_000, "width": 4, "channels": 2}, 6_000_000, "body_too_large"),
    ],
)
def test_an_utterance_beyond_the_limits_is_refused_while_it_comes(
    client: Client, form: dict[str, int], size: int, code: str
) -> None:
    client.send("audio-start", form)
    client.send("audio-chunk", form, bytes(size))
    kind, error = client.read() or ("", {})
    assert (kind, error["code"]) == ("error", code)


def test_a_connection_that_ends_within_an_event_costs_nothing(server: Running) -> None:
    for data in (b"", b'{"type', b'{"type": "ping", "data_length": 9}\n{', event("audio-start", RATE)):
        with Client(server) as one:
            one.raw(data)
            one.socket.shutdown(socket.SHUT_WR)
            while one.read():  # until the server has closed it: one that is not accepted yet is not counted
                pass
    assert waited(lambda: not server.app.state.wyoming._connections)


def test_more_connections_than_allowed_are_refused(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming, "MAX_CONNECTIONS", 1)
    assert waited(lambda: not server.app.state.wyoming._connections)
    with Client(server) as first:
        first.send("ping")
        assert first.read() == ("pong", {})
        with Client(server) as second:
            kind, error = second.read() or ("", {})
        assert (kind, error["code"]) == ("error", "server_busy")


def test_a_silent_connection_is_closed(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming, "IDLE_S", 0.2)
    with Client(server) as client:
        assert client.read() is None


# --- places, cancelling, the end


def waited(is_true: Any) -> bool:
    for _ in range(200):
        if is_true():
            return True
        time.sleep(0.05)
    return False


def test_a_client_that_goes_away_stops_the_work(tiny: Transcriber) -> None:
    held = Held(tiny)
    with serving(held) as server:
        with Client(server) as client:
            client.say()
            assert held.begun.wait(10)
        assert waited(lambda: held.cancelled)
        assert waited(lambda: server.jobs.running == 0)


def test_utterances_wait_for_places_with_other_requests(tiny: Transcriber) -> None:
    held = Held(tiny)
    settings = Settings(model=("tiny",), wyoming_port=0, max_running=1, max_waiting=0)
    with serving(held, settings) as server, Client(server) as first, Client(server) as second:
        first.say()
        assert held.begun.wait(10)
        second.say()
        kind, error = second.read() or ("", {})
        assert (kind, error["code"]) == ("error", "server_busy")
        held.go.set()
        assert text_of(first.read_all())
        assert 'lithophone_requests_total{route="wyoming",status="429"} 1.0' in server.get("/metrics").text


def test_what_was_accepted_is_finished_at_the_end(tiny: Transcriber) -> None:
    held = Held(tiny)
    with contextlib.ExitStack() as stack:
        with serving(held) as server:
            client, idle = (stack.enter_context(Client(server)) for _ in range(2))
            client.say()
            assert held.begun.wait(10)
            threading.Timer(1.0, held.go.set).start()
        assert text_of(client.read_all())
        assert client.read() is None
        assert idle.read() is None


def test_a_port_that_is_taken_is_an_error(server: Running) -> None:
    taken = Settings(model=("tiny",), wyoming_port=server.app.state.wyoming.port)
    jobs = type("Jobs", (), {"settings": taken})()

    async def start() -> None:
        async with wyoming.WyomingServer(jobs):
            pass

    with pytest.raises(OptionError, match="cannot be listened on"):
        asyncio.run(start())


@pytest.mark.parametrize("given", [{"api_key": ("k",)}, {"api_key_file": "keys"}])
def test_other_machines_are_served_by_explicit_choice_only(given: Any) -> None:
    with pytest.raises(OptionError, match="no keys"):
        Settings(host="0.0.0.0", wyoming_port=10300, **given)
    assert Settings(host="0.0.0.0", wyoming_port=10300, allow_anonymous=True, **given).wyoming_port == 10300


def test_ports_are_checked() -> None:
    with pytest.raises(OptionError, match="wyoming_port is 70000"):
        Settings(wyoming_port=70_000)


# --- the package


@pytest.mark.full
@pytest.mark.filterwarnings("ignore:'audioop' is deprecated:DeprecationWarning")
@pytest.mark.skipif(importlib.util.find_spec("wyoming") is None, reason="pip install wyoming==1.10.2")
def test_the_package_reads_what_is_sent(server: Running, expected: str) -> None:
    from wyoming.asr import Transcribe, Transcript
    from wyoming.audio import AudioChunk, AudioStart, AudioStop
    from wyoming.client import AsyncTcpClient
    from wyoming.info import Describe, Info

    async def said() -> tuple[Info, str]:
        async with AsyncTcpClient("127.0.0.1", server.app.state.wyoming.port, read_timeout=30) as client:
            await client.write_event(Describe().event())
            found = await client.read_event()
            assert found is not None
            information = Info.from_event(found)
            await client.write_event(Transcribe(language="en").event())
            await client.write_event(AudioStart(16_000, 2, 1).event())
            for first in range(0, len(PCM), 2_048):
                await client.write_event(AudioChunk(16_000, 2, 1, PCM[first : first + 2_048]).event())
            await client.write_event(AudioStop().event())
            while (found := await client.read_event()) is not None:
                if Transcript.is_type(found.type):
                    return information, Transcript.from_event(found).text
        raise AssertionError("the connection ended before the transcript")

    information, text = asyncio.run(said())
    assert text == expected
    assert information.asr[0].models[0].languages[0] == "en"
    assert wyoming_events.VERSION == "1.10.2"
