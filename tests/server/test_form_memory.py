"""A film as a form: memory holds it once."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Coroutine
from typing import Any

from fastapi import Request

from lithophone.pipeline.options import TranscribeOptions
from lithophone.server.forms import Form, Upload, read_form
from lithophone.server.jobs import Job

PIECE = b"x" * 65_536
PIECES = 2_000
HEAD = b'--edge\r\nContent-Disposition: form-data; name="audio_file"; filename="a"\r\n\r\n'


def request() -> Request:
    """One part of 131 MB, in pieces."""
    left = [HEAD, *[PIECE] * PIECES, b"\r\n--edge--\r\n"]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    headers = [(b"content-type", b"multipart/form-data; boundary=edge")]
    return Request({"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}, receive)


def peak(work: Coroutine[Any, Any, Form]) -> tuple[Form, float]:
    """Result, and the most memory that Python held for it, as a share of the body.

    What the operating system says of the process has the memory of other threads in it.
    """
    tracemalloc.start()
    try:
        result = asyncio.run(work)
        return result, tracemalloc.get_traced_memory()[1] / (PIECES * len(PIECE))
    finally:
        tracemalloc.stop()


async def copied(work: Coroutine[Any, Any, Form]) -> Form:
    form = await work
    bytearray(form.file("audio_file").data)
    return form


def test_an_upload_is_held_once() -> None:
    form, share = peak(read_form(request(), 200))
    assert isinstance(form, Form)
    assert form.file("audio_file").data == PIECE * PIECES
    assert 1.0 <= share < 1.3


def test_a_copy_would_be_seen() -> None:
    assert peak(copied(read_form(request(), 200)))[1] >= 2.0


def test_a_recording_is_in_no_message() -> None:
    assert repr(Upload("a.wav", b"the words")) == "Upload(name='a.wav')"
    assert "the words" not in repr(Job(b"the words", "a.wav", "tiny", TranscribeOptions()))
