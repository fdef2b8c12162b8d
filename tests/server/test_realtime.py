"""Live sessions: OpenAI's events, formats, settings, bad messages."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
import soundfile
import soxr
from openai.types.realtime import RealtimeServerEvent
from pydantic import TypeAdapter
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.session import A_LAW, MU_LAW
from lithophone.server.settings import Settings
from tests.server.running import Running, running
from tests.sounds import silence, tone

RATE_HZ = 16_000
SPEECH = np.concatenate([silence(0.6), tone(0.5, frequency_hz=320), silence(1.2)])
TRANSCRIPTION = "conversation.item.input_audio_transcription"
EVENTS = TypeAdapter(RealtimeServerEvent)


class Live:
    """A session; events are checked by OpenAI's types as they come."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.created = self.next()

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def append(self, samples: np.ndarray, block: int = 1_600) -> None:
        data = (samples * 32_767).astype("<i2")
        for first in range(0, len(data), block):
            self.send("input_audio_buffer.append", audio=base64.b64encode(data[first : first + block]).decode())

    def next(self) -> dict[str, Any]:
        event = json.loads(self.socket.recv(timeout=30))
        if event["type"] != "session.updated":  # there the types know 24 kHz alone
            EVENTS.validate_python(event)
        assert event["event_id"]
        return event

    def until(self, kind: str) -> list[dict[str, Any]]:
        events = [self.next()]
        while events[-1]["type"] != kind:
            events.append(self.next())
        return events

    def update(self, **fields: Any) -> dict[str, Any]:
        self.send("session.update", session={"type": "transcription", "audio": {"input": fields}})
        return self.until("session.updated")[-1]["session"]


@contextlib.contextmanager
def live(server: Running, query: str = "intent=transcription", **given: Any) -> Iterator[Live]:
    url = server.url.replace("http", "ws")
    with connect(f"{url}/v1/realtime?{query}", max_size=None, compression=None, **given) as socket:
        yield Live(socket)


SHORT = {"max_new_tokens": 8, "decode": "greedy"}
PCM16 = {"format": {"type": "audio/pcm", "rate": RATE_HZ}, "transcription": SHORT}
AS_RECORDINGS = {"turn_detection": {"type": "server_vad", "prefix_padding_ms": 400}}
"""With the padding of recordings, whose windows are then the same."""


def test_a_session_begins_with_its_configuration(server: Running) -> None:
    with live(server) as session:
        assert session.created["type"] == "session.created"
        audio = session.created["session"]["audio"]["input"]
        assert audio["format"] == {"type": "audio/pcm", "rate": 24_000}
        assert audio["turn_detection"]["silence_duration_ms"] == 500


def test_speech_is_found_committed_and_completed(server: Running, tiny: Transcriber) -> None:
    with live(server) as session:
        session.update(**PCM16, **AS_RECORDINGS)
        session.append(SPEECH)
        events = session.until(f"{TRANSCRIPTION}.completed")
    kinds = [event["type"] for event in events if not event["type"].endswith(".delta")]
    assert kinds == [
        "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", "input_audio_buffer.committed",
        "conversation.item.added", "conversation.item.done", f"{TRANSCRIPTION}.completed",
    ]  # fmt: skip
    assert len({event.get("item_id") or event["item"]["id"] for event in events}) == 1
    assert events[0]["audio_start_ms"] == pytest.approx(200, abs=60)
    assert events[-1]["transcript"] == tiny.transcribe(SPEECH, RATE_HZ, **SHORT).text != ""
    assert events[-1]["usage"]["type"] == "duration"


def test_the_client_commits_where_there_is_no_turn_detection(server: Running) -> None:
    with live(server) as session:
        assert session.update(turn_detection=None, **PCM16)["audio"]["input"]["turn_detection"] is None
        names = []
        for _ in range(2):
            session.append(SPEECH)
            session.send("input_audio_buffer.commit")
            events = session.until(f"{TRANSCRIPTION}.completed")
            (committed,) = [event for event in events if event["type"] == "input_audio_buffer.committed"]
            assert committed["previous_item_id"] == (names[-1] if names else None)
            names.append(committed["item_id"])
        assert len(set(names)) == 2


