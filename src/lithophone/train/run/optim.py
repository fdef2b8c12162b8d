"""Learning-rate schedules, AdamW on float32 masters, exponential average of weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class LearningRate(Protocol):
    @property
    def steps(self) -> int: ...

    def at(self, step: int) -> float: ...


@dataclass(frozen=True)
class Schedule:
    """Linear warmup, constant, linear decay to zero in the last `cooldown` of `steps`.

    Only the decay depends on `steps`, so a run can be prolonged.
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
    """Linear warmup, then half a cosine to zero at `steps`; a prolonged run differs from a longer one."""

    peak: float
    steps: int
    warmup: int

    def at(self, step: int) -> float:
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.peak * 0.5 * (1.0 + math.cos(math.pi * done))


class MasterAdamW:
    """AdamW with float32 masters and state, for a model that may compute in bfloat16.

    Parameters are copied from the masters after every step. Tensors of rank 1 (norms, biases) do not decay. `masters`:
    parameters before rounding, sharded as the model. `factors`: of the learning rate, for every parameter.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        masters: Sequence[Tensor] | None = None,
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.98),
        factors: Sequence[float] | None = None,
    ) -> None:
        self.parameters: list[Tensor] = [p for p in parameters if p.requires_grad]
        self.masters = [p.detach().clone().float() for p in self.parameters] if masters is None else list(masters)
        groups: dict[tuple[float, bool], list[Tensor]] = {}
        for master, factor in zip(self.masters, factors or [1.0] * len(self.masters), strict=True):
            groups.setdefault((factor, master.ndim > 1), []).append(master)
        self.adam = torch.optim.AdamW(
            [
                {"params": some, "weight_decay": weight_decay * decays, "factor": factor}
                for (factor, decays), some in groups.items()
            ],
            lr=0.0,
            betas=betas,
            fused=True,
        )

    @torch.no_grad()
    def collect(self) -> None:
        """Add the model's gradients to the masters', in float32."""
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            if parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            parameter.grad = None
            if master.grad is None:
                master.grad = gradient
            else:
                master.grad.add_(gradient)

    def step(self, lr: float, max_norm: float) -> float:
        """Clip to `max_norm`, step, clear gradients; returns the norm before clipping. Non-finite norm: no update."""
        self.collect()
        for master in self.masters:
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        total = nn.utils.get_total_norm([m.grad for m in self.masters if m.grad is not None])
        total = total.full_tensor() if isinstance(total, DTensor) else total
        norm = float(total)
        if math.isfinite(norm):
            nn.utils.clip_grads_with_norm_(self.masters, max_norm, total)
            for group in self.adam.param_groups:
                group["lr"] = lr * group["factor"]
            self.adam.step()
            self.write()
        for master in self.masters:
            master.grad = None
        return norm

    @torch.no_grad()
    def write(self) -> None:
        torch._foreach_copy_([_own(p) for p in self.parameters], [_own(m) for m in self.masters])

    def moments(self) -> list[dict[str, Tensor]]:
        """Adam's state of every master, zeros before the first step."""
        for master in self.masters:
            state = self.adam.state[master]
            if not state:
                state["step"] = torch.zeros((), device=master.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(master), torch.zeros_like(master)
        return [self.adam.state[master] for master in self.masters]


def _own(tensor: Tensor) -> Tensor:
    """This rank's shard."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Average:
    """Exponential average of floating-point tensors in float32, evaluated and saved in place of the weights.

    The decay rises with the number of updates up to `decay`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {k: v.detach().clone().float() for k, v in tensors.items() if v.is_floating_point()}

    @torch.no_grad()
    def update(self, tensors: Mapping[str, Tensor]) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10.0))
        for name, mean in self.tensors.items():
            mean.lerp_(tensors[name].float(), 1.0 - decay)
