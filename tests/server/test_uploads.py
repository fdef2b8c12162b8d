"""Bodies that find no place are not read, and all bodies together are bounded."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from lithophone.pipeline.transcriber import Transcriber
from lithophone.server import uploads
from lithophone.server.settings import Settings
from tests.server.running import Running, Short, running, wait_until, wav

PATH = "/v1/audio/transcriptions"
MEGABYTE = 1_000_000
FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


@contextlib.contextmanager
def serving(tiny: Transcriber, **settings: float) -> Iterator[Running]:
    given = Settings(model=("tiny",), **settings)  # type: ignore[arg-type]
    with running(given, lambda name: cast(Transcriber, Short(tiny))) as server:
        yield server


@contextlib.contextmanager
def upload(server: Running, length: int | None, sent: bytes = b"") -> Iterator[socket.socket]:
    """A request whose headers and first bytes have been sent; no length: in chunks."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-type: multipart/form-data; boundary=b\r\n{size}\r\n\r\n"
    body = b"%x\r\n%s\r\n" % (len(sent), sent) if length is None else sent
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def status(connection: socket.socket) -> int:
    """Of the answer, which has to come by itself."""
    return int(connection.recv(4096).split()[1])


def test_without_a_place_the_answer_comes_before_the_body(tiny: Transcriber) -> None:
    with serving(tiny, max_running=1, max_waiting=0) as server:
        with upload(server, 1_000, FORM):
            wait_until(lambda: server.jobs.uploads == 1)
            with upload(server, 400 * MEGABYTE) as second:
                assert status(second) == 429
            assert "lithophone_refused_total 1.0" in server.get("/metrics").text
        wait_until(lambda: server.jobs.uploads == 0)
        assert server.post(PATH, files={"file": wav()}).status_code == 200


@pytest.mark.parametrize("length", [800_000, None])
def test_bodies_are_bounded_together(tiny: Transcriber, length: int | None) -> None:
    with serving(tiny, max_upload_mb=1, max_held_mb=1) as server:
        with upload(server, 900_000, FORM + bytes(500_000)):
            wait_until(lambda: server.jobs.held > 500_000)
            wait_until(lambda: held_by_the_metrics(server) == server.jobs.held)
            with upload(server, length, FORM + bytes(600_000) if length is None else b"") as second:
                assert status(second) == 429
        wait_until(lambda: (server.jobs.held, server.jobs.uploads) == (0, 0))
        assert server.post(PATH, files={"file": wav(20.0)}).status_code == 200
        wait_until(lambda: server.jobs.held == 0)


def held_by_the_metrics(server: Running) -> float:
    [line] = [one for one in server.get("/metrics").text.splitlines() if one.startswith("lithophone_held_bytes ")]
    return float(line.split()[1])


def test_the_largest_body_that_is_allowed_is_never_refused_for_its_size(tiny: Transcriber) -> None:
    with serving(tiny, max_upload_mb=1, max_held_mb=0.1) as server:
        assert server.post(PATH, files={"file": wav(25.0)}).status_code == 200


def test_a_body_that_is_too_large_is_told_so_though_others_are_held(tiny: Transcriber) -> None:
    with serving(tiny, max_upload_mb=1, max_held_mb=1) as server, upload(server, 900_000, FORM + bytes(500_000)):
        wait_until(lambda: server.jobs.held > 0)
        with upload(server, 2 * MEGABYTE) as second:
            assert status(second) == 413


def test_a_body_that_does_not_come_frees_its_place(tiny: Transcriber, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "IDLE_S", 0.3)
    with serving(tiny) as server, upload(server, 1_000, FORM) as slow:
        assert status(slow) == 408
        wait_until(lambda: server.jobs.uploads == 0)


def test_a_body_has_to_be_whole_within_the_time_of_a_request(tiny: Transcriber) -> None:
    with serving(tiny, request_timeout_s=0.5) as server, upload(server, 1_000, FORM) as slow:
        assert status(slow) == 408


def test_a_server_that_drains_reads_no_body(tiny: Transcriber) -> None:
    with serving(tiny) as server:
        server.jobs.closed = True
        with upload(server, MEGABYTE) as late:
            assert status(late) == 503


def test_a_client_that_goes_away_within_its_body_is_no_fault(
    tiny: Transcriber, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), serving(tiny) as server:
        with upload(server, MEGABYTE, FORM):
            wait_until(lambda: server.jobs.uploads == 1)
        wait_until(lambda: server.jobs.uploads == 0)
        wait_until(lambda: 'status="499"' in server.get("/metrics").text)
    assert [record.message for record in caplog.records] == []
