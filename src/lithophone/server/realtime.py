"""Live transcription over a WebSocket, in the events of OpenAI's realtime API.

Source: types of the `openai` package 3.57, `types/realtime`. Deltas are append-only text of the character head; the
text of the language model follows in `completed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from lithophone.errors import LithophoneError
from lithophone.pipeline.captions import (
    CaptionEvent,
    Committed,
    Final,
    Partial,
    SpeechStarted,
    SpeechStopped,
)
from lithophone.server.errors import ApiError, api_error, internal_error
from lithophone.server.forms import decoded_base64
from lithophone.server.guardian import Verdict
from lithophone.server.jobs import Jobs
from lithophone.server.session import Session, SessionConfig

router = APIRouter()

PATHS = ("/v1/realtime", "/openai/v1/realtime", "/realtime")
IDLE_S = 0.1
"""Longest wait of a session's thread for the next message."""

MAX_QUEUED = 64
"""Messages that wait for the model; then the socket is not read, and the client has to wait."""

TRANSCRIPTION = "conversation.item.input_audio_transcription"


async def realtime(socket: WebSocket) -> None:
    """One session. Bad messages have `error` events, and the socket stays open."""
    jobs: Jobs = socket.app.state.jobs
    try:
        socket.app.state.keys.check_socket(socket.scope)
    except ApiError as error:
        await socket.send_denial_response(error.response())
        return
    await socket.accept(subprotocol="realtime" if "realtime" in socket.scope["subprotocols"] else None)
    await Connection(socket, jobs).run()


for path in PATHS:
    router.add_api_websocket_route(path, realtime)


class Connection:
    """A socket, its session, and the thread that transcribes."""

    def __init__(self, socket: WebSocket, jobs: Jobs) -> None:
        self.socket, self.jobs = socket, jobs
        self.config = SessionConfig.new(socket.query_params.get("model"))
        self._loop = asyncio.get_running_loop()
        self._out: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._in: queue.Queue[_Message] = queue.Queue(MAX_QUEUED)
        self._ended = threading.Event()
        self._ids = itertools.count()

    async def run(self) -> None:
        self._emit({"type": "session.created", "session": self.config.described()})
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
                text = await self.socket.receive_text()
            except (WebSocketDisconnect, RuntimeError):
                return
            except KeyError:
                self._emit_error(_invalid("a binary message was sent: events are JSON texts", "invalid_event"))
                continue
            message = self._message(text)
            if message is not None:
                await self._queued(message)

    async def _queued(self, message: _Message) -> None:
        try:
            self._in.put_nowait(message)
        except queue.Full:
            await asyncio.to_thread(self._in.put, message)

    def _message(self, text: str) -> _Message | None:
        """A message that the thread understands, or an error event."""
        try:
            event = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._emit_error(_invalid(f"the event is no JSON: {error}", "invalid_json"))
            return None
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            self._emit_error(_invalid("an event is a JSON object with a type", "invalid_event"))
            return None
        return _Message(event)

    # --- in the thread

    def _transcribe(self) -> None:
        while not self._ended.is_set():
            model = self.jobs.models.name_of(self.config.model)
            with self.jobs.models.using(model) as transcriber:
                session = Session(transcriber, self.config)
                with session:
                    if not self._serve(session, model):
                        return

    def _serve(self, session: Session, model: str) -> bool:
        """Serve until the socket is closed, or the model changes: True."""
        ids = _Items(self._emit, self._verdict if self.jobs.guardian else None, drafts=not self._blocks)
        began = time.monotonic()
        while not self._ended.is_set():
            try:
                message = self._in.get(timeout=0.0 if session.busy else IDLE_S)
            except queue.Empty:
                ids.emit(session.step())
                continue
            try:
                ids.emit(self._handled(session, message, ids))
                if session.time_s > self.jobs.settings.max_duration_s:
                    raise ApiError(413, "the session is longer than this server allows", code="session_expired")
            except LithophoneError as error:
                self._emit_error(api_error(error), message.event_id)
            except ApiError as error:
                self._emit_error(error, message.event_id)
                if error.code == "session_expired":
                    return False
            if self.jobs.models.name_of(self.config.model) != model:
                ids.emit(session.flush())
                return True
        self.jobs.metrics.transcribed(model, session.time_s, time.monotonic() - began)
        return False

    def _handled(self, session: Session, message: _Message, ids: _Items) -> list[CaptionEvent]:
        event = message.event
        kind = message.kind
        if kind == "input_audio_buffer.append":
            return session.append(decoded_base64(event.get("audio"), "audio"))
        if kind == "input_audio_buffer.commit":
            return session.commit()
        if kind == "input_audio_buffer.clear":
            session.clear()
            ids.forget()
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

    @property
    def _blocks(self) -> bool:
        return self.jobs.guardian is not None and self.jobs.settings.guardian_policy == "block"

    def _verdict(self, text: str) -> str | None:
        """Of the Guardian, waited for in the thread. Raises ApiError where it blocks."""
        assert self.jobs.guardian is not None, "asked only where there is one"
        judging = self.jobs.guardian.verdict_of_transcript(text)
        return asyncio.run_coroutine_threadsafe(judging, self._loop).result()

    def _emit(self, event: dict[str, Any]) -> None:
        event = {"event_id": f"event_{uuid.uuid4().hex[:20]}", **event}
        self._loop.call_soon_threadsafe(self._out.put_nowait, event)

    def _emit_error(self, error: ApiError, event_id: str | None = None) -> None:
        body = error.body()["error"]
        self._emit({"type": "error", "error": {**body, "event_id": event_id}})


