"""The loop: it learns, it is resumed and killed, it evaluates the average, it keeps what trains and nothing else."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from lithophone.errors import CheckpointError, OptionError
from lithophone.train.run.loop import Trainer, cast_for_compute
from tests.train import processes
from tests.train.points import (
    Points,
    batches,
    evaluate,
    make_model,
    make_trainer,
    run_to_the_end,
    run_until_killed,
)

MEASURED = {"audio_s_per_s"}
"""What differs between two equal runs."""


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def curve(folder: Path) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name not in MEASURED} for row in rows(folder)]


def assert_equal_runs(found: Trainer[Points], expected: Trainer[Points]) -> None:
    """Bit for bit."""
    for of in (lambda run: run.model.state_dict(), lambda run: run.averaged_state()):
        assert of(found).keys() == of(expected).keys()
        for name, tensor in of(expected).items():
            assert torch.equal(of(found)[name], tensor), name
    assert found.seconds_seen == expected.seconds_seen


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_loss_falls(tmp_path: Path, precision: torch.dtype) -> None:
    make_trainer(tmp_path, 80, precision=precision).run(batches())
    found = [row["square"] for row in rows(tmp_path) if "square" in row]
    assert found[-1] < 0.35 * found[0]
    assert rows(tmp_path)[-1]["hours"] == pytest.approx(80 * 1.5 / 3600, abs=1e-3)


def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    whole.run(batches(), lambda: evaluate(whole))
    broken = make_trainer(tmp_path / "broken")
    for _, batch in zip(range(17), batches(), strict=False):
        broken.train_step(batch)
    broken.save()
    resumed = make_trainer(tmp_path / "broken")
    assert resumed.resume()
    assert resumed.step == resumed.batches_seen == 17
    resumed.run(batches(resumed.step), lambda: evaluate(resumed))
    assert_equal_runs(resumed, whole)


def test_a_run_that_is_killed_twice_has_the_same_curve(tmp_path: Path) -> None:
    """In the middle of writing a checkpoint, and after a row of the log that no checkpoint knows of."""
    whole = run_to_the_end(tmp_path / "whole")
    folder = tmp_path / "killed"
    for kind, step in (("save", 28), ("step", 33)):
        # with other threads, sums would be of other parts and differ in their last bit
        process = processes.start(run_until_killed, folder, kind, step, torch.get_num_threads())
        process.join(timeout=300)
        assert process.exitcode == -signal.SIGKILL
        if kind == "save":
            assert (folder / "last.pt.part").stat().st_size == 200
    assert_equal_runs(run_to_the_end(folder), whole)
    assert curve(folder) == curve(tmp_path / "whole")
    assert [row["step"] for row in curve(folder)] == [10, 20, 25, 30, 40, 40]


def test_nothing_to_resume(tmp_path: Path) -> None:
    assert not make_trainer(tmp_path, 10).resume()


def test_copies_beside_a_checkpoint_are_left_alone(tmp_path: Path) -> None:
    copy = tmp_path / "last-4400.pt"
    copy.write_text("kept by somebody")
    assert not make_trainer(tmp_path, 10).resume()
    make_trainer(tmp_path, 10).save()
    assert make_trainer(tmp_path, 10).resume()
    assert copy.read_text() == "kept by somebody"


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


def patience(target: list[float]) -> Callable[[Mapping[str, float]], bool]:
    """Three evaluations are enough."""

    def stop(values: Mapping[str, float]) -> bool:
        target.append(values["error"])
        return len(target) == 3

    return stop


def test_stop_ends_the_run_after_saving(tmp_path: Path) -> None:
    target: list[float] = []
    trainer = make_trainer(tmp_path, 100, evaluate_every=6)
    trainer.run(batches(), lambda: evaluate(trainer), patience(target))
    assert trainer.step == 18
    assert [row["error"] for row in rows(tmp_path) if "error" in row] == target
    before = (tmp_path / "log.jsonl").read_text()
    again = make_trainer(tmp_path, 100, evaluate_every=6)
    assert again.resume()
    asked_again: list[float] = []
    again.run(batches(again.step), lambda: evaluate(again), patience(asked_again))
    assert (again.step, asked_again) == (18, target)
    assert (tmp_path / "log.jsonl").read_text() == before


def test_stop_knows_what_it_knew_before_the_run_was_broken_off(tmp_path: Path) -> None:
    first = make_trainer(tmp_path, 100, evaluate_every=6)
    first.run((batch for _, batch in zip(range(14), batches(), strict=False)), lambda: evaluate(first))
    target: list[float] = []
    resumed = make_trainer(tmp_path, 100, evaluate_every=6)
    assert resumed.resume()
    resumed.run(batches(14), lambda: evaluate(resumed), patience(target))
    assert [row["step"] for row in rows(tmp_path) if "error" in row] == [6, 12, 14]
    assert (resumed.step, len(target)) == (14, 3)


def test_a_run_that_died_before_its_first_checkpoint_leaves_no_rows(tmp_path: Path) -> None:
    dead = make_trainer(tmp_path, log_every=1)
    for _, batch in zip(range(3), batches(), strict=False):
        dead.train_step(batch)
        dead.record({"square": 1.0})
    fresh = make_trainer(tmp_path, 2, log_every=1)
    assert not fresh.resume()
    fresh.run(batches())
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_a_finished_run_is_not_evaluated_again(tmp_path: Path) -> None:
    run_to_the_end(tmp_path)
    before = (tmp_path / "log.jsonl").read_text()
    run_to_the_end(tmp_path)
    assert (tmp_path / "log.jsonl").read_text() == before


def test_accumulated_batches_make_one_step(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 4, accumulate=3)
    trainer.run(batches())
    assert (trainer.step, trainer.batches_seen, trainer.seconds_seen) == (4, 12, 18.0)


def test_what_is_held_still_is_neither_averaged_nor_written(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 3)
    trainer.run(batches())
    frozen = trainer.model.get_parameter("0.weight")
    assert "2.running_mean" in trainer.average.tensors
    assert not any(name.startswith("0.") for name in trainer.average.tensors)
    assert not any(".0." in name for name in torch.load(tmp_path / "last.pt", weights_only=True))
    state = trainer.averaged_state()
    assert state.keys() == trainer.model.state_dict().keys()
    assert state["0.weight"].data_ptr() == frozen.data_ptr()
    assert not torch.equal(state["2.running_mean"], torch.zeros(16))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.save()
    more = make_model()
    more[0].requires_grad_(True)
    with pytest.raises(
        CheckpointError, match=r"10 are missing \(average.0.bias, average.0.weight, exact.0.bias, ...\)"
    ):
        make_trainer(tmp_path, model=more).resume()
    fewer = make_model()
    fewer[4].requires_grad_(False)
    with pytest.raises(CheckpointError, match=r"10 are not part of this run \(average.4.bias"):
        make_trainer(tmp_path, model=fewer).resume()
    other = make_model()
    other[6] = nn.Linear(16, 2)
    with pytest.raises(CheckpointError, match="have other shapes"):
        make_trainer(tmp_path, model=other).resume()


def test_a_file_that_is_no_checkpoint_of_this_version_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    torch.save({"model": trainer.model.state_dict(), "step": 3}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt belongs to another run: it holds model, step, not tensors"):
        trainer.resume()


def test_impossible_options(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="accumulate is 0"):
        make_trainer(tmp_path, accumulate=0)
    with pytest.raises(OptionError, match="gradient checkpointing needs"):
        make_trainer(tmp_path, gradient_checkpointing=True)


def test_batch_normalisation_keeps_float32() -> None:
    model = cast_for_compute(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.bfloat16)
    assert model[0].weight.dtype == torch.bfloat16
    assert model[1].weight.dtype == model[1].running_mean.dtype == torch.float32
