"""The page in headless Chromium with the server and the bundled model behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from lithophone.audio.reader import load_audio
from lithophone.hub import DEFAULT_MODEL, bundled_models
from lithophone.pipeline.transcriber import load
from lithophone.server.settings import Settings
from tests.conftest import DEMO
from tests.server.chromium import NEEDS_CHROMIUM, chromium, pages_of, transcribed, until
from tests.server.running import Running, running

pytestmark = [
    pytest.mark.full,
    *NEEDS_CHROMIUM,
    pytest.mark.skipif(DEFAULT_MODEL not in bundled_models(), reason=f"the bundled model {DEFAULT_MODEL} is not there"),
]

PATIENCE_MS = 60_000
RATE_HZ = 48_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium whose microphone plays the demo recording, with a pause behind it."""
    file = tmp_path_factory.mktemp("microphone") / "demo.wav"
    samples = soxr.resample(load_audio(DEMO), 16_000, RATE_HZ)
    soundfile.write(file, np.concatenate([samples, np.zeros(2 * RATE_HZ, np.float32)]), RATE_HZ, subtype="PCM_16")
    with chromium(file) as started:
        yield started


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(Settings(model=(DEFAULT_MODEL,)), lambda name: load(name, device="cpu")) as one:
        yield one


@pytest.fixture
def opened(browser: Any, server: Running) -> Iterator[Callable[..., Any]]:
    with pages_of(browser, server.url) as open_page:

        def patient(**settings: Any) -> Any:
            page = open_page(**settings)
            page.set_default_timeout(PATIENCE_MS)
            return page

        yield patient


def spoken(page: Any) -> str:
    return " ".join(" ".join(page.locator(".turn div").all_text_contents()).split())


def pictured(page: Any, name: str) -> None:
    """A screenshot, where the environment names a folder for them."""
    folder = os.environ.get("LITHOPHONE_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def test_a_recording_is_read_played_and_downloaded(opened: Callable[..., Any], server: Running, tmp_path: Path) -> None:
    with DEMO.open("rb") as file:
        text = server.post("/v1/audio/transcriptions", data={"language": "en"}, files={"file": file}).json()["text"]
    for name, settings in (("light", {}), ("dark", {"color_scheme": "dark"}), ("phone", {"viewport": PHONE})):
        page = opened(**settings)
        page.select_option("#language", "en")
        assert spoken(transcribed(page, DEMO)) == text
        pictured(page, f"result-{name}")
    assert page.locator(".word").count() == len(text.split())
    page.locator(".word").nth(3).click()
    until(page, "document.querySelector('.word.now') !== null")
    assert page.evaluate("document.getElementById('player').currentTime") > 0
    with page.expect_download() as download:
        page.get_by_role("button", name="JSON").click()
    download.value.save_as(tmp_path / "demo.json")
    assert json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))["text"] == text
    with page.expect_download() as download:
        page.get_by_role("button", name="SRT").click()
    assert download.value.suggested_filename == "demo.srt"


PHONE = {"width": 375, "height": 750}


def test_a_translation_is_shown(opened: Callable[..., Any]) -> None:
    page = opened()
    page.select_option("#language", "fr")
    page.select_option("#task", "translate")
    assert spoken(transcribed(page, DEMO.parent / "fr.flac"))


def test_the_microphone_is_recorded_and_transcribed(opened: Callable[..., Any]) -> None:
    page = opened()
    page.click("#record")
    until(page, "document.getElementById('clock').textContent === '0:08'", PATIENCE_MS)
    page.click("#record")
    page.wait_for_selector("#result:not([hidden])")
    assert "had" in spoken(page)


def test_live_captions_are_shown_while_the_recording_plays(opened: Callable[..., Any]) -> None:
    page = opened()
    page.select_option("#language", "en")
    page.click("#live")
    until(page, "document.querySelector('#captions .open')?.textContent.split(' ').length > 3", PATIENCE_MS)
    pictured(page, "live")
    until(page, "document.querySelectorAll('#spoken p').length > 0", PATIENCE_MS)
    page.click("#live")
    page.wait_for_selector("#result:not([hidden])")
    assert "had" in spoken(page)
    pictured(page, "live-result")
