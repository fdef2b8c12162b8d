"""Counts of a run, by a clock and a model that are made up: the time left, and the lines on stderr."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from lithophone.cli.tally import Tally, recording_line, time_text, total_line
from lithophone.errors import AudioError
from lithophone.pipeline.assembly import RecordingDone, WindowDone
from lithophone.transcript import Transcript, TranscriptWarning


@dataclass
class SlowModel:
    """Windows of `window_s` in groups: each costs the model some time, events come when they are due.

    `batch` windows share a pass and end together, if `lockstep`, else one after the other; reading takes `overhead`
    of the model's time.
    """

    seed: int
    window_s: float = 30.0
    cost: float = 0.1
    spread: float = 0.3
    batch: int = 8
    lockstep: bool = False
    overhead: float = 0.1
    now: float = field(default=0.0, init=False)
    spent: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def events(self, n: int) -> Iterator[WindowDone]:
        """All windows of a recording."""
        for first in range(0, n, self.batch):
            size = min(self.batch, n - first)
            costs = [
                self.window_s * self.cost * self.random.uniform(1 - self.spread, 1 + self.spread) for _ in range(size)
            ]
            for i, cost in enumerate(costs):
                # In lockstep the whole batch is paid before its first event.
                for paid in costs if self.lockstep and i == 0 else [] if self.lockstep else [cost]:
                    self.spent += paid
                    self.now += paid * (1 + self.overhead)
                end_s = (first + i + 1) * self.window_s
                yield WindowDone("talk", (), (), end_s, None, cost)


@pytest.mark.parametrize("lockstep", [False, True])
@pytest.mark.parametrize(("n", "seed"), [(40, 0), (120, 1), (400, 2), (360, 3)])
def test_the_time_left_is_right_within_a_fifth_after_the_first_tenth(n: int, seed: int, lockstep: bool) -> None:
    model = SlowModel(seed, lockstep=lockstep)
    tally = Tally([n * model.window_s], lambda: model.spent, lambda: model.now)
    told: list[tuple[float, float]] = []
    for event in model.events(n):
        tally.window(event)
        left_s = tally.left_s()
        assert left_s is not None
        told.append((model.now, left_s))
    # A batch that ends together gives its windows at one time: what counts is said behind the last of them.
    last = {now: left_s for now, left_s in told}
    judged = {now: left_s for now, left_s in last.items() if 0.1 * model.now <= now < 0.95 * model.now}
    assert judged
    for now, left_s in judged.items():
        assert left_s == pytest.approx(model.now - now, rel=0.2)
    assert told[-1][1] == pytest.approx(0.0, abs=0.01 * model.now)


def test_windows_under_way_count_by_what_they_have_spent() -> None:
    """Eight windows run together: when the first ends, the others are nearly done."""
    clock = [80.0]
    tally = Tally([1000.0], lambda: 80.0, lambda: clock[0])
    tally._began = 0.0
    tally.window(WindowDone("talk", (), (), 10.0, None, 10.0))
    assert tally.left_s() == pytest.approx(920.0)


def test_many_files_of_different_length_have_the_time_of_all() -> None:
    lengths_s = [30.0 * n for n in (1, 2, 1, 5, 9, 2, 1, 1, 30, 2, 7, 3) * 4]
    model = SlowModel(5, batch=1)
    tally = Tally(lengths_s, lambda: model.spent, lambda: model.now)
    told: list[tuple[float, float]] = []
    for length_s in lengths_s:
        for event in model.events(round(length_s / 30.0)):
            tally.window(event)
            left_s = tally.left_s()
            assert left_s is not None
            told.append((model.now, left_s))
        tally.recording(RecordingDone("talk", Transcript((), length_s)))
    for now, left_s in told:
        if 0.1 * model.now <= now < 0.95 * model.now:
            assert left_s == pytest.approx(model.now - now, rel=0.2)
    assert tally.audio_s == pytest.approx(sum(lengths_s))


def test_what_a_journal_had_neither_counts_nor_misleads() -> None:
    model = SlowModel(6, batch=1)
    tally = Tally([3000.0, 3000.0], lambda: model.spent, lambda: model.now)
    for n in range(1, 101):
        tally.window(WindowDone("a", (), (), 30.0 * n, None, 99.0, is_known=True))
    tally.recording(RecordingDone("a", Transcript((), 3000.0), is_known=True))
    assert tally.left_s() is None
    told = []
    for event in model.events(100):
        tally.window(event)
        told.append((model.now, tally.left_s()))
    now, left_s = told[20]
    assert left_s == pytest.approx(model.now - now, rel=0.2)
    assert (tally.n_known, tally.n_new, tally.audio_s) == (1, 0, pytest.approx(3000.0))


@pytest.mark.parametrize("expected", [[None], [100.0, None]])
def test_an_unknown_duration_has_no_time_left(expected: list[float | None]) -> None:
    tally = Tally(expected, lambda: 1.0)
    tally.window(WindowDone("a", (), (), 10.0, None, 1.0))
    assert tally.left_s() is None


def test_recordings_that_fail_take_their_time_with_them() -> None:
    tally = Tally([100.0, 50.0], lambda: 5.0, iter([0.0, 10.0]).__next__)
    tally.recording(RecordingDone("a", AudioError("broken")))
    tally.window(WindowDone("b", (), (), 25.0, None, 5.0))
    assert tally.left_s() == pytest.approx(10.0)
    assert tally.n_new == 0


def test_a_recording_has_a_line_with_audio_time_speed_and_warnings() -> None:
    warning = TranscriptWarning("cut", "cut", 0.0, 1.0)
    done = RecordingDone("a", Transcript((), 61.5, warnings=(warning,)), (), 5.0)
    assert recording_line("talk.mp3", done) == "talk.mp3: 61.5 s of audio in 5.0 s of the model, RTFx 12.3, 1 warning"
    silent = RecordingDone("a", Transcript((), 61.5))
    assert recording_line("talk.mp3", silent) == "talk.mp3: 61.5 s of audio, 0 warnings"


def test_the_total_names_what_was_finished_before_and_what_failed() -> None:
    tally = Tally([], lambda: 0.0, iter([0.0, 2.0, 2.0]).__next__)
    for known in (True, False, False):
        tally.recording(RecordingDone("a", Transcript((), 10.0), is_known=known))
    line = total_line(tally.n_new, tally.audio_s, tally.elapsed_s, 0.5, known=tally.n_known, failed=3)
    assert line == (
        "2 recordings, 20.0 s of audio in 2.0 s: RTFx 10.0 (model loaded in 0.5 s); 1 finished before; 3 failed"
    )


def test_a_run_without_anything_new_has_no_speed() -> None:
    assert total_line(0, 0.0, 0.0, 0.0, known=5) == "0 recordings; 5 finished before"
    assert total_line(1, 3.0, 2.0, 1.0) == "3.0 s of audio in 2.0 s: RTFx 1.5 (model loaded in 1.0 s)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99.0, "99 s"), (100.0, "2 min"), (5940.0, "99 min"), (12_000.0, "3 h 20 min")]
)
def test_times_are_short(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
