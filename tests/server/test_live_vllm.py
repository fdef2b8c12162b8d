"""vLLM's realtime API, as its clients speak it."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import ClientConnection, connect

from lithophone.pipeline.transcriber import Transcriber
from tests.server.running import RATE_HZ, Running
from tests.sounds import silence, tone

SPEECH = np.concatenate([silence(0.6), tone(0.5, frequency_hz=320), silence(1.2)])
SHORT: dict[str, Any] = {"max_new_tokens": 6, "decode": "greedy"}
TWICE = np.concatenate([SPEECH, silence(1.0), SPEECH])


@contextlib.contextmanager
def live(server: Running) -> Iterator[ClientConnection]:
    with connect(f"{server.url.replace('http', 'ws')}/v1/realtime") as socket:
        created = json.loads(socket.recv(timeout=30))
        assert created["type"] == "session.created"
        assert {"id", "created"} <= created.keys()
        yield socket


def send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": kind, **fields}))


def speak(socket: ClientConnection, samples: np.ndarray, block: int = 1_600) -> None:
    data = (samples * 32_767).astype("<i2")
    for first in range(0, len(data), block):
        audio = base64.b64encode(data[first : first + block]).decode()
        send(socket, "input_audio_buffer.append", audio=audio)


def until(socket: ClientConnection, kind: str) -> list[dict[str, Any]]:
    events = [json.loads(socket.recv(timeout=30))]
    while events[-1]["type"] != kind:
        events.append(json.loads(socket.recv(timeout=30)))
    return events


@pytest.mark.parametrize("begins", [True, False])
def test_a_recording_as_the_clients_of_vllm_send_it(server: Running, tiny: Transcriber, begins: bool) -> None:
    expected = tiny.transcribe(TWICE, RATE_HZ, language="ja", **SHORT).text
    with live(server) as socket:
        send(socket, "session.update", model="tiny", language="ja", temperature_of_the_room=21, **SHORT)
        if begins:
            send(socket, "input_audio_buffer.commit")
        speak(socket, TWICE)
        send(socket, "input_audio_buffer.commit", final=True)
        *deltas, done = until(socket, "transcription.done")
    assert {event["type"] for event in deltas} == {"transcription.delta"}
    assert "".join(event["delta"] for event in deltas) == done["text"] == expected
    assert len(deltas) == 2
    usage = done["usage"]
    assert usage["completion_tokens"] >= len(tiny.checkpoint.tokenizer.encode(expected)) - 1 > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_connection_takes_one_utterance_after_the_other(server: Running, tiny: Transcriber) -> None:
    with live(server) as socket:
        send(socket, "session.update", model="whisper-1", **SHORT)
        texts = []
        for samples in (SPEECH, silence(0.5), SPEECH):
            send(socket, "input_audio_buffer.commit", final=False)
            speak(socket, samples)
            send(socket, "input_audio_buffer.commit", final=True)
            texts.append(until(socket, "transcription.done")[-1]["text"])
    said = tiny.transcribe(SPEECH, RATE_HZ, **SHORT).text
    assert texts == [said, "", said] != ["", "", ""]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "session.update", "model": "nothing"}, "model_not_found"),
        ({"type": "session.update", "model": 3}, "invalid_event"),
        ({"type": "session.update", "model": "tiny", "language": "xx"}, "invalid_event"),
        ({"type": "input_audio_buffer.append", "audio": "!"}, "invalid_audio"),
        ({"type": "response.create"}, "unknown_event"),
        ("{", "invalid_json"),
    ],
)
def test_errors_are_texts_with_a_code(server: Running, event: Any, code: str) -> None:
    with live(server) as socket:
        send(socket, "session.update", model="tiny")
        socket.send(event if isinstance(event, str) else json.dumps(event))
        error = until(socket, "error")[-1]
        assert (error["code"], isinstance(error["error"], str)) == (code, True)
        send(socket, "input_audio_buffer.commit", final=True)
        assert until(socket, "transcription.done")[-1]["text"] == ""