def test_what_is_cleared_is_not_transcribed(server: Running) -> None:
    with live(server) as session:
        session.update(turn_detection=None, **PCM16)
        session.append(SPEECH)
        session.send("input_audio_buffer.clear")
        session.until("input_audio_buffer.cleared")
        session.send("input_audio_buffer.commit")
        assert session.until("error")[-1]["error"]["code"] == "input_audio_buffer_commit_empty"


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 48_000])
def test_other_rates_are_resampled(server: Running, tiny: Transcriber, rate_hz: int) -> None:
    with live(server) as session:
        session.update(turn_detection=None, format={"type": "audio/pcm", "rate": rate_hz}, transcription=SHORT)
        session.append(soxr.resample(SPEECH, RATE_HZ, rate_hz), block=701)
        session.send("input_audio_buffer.commit")
        completed = session.until(f"{TRANSCRIPTION}.completed")[-1]
    assert completed["usage"]["seconds"] == 3
    assert completed["transcript"]


@pytest.mark.parametrize(("kind", "table", "subtype"), [("audio/pcmu", MU_LAW, "ULAW"), ("audio/pcma", A_LAW, "ALAW")])
def test_telephone_codes_are_those_of_libsndfile(
    server: Running, kind: str, table: np.ndarray, subtype: str, tmp_path: Any
) -> None:
    path = tmp_path / "codes.raw"
    path.write_bytes(bytes(range(256)))
    read, _ = soundfile.read(
        path, channels=1, samplerate=8_000, subtype=subtype, format="RAW", dtype="int16", endian="LITTLE"
    )
    np.testing.assert_array_equal(table, read)
    with live(server) as session:
        session.update(turn_detection=None, format={"type": kind}, transcription=SHORT)
        session.send("input_audio_buffer.append", audio=base64.b64encode(bytes(range(256)) * 40).decode())
        session.send("input_audio_buffer.commit")
        assert session.until(f"{TRANSCRIPTION}.completed")[-1]["usage"]["seconds"] == 2


def test_options_may_change_between_utterances(server: Running, tiny: Transcriber) -> None:
    with live(server) as session:
        for language in ("de", "ja"):
            asked = {"transcription": {"language": language, "model": "other", **SHORT}, **AS_RECORDINGS}
            session.update(**{**PCM16, **asked})
            session.append(SPEECH)
            said = session.until(f"{TRANSCRIPTION}.completed")[-1]["transcript"]
            assert said == tiny.transcribe(SPEECH, RATE_HZ, language=language, **SHORT).text


