"""A tiny run on points of a plane, and one that is killed in the middle of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from lithophone.train.data.augment import seeded
from lithophone.train.run.loop import LoopOptions, Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.targets.losses import Loss

STEPS = 40


@dataclass(frozen=True)
class Points:
    """A batch of points on a plane, and their height."""

    x: Tensor
    y: Tensor
    seconds: float = 1.5

    def to(self, device: torch.device | str) -> Points:
        return self


def batches(start: int = 0) -> Iterator[Points]:
    step = start
    while True:
        x = torch.from_numpy(seeded(1, step).standard_normal((8, 4))).float()
        yield Points(x, x @ torch.tensor([1.0, -2.0, 0.5, 3.0]))
        step += 1


def make_model() -> nn.Sequential:
    """A frozen layer, then dropout, batch normalisation and layers that learn."""
    torch.manual_seed(0)
    frozen = nn.Linear(4, 16).requires_grad_(False)
    return nn.Sequential(
        frozen, nn.Dropout(0.1), nn.BatchNorm1d(16), nn.SiLU(), nn.Linear(16, 16), nn.SiLU(), nn.Linear(16, 1)
    )


def make_trainer(folder: Path, steps: int = STEPS, model: nn.Module | None = None, **options: Any) -> Trainer[Points]:
    model = model or make_model()

    chosen = LoopOptions(
        Schedule(0.02, steps, warmup=5, cooldown=20), folder, log_every=10, save_every=7, evaluate_every=25
    )
    chosen = replace(chosen, **options)

    def losses(batch: Points, step: int) -> Mapping[str, Loss]:
        error = model(batch.x.to(chosen.precision)).squeeze(-1).float() - batch.y
        return {"square": Loss(error.square().sum(), float(len(batch.y)))}

    return Trainer(model, losses, {"square": 1.0}, chosen)


def evaluate(trainer: Trainer[Points]) -> dict[str, float]:
    """The error on points that are never trained on."""
    points = next(batches(10**6))
    return {"error": float((trainer.model(points.x).squeeze(-1) - points.y).square().mean())}


def run_to_the_end(folder: Path) -> Trainer[Points]:
    """Begin, or go on from where the run in this folder was killed."""
    trainer = make_trainer(folder)
    trainer.resume()
    trainer.run(batches(trainer.batches_seen), lambda: evaluate(trainer))
    return trainer


def killed_at(step: int, start: int) -> Iterator[Points]:
    """Batches from `start` on, that end with the process before this step."""
    for number, batch in enumerate(batches(start), start):
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def half_save(state: Mapping[str, Tensor], file: BinaryIO) -> None:
    """Write the first bytes of a checkpoint, and end with the process."""
    file.write(b"PK" * 100)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def run_until_killed(folder: Path, kind: str, at: int, threads: int) -> None:
    torch.set_num_threads(threads)
    trainer = make_trainer(folder)
    trainer.resume()
    stream = batches(trainer.batches_seen)
    if kind == "step":
        stream = killed_at(at, trainer.batches_seen)
    else:
        save = torch.save
        torch.save = lambda state, file: (half_save if state["steps"][0] == at else save)(state, file)
    trainer.run(stream, lambda: evaluate(trainer))
