"""The front of a server with replicas: keys, sizes, and the one place that holds a request until it is answered.

A request whose replica ends before its reply begins is sent to another one. This is safe, since a transcription
changes nothing. Replies that are no streams are held until they are complete.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import json
import logging
import socket
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Protocol

from fastapi import Request, WebSocket
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import lithophone
from lithophone.scale.exchange import Call, Exchange, HttpExchange, SocketExchange, sent_scope
from lithophone.scale.measures import joined
from lithophone.server.auth import Keys
from lithophone.server.errors import ApiError, RequestIds
from lithophone.server.forms import read_body
from lithophone.server.metrics import CONTENT_TYPE
from lithophone.server.settings import Settings
from lithophone.server.streaming import DONE, data_line
from lithophone.server.uploads import Uploads

MAX_LOST = 3
"""Replicas that may end while they work on one request: it may be the cause."""

AGAIN_LATER_S = 5.0
"""When a client may try again that was refused."""

AGAIN_S = 0.5
"""Seconds between attempts to place a request again whose replica ended."""

READY_S = 5.0
"""Longest wait for a replica that says it is ready."""

logger = logging.getLogger(__name__)


class ReplicaDiedError(Exception):
    """A replica ended, or cannot be reached, while it worked on a request."""


class Replicas(Protocol):
    """Processes that serve the application."""

    def answer(self, call: Call) -> AsyncGenerator[Message, None]:
        """Messages of the application of one replica. Raises ReplicaDiedError."""

    async def measures(self) -> dict[str, str]:
        """Measures of every replica, in Prometheus' text format, by its name."""


class Front:
    """ASGI application. `exchanges` are requests under way, by number."""

    def __init__(self, settings: Settings, replicas: Replicas) -> None:
        self.settings, self.replicas = _together(settings), replicas
        self.keys = Keys.of(settings)
        self.uploads = self.held = 0
        self._forwarded = Uploads(self._forward, self)
        self.exchanges: dict[int, Exchange] = {}
        self.closed = False
        self._numbers = itertools.count()
        self._own: dict[str, Callable[[], Coroutine[None, None, Response]]] = {
            "/health": self._health, "/ready": self._ready, "/metrics": self._metrics,
        }  # fmt: skip
        self.registry = registry = CollectorRegistry()
        self.resent = Counter("lithophone_resent", "Requests sent again, as their replica ended.", registry=registry)
        self.refused = Counter("lithophone_refused", "Requests answered with 429.", registry=registry)
        held = Gauge("lithophone_held_bytes", "Bodies of requests in memory.", registry=registry)
        held.set_function(lambda: self.held)
        under_way = Gauge("lithophone_under_way", "Requests and live sessions of the front.", registry=registry)
        under_way.set_function(lambda: len(self.exchanges))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._live(scope, receive, send)
            return
        assert scope["type"] == "http", "the front has no lifespan"
        try:
            self.keys.check_request(scope)
            if scope["path"] in self._own and scope["method"] in ("GET", "HEAD"):
                await (await self._own[scope["path"]]())(scope, receive, send)
                return
            self.check_open()
            await self._forwarded(scope, receive, send)
        except ClientDisconnect:
            return
        except ApiError as error:
            await error.response()(scope, receive, send)

    def check_open(self) -> None:
        """Raises ApiError 503 while the server drains."""
        if self.closed:
            raise ApiError(503, "the server is shutting down", code="shutting_down", retry_after_s=AGAIN_LATER_S)

    def busy(self, why: str) -> ApiError:
        """The answer to a request that finds no place, which is counted."""
        self.refused.inc()
        return ApiError(
            429, f"{why}: try again later", code="server_busy", kind="rate_limit_error", retry_after_s=AGAIN_LATER_S
        )

    async def receive(self, number: int, position: int) -> list[Message]:
        """For replicas: what a request has for its application. A request that is over has a disconnect."""
        exchange = self.exchanges.get(number)
        if exchange is None:
            return [{"type": "http.disconnect"}]
        return await exchange.receive(position)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body, and hold it until the request is answered."""
        body = await read_body(Request(scope, receive), self.settings.max_upload_mb)
        with self._under_way(exchange := HttpExchange(body), receive) as number:
            await self._deliver(Call(number, sent_scope(scope), len(body)), exchange, send)

    async def _deliver(self, call: Call, exchange: HttpExchange, send: Send) -> None:
        """The reply of a replica, the first that finishes it."""
        reply, lost, ends = _Reply(send), 0, time.monotonic() + self.settings.request_timeout_s
        while not exchange.gone.is_set():
            try:
                async with contextlib.aclosing(self.replicas.answer(call)) as messages:
                    async for message in messages:
                        await reply.add(message)
                if lost and reply.status == 429 and time.monotonic() < ends:
                    await asyncio.sleep(AGAIN_S)  # it was accepted before
                    continue
                await reply.end()
                return
            except ReplicaDiedError as error:
                lost += 1
                logger.warning("a replica ended with request %s: %s", call.number, error)
                if reply.has_begun:
                    await reply.fail(_lost())
                    return
                if lost == MAX_LOST:
                    raise ApiError(
                        500, f"{lost} replicas ended while they worked on this request", code="replica_failed"
                    ) from error
                self.resent.inc()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A session stays with one replica, and ends with it: what the replica has heard is lost."""
        try:
            self.keys.check_socket(scope)
            self.check_open()
        except ApiError as error:
            await WebSocket(scope, receive, send).send_denial_response(error.response())
            return
        is_open = False
        with self._under_way(SocketExchange(), receive) as number:
            try:
                async with contextlib.aclosing(self.replicas.answer(Call(number, sent_scope(scope)))) as messages:
                    async for message in messages:
                        await send(message)
                        is_open = is_open or message["type"] == "websocket.accept"
            except ReplicaDiedError as error:
                logger.warning("a replica ended with live session %s: %s", number, error)
                if is_open:
                    event = {"type": "error", "event_id": f"event_{number}", **_lost().body()}
                    await send({"type": "websocket.send", "text": json.dumps(event)})
                await send({"type": "websocket.close", "code": 1011})

    @contextlib.contextmanager
    def _under_way(self, exchange: HttpExchange | SocketExchange, receive: Receive) -> Iterator[int]:
        """Under a number of its own, while its client is watched."""
        number = next(self._numbers)
        self.exchanges[number] = exchange
        watching = asyncio.ensure_future(exchange.watch(receive))
        try:
            yield number
        finally:
            watching.cancel()
            exchange.end()
            del self.exchanges[number]

    # --- routes of the front itself

    async def _health(self) -> Response:
        return JSONResponse({"status": "ok", "version": lithophone.__version__})

    async def _ready(self) -> Response:
        """Whether a replica accepts requests."""
        try:
            is_ready = not self.closed and await asyncio.wait_for(self._status_of("/ready"), READY_S) == 200
        except (asyncio.TimeoutError, ReplicaDiedError):
            is_ready = False
        return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)

    async def _status_of(self, path: str) -> int:
        """Status of a request without a body, at one of the replicas."""
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "root_path": ""}
        status = 0
        async with contextlib.aclosing(self.replicas.answer(Call(next(self._numbers), scope))) as messages:
            async for message in messages:
                status = message.get("status", status)
        return status

    async def _metrics(self) -> Response:
        return Response(joined(await self.replicas.measures(), self.registry), media_type=CONTENT_TYPE)