def test_the_names_of_the_beta_api(server: Running) -> None:
    with live(server) as session:
        session.send(
            "transcription_session.update",
            session={"input_audio_format": "g711_ulaw", "input_audio_transcription": {"language": "fr"}},
        )
        event = json.loads(session.socket.recv(timeout=30))
        assert event["type"] == "transcription_session.updated"
        assert event["session"]["audio"]["input"]["transcription"]["language"] == "fr"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[" * 50_000, "invalid_json"),
        ("[]", "invalid_event"),
        ('{"type": 3}', "invalid_event"),
        (b"\0\1", "invalid_event"),
        ('{"type": "response.create"}', "unknown_event"),
        ('{"type": "input_audio_buffer.append"}', "invalid_base64"),
        ('{"type": "input_audio_buffer.append", "audio": "!"}', "invalid_base64"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer_commit_empty"),
        ({"session": None}, "invalid_value"),
        ({"session": {"audio": 3}}, "invalid_value"),
        ({"format": {"type": "mp3"}}, "invalid_value"),
        ({"format": None}, "invalid_value"),
        ({"format": {"type": "audio/pcm", "rate": [1]}}, "invalid_value"),
        ({"turn_detection": {"threshold": 7}}, "invalid_value"),
        ({"turn_detection": {"type": "semantic_vad", "eagerness": []}}, "invalid_value"),
        ({"turn_detection": []}, "invalid_value"),
        ({"turn_detection": False}, "invalid_value"),
        ({"noise_reduction": [None]}, "invalid_value"),
        ({"noise_reduction": {"type": "loud"}}, "invalid_value"),
        ({"transcription": False}, "invalid_value"),
        ({"transcription": 0}, "invalid_value"),
        ({"transcription": {"language": "xx"}}, "unsupported_value"),
        ({"transcription": {"language": "auto"}}, "unsupported_value"),
        ({"transcription": {"language": [1]}}, "invalid_value"),
        ({"transcription": {"keywords": [1]}}, "invalid_value"),
        ({"transcription": {"keywords": "a"}}, "invalid_value"),
        ({"transcription": {"prompt": 3}}, "invalid_value"),
        ({"transcription": {"num_beams": 2, "decode": "greedy"}}, "unsupported_value"),
        ({"transcription": {"lanugage": "de"}}, "unknown_parameter"),
        ({"transcription": {"num_beams": {}}}, "invalid_value"),
        ({"transcription": {"language": "de", "languages": ["fr"]}}, "invalid_value"),
        ({"transcription": {"model": "no"}}, "model_not_found"),
        ({"transcription": {"model": [1]}}, "invalid_value"),
        ({"voice": 1}, "unknown_parameter"),
        ({"session": {"include": [3]}}, "invalid_value"),
    ],
)  # fmt: skip
def test_a_bad_message_is_an_error_event_and_the_session_goes_on(
    server: Running, message: str | bytes | dict[str, Any], code: str
) -> None:
    """A message as it is sent, or fields of an update."""
    with live(server) as session:
        if isinstance(message, dict):
            session.send("session.update", session=message.get("session", {"audio": {"input": message}}))
        else:
            session.socket.send(message)
        error = session.until("error")[-1]["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", code)
        assert session.update(**PCM16)["audio"]["input"]["format"]["rate"] == RATE_HZ


def test_an_error_names_the_event_of_the_client(server: Running) -> None:
    with live(server) as session:
        session.send("input_audio_buffer.commit", event_id="mine")
        assert session.until("error")[-1]["error"]["event_id"] == "mine"


def test_sessions_are_limited_and_end_with_their_socket(tiny: Transcriber) -> None:
    with running(Settings(max_live=1), lambda name: tiny) as server:
        with live(server), live(server) as second:
            assert second.until("error")[-1]["error"]["code"] == "server_busy"
            with pytest.raises(ConnectionClosed):
                second.next()
        for _ in range(100):
            if not server.jobs.sessions:
                break
            asyncio.run(asyncio.sleep(0.05))
        assert server.jobs.sessions == 0
        with live(server) as third:
            assert third.update(**PCM16)


def test_an_unknown_model_of_the_address_is_told(server: Running) -> None:
    with live(server, "model=nothing") as session:
        assert session.until("error")[-1]["error"]["code"] == "model_not_found"


def test_keys_are_headers_or_subprotocols(tiny: Transcriber) -> None:
    with running(Settings(api_key=("right",)), lambda name: tiny) as server:
        with live(server, additional_headers={"authorization": "Bearer right"}) as session:
            assert session.created
        with live(server, subprotocols=["realtime", "openai-insecure-api-key.right"]) as session:
            assert session.socket.subprotocol == "realtime"
        for given in ({}, {"subprotocols": ["realtime", "openai-insecure-api-key.wrong"]}):
            with pytest.raises(InvalidStatus) as refused, live(server, **given):
                pass
            assert refused.value.response.status_code == 401


def test_the_client_of_openai(server: Running, tiny: Transcriber) -> None:
    async def transcribed() -> str:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="any")
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            await connection.session.update(
                session={
                    "type": "transcription",
                    "audio": {"input": {"turn_detection": None, "transcription": {**SHORT}}},  # type: ignore[typeddict-item]
                }
            )
            data = (soxr.resample(SPEECH, RATE_HZ, 24_000) * 32_767).astype("<i2").tobytes()
            await connection.input_audio_buffer.append(audio=base64.b64encode(data).decode())
            await connection.input_audio_buffer.commit()
            async for event in connection:
                if event.type == f"{TRANSCRIPTION}.completed":
                    return event.transcript
        raise AssertionError("the session ends after the transcript")

    assert asyncio.run(asyncio.wait_for(transcribed(), 30))
