"""Schedule, master weights, running average."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lithophone.train.run.optim import Average, Cosine, MasterAdamW, Schedule


def test_schedule_rises_stays_and_falls_to_zero() -> None:
    schedule = Schedule(peak=2.0, steps=100, warmup=10, cooldown=20)
    assert schedule.at(0) == pytest.approx(0.2)
    assert schedule.at(9) == schedule.at(50) == schedule.at(80) == 2.0
    assert schedule.at(90) == pytest.approx(1.0)
    assert schedule.at(100) == 0.0


def test_a_cosine_rises_and_falls_to_zero() -> None:
    schedule = Cosine(peak=2.0, steps=110, warmup=10)
    assert schedule.at(0) == pytest.approx(0.2)
    assert schedule.at(9) == schedule.at(10) == 2.0
    assert schedule.at(35) == pytest.approx(1.0 + 0.5**0.5)
    assert schedule.at(60) == pytest.approx(1.0)
    assert schedule.at(110) == schedule.at(200) == 0.0
    assert Cosine(1.0, 1, 0).at(0) == 1.0


def test_small_steps_are_not_lost_in_bfloat16() -> None:
    """A bfloat16 weight of 1 cannot hold 1.0001: the master can, and after enough steps the weight moves."""
    weight = nn.Parameter(torch.ones(3, 3, dtype=torch.bfloat16))
    optimizer = MasterAdamW([weight], weight_decay=0.0)
    for _ in range(60):
        weight.grad = torch.ones_like(weight)
        optimizer.step(1e-4, max_norm=10.0)
    assert optimizer.masters[0].max() == pytest.approx(1 - 60e-4, abs=2e-4)
    assert float(weight.detach().max()) < 1.0


def test_equals_plain_adamw_in_float32() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(4, 3), nn.Linear(4, 3)
    theirs.load_state_dict(ours.state_dict())
    optimizer = MasterAdamW(ours.parameters(), weight_decay=0.0)
    plain = torch.optim.AdamW(theirs.parameters(), lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    for _ in range(5):
        x = torch.randn(2, 4)
        for model in (ours, theirs):
            model(x).square().sum().backward()
        optimizer.step(0.01, max_norm=1e9)
        plain.step()
        plain.zero_grad()
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_factors_are_of_the_learning_rate() -> None:
    parameters = [nn.Parameter(torch.zeros(3, 3)) for _ in range(3)]
    optimizer = MasterAdamW(parameters, weight_decay=0.0, factors=[1.0, 0.1, 0.0])
    for parameter in parameters:
        parameter.grad = torch.ones(3, 3)
    optimizer.step(0.01, max_norm=1e9)  # Adam's first step is the learning rate
    for parameter, moved in zip(parameters, (0.01, 0.001, 0.0), strict=True):
        torch.testing.assert_close(parameter.detach(), torch.full((3, 3), -moved))


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = MasterAdamW([weight])
    weight.grad = torch.full_like(weight, float("nan"))
    optimizer.step(0.1, max_norm=1.0)
    assert torch.equal(weight.detach(), torch.ones(2, 2))


def test_gradients_are_clipped_to_the_norm() -> None:
    weight = nn.Parameter(torch.zeros(2, 2))
    optimizer = MasterAdamW([weight])
    weight.grad = torch.full_like(weight, 10.0)
    assert optimizer.step(0.1, max_norm=1.0) == pytest.approx(20.0)
    assert float(optimizer.moments()[0]["exp_avg"].norm()) == pytest.approx(0.1 * 1.0, rel=1e-4)


def test_gradients_of_several_passes_add_up_in_float32() -> None:
    """1 + 2 ** -9 is 1 in bfloat16."""
    weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.bfloat16))
    optimizer = MasterAdamW([weight])
    for value in (1.0, 2**-9):
        weight.grad = torch.full_like(weight, value)
        optimizer.collect()
        assert weight.grad is None
    assert optimizer.step(0.1, max_norm=100.0) == pytest.approx(2 * (1 + 2**-9), rel=1e-6)


def test_average_forgets_the_start() -> None:
    tensors = {"w": torch.zeros(1), "n": torch.zeros(1, dtype=torch.int64)}
    average = Average(tensors, decay=0.9)
    tensors["w"] = torch.ones(1)
    for _ in range(100):
        average.update(tensors)
    assert float(average.tensors["w"]) == pytest.approx(1.0, abs=1e-3)
    assert "n" not in average.tensors
