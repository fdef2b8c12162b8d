"""Fine-tuning: trainable parts of a model, their files, and merging; frozen parts are neither copied nor written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lithophone.checkpoint import Checkpoint
from lithophone.errors import CheckpointError, OptionError
from lithophone.files import replacing, write_json
from lithophone.model.lora import LoraConfig, add_lora, fold_lora, has_lora, is_adapter
from lithophone.model.speech import GraniteSpeech
from lithophone.model.weights import lora_config, write_adapter

NAMES = ("projector", "lora", "last-layers", "lm-head", "language-model", "encoder", "all")
SYNTAX = "any of projector, lora, last-layers=K, lm-head, language-model, encoder, or all"

TRAINED = "trained.safetensors"
"""Trained tensors except adapters, by the checkpoint's names."""


@dataclass(frozen=True)
class TrainableParts:
    """Trainable parts by name. A tied head is the embedding table too."""

    names: frozenset[str]
    last_layers: int = 0
    """Last layers of the language model, with its final norm."""

    @classmethod
    def parse(cls, items: Iterable[str]) -> TrainableParts:
        """Parse `["projector", "last-layers=8"]`. Raises OptionError for unknown or overlapping parts."""
        names, layers = set(), 0
        for item in items:
            name, equals, count = item.partition("=")
            if name not in NAMES or bool(equals) != (name == "last-layers"):
                raise OptionError(f"{item!r} is no part of a model; give {SYNTAX}")
            if equals and not (count.isdecimal() and int(count) > 0):
                raise OptionError(f"{item!r}: the number of layers must be 1 or more")
            names.add(name)
            layers = int(count) if equals else layers
        return cls(frozenset(names), layers)

    def __post_init__(self) -> None:
        if not self.names:
            raise OptionError(f"no parts to train; give {SYNTAX}")
        whole = self.names & {"language-model", "all"}
        inside = self.names & {"lora", "last-layers", "lm-head"}
        if whole and inside:
            raise OptionError(f"{', '.join(sorted(whole))} includes {', '.join(sorted(inside))}: leave one of them out")


def make_trainable(model: GraniteSpeech, parts: TrainableParts, lora: LoraConfig) -> LoraConfig:
    """Freeze all but `parts`; returns the adapters' configuration: the model's own, or else `lora`.

    Raises OptionError for more layers than exist, ConfigError where `lora` matches no layer.
    """
    model.requires_grad_(False)
    for module in _modules(model, parts):
        module.requires_grad_(True)
    if "lora" in parts.names:
        if not has_lora(model):
            add_lora(model, lora)
        for name, parameter in model.named_parameters():
            if is_adapter(name):
                parameter.requires_grad_(True)
    return lora_config(model) or lora


def _modules(model: GraniteSpeech, parts: TrainableParts) -> list[nn.Module]:
    language_model = model.language_model
    layers = language_model.model.layers
    if parts.last_layers > len(layers):
        raise OptionError(f"last-layers={parts.last_layers}, but the language model has {len(layers)}")
    head = language_model.model.embed_tokens if language_model.lm_head is None else language_model.lm_head
    known: dict[str, Sequence[nn.Module]] = {
        "projector": [model.projector],
        "lora": [],
        "last-layers": [*layers[len(layers) - parts.last_layers :], language_model.model.norm],
        "lm-head": [head],
        "language-model": [language_model],
        "encoder": [model.encoder],
        "all": [model.encoder, model.projector, language_model],
    }
    return [module for name in sorted(parts.names) for module in known[name]]


def learns(model: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in model.parameters())


class Best:
    """The best weights of a run so far, in files of its folder; lower error is better."""

    def __init__(self, folder: Path) -> None:
        self.weights, self.about = folder / "best.safetensors", folder / "best.json"

    def offer(self, error: float, step: int, state: Mapping[str, Tensor]) -> None:
        """Write `state` if its error is the lowest so far; the weights are renamed before the error's file."""
        if self.about.is_file() and error >= json.loads(self.about.read_text(encoding="utf-8"))["error"]:
            return
        with replacing(self.weights, one_writer=True) as part:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, part)
        write_json(self.about, {"error": error, "step": step})

    def read(self) -> tuple[float, int, dict[str, Tensor]]:
        about = json.loads(self.about.read_text(encoding="utf-8"))
        return about["error"], about["step"], load_file(self.weights)


@dataclass
class Patience:
    """Early stopping: true after `patience` evaluations without a new best `measure`."""

    patience: int
    measure: str
    best: float = float("inf")
    waited: int = 0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise OptionError(f"--patience is {self.patience}: it must be 1 or more evaluations")

    def __call__(self, values: Mapping[str, float]) -> bool:
        error = values[self.measure]
        self.waited = 0 if error < self.best else self.waited + 1
        self.best = min(self.best, error)
        return self.waited >= self.patience


def write_parts(state: Mapping[str, Tensor], lora: LoraConfig, folder: Path) -> None:
    """Write trained tensors: adapters in the format of `peft`, others in TRAINED."""
    folder.mkdir(parents=True, exist_ok=True)
    adapters = {name: tensor for name, tensor in state.items() if is_adapter(name)}
    others = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items() if name not in adapters}
    if adapters:
        write_adapter(folder, adapters, lora)
    if others:
        with replacing(folder / TRAINED, one_writer=True) as part:
            save_file(others, part)


def merge_parts(source: Checkpoint, state: Mapping[str, Tensor], lora: LoraConfig) -> Checkpoint:
    """`source` read anew, with the trained tensors and all adapters merged.

    Raises CheckpointError for tensors that `source` lacks.
    """
    model = source.model
    if any(map(is_adapter, state)) and not has_lora(model):
        add_lora(model, lora)
    foreign = model.load_state_dict(dict(state), strict=False).unexpected_keys
    if foreign:
        raise CheckpointError(f"{source.folder} has no {', '.join(foreign[:3])}: give the model that was trained")
    fold_lora(model)
    model.config = replace(model.config, has_lora_adapter=False)
    return replace(source, config=model.config)
