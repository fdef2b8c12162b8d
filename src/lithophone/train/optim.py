"""Optimisation: learning rates over steps; AdamW on float32 masters; a running average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


class LearningRate(Protocol):
    """A learning rate for every one of `steps` steps."""

    @property
    def steps(self) -> int: ...

    def at(self, step: int) -> float: ...


@dataclass(frozen=True)
class Schedule:
    """Learning rate over steps: up in `warmup`, flat, and down to zero in the last `cooldown` of `steps`.

    A plateau lets a run be prolonged: only the way down depends on where it ends.
    """

    peak: float
    steps: int
    warmup: int
    cooldown: int

    def at(self, step: int) -> float:
        rising = min(1.0, (step + 1) / max(1, self.warmup))
        falling = min(1.0, (self.steps - step) / max(1, self.cooldown))
        return self.peak * max(0.0, min(rising, falling))


@dataclass(frozen=True)
class Cosine:
    """Learning rate over steps: up in `warmup`, then half a cosine down to zero at `steps`.

    Every step depends on where the run ends: a run that is prolonged does not equal a longer one.
    """

    peak: float
    steps: int
    warmup: int

    def at(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.peak * 0.5 * (1.0 + math.cos(math.pi * done))


class MasterAdamW:
    """AdamW whose state and weights are float32, while the model may compute in bfloat16.

    The model's parameters are overwritten from the masters after every step. Weights of rank 1 (norms, biases) are
    not decayed.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.98),
    ) -> None:
        self.parameters: list[Tensor] = [p for p in parameters if p.requires_grad]
        self.masters = [p.detach().clone().float() for p in self.parameters]
        groups: list[dict[str, object]] = [
            {"params": [m for m in self.masters if m.ndim > 1], "weight_decay": weight_decay},
            {"params": [m for m in self.masters if m.ndim <= 1], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, betas=betas, fused=True)

    def step(self, lr: float, max_norm: float) -> float:
        """Clip the gathered gradients to `max_norm` and step; returns the norm before clipping. NaN: no step."""
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            master.grad = gradient.float()
            parameter.grad = None
        norm = float(nn.utils.clip_grad_norm_(self.masters, max_norm))
        if torch.isfinite(torch.tensor(norm)):
            for group in self.adam.param_groups:
                group["lr"] = lr
            self.adam.step()
            self.write()
        return norm

    @torch.no_grad()
    def write(self) -> None:
        """Copy the masters into the model."""
        torch._foreach_copy_(self.parameters, self.masters)

    def state_dict(self) -> dict[str, object]:
        return {"masters": self.masters, "adam": self.adam.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, object]) -> None:
        torch._foreach_copy_(self.masters, list(state["masters"]))  # type: ignore[call-overload]
        self.adam.load_state_dict(state["adam"])  # type: ignore[arg-type]
        self.write()


class Average:
    """Exponential average of a model's floating-point state, in float32: what is evaluated and shipped.

    The decay grows with the number of updates up to `decay`, so that the random start is soon forgotten.
    """

    def __init__(self, tensors: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {k: v.detach().clone().float() for k, v in tensors.items() if v.is_floating_point()}

    @torch.no_grad()
    def update(self, tensors: dict[str, Tensor]) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10.0))
        for name, mean in self.tensors.items():
            mean.lerp_(tensors[name].float(), 1.0 - decay)

    def state_dict(self) -> dict[str, object]:
        return {"updates": self.updates, "tensors": self.tensors}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.updates = int(state["updates"])  # type: ignore[call-overload]
        self.tensors = dict(state["tensors"])  # type: ignore[call-overload]
