"""A film as a form: memory holds it once."""

from __future__ import annotations

import asyncio
import gc
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request

from lithophone.pipeline.options import TranscribeOptions
from lithophone.server.forms import Form, Upload, read_form
from lithophone.server.jobs import Job

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs /proc of Linux")

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


def resident(what: str) -> float:
    """Bytes of this process by /proc: VmRSS now, VmHWM at most since the last reset."""
    [kilobytes] = re.findall(rf"^{what}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.M)
    return 1024.0 * int(kilobytes)


def peak(work: Any) -> tuple[Any, float]:
    """Result, and the most memory it took, as a share of the body."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    result = asyncio.run(work)
    return result, (resident("VmHWM") - before) / (PIECES * len(PIECE))


def test_an_upload_is_held_once() -> None:
    form, share = peak(read_form(request(), 200))
    assert isinstance(form, Form)
    assert form.file("audio_file").data == PIECE * PIECES
    assert share < 1.3


def test_a_recording_is_in_no_message() -> None:
    assert repr(Upload("a.wav", b"the words")) == "Upload(name='a.wav')"
    assert "the words" not in repr(Job(b"the words", "a.wav", "tiny", TranscribeOptions()))
