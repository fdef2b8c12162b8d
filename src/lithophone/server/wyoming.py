"""The Wyoming protocol over TCP, as Home Assistant speaks it: an utterance in, its transcript out.

describe -> info; transcribe, audio-start, audio-chunk, ..., audio-stop -> transcript-start, transcript-chunk, ...,
transcript, transcript-stop. An error event ends the connection. The protocol has no keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import lithophone
from lithophone.errors import LithophoneError, OptionError
from lithophone.languages import PLUS_SOURCE_LANGUAGES, SOURCE_LANGUAGES, UNSPACED_LANGUAGES, base_language
from lithophone.pipeline.assembly import RecordingDone, WindowDone
from lithophone.pipeline.options import TranscribeOptions
from lithophone.server.errors import ApiError, api_error, internal_error
from lithophone.server.jobs import Job, Jobs
from lithophone.server.media import check_length
from lithophone.server.models import Models
from lithophone.server.options import request_options
from lithophone.server.raw import RawFormat
from lithophone.server.settings import MEGABYTE
from lithophone.server.wyoming_events import LINE_SIZE, WRITE_S, WyomingEvent, bad_event, read_event, write_event
from lithophone.transcript import Transcript

IDLE_S = 300.0
"""Longest time for an event to come."""

MAX_CONNECTIONS = 64
NAME = "the utterance"

logger = logging.getLogger(__name__)


class WyomingServer:
    """A TCP server beside the HTTP server, with the same models, places and limits."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[Any], _Connection] = {}

    @property
    def port(self) -> int:
        assert self._server is not None, "started"
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> WyomingServer:
        """Listen. Raises OptionError where the address cannot be listened on."""
        settings = self.jobs.settings
        try:
            self._server = await asyncio.start_server(
                self._serve, settings.host, settings.wyoming_port, limit=LINE_SIZE
            )
        except OSError as error:
            raise OptionError(
                f"wyoming_port {settings.wyoming_port} on {settings.host} cannot be listened on ({error}): give another"
            ) from error
        logger.info("Wyoming on %s:%d", settings.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Finish the utterances that were accepted, and close all connections."""
        assert self._server is not None, "started"
        self._server.close()
        await self.jobs.drain()
        busy = [task for task, connection in self._connections.items() if connection.busy]
        if busy:
            await asyncio.wait(busy, timeout=WRITE_S)
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._connections) >= MAX_CONNECTIONS:
                error = ApiError(429, f"{MAX_CONNECTIONS} connections are open", code="server_busy")
                await _write_error(writer, error)
                return
            connection = self._connections[task] = _Connection(self.jobs, reader, writer)
            await connection.serve()
        finally:
            self._connections.pop(task, None)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@dataclass
class _Utterance:
    """What a client has said so far: how to transcribe, and audio."""

    model: str
    options: TranscribeOptions = field(default_factory=TranscribeOptions)
    form: RawFormat | None = None
    audio: bytearray = field(default_factory=bytearray)


class _Connection:
    def __init__(self, jobs: Jobs, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.jobs, self.reader, self.writer = jobs, reader, writer
        self._ahead: asyncio.Task[WyomingEvent | None] | None = None
        """The event that is waited for; read during a transcription to notice a closed connection."""
        self._utterance = self._fresh()
        self.busy = False
        """While an utterance is transcribed."""

    async def serve(self) -> None:
        """Answer events until the client closes the connection, sends nothing for `IDLE_S`, or there is an error."""
        try:
            while not self.jobs.closed and (event := await asyncio.wait_for(self._next(), IDLE_S)) is not None:
                self._ahead = None
                await self._answer(event)
        except (OSError, asyncio.TimeoutError, asyncio.CancelledError):  # cancelled at the end of the server
            pass
        except LithophoneError as error:
            await _write_error(self.writer, api_error(error))
        except ApiError as error:
            await _write_error(self.writer, error)
        except Exception:
            logger.exception("an utterance failed")
            await _write_error(self.writer, internal_error())
        finally:
            if self._ahead is not None:
                self._ahead.cancel()

    def _next(self) -> asyncio.Task[WyomingEvent | None]:
        if self._ahead is None:
            self._ahead = asyncio.ensure_future(read_event(self.reader))
        return self._ahead

    async def _answer(self, event: WyomingEvent) -> None:
        """Events of other services are left out, as the protocol asks."""
        data = event.data
        if event.type == "describe":
            await self._write("info", await asyncio.to_thread(info, self.jobs.models))
        elif event.type == "ping":
            await self._write("pong", {"text": data["text"]} if isinstance(data.get("text"), str) else {})
        elif event.type == "transcribe":
            self._utterance = self._asked(data)
        elif event.type == "audio-start":
            self._utterance.form = _form(data)
            self._utterance.audio.clear()
        elif event.type == "audio-chunk":
            self._add(event)
        elif event.type == "audio-stop":
            utterance, self._utterance = self._utterance, self._fresh()
            await self._unless_gone(utterance)

    def _fresh(self) -> _Utterance:
        return _Utterance(self.jobs.models.names[0])

    def _asked(self, data: dict[str, Any]) -> _Utterance:
        """Raises ApiError or OptionError."""
        name, language = (_text(data, key) for key in ("name", "language"))
        words = (*_texts(data, "transcript_names"), *_texts(data, "transcript_terms"))
        model = self.jobs.models.name_of(name)
        fields = {"language": [language]} if language else {}
        return _Utterance(model, request_options(fields, keywords=words))

    def _add(self, event: WyomingEvent) -> None:
        utterance, settings = self._utterance, self.jobs.settings
        form = _form(event.data, utterance.form)
        if utterance.form is not None and form != utterance.form:
            raise bad_event("rate, width or channels change within an utterance")
        utterance.form = form
        size = len(utterance.audio) + len(event.payload)
        check_length(NAME, form.seconds(size), settings.max_duration_s)
        if size > settings.max_upload_mb * MEGABYTE:
            raise ApiError(413, f"{NAME} is larger than {settings.max_upload_mb:g} MB", code="body_too_large")
        utterance.audio += event.payload

    async def _unless_gone(self, utterance: _Utterance) -> None:
        """Transcribe; cancelled where the client closes the connection meanwhile."""
        work = asyncio.ensure_future(self._transcribe(utterance))
        self.busy = True
        try:
            await asyncio.wait((work, self._next()), return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and (self._next().exception() or self._next().result() is None):
                return
            await work
        finally:
            self.busy = False
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _transcribe(self, utterance: _Utterance) -> None:
        began, status = time.perf_counter(), 200
        try:
            await self._write_transcript(utterance)
        except ApiError as error:
            status = error.status
            raise
        finally:
            self.jobs.metrics.requests.labels("wyoming", status).inc()
            self.jobs.metrics.latency.labels("wyoming").observe(time.perf_counter() - began)

    async def _write_transcript(self, utterance: _Utterance) -> None:
        if utterance.form is None or len(utterance.audio) < utterance.form.frame_size:
            await self._write("transcript", {"text": "", **_spoken(utterance.options.text_language)})
            return
        options, words = utterance.options, "\n".join(utterance.options.keywords)
        job = Job(memoryview(utterance.audio), NAME, utterance.model, options, raw=utterance.form, prompt=words)
        separator = None
        async with contextlib.aclosing(self.jobs.events(job)) as events:
            async for event in events:
                language = event.language if isinstance(event, WindowDone) else _language_of(event)
                if separator is None:
                    await self._write("transcript-start", _spoken(language))
                    separator = ""
                if isinstance(event, WindowDone):
                    for text in (segment.text for segment in event.segments if segment.text):
                        await self._write("transcript-chunk", {"text": separator + text})
                        separator = "" if base_language(language) in UNSPACED_LANGUAGES else " "
                elif isinstance(event, RecordingDone) and isinstance(event.result, Transcript):
                    await self._write("transcript", {"text": event.result.text, **_spoken(language)})
                    await self._write("transcript-stop", {})

    async def _write(self, kind: str, data: dict[str, Any]) -> None:
        await write_event(self.writer, kind, data)


def _spoken(language: str | None) -> dict[str, str]:
    return {"language": language} if language else {}


def _language_of(done: RecordingDone) -> str | None:
    return done.result.language if isinstance(done.result, Transcript) else None


async def _write_error(writer: asyncio.StreamWriter, error: ApiError) -> None:
    with contextlib.suppress(OSError, asyncio.TimeoutError):
        await write_event(writer, "error", {"text": error.message, "code": error.code or "error"})


def info(models: Models) -> dict[str, Any]:
    """The event `info`: one program with the served models, the default first."""
    return {
        "asr": [
            {
                **_artifact("lithophone", "Speech recognition with the Granite Speech models"),
                "models": [
                    {**_artifact(name, name), "languages": list(_languages(models, name))} for name in models.names
                ],
                "supports_transcript_streaming": True,
                "requires_external_vad": True,
                "prefers_auto_gain_enabled": False,
                "prefers_noise_reduction_enabled": False,
            }
        ],
        **{kind: [] for kind in ("tts", "handle", "intent", "wake", "mic", "snd")},
    }


def _artifact(name: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "version": lithophone.__version__,
        "attribution": {"name": "lithophone", "url": "https://huggingface.co/ibm-granite"},
        "installed": True,
    }


def _languages(models: Models, name: str) -> Sequence[str]:
    """Of a model; those of the base models while it is not loaded."""
    if name not in models.loaded:
        return SOURCE_LANGUAGES
    with models.using(name) as transcriber:
        base = transcriber.checkpoint.config.model_type == "granite_speech"
    return SOURCE_LANGUAGES if base else PLUS_SOURCE_LANGUAGES


def _form(data: dict[str, Any], default: RawFormat | None = None) -> RawFormat:
    """Rate, width and channels of an event. Raises ApiError or AudioError."""
    values: dict[str, int] = {}
    for name, ours in _FORM.items():
        value = data.get(name, getattr(default, ours, None))
        if not isinstance(value, int) or isinstance(value, bool):
            raise bad_event(f"{name} is {value!r:.40}: it must be a whole number")
        values[ours] = value
    return RawFormat(**values)


_FORM = {"rate": "rate_hz", "width": "width", "channels": "channels"}
"""Names of the protocol -> ours."""


def _text(data: dict[str, Any], name: str) -> str | None:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_event(f"{name} is {value!r:.40}: it must be a text")
    return value or None


def _texts(data: dict[str, Any], name: str) -> list[str]:
    value = data.get(name) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise bad_event(f"{name} is {value!r:.40}: it must be a list of texts")
    return value
