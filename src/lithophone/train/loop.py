"""The training loop: one step after another, on a CPU, a GPU or several, resumable at any moment.

A recipe gives the model, the batches and a function from batch to losses; the loop owns precision, accumulation over
ranks, the optimiser, the running average, the log and the checkpoints.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import Self

from lithophone.train.losses import Loss
from lithophone.train.optim import Average, LearningRate, MasterAdamW
from lithophone.train.ranks import copy_from_first, sum_gradients, sum_over_ranks

log = logging.getLogger(__name__)


class TrainingBatch(Protocol):
    """What the loop must know of a batch: where it lies, and how much speech it holds."""

    @property
    def seconds(self) -> float: ...

    def to(self, device: torch.device | str) -> Self: ...


AnyBatch = TypeVar("AnyBatch", bound=TrainingBatch)


@dataclass(frozen=True)
class LoopOptions:
    """How to train. `precision` is the model's type while computing; weights and averages are kept in float32."""

    schedule: LearningRate
    folder: Path
    device: str = "cpu"
    precision: torch.dtype = torch.float32
    max_norm: float = 2.0
    average_decay: float = 0.999
    log_every: int = 20
    save_every: int = 200
    evaluate_every: int = 500
    leads: bool = True
    """Whether this process writes the log and the checkpoints; exactly one of all ranks does."""


class Trainer(Generic[AnyBatch]):
    """A run: the model and everything that changes while it is trained. `weights` names each loss's share."""

    def __init__(
        self,
        model: nn.Module,
        losses: Callable[[AnyBatch], Mapping[str, Loss]],
        weights: Mapping[str, float],
        options: LoopOptions,
    ) -> None:
        model.to(options.device)
        copy_from_first(model)
        self.optimizer = MasterAdamW(model.parameters())
        self.model = cast_for_compute(model, options.precision)
        self.losses = losses
        self.weights = dict(weights)
        self.options = options
        self.average = Average(self._full_state(), options.average_decay)
        self.step = 0
        self.seconds_seen = 0.0
        options.folder.mkdir(parents=True, exist_ok=True)

    def run(self, batches: Iterable[AnyBatch], evaluate: Callable[[], Mapping[str, float]] | None = None) -> None:
        """Train until the schedule ends; call `evaluate` with the averaged weights in place every now and then."""
        options, clock = self.options, time.monotonic()
        sums: dict[str, float] = {}
        seen = 0.0
        for batch in batches:
            if self.step >= options.schedule.steps:
                break
            norm, means = self.train_step(batch.to(options.device))
            seen += batch.seconds
            for name, mean in means.items():
                sums[name] = sums.get(name, 0.0) + mean / options.log_every
            if self.step % options.log_every == 0:
                speed = seen / (time.monotonic() - clock)
                self.record({**sums, "norm": norm, "audio_s_per_s": speed})
                sums, seen, clock = {}, 0.0, time.monotonic()
            if self.step % options.save_every == 0:
                self.save()
            if evaluate and self.step % options.evaluate_every == 0:
                self.record(self.with_average(evaluate))
                clock = time.monotonic()
        self.save()
        if evaluate:
            self.record(self.with_average(evaluate))

    def train_step(self, batch: AnyBatch) -> tuple[float, dict[str, float]]:
        """One update; the gradient is that of each loss's mean over the targets of all ranks."""
        self.model.train()
        torch.manual_seed(self.step)
        losses = self.losses(batch)
        mine = torch.tensor([*(loss.count for loss in losses.values()), batch.seconds], dtype=torch.float64)
        *counts, seconds = sum_over_ranks(mine.to(self.options.device)).tolist()
        parts = [
            self.weights[name] * loss.total / max(count, 1.0)
            for (name, loss), count in zip(losses.items(), counts, strict=True)
        ]
        torch.stack([p.float() for p in parts]).sum().backward()  # type: ignore[no-untyped-call]
        sum_gradients(self.optimizer.parameters)
        norm = self.optimizer.step(self.options.schedule.at(self.step), self.options.max_norm)
        self.step += 1
        self.seconds_seen += seconds
        self.average.update(self._full_state())
        return norm, {name: loss.mean for name, loss in losses.items()}

    def with_average(self, evaluate: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        """Run `evaluate` in eval mode with the averaged weights, then put the trained ones back."""
        state = self.model.state_dict()
        kept = {name: state[name].clone() for name in self.average.tensors}
        try:
            _copy_into(state, self.average.tensors)
            self.model.eval()
            with torch.inference_mode():
                return evaluate()
        finally:
            _copy_into(state, kept)

    def averaged_state(self) -> dict[str, Tensor]:
        """The averaged weights, float32."""
        return {**self.model.state_dict(), **self.average.tensors}

    def record(self, values: Mapping[str, Any]) -> None:
        """Append a line to `log.jsonl` and to the library's log."""
        row = {"step": self.step, "hours": round(self.seconds_seen / 3600, 3)}
        row |= {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
        if not self.options.leads:
            return
        log.info("%s", row)
        with (self.options.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """Write `last.pt`: all of it, or nothing."""
        if not self.options.leads:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "step": self.step,
            "seconds_seen": self.seconds_seen,
        }
        path = self.options.folder / "last.pt"
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def resume(self) -> bool:
        """Go on from `last.pt` if there is one."""
        path = self.options.folder / "last.pt"
        if not path.exists():
            return False
        state = torch.load(path, map_location=self.options.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.step, self.seconds_seen = state["step"], state["seconds_seen"]
        return True

    def _full_state(self) -> dict[str, Tensor]:
        """The model's state with the float32 masters in place of rounded parameters."""
        names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        return {**self.model.state_dict(), **dict(zip(names, self.optimizer.masters, strict=True))}


def cast_for_compute(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast the model for computing; batch normalisation keeps float32 statistics and weights."""
    for module in model.modules():
        if not isinstance(module, nn.BatchNorm1d):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)
            for name, buffer in module.named_buffers(recurse=False):
                if buffer.is_floating_point():
                    setattr(module, name, buffer.to(dtype))
    return model


def _copy_into(state: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
