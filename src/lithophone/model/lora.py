"""LoRA (arXiv 2106.09685) on linear layers: add, enable, merge; tensor names as in peft's `adapter_model.safetensors`.

granite-speech-3.3 enables its adapters for prompts with audio. Source: `adapter_config.json` of granite-speech-3.3-2b
(rank 64, alpha 32, q_proj and v_proj).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lithophone.errors import ConfigError, OptionError
from lithophone.model.strict_config import MAX_SIZE, shown

PEFT_PREFIX = "base_model.model."
ADAPTER_PARTS = ("lora_A", "lora_B")
UNBUILT = ("alpha_pattern", "fan_in_fan_out", "layers_to_transform", "modules_to_save", "rank_pattern", "use_dora",
           "use_rslora")  # fmt: skip
"""Keys of `adapter_config.json` that would change the numbers, and must be empty."""


@dataclass(frozen=True)
class LoraConfig:
    """Rank, scale and place of the adapters: `targets` are names of linear layers, or ends of their paths."""

    rank: int = 64
    alpha: float = 32.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")

    def __post_init__(self) -> None:
        if type(self.rank) is not int or not 1 <= self.rank <= MAX_SIZE:
            raise ConfigError(f"LoRA: rank (r) is {shown(self.rank)}: it must lie in 1..{MAX_SIZE}")
        for name, value, greatest in (("alpha", self.alpha, 1e6), ("dropout", self.dropout, 0.999)):
            if type(value) not in (int, float) or not 0.0 <= value <= greatest:
                raise ConfigError(f"LoRA: {name} is {shown(value)}: it must lie in 0..{greatest:g}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], layers: Sequence[str] = ()) -> LoraConfig:
        """Read peft's `adapter_config.json`; ConfigError for an unsupported kind of adapter.

        A string in `target_modules` is a pattern in peft. It is never run: the targets are then `layers`, the paths in
        the adapter file.
        """
        unbuilt = [key for key in UNBUILT if values.get(key)]
        if unbuilt or values.get("bias", "none") != "none":
            seen = ", ".join(f"{key}={shown(values[key])}" for key in unbuilt or ["bias"])
            raise ConfigError(f"the adapter sets {seen}: only plain LoRA without bias is built")
        missing = [key for key in ("r", "lora_alpha", "target_modules") if key not in values]
        if missing:
            raise ConfigError(f"adapter_config.json lacks {', '.join(missing)}")
        targets = values["target_modules"]
        if isinstance(targets, str):
            targets = layers if layers else [targets]
        if not isinstance(targets, Sequence) or not all(isinstance(target, str) for target in targets):
            raise ConfigError(f"adapter_config.json: target_modules is {shown(targets)}: expected a list of names")
        return cls(values["r"], values["lora_alpha"], values.get("lora_dropout", 0.0), tuple(sorted(targets)))

    def to_dict(self) -> dict[str, Any]:
        """The same as peft writes it."""
        return {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "r": self.rank, "lora_alpha": self.alpha,
            "lora_dropout": self.dropout, "target_modules": list(self.targets),
        }  # fmt: skip

    def matches(self, path: str) -> bool:
        return any(path == name or path.endswith(f".{name}") for name in self.targets)


class LoraLinear(nn.Linear):
    """`y = W x + alpha / rank * B A x` while enabled; shares the weight it adapts."""

    def __init__(self, linear: nn.Linear, config: LoraConfig) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        place = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.lora_A = nn.Linear(linear.in_features, config.rank, bias=False, **place)
        self.lora_B = nn.Linear(config.rank, linear.out_features, bias=False, **place)
        nn.init.zeros_(self.lora_B.weight)
        self.dropout = nn.Dropout(config.dropout)
        self.scale = config.alpha / config.rank
        self.enabled, self.merged = True, False

    def forward(self, x: Tensor) -> Tensor:
        base = F.linear(x, self.weight, self.bias)
        if self.merged or not self.enabled:
            return base
        out: Tensor = base + self.scale * self.lora_B(self.lora_A(self.dropout(x)))
        return out

    @torch.no_grad()
    def update(self) -> Tensor:
        """The weight's change, `(out_features, in_features)` in float32."""
        return self.scale * (self.lora_B.weight.float() @ self.lora_A.weight.float())


def add_lora(model: nn.Module, config: LoraConfig) -> list[str]:
    """Adapt the layers of `config.targets`; gives their paths. New adapters start at zero.

    Raises ConfigError when no layer without an adapter matches.
    """
    linears = {path: m for path, m in model.named_modules() if _is_plain(m) and config.matches(path)}
    if not linears:
        raise ConfigError(f"no linear layer without an adapter matches the LoRA targets {config.targets!r}")
    for path, linear in linears.items():
        _replace(model, path, LoraLinear(linear, config))
    return list(linears)


def has_lora(model: nn.Module) -> bool:
    return any(True for _ in _adapted(model))


def fold_lora(model: nn.Module) -> None:
    """Merge every adapter and restore plain linear layers."""
    merge_lora(model)
    for path, layer in list(_adapted(model)):
        plain = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        plain.weight, plain.bias = layer.weight, layer.bias
        _replace(model, path, plain)


def merge_lora(model: nn.Module) -> None:
    """Add every adapter to its weight: no cost per token, but always on. Idempotent."""
    _set_merged(model, True)


def unmerge_lora(model: nn.Module) -> None:
    """Subtract the adapters from the weights, exact up to rounding."""
    _set_merged(model, False)


@contextmanager
def lora_enabled(model: nn.Module, enabled: bool) -> Iterator[None]:
    """All adapters on or off within a `with` block.

    State of the model: threads that share one must not overlap such blocks. Raises OptionError for merged adapters that
    are to be off.
    """
    layers = [layer for _, layer in _adapted(model)]
    if not enabled and any(layer.merged for layer in layers):
        raise OptionError("the LoRA adapters are merged and cannot be switched off: call unmerge_lora first")
    before = [layer.enabled for layer in layers]
    try:
        for layer in layers:
            layer.enabled = enabled
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.enabled = value


def is_adapter(name: str) -> bool:
    return any(part in ADAPTER_PARTS for part in name.split("."))


def to_peft_name(name: str) -> str:
    """Our parameter name -> its name in `adapter_model.safetensors`."""
    return PEFT_PREFIX + name


def from_peft_name(name: str) -> str:
    """Tensor name in `adapter_model.safetensors` -> our parameter name.

    Newer files have one more `model.` in front, and none before `layers`. Raises ConfigError for other names.
    """
    if not name.startswith(PEFT_PREFIX) or not is_adapter(name):
        raise ConfigError(f"{name!r} is no LoRA tensor: expected {PEFT_PREFIX}<layer>.lora_A.weight or lora_B.weight")
    ours = name.removeprefix(PEFT_PREFIX).replace(".default.weight", ".weight")
    return re.sub(r"^model\.language_model\.(?=layers\.)", "language_model.model.", ours)


def _is_plain(module: nn.Module) -> TypeGuard[nn.Linear]:
    return isinstance(module, nn.Linear) and not isinstance(module, LoraLinear)


def _adapted(model: nn.Module) -> Iterator[tuple[str, LoraLinear]]:
    return ((path, module) for path, module in model.named_modules() if isinstance(module, LoraLinear))


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)


@torch.no_grad()
def _set_merged(model: nn.Module, merged: bool) -> None:
    sign = 1.0 if merged else -1.0
    for _, layer in _adapted(model):
        if layer.merged != merged:
            layer.weight.copy_(layer.weight.float() + sign * layer.update())
            layer.merged = merged
