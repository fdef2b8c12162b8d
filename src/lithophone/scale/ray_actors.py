"""Replicas and front as actors of Ray."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import ray
import uvicorn
from ray import exceptions, serve
from starlette.types import Message

from lithophone.scale.compute import Compute
from lithophone.scale.exchange import Call
from lithophone.scale.front import Front, ReplicaDiedError, bound_socket, front_app
from lithophone.server.auth import Keys
from lithophone.server.logs import without_queries
from lithophone.server.settings import Settings

if TYPE_CHECKING:
    from lithophone.scale.replica import Replica

NAME = "lithophone"
"""Of the application in Ray Serve."""

GONE = (
    exceptions.RayActorError, exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.ObjectLostError,
    exceptions.OutOfMemoryError,
    serve.exceptions.ReplicaUnavailableError,
)  # fmt: skip
"""What a call raises whose replica, or the machine of it, is gone."""


class ServedReplica:
    """Replica as a deployment of Ray Serve."""

    def __init__(self, settings: Settings, compute: Compute, keys: Keys) -> None:
        from lithophone.memory import keep_freed_memory
        from lithophone.scale.replica import Replica  # imports torch, which the front has no need of

        keep_freed_memory()
        self._replica: Replica = Replica(settings, compute, keys)
        self._start = asyncio.Lock()
        self._has_started = False

    async def check_health(self) -> None:
        """Asked before the first request, and then now and again; starts the application."""
        async with self._start:
            if not self._has_started:
                await self._replica.start()
                self._has_started = True

    async def answer(self, call: Call, front: Any) -> AsyncGenerator[Message, None]:
        async def fetch(position: int) -> list[Message]:
            messages: list[Message] = await front.receive.remote(call.number, position)
            return messages

        async for message in self._replica.answer(call, fetch):
            yield message

    async def measures(self) -> tuple[str, str]:
        """With the name of this replica."""
        return serve.get_replica_context().replica_id.unique_id, self._replica.measures()

    async def __del__(self) -> None:
        """Called by Ray Serve before it ends a replica."""
        await self._replica.stop()


class ServedReplicas:
    """Replicas, behind a handle of Ray Serve."""

    def __init__(self, handle: Any, front: Any) -> None:
        self._handle, self._front = handle, front
        self._answers = handle.options(stream=True)

    async def answer(self, call: Call) -> AsyncGenerator[Message, None]:
        messages = self._answers.answer.remote(call, self._front)
        is_over = False
        try:
            async for message in messages:
                yield message
            is_over = True
        except GONE as error:
            is_over = True
            raise ReplicaDiedError(type(error).__name__) from error
        finally:
            if not is_over:
                messages.cancel()

    async def measures(self) -> dict[str, str]:
        found = await self._handle.broadcast("measures").results_async(timeout_s=10, return_exceptions=True)
        return dict(one for one in found if not isinstance(one, Exception))


class FrontActor:
    """The front with its socket, in a process of its own."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._front: Front | None = None
        self._server: uvicorn.Server | None = None

    async def listen(self, host: str, port: int) -> None:
        """Take the address. Raises OSError."""
        self._socket = bound_socket(host, port)

    async def run(self, settings: Settings) -> None:
        """Serve until `drain`. Ray calls it again where this process ends."""
        if self._socket is None:
            await self.listen(settings.host, settings.port)
        assert self._socket is not None
        without_queries()
        replicas = ServedReplicas(serve.get_app_handle(NAME), ray.get_runtime_context().current_actor)
        self._front = Front(settings, replicas)
        config = uvicorn.Config(
            front_app(self._front), host=settings.host, port=settings.port, lifespan="off",
            timeout_graceful_shutdown=round(settings.drain_s) + 1, ws="websockets-sansio",
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        await self._server.serve([self._socket])

    async def receive(self, number: int, position: int) -> list[Message]:
        """For replicas: what the client of a request sent."""
        assert self._front is not None, "replicas have numbers from the front"
        return await self._front.receive(number, position)

    async def drain(self) -> None:
        """Accept nothing more; `run` ends with the last request."""
        if self._front is not None and self._server is not None:
            self._front.closed = True
            self._server.should_exit = True
