"""Logs of requests."""

from __future__ import annotations

import logging

import pytest

from lithophone.server.logs import without_queries


def test_queries_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("uvicorn.access")
    without_queries()
    without_queries()
    with caplog.at_level(logging.INFO, "uvicorn.access"):
        log.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:5", "POST", "/asr?initial_prompt=secret", "1.1", 200)
    assert caplog.messages == ['127.0.0.1:5 - "POST /asr HTTP/1.1" 200']
