"""Live transcription over a WebSocket, in the events of OpenAI's realtime API (`live_openai.py`) or of vLLM's
(`live_vllm.py`).

Source: types of the `openai` package 3.57, `types/realtime`. Deltas are append-only text of the character head; the
text of the language model follows in `completed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
import time
import uuid
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from lithophone.errors import LithophoneError
from lithophone.pipeline.captions import CaptionEvent
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server import live_vllm
from lithophone.server.errors import ApiError, api_error, internal_error
from lithophone.server.forms import decoded_base64
from lithophone.server.jobs import Jobs
from lithophone.server.live_openai import OpenAIEvents
from lithophone.server.live_vllm import VllmEvents
from lithophone.server.replies import separator_of
from lithophone.server.session import Session, SessionConfig

router = APIRouter()

PATHS = ("/v1/realtime", "/openai/v1/realtime", "/realtime")
IDLE_S = 0.1
"""Longest wait of a session's thread for the next message."""

MAX_QUEUED = 64
"""Messages that wait for the model; then the socket is not read, and the client has to wait."""


async def realtime(socket: WebSocket) -> None:
    """One session. Bad messages have `error` events, and the socket stays open."""
    jobs: Jobs = socket.app.state.jobs
    config = SessionConfig.new(socket.query_params.get("model"))
    try:
        session = socket.app.state.keys.check_socket(socket.scope)
        config = config.updated(session) if session else config
    except ApiError as error:
        await socket.send_denial_response(error.response())
        return
    await socket.accept(subprotocol="realtime" if "realtime" in socket.scope["subprotocols"] else None)
    await Connection(socket, jobs, config).run()


for path in PATHS:
    router.add_api_websocket_route(path, realtime)


