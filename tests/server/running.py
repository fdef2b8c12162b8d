"""A server with a tiny random model on a real socket."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
import soundfile
import uvicorn
from fastapi import FastAPI

from lithophone.pipeline.assembly import Event
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.transcriber import Transcriber
from lithophone.server.app import create_app
from lithophone.server.jobs import Jobs
from lithophone.server.models import Models
from lithophone.server.settings import Settings
from lithophone.transcript import LanguageGuess
from tests.sounds import silence, tone

RATE_HZ = 16_000


@dataclass(frozen=True)
class Running:
    """A server that answers at `url`."""

    url: str
    app: FastAPI

    @property
    def jobs(self) -> Jobs:
        jobs: Jobs = self.app.state.jobs
        return jobs

    def post(self, path: str, **given: Any) -> httpx2.Response:
        return httpx2.post(f"{self.url}{path}", timeout=60, **given)

    def get(self, path: str, **given: Any) -> httpx2.Response:
        return httpx2.get(f"{self.url}{path}", timeout=60, **given)


@contextlib.contextmanager
def running(settings: Settings, load: Callable[[str], Transcriber]) -> Iterator[Running]:
    app = create_app(settings, Models(settings, load))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        _wait_until_ready(server)
        yield Running(f"http://127.0.0.1:{listener.getsockname()[1]}", app)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()
        assert not thread.is_alive(), "the server ends within 30 s"


PATIENCE_S = 20.0


def wait_until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, f"the condition holds within {PATIENCE_S:g} s"
        time.sleep(0.01)


def _wait_until_ready(server: uvicorn.Server) -> None:
    waited = threading.Event()
    for _ in range(300):
        if server.started:
            return
        waited.wait(0.1)
    raise AssertionError("the server starts within 30 s")


SHORT: dict[str, Any] = {"decode": "greedy", "max_new_tokens": 6}


class Short:
    """A transcriber whose replies are short, whatever is asked: words of a random model go on and on."""

    def __init__(self, transcriber: Transcriber) -> None:
        self.transcriber, self.checkpoint = transcriber, transcriber.checkpoint

    def events(self, sources: Any, *, options: TranscribeOptions, **given: Any) -> Iterator[Event]:
        return self.transcriber.events(sources, options=dataclasses.replace(options, **SHORT), **given)

    def detect_language(self, source: Any, **given: Any) -> LanguageGuess:
        return self.transcriber.detect_language(source, **given)


def wav(seconds: float = 1.0, pitch_hz: float = 300.0) -> bytes:
    """A tone, which the tiny model takes for speech."""
    file = io.BytesIO()
    samples = np.concatenate([silence(0.4), tone(seconds, frequency_hz=pitch_hz), silence(0.4)])
    soundfile.write(file, samples, RATE_HZ, format="WAV")
    return file.getvalue()
