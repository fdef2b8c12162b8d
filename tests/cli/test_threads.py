"""Threads of a command: their number, and that they sleep while they wait."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import soundfile
import torch
from torch import nn
from typer.testing import CliRunner

from lithophone.checkpoint import MANY_WEIGHTS
from lithophone.cli.main import app
from lithophone.cli.threads import limit_threads, settle_threads, settle_waiting
from lithophone.model.quantize import quantize_
from tests.sounds import tone

SMALL = nn.Linear(2, 2)


class Large(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(MANY_WEIGHTS, device="meta"))


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("asked", "network", "expected"), [(None, SMALL, 1), (None, Large(), 3), (2, SMALL, 2)])
def test_a_small_model_takes_one_thread_unless_asked(asked: int | None, network: nn.Module, expected: int) -> None:
    limit_threads(asked)
    settle_threads(asked, network)
    assert torch.get_num_threads() == expected


@pytest.mark.usefixtures("int8_products")
def test_a_large_model_in_int8_takes_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(64, 32)
    monkeypatch.setattr("lithophone.checkpoint.MANY_WEIGHTS", 2000)
    quantize_(network)
    settle_threads(None, network)
    assert torch.get_num_threads() == 3


def test_the_variable_of_openmp_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    settle_threads(None, SMALL)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("tones_are_speech")
@pytest.mark.parametrize(("asked", "expected"), [(["--threads", "2"], 2), ([], 1)])
def test_the_command_takes_the_threads_asked_for(
    tmp_path: Path, tiny_folder: Path, asked: list[str], expected: int
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.5), 16_000)
    command = ["transcribe", str(tmp_path / "a.wav"), "--model", str(tiny_folder), "--max-new-tokens", "2"]
    done = CliRunner().invoke(app, [*command, *asked])
    assert done.exit_code == 0, done.output
    assert torch.get_num_threads() == expected


PASSIVE, SPINNING = {"OMP_WAIT_POLICY": "PASSIVE"}, {"GOMP_SPINCOUNT": "4000"}


@pytest.mark.parametrize(
    ("load", "command", "given", "expected"),
    [
        ("0.00 0.00 0.00 1/300 77", "transcribe", {}, SPINNING),
        ("2.00 2.00 2.00 2/300 77", "transcribe", {}, SPINNING),  # one of eight cores
        ("0.00 0.00 0.00 3/300 77", "transcribe", {}, PASSIVE),
        ("0.00 0.00 0.00 1/300 77", "serve", {}, PASSIVE),
        ("0.00 0.00 0.00 1/300 77", "batch", {}, PASSIVE),
        ("0.00 0.00 0.00 1/300 77", "transcribe", {"KMP_BLOCKTIME": "1"}, {"KMP_BLOCKTIME": "1"}),
        ("nothing", "transcribe", {}, PASSIVE),
        (None, "transcribe", {}, PASSIVE),
    ],
)
def test_threads_sleep_but_for_a_while_on_an_idle_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load: str | None, command: str, given: dict[str, str],
    expected: dict[str, str],
) -> None:  # fmt: skip
    if load is not None:
        (tmp_path / "loadavg").write_text(load)
    monkeypatch.setattr("lithophone.cli.threads.LOAD", tmp_path / "loadavg")
    monkeypatch.setattr("lithophone.cli.threads.usable_cpus", lambda: 8)
    monkeypatch.setattr(os, "environ", dict(given))
    settle_waiting(command)
    assert os.environ == expected
