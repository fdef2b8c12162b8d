"""Points between encoders."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lithophone.checkpoint import load_checkpoint
from lithophone.hub import DEFAULT_MODEL, resolve
from tests.conftest import ROOT


def test_a_quarter_of_the_way_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    encoder, interpolate = (importlib.import_module(name) for name in ("encoder", "interpolate"))
    bundled = resolve(DEFAULT_MODEL)
    checkpoint = load_checkpoint(bundled)
    tokens = checkpoint.tokenizer
    for module in (encoder, interpolate):  # other tests train smaller ones
        monkeypatch.setattr(module, "TINY", checkpoint.config.encoder_config)
    task = encoder.EncoderTask(encoder.TINY, len(tokens), 0)
    encoder.start_from(task, DEFAULT_MODEL, tokens)
    first = {name: value.clone() for name, value in task.state_dict().items()}
    for value in task.parameters():
        value.data += 1.0
    encoder.save_weights(task.state_dict(), task.encoder.config, tmp_path)
    options = ["--towards", DEFAULT_MODEL, "--tokenizer", str(bundled), "--out", str(tmp_path / "between")]
    interpolate.main([str(tmp_path), "--share", "0.25", *options])
    found = load_file(tmp_path / "between" / "encoder.safetensors")
    learned = {name for name, _ in task.named_parameters()}
    for name, value in found.items():
        torch.testing.assert_close(value, first[name] + (0.75 if name in learned else 0))
