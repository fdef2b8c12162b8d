"""Transcription of requests: a bounded number at once, each in a thread, all in the batches of one engine.

request -> waits for a place (429 beyond `max_waiting`) -> decoder process -> engine -> events, as they come
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from lithophone.errors import CancelledError, LithophoneError
from lithophone.pipeline.assembly import Event, RecordingDone
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.sources import AudioSource
from lithophone.server.errors import ApiError, api_error
from lithophone.server.guardian import Guardian
from lithophone.server.media import MediaDecoder, MediaLimits, MediaStream
from lithophone.server.metrics import Metrics
from lithophone.server.models import Models
from lithophone.server.raw import RawFormat, RawStream
from lithophone.server.settings import Settings
from lithophone.transcript import LanguageGuess, Transcript

T = TypeVar("T")

MEAN_OF = 20
"""Latest requests whose mean time predicts `Retry-After`."""


@dataclass(frozen=True)
class Job:
    """What a route asks for."""

    data: bytes | memoryview = field(repr=False)
    """A recording as it was sent."""
    name: str
    """Of the recording, in messages."""
    model: str
    """By `Models.name_of`."""
    options: TranscribeOptions
    channel: int | None = None
    raw: RawFormat | None = None
    """Of data without a header."""
    prompt: str = ""
    """Words of the user beside the recording, for the Guardian."""

    def options_for(self, variant: str) -> TranscribeOptions:
        """Options for a model of that variant: plus models tag speakers, those of the others are found by voice."""
        if not self.options.diarize or self.options.task != "transcribe" or variant != "granite_speech_plus":
            return self.options
        return replace(
            self.options, task="speakers", diarize=False, speakers=None, min_speakers=None, max_speakers=None
        )


@dataclass
class Jobs:
    """Places for requests; closed when the server drains."""

    settings: Settings
    models: Models
    metrics: Metrics
    media: MediaDecoder = field(init=False)
    guardian: Guardian | None = field(init=False)
    running: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)
    sessions: int = field(default=0, init=False)
    uploads: int = field(default=0, init=False)
    """Requests with a body that are under way."""
    held: int = field(default=0, init=False)
    """Bytes of their bodies."""
    closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.media = MediaDecoder(MediaLimits(settings.parse_cpu_s, settings.parse_memory_mb, settings.max_duration_s))
        self.guardian = Guardian(settings) if settings.guardian_url else None
        self._threads = ThreadPoolExecutor(settings.max_running, thread_name_prefix="transcribe")
        self._live_threads = ThreadPoolExecutor(settings.max_live, thread_name_prefix="live")
        self._places = asyncio.Semaphore(settings.max_running)
        self._seconds: list[float] = []

    async def transcript(self, job: Job) -> Transcript:
        """The transcript of a recording; ApiError where there is none."""
        result = (await self.done(job)).result
        assert isinstance(result, Transcript), "errors are raised"
        return result

    async def done(self, job: Job) -> RecordingDone:
        """The last event of a recording, which has its transcript; ApiError where there is none."""
        async with contextlib.aclosing(self.events(job)) as events:
            async for event in events:
                if isinstance(event, RecordingDone):
                    return event
        raise AssertionError("events end with that of the recording")

    def events(self, job: Job) -> AsyncGenerator[Event, None]:
        """Events of a recording, as they come, judged by the Guardian if there is one. Closing them cancels the work.

        Raises ApiError: 429 where too many wait, 503 while the server drains, 504 after `request_timeout_s`.
        """
        events = self._unjudged(job)
        return events if self.guardian is None else self.guardian.judged(events, job.prompt)

    async def _unjudged(self, job: Job) -> AsyncGenerator[Event, None]:
        task = _Task(self, job, asyncio.get_running_loop())
        await self._start(task.run)
        try:
            async for event in task.events(time.monotonic() + self.settings.request_timeout_s):
                yield event
        finally:
            task.cancelled.set()

    async def language(self, job: Job) -> LanguageGuess:
        """The language of a recording's speech. Raises ApiError."""
        cancelled, limit_s = threading.Event(), self.settings.request_timeout_s
        future = await self._start(lambda: self._guess(job, cancelled))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), limit_s)
        except asyncio.TimeoutError:
            raise _too_slow(limit_s) from None
        except LithophoneError as error:
            raise api_error(error) from error
        finally:
            cancelled.set()

    def _guess(self, job: Job, cancelled: threading.Event) -> LanguageGuess:
        """In a thread."""
        with self.models.using(job.model) as transcriber, contextlib.closing(self.opened(job)) as stream:
            return transcriber.detect_language(AudioSource(stream), cancelled=cancelled)

    async def live(self, work: Callable[[], None]) -> None:
        """A live session in a thread of its own, which ends by itself. Raises ApiError beyond `max_live`."""
        self.check_open()
        if self.sessions >= self.settings.max_live:
            self.metrics.refused.inc()
            raise ApiError(429, f"{self.sessions} live sessions run, as many as this server allows", code="server_busy")
        self.sessions += 1
        try:
            await asyncio.get_running_loop().run_in_executor(self._live_threads, work)
        finally:
            self.sessions -= 1

    def opened(self, job: Job) -> MediaStream | RawStream:
        """Blocks of the job's recording. Raises AudioError or ApiError."""
        if job.raw is not None:
            return RawStream(job.data, job.raw, job.name, self.settings.max_duration_s)
        return self.media.decode(job.data, job.name, job.channel)

    def measured(self) -> bytes:
        """In the text format of Prometheus."""
        self.metrics.running.set(self.running)
        self.metrics.waiting.set(self.waiting)
        self.metrics.held.set(self.held)
        return self.metrics.text()

    async def drain(self) -> None:
        """Accept nothing more, and wait up to `drain_s` for what was accepted."""
        self.closed = True
        ends = time.monotonic() + self.settings.drain_s
        while (self.running or self.waiting) and time.monotonic() < ends:
            await asyncio.sleep(0.05)

    def close(self) -> None:
        for threads in (self._threads, self._live_threads):
            threads.shutdown(wait=False, cancel_futures=True)
        self.media.close()

    async def _start(self, work: Callable[[], T]) -> Future[T]:
        """Run the work in a thread once there is a place, which is free again when the work ends."""
        self.check_open()
        if self._places.locked() and self.waiting >= self.settings.max_waiting:
            raise self.busy(f"{self.running} recordings are transcribed and {self.waiting} wait")
        self.waiting += 1
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        loop, began = asyncio.get_running_loop(), time.monotonic()
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._end, began))
        return future

    def check_open(self) -> None:
        """Raises ApiError 503 while the server drains."""
        if self.closed:
            raise ApiError(503, "the server is shutting down", code="shutting_down", retry_after_s=5)

    def busy(self, why: str) -> ApiError:
        """The answer to a request that finds no place, which is counted."""
        self.metrics.refused.inc()
        return ApiError(
            429, f"{why}: try again later", code="server_busy", kind="rate_limit_error", retry_after_s=self._wait_s()
        )

    def _end(self, began: float) -> None:
        self.running -= 1
        self._places.release()
        self._seconds = [*self._seconds[1 - MEAN_OF :], time.monotonic() - began]

    def _wait_s(self) -> float:
        """Until a place is free: the mean time of late requests, by how many wait for a place each."""
        mean = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
        return mean * (1 + self.waiting / self.settings.max_running)


