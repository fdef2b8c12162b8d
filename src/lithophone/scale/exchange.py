"""Requests on their way from the front to a replica: the front holds what was received, the replica asks for it.

Bodies are not given with the call: an argument of hundreds of megabytes stays in Ray's object store until the call
ends, and a full store writes objects to the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope

PIECE = 1 << 20
"""Bytes of a body that are sent at once."""

MAX_QUEUED = 64
"""Messages of a WebSocket that wait for the replica; then the socket is not read."""

HTTP_KEYS = (
    "type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers",
    "client", "server",
)  # fmt: skip
SOCKET_KEYS = (*HTTP_KEYS, "subprotocols", "extensions")


@dataclass(frozen=True)
class Call:
    """A request as it is sent to a replica, without its body."""

    number: int
    scope: dict[str, Any]
    length: int = 0
    """Bytes of the body."""


def sent_scope(scope: Scope) -> dict[str, Any]:
    """What a replica needs of an ASGI scope."""
    keys = HTTP_KEYS if scope["type"] == "http" else SOCKET_KEYS
    return {key: scope[key] for key in keys if key in scope}


# --- at the front


class Exchange(Protocol):
    """A request under way."""

    async def receive(self, position: int) -> list[Message]:
        """Messages that the application has not received; waits for one."""

    def end(self) -> None:
        """The client is gone, or the reply is complete."""


class HttpExchange:
    """A body that can be read again, by another replica."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.gone = asyncio.Event()

    async def receive(self, position: int) -> list[Message]:
        """The piece of the body at `position`; behind the body, the disconnect of the client."""
        if position < len(self.body):
            end = position + PIECE
            return [{"type": "http.request", "body": self.body[position:end], "more_body": end < len(self.body)}]
        await self.gone.wait()
        return [{"type": "http.disconnect"}]

    async def watch(self, receive: Receive) -> None:
        """Until the client closes the connection."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self.end()

    def end(self) -> None:
        self.gone.set()


class SocketExchange:
    """Messages of a WebSocket, each received once."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Message] = asyncio.Queue(MAX_QUEUED)
        self._ended = asyncio.Event()

    async def receive(self, position: int) -> list[Message]:
        first = asyncio.ensure_future(self._queue.get())
        ended = asyncio.ensure_future(self._ended.wait())
        await asyncio.wait((first, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not first.done():
            first.cancel()
            return [{"type": "websocket.disconnect", "code": 1006}]
        messages = [first.result()]
        while not self._queue.empty():
            messages.append(self._queue.get_nowait())
        return messages

    async def watch(self, receive: Receive) -> None:
        """Queue messages until the client closes the socket."""
        while True:
            message = await receive()
            await self._queue.put(message)
            if message["type"] == "websocket.disconnect":
                return

    def end(self) -> None:
        self._ended.set()


# --- at the replica


class RemoteReceive:
    """ASGI `receive` of a request that the front holds; `fetch` asks the front for messages from a position on."""

    def __init__(self, call: Call, fetch: Callable[[int], Awaitable[list[Message]]]) -> None:
        self._fetch = fetch
        self._position = 0
        is_empty = call.scope["type"] == "http" and call.length == 0
        self._messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}] if is_empty else []

    async def __call__(self) -> Message:
        if not self._messages:
            self._messages = list(await self._fetch(self._position))
        message = self._messages.pop(0)
        self._position += len(message.get("body", b""))
        return message


async def messages_of(app: ASGIApp, call: Call, receive: Receive) -> AsyncGenerator[Message, None]:
    """What the application sends, as it comes. Raises what the application raises."""
    sent: asyncio.Queue[Message | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await app(dict(call.scope), receive, sent.put)
        finally:
            sent.put_nowait(None)

    task = asyncio.ensure_future(run())
    try:
        while (message := await sent.get()) is not None:
            yield message
        await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