class _Message:
    """An event of the client."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.event = event
        self.kind = str(event["type"])
        given = event.get("event_id")
        self.event_id = given if isinstance(given, str) else None


class _Items:
    """Events of captions as events of the API; each item has an id, made with its first event.

    `verdict` judges final texts. Without `drafts` there are no deltas, which nobody has judged.
    """

    def __init__(
        self,
        emit: Callable[[dict[str, Any]], None],
        verdict: Callable[[str], str | None] | None,
        *,
        drafts: bool,
    ) -> None:
        self._emit, self._verdict, self._drafts = emit, verdict, drafts
        self._names: dict[int, str] = {}
        self._previous: str | None = None

    def emit(self, events: list[CaptionEvent]) -> None:
        for event in events:
            for said in self._said(event):
                self._emit(said)

    def forget(self) -> None:
        self._names = {}

    def _said(self, event: CaptionEvent) -> Iterator[dict[str, Any]]:
        item = self._names.setdefault(event.item, f"item_{uuid.uuid4().hex[:20]}")
        if isinstance(event, SpeechStarted):
            yield {
                "type": "input_audio_buffer.speech_started", "item_id": item, "audio_start_ms": _ms(event.start_s),
            }  # fmt: skip
        elif isinstance(event, SpeechStopped):
            yield {"type": "input_audio_buffer.speech_stopped", "item_id": item, "audio_end_ms": _ms(event.end_s)}
        elif isinstance(event, Committed):
            yield from self._committed(item)
        elif isinstance(event, Partial) and event.delta and self._drafts:
            yield {"type": f"{TRANSCRIPTION}.delta", "item_id": item, "content_index": 0, "delta": event.delta}
        elif isinstance(event, Final):
            yield self._completed(item, event)

    def _committed(self, item: str) -> Iterator[dict[str, Any]]:
        previous, self._previous = self._previous, item
        yield {"type": "input_audio_buffer.committed", "item_id": item, "previous_item_id": previous}
        content = [{"type": "input_audio", "transcript": None}]
        described = {"id": item, "object": "realtime.item", "type": "message", "role": "user", "content": content}
        for kind, status in (("added", "in_progress"), ("done", "completed")):
            yield {
                "type": f"conversation.item.{kind}", "previous_item_id": previous,
                "item": {**described, "status": status},
            }  # fmt: skip

    def _completed(self, item: str, final: Final) -> dict[str, Any]:
        self._names.pop(final.item, None)
        named = {"item_id": item, "content_index": 0}
        try:
            judged = {"guardian": Verdict(None, self._verdict(final.text)).to_dict()} if self._verdict else {}
        except ApiError as error:
            return {"type": f"{TRANSCRIPTION}.failed", **named, "error": error.body()["error"]}
        usage = {"type": "duration", "seconds": max(0, math.ceil(final.end_s - final.start_s))}
        return {"type": f"{TRANSCRIPTION}.completed", **named, "transcript": final.text, "usage": usage, **judged}


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _invalid(message: str, code: str) -> ApiError:
    return ApiError(400, message, code=code)
