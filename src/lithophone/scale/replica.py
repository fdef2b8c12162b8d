"""One replica: the application of the server, called by the front in place of a socket."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.types import Message

from lithophone.scale.compute import Compute
from lithophone.scale.exchange import Call, RemoteReceive, messages_of
from lithophone.server.app import create_app
from lithophone.server.auth import Keys
from lithophone.server.models import Models
from lithophone.server.settings import Settings

if TYPE_CHECKING:
    from lithophone.pipeline.transcriber import Transcriber


class Replica:
    """The application, from the start of its lifespan to the end."""

    def __init__(self, settings: Settings, compute: Compute, keys: Keys) -> None:
        self._compute = compute
        self.app = create_app(settings, Models(settings, self._loaded), keys)
        self._life = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Load the default model."""
        await self._life.enter_async_context(self.app.router.lifespan_context(self.app))

    async def stop(self) -> None:
        """Finish what was accepted."""
        await self._life.aclose()

    def answer(
        self, call: Call, fetch: Callable[[int], Awaitable[list[Message]]]
    ) -> AsyncGenerator[Message, None]:  # fmt: skip
        """Messages of the application for one request; `fetch` asks the front for what the client sent."""
        return messages_of(self.app, call, RemoteReceive(call, fetch))

    def measures(self) -> str:
        """In the text format of Prometheus."""
        text: bytes = self.app.state.jobs.measured()
        return text.decode()

    def _loaded(self, name: str) -> Transcriber:
        return self._compute.load(name)