def _too_slow(limit_s: float) -> ApiError:
    return ApiError(504, f"the recording takes longer than {limit_s:g} s", code="timeout")


class _Task:
    """One request in its thread; its events arrive in the loop."""

    def __init__(self, jobs: Jobs, job: Job, loop: asyncio.AbstractEventLoop) -> None:
        self.jobs, self.job, self._loop = jobs, job, loop
        self.cancelled = threading.Event()
        self._queue: asyncio.Queue[Event | Exception | None] = asyncio.Queue()

    async def events(self, deadline: float) -> AsyncIterator[Event]:
        while True:
            try:
                event = await asyncio.wait_for(self._queue.get(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                raise _too_slow(self.jobs.settings.request_timeout_s) from None
            if event is None:
                return
            if isinstance(event, Exception):
                raise event
            yield event

    def run(self) -> None:
        """In the thread."""
        try:
            for event in self._transcribed():
                self._put(event)
            self._put(None)
        except CancelledError:
            self.jobs.metrics.cancelled.inc()
        except LithophoneError as error:
            self._put(api_error(error))
        except Exception as error:
            self._put(error)

    def _transcribed(self) -> Iterator[Event]:
        job, metrics = self.job, self.jobs.metrics
        began = time.monotonic()
        with self.jobs.models.using(job.model) as transcriber:
            stream = self.jobs.opened(job)
            source = AudioSource(stream)
            with contextlib.closing(stream):
                options = job.options_for(transcriber.checkpoint.config.variant)
                for event in transcriber.events([source], options=options, cancelled=self.cancelled):
                    if isinstance(event, RecordingDone) and isinstance(event.result, LithophoneError):
                        raise event.result
                    yield event
        metrics.transcribed(job.model, stream.read_s, time.monotonic() - began)

    def _put(self, event: Event | Exception | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, event)
