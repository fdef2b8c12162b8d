"""Requests with a body: refused before it is read where there is no place, and bounded together.

request -> a place among `max_running` + `max_waiting` (else 429, unread) -> its bytes (429 beyond `max_held_mb`) -> app
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lithophone.server.errors import ApiError
from lithophone.server.settings import MEGABYTE, Settings

IDLE_S = 60.0
"""Longest time without a piece of a body."""

WITHOUT_RECORDING = "/v1/realtime/"
"""Routes whose bodies are small; they need no place."""


class Places(Protocol):
    """Who counts requests with a body: `uploads` of them, which hold `held` bytes."""

    settings: Settings
    uploads: int
    held: int

    def check_open(self) -> None:
        """Raises ApiError 503 while the server drains."""

    def busy(self, why: str) -> ApiError:
        """The answer to a request that finds no place, which is counted."""


class Uploads:
    """ASGI middleware over requests with a body; place and bytes are free when they are answered.

    Raises ApiError 429, 503 while the server drains, 408 for a body that does not come.
    """

    def __init__(self, app: ASGIApp, jobs: Places) -> None:
        self.app, self.jobs = app, jobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].startswith(WITHOUT_RECORDING):
            await self.app(scope, receive, send)
            return
        self._check(Headers(scope=scope).get("content-length", ""))
        upload = _Upload(self.jobs, receive)
        self.jobs.uploads += 1
        try:
            await self.app(scope, upload.receive, send)
        finally:
            self.jobs.uploads -= 1
            self.jobs.held -= upload.size

    def _check(self, stated: str) -> None:
        """Before anything is read."""
        jobs, settings = self.jobs, self.jobs.settings
        jobs.check_open()
        if jobs.uploads >= settings.max_running + settings.max_waiting:
            raise jobs.busy(f"{jobs.uploads} requests are under way")
        size = int(stated) if stated.isdecimal() else 0
        if size <= settings.max_upload_mb * MEGABYTE:  # a larger one is answered with 413
            check_held(jobs, size)


def check_held(jobs: Places, size: int) -> None:
    """Raises ApiError 429 where so many further bytes are too much; the largest allowed body alone never is."""
    most = max(jobs.settings.max_held_mb, jobs.settings.max_upload_mb) * MEGABYTE
    if jobs.held and jobs.held + size > most:
        raise jobs.busy(f"{jobs.held / MEGABYTE:.0f} MB of recordings are held")


class _Upload:
    """The body of one request, counted as it comes."""

    def __init__(self, jobs: Places, receive: Receive) -> None:
        self._jobs, self._receive = jobs, receive
        self._ends = time.monotonic() + jobs.settings.request_timeout_s
        self._is_whole = False
        self.size = 0

    async def receive(self) -> Message:
        if self._is_whole:
            return await self._receive()
        limit_s = min(IDLE_S, self._ends - time.monotonic())
        try:
            message = await asyncio.wait_for(self._receive(), limit_s)
        except asyncio.TimeoutError:
            raise ApiError(
                408, "the body did not come in time: send it again", code="upload_timeout", retry=True
            ) from None
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            check_held(self._jobs, size)
            self._jobs.held += size
            self.size += size
            self._is_whole = not message.get("more_body", False)
        return message
