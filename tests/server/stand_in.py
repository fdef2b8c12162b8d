"""A server with the routes that the page uses, and answers that tests choose."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, Response, StreamingResponse

from lithophone.server import pages

SENTENCES = (
    ("1", "Good morning, and welcome to the stone room."),
    ("2", "Thank you. Is this <one> Granite & marble?"),
    ("1", "It is; the tone depends on the length of the bar."),
    ("2", "日本語も話せます。"),
)
WORD_S = 0.25


def reply() -> dict[str, Any]:
    """A verbose_json of two speakers with confidences of all levels."""
    segments: list[dict[str, Any]] = []
    words: list[dict[str, Any]] = []
    at = 0.0
    for number, (speaker, text) in enumerate(SENTENCES):
        start = at
        for word in text.split() if " " in text else list(text.rstrip("。")):
            probability = (0.99, 0.97, 0.84, 0.95, 0.62, 0.98, 0.31)[len(words) % 7]
            times = {"start": round(at, 3), "end": round(at + WORD_S - 0.03, 3)}
            words.append({"word": word.strip(".,;?<>"), **times, "probability": probability, "speaker": speaker})
            at += WORD_S
        segments.append({"id": number, "start": start, "end": at, "text": text, "speaker": speaker})
        at += 0.2
    words = [word for word in words if word["word"]]
    text = " ".join(text for _, text in SENTENCES)
    return {
        "task": "transcribe",
        "language": "english",
        "duration": 8.0,
        "text": text,
        "segments": segments,
        "words": words,
    }


@dataclass
class StandIn:
    """What the server answers, and what it was asked."""

    key: str = ""
    errors: list[Response] = field(default_factory=list)
    """Answers of the next transcriptions instead of a transcript."""
    reply: dict[str, Any] = field(default_factory=reply)
    pause_s: float = 0.02
    has_times_in_stream: bool = True
    fails_in_stream: bool = False
    closes_after_bytes: int = 1 << 30
    forms: list[tuple[str, dict[str, list[str]]]] = field(default_factory=list)
    session: dict[str, Any] = field(default_factory=dict)
    audio: list[bytes] = field(default_factory=list)
    address: str = ""

    def samples(self) -> np.ndarray[Any, np.dtype[np.int16]]:
        return np.frombuffer(b"".join(self.audio), np.int16)


def application(stand_in: StandIn) -> FastAPI:
    app = FastAPI()
    app.include_router(pages.router)

    def refused(request: Request) -> Response | None:
        if stand_in.key and request.headers.get("authorization") != f"Bearer {stand_in.key}":
            return problem(401, "an API key is needed: send the header Authorization: Bearer KEY", "missing_api_key")
        return None

    @app.get("/v1/models")
    def models(request: Request) -> Response:
        names = ("lithophone-mini", "granite-speech-4.1-2b")
        return refused(request) or JSONResponse({"object": "list", "data": [{"id": name} for name in names]})

    @app.post("/v1/audio/{route}")
    async def transcribe(route: str, request: Request) -> Response:
        async with request.form() as form:
            fields = {name: [value for value in form.getlist(name) if isinstance(value, str)] for name in form}
        stand_in.forms.append((route, fields))
        if (answer := refused(request)) is not None:
            return answer
        if stand_in.errors:
            return stand_in.errors.pop(0)
        await asyncio.sleep(stand_in.pause_s)
        if fields.get("stream") == ["true"]:
            return StreamingResponse(events(stand_in), media_type="text/event-stream")
        return JSONResponse(stand_in.reply)

    @app.websocket("/v1/realtime")
    async def realtime(socket: WebSocket) -> None:
        offered = socket.headers.get("sec-websocket-protocol", "").replace(" ", "").split(",")
        if stand_in.key and f"openai-insecure-api-key.{stand_in.key}" not in offered:
            await socket.close(1008)
            return
        await socket.accept(subprotocol="realtime")
        with suppress(WebSocketDisconnect):
            await captions(socket, stand_in)

    return app


def problem(status: int, message: str, code: str, headers: dict[str, str] | None = None, param: str = "") -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": param or None, "code": code}
    return JSONResponse({"error": error}, status, headers)


async def events(stand_in: StandIn) -> AsyncIterator[str]:
    for segment in stand_in.reply["segments"]:
        await asyncio.sleep(stand_in.pause_s)
        yield event({"type": "transcript.text.delta", "delta": segment["text"] + " "})
        if stand_in.fails_in_stream:
            yield (
                event({"error": {"message": "the model failed", "type": "server_error", "code": None}})
                + "data: [DONE]\n\n"
            )
            return
        if stand_in.has_times_in_stream:
            yield event({**segment, "type": "transcript.text.segment"})
    done = stand_in.reply if stand_in.has_times_in_stream else {"text": stand_in.reply["text"]}
    yield event({"type": "transcript.text.done", **done}) + "data: [DONE]\n\n"


def event(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values)}\n\n"


SPOKEN = ["the", "bars", "of", "a", "lithophone", "are", "made", "of", "stone"]
BYTES_PER_WORD = 2 * 16000 // 5


async def captions(socket: WebSocket, stand_in: StandIn) -> None:
    """A word for every 200 ms of audio, in items of nine words; the completed text has a capital and a full stop."""
    said: list[str] = []

    async def send(kind: str, **values: Any) -> None:
        await socket.send_json({"type": kind, "event_id": "event_1", **values})

    async def complete(item: str) -> None:
        await send("input_audio_buffer.committed", item_id=item)
        name = "conversation.item.input_audio_transcription.completed"
        await send(name, item_id=item, content_index=0, transcript=" ".join(said).capitalize() + ".", usage={})

    await send("session.created", session={"id": "sess_1", "type": "transcription"})
    item, spoken_bytes = 0, 0
    while True:
        message = await socket.receive_json()
        at_ms = sum(map(len, stand_in.audio)) // 32
        if message["type"] == "session.update":
            stand_in.session = message["session"]
            await send("session.updated", session=stand_in.session)
        elif message["type"] == "input_audio_buffer.append":
            data = base64.b64decode(message["audio"])
            stand_in.audio.append(data)
            if at_ms * 32 > stand_in.closes_after_bytes:
                await socket.close(1011, "the server stops")
                return
            spoken_bytes += len(data)
            while spoken_bytes >= BYTES_PER_WORD:
                spoken_bytes -= BYTES_PER_WORD
                if not said:
                    await send("input_audio_buffer.speech_started", item_id=f"item_{item}", audio_start_ms=at_ms)
                said.append(SPOKEN[len(said)])
                delta = {
                    "item_id": f"item_{item}",
                    "content_index": 0,
                    "delta": f" {said[-1]}" if said[1:] else said[0],
                }
                await send("conversation.item.input_audio_transcription.delta", **delta)
                if len(said) == len(SPOKEN):
                    await send("input_audio_buffer.speech_stopped", item_id=f"item_{item}", audio_end_ms=at_ms)
                    await complete(f"item_{item}")
                    item, said[:] = item + 1, []
        elif message["type"] == "input_audio_buffer.commit" and said:
            await complete(f"item_{item}")
            item, said[:] = item + 1, []
        elif message["type"] == "input_audio_buffer.commit":
            error = {"type": "invalid_request_error", "code": "input_audio_buffer_commit_empty", "message": "too small"}
            await send("error", error=error)


@contextmanager
def served(stand_in: StandIn) -> Iterator[StandIn]:
    """The server on a free port of loopback, in a thread."""
    config = uvicorn.Config(
        application(stand_in),
        port=0,
        log_level="warning",
        ws="websockets-sansio",
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        threading.Event().wait(0.01)
    stand_in.address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    try:
        yield stand_in
    finally:
        server.should_exit = True
        thread.join(10)
