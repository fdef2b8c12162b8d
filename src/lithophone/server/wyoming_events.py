"""Events of the Wyoming protocol (1.10): a line of JSON, then as many bytes of JSON data and payload as it states."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from lithophone.server.errors import ApiError

VERSION = "1.10.2"
"""Of the protocol."""

LINE_SIZE = 1 << 16
DATA_SIZE = 1 << 20
PAYLOAD_SIZE = 1 << 24
"""Largest parts of an event in bytes."""

WRITE_S = 30.0
"""Longest time until a client takes an event."""


@dataclass(frozen=True)
class WyomingEvent:
    """One message of either side."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


def bad_event(message: str) -> ApiError:
    """What cannot be read ends the connection."""
    return ApiError(400, message, code="bad_event")


async def read_event(reader: asyncio.StreamReader) -> WyomingEvent | None:
    """The next event; None at the end of the connection. Raises ApiError for what is none, or too large."""
    try:
        line = await reader.readuntil(b"\n")
        header = _object(line, "the line")
        kind = header.get("type")
        if not isinstance(kind, str):
            raise bad_event("the event has no type")
        data = header.get("data") or {}
        if not isinstance(data, dict):
            raise bad_event("data is no object")
        stated = _size(header, "data_length", DATA_SIZE)
        if stated:
            data |= _object(await reader.readexactly(stated), "data")
        payload = await reader.readexactly(_size(header, "payload_length", PAYLOAD_SIZE))
    except asyncio.LimitOverrunError as error:
        raise bad_event(f"the line of an event is longer than {LINE_SIZE} bytes") from error
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise bad_event("the connection ended within an event") from error
        return None
    return WyomingEvent(kind, data, payload)


async def write_event(writer: asyncio.StreamWriter, kind: str, data: dict[str, Any]) -> None:
    """Raises OSError or TimeoutError where the client does not take it."""
    body = json.dumps(data, ensure_ascii=False).encode(errors="replace") if data else b""
    header: dict[str, Any] = {"type": kind, "version": VERSION}
    if body:
        header["data_length"] = len(body)
    writer.write(json.dumps(header).encode() + b"\n" + body)
    await asyncio.wait_for(writer.drain(), WRITE_S)


def _object(text: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_event(f"{what} of an event is no JSON") from error
    if not isinstance(found, dict):
        raise bad_event(f"{what} of an event is no JSON object")
    return found


def _size(header: dict[str, Any], name: str, most: int) -> int:
    size = header.get(name) or 0
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= most:
        raise bad_event(f"{name} is {size!r:.40}: it must be a whole number up to {most}")
    return size
