"""What a run tells: rows, lines, the time left, event files; and what it takes back."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import pytest

from lithophone.errors import OptionError
from lithophone.train.run.log import RunLog


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that everything reads: its one number."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_a_row_and_a_line(tmp_path: Path, clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    run_log = RunLog(tmp_path, 1000)
    run_log.start(200)
    clock[0] += 60.0
    with caplog.at_level(logging.INFO):
        run_log.record("train", 300, 9000.0, {"ctc": 1.23456789, "lr": 3e-5, "audio_s_per_s": 41.25})
    row = {"step": 300, "hours": 2.5, "kind": "train", "ctc": 1.23457, "lr": 3e-5, "audio_s_per_s": 41.25}
    assert json.loads((tmp_path / "log.jsonl").read_text()) == row
    line = "step 300/1000  2.50 h of audio  ctc 1.235  lr 3e-05  audio_s_per_s 41.25  0:07:00 left"
    assert [record.getMessage() for record in caplog.records] == [line]


def test_nobody_knows_the_time_left_before_the_first_step(tmp_path: Path) -> None:
    run_log = RunLog(tmp_path, 10)
    run_log.start(4)
    assert run_log.left_s(4) is None
    assert run_log.line(4, 0.0, {}) == "step 4/10  0.00 h of audio  "


def test_rows_after_a_checkpoint_are_taken_back(tmp_path: Path) -> None:
    run_log = RunLog(tmp_path, 10)
    for step in (2, 4, 6):
        run_log.record("train", step, 0.0, {"loss": float(step)})
    with run_log.path.open("a") as file:
        file.write('{"step": 7, "hou')
    run_log.rewind(4)
    assert [json.loads(line)["step"] for line in run_log.path.read_text().splitlines()] == [2, 4]


def test_evaluations_are_remembered(tmp_path: Path) -> None:
    run_log = RunLog(tmp_path, 10)
    assert run_log.evaluations() == []
    run_log.record("train", 2, 0.0, {"loss": 2.0})
    told = run_log.record("dev", 4, 0.0, {"wer_en": 0.123456789})
    assert run_log.evaluations() == [(4, told)] == [(4, {"wer_en": 0.123457})]


def test_event_files_forget_what_a_killed_run_told(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run_log = RunLog(tmp_path, 10, tensorboard=True)
    for step in (2, 4, 6):
        run_log.record("train", step, 0.0, {"loss": float(step)})
    resumed = RunLog(tmp_path, 10, tensorboard=True)
    resumed.rewind(4)
    resumed.record("dev", 5, 0.0, {"wer_en": 0.5})
    resumed.record("train", 6, 0.0, {"loss": 60.0})
    for writer in (run_log, resumed):
        writer.events.close()
    found = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in found.Scalars("train/loss")] == [(2, 2.0), (4, 4.0), (6, 60.0)]
    assert [(e.step, e.value) for e in found.Scalars("dev/wer_en")] == [(5, 0.5)]


def test_event_files_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(OptionError, match="pip install tensorboard"):
        RunLog(tmp_path, 10, tensorboard=True)
