"""HTTP requests of the server itself: bounded in size and time, no redirects, proxies, cookies or compression."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import h11

CHUNK = 1 << 16
AGENT = ("user-agent", "lithophone")

Headers = Sequence[tuple[str, str]]


class OutgoingError(Exception):
    """No answer, or none that can be read. The message holds nothing of the request or the answer."""


class TooLargeError(OutgoingError):
    """The answer is larger than allowed."""


@dataclass(frozen=True)
class Outgoing:
    """A request. `address` is what the connection is made to, `host` what the certificate must be of."""

    method: str
    host: str
    port: int
    address: str
    target: str
    tls: ssl.SSLContext | None
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes


async def exchange(asked: Outgoing, limit: int) -> Answer:
    """The answer, of at most `limit` bytes. The caller sets the time limit. Raises OutgoingError."""
    try:
        reader, writer = await asyncio.open_connection(
            asked.address, asked.port, ssl=asked.tls, server_hostname=asked.host if asked.tls else None
        )
    except ssl.SSLError as error:
        raise OutgoingError(f"no secure connection ({error.reason})") from error
    except OSError as error:
        raise OutgoingError("no connection") from error
    try:
        connection = h11.Connection(h11.CLIENT)
        writer.write(_sent(connection, asked))
        await writer.drain()
        return await _answer(connection, reader, limit)
    except h11.ProtocolError as error:
        raise OutgoingError("the answer is no valid HTTP, or is cut") from error
    except OSError as error:
        raise OutgoingError("the connection was lost") from error
    finally:
        writer.transport.abort()


def _sent(connection: h11.Connection, asked: Outgoing) -> bytes:
    host = f"[{asked.host}]" if ":" in asked.host else asked.host
    given = (("host", f"{host}:{asked.port}" if asked.port not in (80, 443) else host), AGENT, *asked.headers)
    headers = [
        *given,
        ("accept-encoding", "identity"),
        ("connection", "close"),
        ("content-length", str(len(asked.body))),
    ]
    events = (
        h11.Request(method=asked.method, target=asked.target, headers=headers),
        h11.Data(asked.body),
        h11.EndOfMessage(),
    )
    return b"".join(connection.send(event) or b"" for event in events)


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader, limit: int) -> Answer:
    body = bytearray()
    answer: Answer | None = None
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(CHUNK))
        elif isinstance(event, h11.Response):
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            answer = Answer(event.status_code, headers, b"")
            if int(headers.get("content-length", 0)) > limit:
                raise TooLargeError("the answer is too large")
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > limit:
                raise TooLargeError("the answer is too large")
        elif isinstance(event, h11.EndOfMessage):
            assert answer is not None, "a message begins with its status"
            return Answer(answer.status, answer.headers, bytes(body))
        elif not isinstance(event, h11.InformationalResponse):
            raise OutgoingError("the connection was closed without an answer")
