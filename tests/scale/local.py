"""Replicas without Ray: in this process, or as scripts of messages."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from lithophone.scale.exchange import Call, RemoteReceive, messages_of
from lithophone.scale.front import Front, ReplicaDiedError, front_app
from lithophone.server.settings import Settings

DIES = "dies"
"""In a script: the replica ends here."""


class ScriptedReplicas:
    """Each call reads the body, and answers with the next script; a script of DIES alone ends before that."""

    def __init__(self, *scripts: list[Message | str]) -> None:
        self.scripts = list(scripts)
        self.front: Front | None = None
        self.calls: list[Call] = []
        self.bodies: list[bytes] = []

    async def answer(self, call: Call) -> AsyncGenerator[Message, None]:
        assert self.front is not None
        self.calls.append(call)
        self.bodies.append(await self._body(call))
        for message in self.scripts.pop(0):
            if isinstance(message, str):
                raise ReplicaDiedError(message)
            await asyncio.sleep(0)
            yield message

    async def measures(self) -> dict[str, str]:
        return {}

    async def _body(self, call: Call) -> bytes:
        assert self.front is not None
        front, body = self.front, b""
        receive = RemoteReceive(call, lambda position: front.receive(call.number, position))
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                return body


class LocalReplicas:
    """Applications of this process in turn; `dies` says after how many messages a call's replica ends."""

    def __init__(self, *apps: FastAPI, dies: Callable[[int], int | None] = lambda number: None) -> None:
        self.apps, self.dies = apps, dies
        self.front: Front | None = None
        self.calls = 0

    async def answer(self, call: Call) -> AsyncGenerator[Message, None]:
        assert self.front is not None
        front, number = self.front, self.calls
        self.calls += 1
        receive = RemoteReceive(call, lambda position: front.receive(call.number, position))
        ends = self.dies(number)
        if ends == 0:
            raise ReplicaDiedError("before the first message")
        app = self.apps[number % len(self.apps)]
        async with contextlib.aclosing(messages_of(app, call, receive)) as messages:
            sent = 0
            async for message in messages:
                yield message
                sent += 1
                if sent == ends:
                    raise ReplicaDiedError(f"after message {sent}")

    async def measures(self) -> dict[str, str]:
        return {str(n): app.state.jobs.measured().decode() for n, app in enumerate(self.apps)}


@contextlib.contextmanager
def fronted(settings: Settings, replicas: LocalReplicas) -> Iterator[str]:
    """Address of a front before replicas of this process."""
    front = replicas.front = Front(settings, replicas)
    inner = front_app(front)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await inner(scope, receive, send)
            return
        async with contextlib.AsyncExitStack() as lives:
            for one in replicas.apps:
                await lives.enter_async_context(one.router.lifespan_context(one))
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        waited = threading.Event()
        while not server.started:
            assert thread.is_alive()
            waited.wait(0.05)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listener.close()


def start(status: int = 200, kind: str = "application/json", **headers: str) -> Message:
    raw = [(b"content-type", kind.encode()), *((k.encode(), v.encode()) for k, v in headers.items())]
    return {"type": "http.response.start", "status": status, "headers": raw}


def body(text: str, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more}


def ask(
    replicas: ScriptedReplicas, sent: bytes = b"recording", path: str = "/v1/x", **given: Any
) -> tuple[Front, list[Message]]:
    """One request through a front before scripted replicas, and all that the client gets. `leaves`: it goes at once."""
    settings = given.pop("settings", Settings())
    leaves = given.pop("leaves", False)
    headers = [(k.encode(), v.encode()) for k, v in given.pop("headers", {}).items()]
    got: list[Message] = []

    async def run() -> Front:
        front = replicas.front = Front(settings, replicas)
        front.closed = given.pop("closed", False)
        received = [{"type": "http.request", "body": sent, "more_body": False}]

        async def receive() -> Message:
            if received:
                return received.pop()
            if not leaves:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            got.append(message)

        scope = {
            "type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers, "root_path": "",
        }  # fmt: skip
        await front_app(front)(scope, receive, send)
        assert front.exchanges == {}
        return front

    return asyncio.run(asyncio.wait_for(run(), 20)), got
