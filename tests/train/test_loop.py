"""The loop: it learns, it resumes bit for bit, it evaluates the average and puts the weights back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from lithophone.train.augment import seeded
from lithophone.train.loop import LoopOptions, Trainer, cast_for_compute
from lithophone.train.losses import Loss
from lithophone.train.optim import Schedule


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


def make_trainer(folder: Path, steps: int, precision: torch.dtype = torch.float32) -> Trainer[Points]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.1), nn.SiLU(), nn.Linear(16, 1))

    def losses(batch: Points) -> Mapping[str, Loss]:
        error = model(batch.x.to(precision)).squeeze(-1).float() - batch.y
        return {"square": Loss(error.square().sum(), float(len(batch.y)))}

    schedule = Schedule(0.02, steps, warmup=5, cooldown=20)
    options = LoopOptions(schedule, folder, precision=precision, log_every=10, save_every=7, evaluate_every=25)
    return Trainer(model, losses, {"square": 1.0}, options)


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_loss_falls(tmp_path: Path, precision: torch.dtype) -> None:
    make_trainer(tmp_path, 150, precision).run(batches())
    found = [row["square"] for row in rows(tmp_path) if "square" in row]
    assert found[-1] < 0.2 * found[0]
    assert rows(tmp_path)[-1]["hours"] == pytest.approx(150 * 1.5 / 3600, abs=1e-3)


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole", 40)
    whole.run(batches())
    broken = make_trainer(tmp_path / "broken", 40)
    for _, batch in zip(range(17), batches(), strict=False):
        broken.train_step(batch)
    broken.save()
    resumed = make_trainer(tmp_path / "broken", 40)
    assert resumed.resume()
    assert resumed.step == 17
    resumed.run(batches(resumed.step))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    for name, tensor in whole.averaged_state().items():
        assert torch.equal(tensor, resumed.averaged_state()[name]), name


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert not make_trainer(tmp_path, 10).resume()


def test_evaluation_sees_the_average_and_leaves_the_weights(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 10)
    for _, batch in zip(range(10), batches(), strict=False):
        trainer.train_step(batch)
    before = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    seen = {}

    def evaluate() -> Mapping[str, float]:
        seen.update({name: tensor.clone() for name, tensor in trainer.model.state_dict().items()})
        assert not trainer.model.training
        raise RuntimeError("a broken measure must not cost the weights")

    with pytest.raises(RuntimeError, match="broken measure"):
        trainer.with_average(evaluate)
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
        assert torch.equal(seen[name], trainer.averaged_state()[name]), name


def test_batch_normalisation_keeps_float32() -> None:
    model = cast_for_compute(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.bfloat16)
    assert model[0].weight.dtype == torch.bfloat16
    assert model[1].weight.dtype == model[1].running_mean.dtype == torch.float32
