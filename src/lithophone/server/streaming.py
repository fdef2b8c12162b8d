"""Replies as server-sent events, in the framing of OpenAI's clients."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.responses import StreamingResponse

from lithophone.errors import LithophoneError
from lithophone.server.disconnect import unless_gone
from lithophone.server.errors import ApiError, internal_error

if TYPE_CHECKING:
    from lithophone.pipeline.assembly import Event

DONE = "data: [DONE]\n\n"


async def event_stream(
    request: Request,
    events: AsyncGenerator[Event, None],
    documents: Callable[[AsyncIterator[Event]], AsyncIterator[dict[str, Any]]],
) -> StreamingResponse:
    """Documents of the events, one `data:` line each. Waits for the first event: what fails at once has a status."""
    try:
        first = await unless_gone(request, _first(events))
    except BaseException:
        await events.aclose()
        raise
    lines = _lines(documents(_chained(first, events)))
    return StreamingResponse(
        _closing(lines, events), media_type="text/event-stream", headers={"cache-control": "no-cache"}
    )


async def _lines(documents: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """Errors are events too: the status has been sent."""
    try:
        async for document in documents:
            yield data_line(document)
    except ApiError as error:
        yield data_line(error.body())
    except LithophoneError as error:
        yield data_line(ApiError(500, str(error)).body())
    except Exception:
        yield data_line(internal_error().body())
        raise
    yield DONE


def data_line(document: dict[str, Any]) -> str:
    """A document as a server-sent event."""
    return f"data: {json.dumps(document, ensure_ascii=False)}\n\n"


async def _first(events: AsyncIterator[Event]) -> Event:
    return await anext(events)


async def _chained(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in events:
        yield event


async def _closing(lines: AsyncIterator[str], events: AsyncGenerator[Event, None]) -> AsyncIterator[str]:
    """Ends the work as well where the client goes away."""
    async with contextlib.aclosing(events):
        async for line in lines:
            yield line
