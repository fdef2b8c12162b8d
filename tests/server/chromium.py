"""Headless Chromium with the page in it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NEEDS_CHROMIUM = (
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None,
        reason="the page's browser tests need `pip install playwright`",
    ),
    pytest.mark.skipif(CHROMIUM is None, reason="the page's browser tests need Chromium, which is not installed"),
)
WAIT_MS = 8000


@contextlib.contextmanager
def chromium(microphone: Path) -> Iterator[Any]:
    """A browser whose microphone plays the WAV file again and again."""
    from playwright.sync_api import sync_playwright

    arguments = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
        "--autoplay-policy=no-user-gesture-required",
        "--mute-audio",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@contextlib.contextmanager
def pages_of(browser: Any, address: str) -> Iterator[Callable[..., Any]]:
    """A function that opens the page; at the end there was no console error and no request to another origin."""
    faults: list[str] = []
    contexts = []

    def open_page(**settings: Any) -> Any:
        context = browser.new_context(permissions=["microphone", "clipboard-read", "clipboard-write"], **settings)
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if _is_fault(message) else None)
        page.on("request", lambda request: faults.append(request.url) if _is_foreign(request.url, address) else None)
        page.on("websocket", lambda socket: faults.append(socket.url) if _is_foreign(socket.url, address) else None)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def until(page: Any, expression: str, wait_ms: int = WAIT_MS) -> None:
    """Waits for a JavaScript expression to be true; playwright's own way is not allowed by the page's policy."""
    end = time.monotonic() + wait_ms / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"in vain: {expression}"
        page.wait_for_timeout(30)


def transcribed(page: Any, recording: Path) -> Any:
    page.focus("#file")
    page.set_input_files("#file", recording)
    page.wait_for_selector("#result:not([hidden])")
    return page


def _is_fault(message: Any) -> bool:
    """Chromium itself reports refusals by the server."""
    refusals = ("Failed to load resource", "WebSocket connection to")
    return message.type in ("error", "warning") and not message.text.startswith(refusals)


def _is_foreign(url: str, address: str) -> bool:
    own = address.removeprefix("http")
    return not url.startswith((f"http{own}", f"ws{own}", "blob:http" + own, "data:"))
