"""Files are read in a thread, in their order, and no further than allowed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from lithophone.audio.segmenter import Window
from lithophone.errors import AudioError
from lithophone.pipeline.engine import Engine
from lithophone.pipeline.read_ahead import ReadAhead
from lithophone.pipeline.sources import AudioSource, Reading
from lithophone.pipeline.transcriber import Transcriber
from tests.detectors import by_loudness
from tests.sounds import silence, tone


class Scripted(Reading):
    """Windows of a second, and then an error if any."""

    def __init__(self, n: int, error: Exception | None = None) -> None:
        super().__init__(AudioSource("none"), 30.0)
        self.n, self.error, self.read = n, error, 0

    def windows(self) -> Iterator[Window]:
        for i in range(self.n):
            self.read = i + 1
            yield Window(i, i + 16_000, np.full(16_000, i, np.float32))
        if self.error is not None:
            raise self.error


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within 30 s")


def test_no_more_is_read_than_allowed_and_all_comes_in_order() -> None:
    ahead, first, second = ReadAhead(3.0), Scripted(7), Scripted(2)
    windows = [ahead.windows(first), ahead.windows(second)]
    wait_for(lambda: first.read == 4)  # three wait, one is in the hand
    time.sleep(0.05)
    assert (first.read, second.read) == (4, 0)
    starts = [[window.start for window in some] for some in windows]
    assert starts == [list(range(7)), [0, 1]]
    ahead.close()


def test_an_error_comes_where_it_happened_and_the_next_recording_is_read() -> None:
    ahead = ReadAhead(3.0)
    broken, whole = ahead.windows(Scripted(2, AudioError("broken"))), ahead.windows(Scripted(1))
    assert [next(broken).start, next(broken).start] == [0, 1]
    with pytest.raises(AudioError, match="broken"):
        next(broken)
    assert len(list(whole)) == 1
    ahead.close()


def test_a_window_that_is_longer_than_allowed_is_read_alone() -> None:
    ahead = ReadAhead(0.1)
    assert len(list(ahead.windows(Scripted(3)))) == 3
    ahead.close()


def test_closing_ends_the_thread_while_it_reads(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "still.wav", silence(60.0), 16_000)
    detector = by_loudness()
    reading = Reading(AudioSource(tmp_path / "still.wav"), 30.0, detector)
    before = threading.active_count()
    ahead = ReadAhead(3.0)
    ahead.windows(reading)
    ahead.windows(Scripted(99))
    ahead.close()
    assert threading.active_count() == before


def test_the_next_file_is_read_while_the_model_computes(
    tiny: Transcriber, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of the engine waits until the second file has been opened, which no step's thread does."""
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path in paths:
        soundfile.write(path, tone(1.0), 16_000)
    opened: list[tuple[Any, str]] = []
    read, step = Reading.windows, Engine.step

    def noted(self: Reading) -> Iterator[Window]:
        opened.append((self.source.file, threading.current_thread().name))
        yield from read(self)

    def waiting(self: Engine) -> None:
        wait_for(lambda: len(opened) == 2)
        step(self)

    monkeypatch.setattr(Reading, "windows", noted)
    monkeypatch.setattr(Engine, "step", waiting)
    list(tiny.events(paths, batch_size=1, max_new_tokens=2))
    assert opened == [(path, "read ahead") for path in paths]
