"""Parts of a model: named, opened, written and merged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.errors import CheckpointError, ConfigError, OptionError
from lithophone.model.lora import LoraConfig, is_adapter, merge_lora
from lithophone.train.finetune import Best, Patience, TrainableParts, make_trainable, merge_parts, write_parts
from tests.test_checkpoint import FRAMES, prompt
from tests.tiny import tiny_frames
from tests.tiny_checkpoint import tiny_checkpoint

LORA = LoraConfig(rank=4, alpha=8.0)


@pytest.mark.parametrize(
    ("items", "parts"),
    [
        (["projector", "lora"], TrainableParts(frozenset({"projector", "lora"}))),
        (["last-layers=8", "lm-head"], TrainableParts(frozenset({"last-layers", "lm-head"}), 8)),
        (["all"], TrainableParts(frozenset({"all"}))),
    ],
)
def test_parts_are_read(items: list[str], parts: TrainableParts) -> None:
    assert TrainableParts.parse(items) == parts


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["projectors"], "'projectors' is no part of a model; give any of projector, lora, last-layers=K"),
        (["last-layers"], "'last-layers' is no part"),
        (["projector=2"], "'projector=2' is no part"),
        (["last-layers=0"], "the number of layers must be 1 or more"),
        (["all", "lora"], "all includes lora: leave one of them out"),
        ([], "no parts to train"),
    ],
)
def test_wrong_parts_are_named_with_what_is_allowed(items: list[str], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        TrainableParts.parse(items)


def opened(items: list[str], kind: str = "base") -> set[str]:
    model = tiny_checkpoint(kind, bpe=True).model
    make_trainable(model, TrainableParts.parse(items), LORA)
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_only_what_is_named_learns() -> None:
    everything = {name for name, _ in tiny_checkpoint(bpe=True).model.named_parameters()}
    assert opened(["projector"]) == {name for name in everything if name.startswith("projector.")}
    assert opened(["encoder"]) == {name for name in everything if name.startswith("encoder.")}
    assert opened(["all"]) == {name for name in everything if not name.startswith("bpe_head.")}
    assert opened(["lm-head"]) == {"language_model.lm_head.weight"}
    assert opened(["lm-head"], "plus") == {"language_model.model.embed_tokens.weight"}
    last = ("language_model.model.layers.1.", "language_model.model.layers.2.", "language_model.model.norm.")
    assert opened(["last-layers=2"]) == {name for name in everything if name.startswith(last)}
    lora = opened(["lora"])
    assert lora
    assert all(is_adapter(name) for name in lora)
    assert {name.split(".")[-3] for name in lora} == {"q_proj", "v_proj"}


def test_adapters_that_are_there_are_trained_on() -> None:
    model = tiny_checkpoint("lora").model
    config = make_trainable(model, TrainableParts.parse(["lora"]), LORA)
    assert (config.rank, config.alpha) == (4, 2.0)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if is_adapter(name)
    }


def test_more_layers_than_there_are_and_targets_that_are_nowhere() -> None:
    with pytest.raises(OptionError, match="last-layers=9, but the language model has 3"):
        opened(["last-layers=9"])
    with pytest.raises(ConfigError, match="no_proj"):
        make_trainable(tiny_checkpoint().model, TrainableParts.parse(["lora"]), replace(LORA, targets=("no_proj",)))


def logits(checkpoint: Checkpoint) -> Tensor:
    frames, lengths = tiny_frames(FRAMES)
    ids = prompt(checkpoint, 15)
    with torch.no_grad():
        return checkpoint.model([ids], frames, lengths)[0]


@pytest.mark.parametrize("kind", ["base", "plus", "lora"])
def test_merged_equals_unmerged(kind: str, tmp_path: Path) -> None:
    """The run's own model, with its adapters beside the weights, and the folder that comes of merging them."""
    save_checkpoint(tiny_checkpoint(kind), tmp_path / "source")
    running = load_checkpoint(tmp_path / "source")
    lora = make_trainable(running.model, TrainableParts.parse(["projector", "lora"]), LORA)
    others = tiny_checkpoint(kind, seed=5).model.projector.state_dict()
    state = {f"projector.{name}": tensor for name, tensor in others.items()}
    generator = torch.Generator().manual_seed(3)
    for name, parameter in running.model.named_parameters():
        if is_adapter(name):
            state[name] = 0.3 * torch.randn(parameter.shape, generator=generator)
    running.model.load_state_dict(state, strict=False)
    wanted = logits(running)
    assert (wanted - logits(load_checkpoint(tmp_path / "source"))).abs().max() > 0.1
    merged = merge_parts(load_checkpoint(tmp_path / "source"), state, lora)
    torch.testing.assert_close(logits(merged), wanted, rtol=1e-5, atol=1e-5)
    save_checkpoint(merged, tmp_path / "merged")
    again = load_checkpoint(tmp_path / "merged")
    assert not again.model.config.has_lora_adapter
    torch.testing.assert_close(logits(again), wanted, rtol=1e-5, atol=1e-5)
    merge_lora(running.model)
    torch.testing.assert_close(logits(running), wanted, rtol=1e-5, atol=1e-5)


def test_adapters_and_other_parts_are_written_apart(tmp_path: Path) -> None:
    model = tiny_checkpoint().model
    lora = make_trainable(model, TrainableParts.parse(["projector", "lora"]), LORA)
    state = {name: p for name, p in model.named_parameters() if p.requires_grad}
    write_parts(state, lora, tmp_path)
    adapters = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.weight" in adapters
    assert len(adapters) == sum(map(is_adapter, state))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 4
    others = load_file(tmp_path / "trained.safetensors")
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {(tmp_path / "adapter_config.json").stat().st_mode}
    assert set(others) == {name for name in state if not is_adapter(name)}


def test_another_model_has_no_place_for_them() -> None:
    with pytest.raises(CheckpointError, match=r"has no encoder\.strange: give the model that was trained"):
        merge_parts(tiny_checkpoint(), {"encoder.strange": torch.zeros(1)}, LORA)


def test_patience_counts_looks_without_a_gain() -> None:
    patience = Patience(2, "error")
    assert [patience({"error": e}) for e in (0.5, 0.6, 0.4, 0.4, 0.3, 0.3, 0.35)] == [False] * 6 + [True]
    with pytest.raises(OptionError, match="--patience is 0"):
        Patience(0, "error")


def test_the_best_is_kept_by_its_folder(tmp_path: Path) -> None:
    for step, error in ((0, 0.5), (10, 0.3), (20, 0.4)):
        Best(tmp_path).offer(error, step, {"w": torch.full((2,), error)})
    error, step, state = Best(tmp_path).read()
    assert (error, step) == (0.3, 10)
    torch.testing.assert_close(state["w"], torch.full((2,), 0.3))
