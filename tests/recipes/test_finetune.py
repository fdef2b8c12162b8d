"""Fine-tuning from two recordings to a model that knows them: before and after, adapters for peft, merged, resumed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import lithophone
from lithophone.checkpoint import load_checkpoint, save_checkpoint
from lithophone.errors import OptionError
from lithophone.model.nar_config import Generation
from lithophone.model.speech import GraniteSpeech
from tests.conftest import ROOT
from tests.recipes.spoken import sing, write_songs
from tests.test_checkpoint import FRAMES, prompt
from tests.tiny import tiny_frames
from tests.tiny_checkpoint import tiny_checkpoint, tiny_nar_checkpoint

TEXTS = ("a cab", "feed me")


@pytest.fixture
def finetune(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    return importlib.import_module("finetune")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, and a random model with plain logits, so that it learns fast."""
    folder = tmp_path_factory.mktemp("finetune")
    write_songs(folder, [{"text": text, "lang": "en"} for text in TEXTS])
    base = tiny_checkpoint()
    config = replace(base.model.config, text_config=replace(base.model.config.text_config, logits_scaling=1.0))
    model = GraniteSpeech(config)
    model.load_state_dict(base.model.state_dict())
    save_checkpoint(replace(base, network=model, config=config), folder / "base")
    return folder


def run(
    recipe: ModuleType, folder: Path, out: Path, options: str, parts: Sequence[str] = ("projector", "lora")
) -> None:
    manifest = folder / "manifest.jsonl"
    recipe.main([
        "--model", str(folder / "base"), "--data", str(manifest), "--dev", str(manifest), "--out", str(out),
        "--cache", str(folder / "cache"), "--parts", *parts, *f"--lora-rank 8 --lora-alpha 16 --row-frames 50 --plain "
        f"--batch-seconds 3 --mix keywords=0 punctuated=0 --warmup 2 --cooldown 5 --workers 0 --device cpu "
        f"--precision float32 {options}".split(),
    ])  # fmt: skip


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_two_recordings_are_learned(finetune: ModuleType, folder: Path, tmp_path: Path, tones_are_speech: None) -> None:
    out = tmp_path / "out"
    run(finetune, folder, out, "--steps 120 --lr 1e-2 --cooldown 60 --evaluate-every 40 --log-every 10 --merge")
    report = json.loads((out / "report.json").read_text())
    assert report["before"] >= 0.8
    assert report["after"] == 0.0
    losses = [row["reply"] for row in log_of(out) if "reply" in row]
    assert losses[-1] < 0.2 * losses[0]
    model = lithophone.load(out / "model")
    heard = [model.transcribe(sing(text), 16_000, punctuate=False, decode="greedy").text for text in TEXTS]
    assert heard == list(TEXTS)
    still = load_checkpoint(folder / "base").model.state_dict()
    merged = load_checkpoint(out / "model").model.state_dict()
    changed = {name for name in still if not torch.allclose(still[name].bfloat16(), merged[name].bfloat16())}
    assert {".".join(name.split(".")[:1]) for name in changed} == {"projector", "language_model"}
    assert all("q_proj" in name or "v_proj" in name for name in changed if name.startswith("language_model"))


def test_peft_reads_the_adapters_into_transformers(finetune: ModuleType, folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    run(finetune, folder, tmp_path, "--steps 30 --lr 2e-2 --evaluate-every 30", ["lora"])
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "adapter_model.safetensors", "adapter_config.json",
    }  # fmt: skip
    reference = transformers.GraniteSpeechForConditionalGeneration.from_pretrained(folder / "base")
    reference.load_adapter(str(tmp_path / "adapter"))
    assert any(isinstance(module, peft.tuners.lora.Linear) for module in reference.modules())
    _, _, state = finetune.Best(tmp_path).read()
    source = load_checkpoint(folder / "base")
    lora = finetune.LoraConfig(8, 16.0)
    merged = finetune.merge_parts(source, state, lora)
    frames, lengths = tiny_frames(FRAMES)
    ids = prompt(merged, 15)
    with torch.no_grad():
        wanted = reference(input_ids=torch.tensor([ids]), input_features=frames).logits
        torch.testing.assert_close(merged.model([ids], frames, lengths)[0], wanted, rtol=1e-5, atol=1e-4)
        plain = load_checkpoint(folder / "base").model([ids], frames, lengths)[0]
    assert (plain - wanted).abs().max() > 1e-3


@pytest.mark.full
def test_a_resumed_run_equals_an_unbroken_one(finetune: ModuleType, folder: Path, tmp_path: Path) -> None:
    run(finetune, folder, tmp_path / "whole", "--steps 6 --cooldown 1 --lr 1e-3 --evaluate-every 3 --save-every 2")
    run(finetune, folder, tmp_path / "parts", "--steps 4 --cooldown 1 --lr 1e-3 --evaluate-every 3 --save-every 2")
    run(finetune, folder, tmp_path / "parts", "--steps 6 --cooldown 1 --lr 1e-3 --evaluate-every 3 --save-every 2")
    whole, parts = (torch.load(tmp_path / name / "last.pt") for name in ("whole", "parts"))
    assert whole["steps"].tolist() == parts["steps"].tolist()
    names = {name for name in whole if name.startswith("exact.")}
    assert names
    assert all(torch.equal(whole[name], parts[name]) for name in names)


def test_a_run_that_wins_nothing_stops_and_keeps_the_best(finetune: ModuleType, folder: Path, tmp_path: Path) -> None:
    """At a learning rate of nothing no look is better than the first one."""
    run(finetune, folder, tmp_path, "--steps 50 --lr 0 --evaluate-every 2 --patience 2")
    rows = log_of(tmp_path)
    assert [row["step"] for row in rows if "error" in row] == [0, 2, 4]
    assert json.loads((tmp_path / "report.json").read_text())["step"] == 0


def test_a_model_that_edits_is_sent_to_its_own_recipe(finetune: ModuleType, tmp_path: Path) -> None:
    generation: Generation = "G3"
    save_checkpoint(tiny_nar_checkpoint(generation), tmp_path / "nar")
    with pytest.raises(OptionError, match=r"nar model: train it with `lithophone train nar --init"):
        finetune.read_model(str(tmp_path / "nar"))
