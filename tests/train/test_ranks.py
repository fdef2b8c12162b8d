"""Two processes take the step that one process takes with both batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

PROGRAM = """
import sys, torch
from dataclasses import dataclass, replace
from pathlib import Path
from torch import nn
from lithophone.train.loop import LoopOptions, Trainer
from lithophone.train.losses import Loss
from lithophone.train.optim import Schedule
from lithophone.train.ranks import join_ranks

@dataclass(frozen=True)
class Points:
    x: torch.Tensor
    seconds: float = 2.0
    def to(self, device):
        return self

folder, world = Path(sys.argv[1]), int(sys.argv[2])
ranks = join_ranks("cpu")
torch.manual_seed(ranks.rank)   # unequal starts: rank 0's has to win
model = nn.Linear(3, 2)
losses = lambda batch: {"square": Loss(model(batch.x).square().sum(), float(len(batch.x)))}
options = LoopOptions(Schedule(0.1, 5, 1, 1), folder, leads=ranks.leads)
trainer = Trainer(model, losses, {"square": 1.0}, options)
everything = torch.arange(18.0).reshape(6, 3) / 10
mine = everything if world == 1 else everything[:2] if ranks.rank == 0 else everything[2:]
for _ in range(3):
    trainer.train_step(Points(mine, 12.0 / world))
trainer.save()
"""


def run(folder: Path, world: int) -> dict[str, torch.Tensor]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    start = [sys.executable]
    if world > 1:
        start += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*start, str(program), str(folder), str(world)], check=True, env=environment, capture_output=True)
    state: dict[str, torch.Tensor] = torch.load(folder / "last.pt", weights_only=True)
    return state


def test_two_ranks_of_unequal_size_equal_one(tmp_path: Path) -> None:
    states = []
    for world in (1, 2):
        folder = tmp_path / str(world)
        folder.mkdir()
        states.append(run(folder, world))
    one, two = states
    for name, tensor in one["model"].items():  # type: ignore[attr-defined]
        torch.testing.assert_close(two["model"][name], tensor, atol=1e-6, rtol=1e-5)  # type: ignore[index]
    assert two["seconds_seen"] == one["seconds_seen"] == 36.0
