"""Points between encoders."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from lithophone.errors import OptionError
from lithophone.hub import DEFAULT_MODEL, resolve
from lithophone.model.config import EncoderConfig
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.encoder_task import EncoderTask, save_weights, task_from
from tests.conftest import ROOT


@pytest.fixture
def interpolate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    return importlib.import_module("interpolate")


def test_a_quarter_of_the_way_back(interpolate: ModuleType, tmp_path: Path) -> None:
    bundled = resolve(DEFAULT_MODEL)
    task = task_from(DEFAULT_MODEL, Tokenizer.from_folder(bundled))
    first = {name: value.clone() for name, value in task.state_dict().items()}
    for value in task.parameters():
        value.data += 1.0
    save_weights(task.state_dict(), task.encoder.config, tmp_path)
    options = ["--towards", DEFAULT_MODEL, "--tokenizer", str(bundled), "--out", str(tmp_path / "between")]
    interpolate.main([str(tmp_path), "--share", "0.25", *options])
    found = load_file(tmp_path / "between" / "encoder.safetensors")
    learned = {name for name, _ in task.named_parameters()}
    for name, value in found.items():
        torch.testing.assert_close(value, first[name] + (0.75 if name in learned else 0))


def test_encoders_of_different_sizes_are_refused(interpolate: ModuleType, tmp_path: Path) -> None:
    bundled = resolve(DEFAULT_MODEL)
    config = EncoderConfig(hidden_dim=32, num_layers=2, num_heads=2, dim_head=16, feedforward_mult=1)
    save_weights(EncoderTask(config, len(Tokenizer.from_folder(bundled)), 0).state_dict(), config, tmp_path)
    options = ["--towards", DEFAULT_MODEL, "--tokenizer", str(bundled), "--out", str(tmp_path / "between")]
    with pytest.raises(OptionError, match="different sizes"):
        interpolate.main([str(tmp_path), *options])
    assert not (tmp_path / "between").exists()