class Connection:
    """A socket, its session, and the thread that transcribes."""

    def __init__(self, socket: WebSocket, jobs: Jobs, config: SessionConfig) -> None:
        self.socket, self.jobs, self.config = socket, jobs, config
        self._loop = asyncio.get_running_loop()
        self._out: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._in: queue.Queue[_Message | ApiError | None] = queue.Queue(MAX_QUEUED)
        """None wakes the thread at the end."""
        self._ended = threading.Event()
        self._verdict = self._judged if jobs.guardian else None
        blocks = jobs.guardian is not None and jobs.settings.guardian_policy == "block"
        self._events: OpenAIEvents | VllmEvents = OpenAIEvents(self._emit, self._verdict, drafts=not blocks)
        self._again = False
        """Whether another session follows, by the configuration of now."""

    async def run(self) -> None:
        of_vllm = {"id": self.config.id, "created": int(time.time())}
        self._emit({"type": "session.created", **of_vllm, "session": self.config.described()})
        sender = asyncio.create_task(self._send_all())
        work = asyncio.create_task(self.jobs.live(self._transcribe))
        reader = asyncio.create_task(self._read_all())
        try:
            await asyncio.wait((work, reader), return_when=asyncio.FIRST_COMPLETED)
            if work.done() and (error := work.exception()) is not None:
                self._emit_error(error if isinstance(error, ApiError) else internal_error())
        finally:
            self._ended.set()
            reader.cancel()
            with contextlib.suppress(queue.Full):  # else the thread is not idle
                self._in.put_nowait(None)
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await work
            self._loop.call_soon_threadsafe(self._out.put_nowait, None)  # behind all events
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await sender
            with contextlib.suppress(Exception):
                await self.socket.close()

    async def _send_all(self) -> None:
        while (event := await self._out.get()) is not None:
            await self.socket.send_text(json.dumps(event, ensure_ascii=False))

    async def _read_all(self) -> None:
        while True:
            try:
                message = _message(await self.socket.receive_text())
            except (WebSocketDisconnect, RuntimeError):
                return
            except KeyError:
                message = _invalid("a binary message was sent: events are JSON texts", "invalid_event")
            try:
                self._in.put_nowait(message)
            except queue.Full:
                await asyncio.to_thread(self._in.put, message)

    # --- in the thread

    def _transcribe(self) -> None:
        while not self._ended.is_set():
            model = self.jobs.models.name_of(self.config.model)
            with self.jobs.models.using(model) as transcriber, Session(transcriber, self.config) as session:
                began = time.monotonic()
                serves_on = self._serve(session, transcriber, model)
                self.jobs.metrics.transcribed(model, session.time_s, time.monotonic() - began)
            if not serves_on:
                return

    def _serve(self, session: Session, transcriber: Transcriber, model: str) -> bool:
        """Serve until the socket is closed: False; or until another session is due: True."""
        self._again = False
        while not self._ended.is_set():
            try:
                message = self._in.get(timeout=0.0 if session.busy else IDLE_S)
            except queue.Empty:
                self._events.emit(session.step())
                continue
            if message is None:
                break
            if isinstance(message, ApiError):
                self._emit_error(message)
                continue
            try:
                self._events.emit(self._handled(session, transcriber, message))
                if session.time_s > self.jobs.settings.max_duration_s:
                    raise ApiError(413, "the session is longer than this server allows", code="session_expired")
            except LithophoneError as error:
                self._emit_error(api_error(error), message.event_id)
            except ApiError as error:
                self._emit_error(error, message.event_id)
                if error.code == "session_expired":
                    return False
            if self._again or self.jobs.models.name_of(self.config.model) != model:
                self._events.emit(session.flush())
                self._events.forget()
                return True
        return False

    def _handled(self, session: Session, transcriber: Transcriber, message: _Message) -> list[CaptionEvent]:
        event = message.event
        kind = message.kind
        if live_vllm.is_update(event):
            self._begin_vllm(event, transcriber)
            return []
        if kind == "input_audio_buffer.append":
            return session.append(decoded_base64(event.get("audio"), "audio"))
        if kind == "input_audio_buffer.commit" and isinstance(self._events, VllmEvents):
            if event.get("final"):
                self._events.emit(session.flush())
                self._events.done(session.time_s)
                self._again = True
            return []
        if kind == "input_audio_buffer.commit":
            return session.commit()
        if kind == "input_audio_buffer.clear":
            session.clear()
            self._events.forget()
            self._emit({"type": "input_audio_buffer.cleared"})
            return []
        if kind in ("session.update", "transcription_session.update"):
            config = self.config.updated(event.get("session"), old_names=kind.startswith("transcription"))
            self.jobs.models.name_of(config.model)
            session.change(config)
            self.config = config
            self._emit({"type": f"{kind}d", "session": config.described()})
            return []
        raise _invalid(f"{kind!r:.100} is no event of a transcription session", "unknown_event")

    def _begin_vllm(self, event: dict[str, Any], transcriber: Transcriber) -> None:
        """The other events from here on. Raises ApiError."""
        encode = transcriber.checkpoint.tokenizer.encode
        self._events = events = VllmEvents(self._emit, self._verdict, lambda text: len(encode(text)))
        config = SessionConfig.new(None).updated({"audio": {"input": live_vllm.input_of(event)}})
        self.jobs.models.name_of(config.model)
        events.separator = separator_of(config.options().text_language)
        self.config, self._again = config, True

    def _judged(self, text: str) -> str | None:
        """The Guardian's verdict, waited for in the thread. Raises ApiError where it blocks."""
        assert self.jobs.guardian is not None, "asked only where there is one"
        judging = self.jobs.guardian.verdict_of_transcript(text)
        return asyncio.run_coroutine_threadsafe(judging, self._loop).result()

    def _emit(self, event: dict[str, Any]) -> None:
        event = {"event_id": f"event_{uuid.uuid4().hex[:20]}", **event}
        self._loop.call_soon_threadsafe(self._out.put_nowait, event)

    def _emit_error(self, error: ApiError, event_id: str | None = None) -> None:
        self._events.error(error, event_id)


class _Message:
    """An event of the client."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.event = event
        self.kind = str(event["type"])
        given = event.get("event_id")
        self.event_id = given if isinstance(given, str) else None


def _message(text: str) -> _Message | ApiError:
    """A message that the thread understands, or what is wrong with it."""
    try:
        event = json.loads(text)
    except (ValueError, RecursionError) as error:
        return _invalid(f"the event is no JSON: {error}", "invalid_json")
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        return _invalid("an event is a JSON object with a type", "invalid_event")
    return _Message(event)


def _invalid(message: str, code: str) -> ApiError:
    return ApiError(400, message, code=code)