def _together(settings: Settings) -> Settings:
    """Places are those of all replicas; bodies are held by the front."""
    return dataclasses.replace(
        settings,
        max_running=settings.max_running * settings.replicas,
        max_waiting=settings.max_waiting * settings.replicas,
    )


def front_app(front: Front) -> ASGIApp:
    """With what every answer has: an id, and the headers for pages of other origins."""
    app: ASGIApp = RequestIds(front)
    if front.settings.cors_origin:
        app = CORSMiddleware(
            app, allow_origins=front.settings.cors_origin, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["x-request-id"],
        )  # fmt: skip
    return app


def bound_socket(host: str, port: int) -> socket.socket:
    """The address, taken but not yet listened on. Raises OSError."""
    taken = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise OSError(error.errno, f"{host}:{port} cannot be served: {error.strerror or error}") from error
    return taken


def _lost() -> ApiError:
    return ApiError(500, "the replica that worked on this ended: send it again", code="replica_failed", retry=True)


class _Reply:
    """The messages of a reply, sent on as they come for events of a stream, else together."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._held: list[Message] = []
        self._streams = False
        self.status = 0
        self.has_begun = False

    async def add(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._held = []
            self.status = message["status"]
            self._streams = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
        self._held.append(message)
        if self._streams and message["type"] == "http.response.body":
            await self.end()

    async def end(self) -> None:
        """Send what is held."""
        held, self._held = self._held, []
        for message in held:
            self.has_begun = True
            await self._send(message)

    async def fail(self, error: ApiError) -> None:
        """End a stream with an error event."""
        body = (data_line(error.body()) + DONE).encode()
        await self._send({"type": "http.response.body", "body": body, "more_body": False})
