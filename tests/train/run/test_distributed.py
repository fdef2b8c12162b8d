"""A step is the same by one process or two, whole or in slices, at once or in several batches."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lithophone.errors import CheckpointError, OptionError
from lithophone.train.run.distributed import Ranks
from tests.train import processes
from tests.train.listener import WITHOUT_LABELS, evaluate, make_trainer, run_all_cases, take_steps

ONE = Ranks(0, 1, "cpu")


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes leave behind; they go on from `from_one`, which one rank has written in slices."""
    folder = tmp_path_factory.mktemp("two")
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=0, world_size=1)
    trainer = make_trainer(folder / "from_one", shard=True)
    take_steps(trainer, ONE, 2)
    trainer.save()
    dist.destroy_process_group()
    ranks = start(folder)
    for rank in ranks:
        rank.join(timeout=300)
        assert rank.exitcode == 0
    return folder


def start(folder: Path) -> list[ForkServerProcess]:
    """Two processes with the environment of `torchrun`; rank 0 listens at a port that was free just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        processes.start(run_all_cases, folder, environment={"RANK": str(rank), "LOCAL_RANK": str(rank), **group})
        for rank in (0, 1)
    ]


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(folder / "result.pt", weights_only=True)
    return found


def one_process(folder: Path, steps: int = 4, without_labels: int = 0, **options: Any) -> dict[str, Any]:
    trainer = make_trainer(folder, **options)
    told = take_steps(trainer, ONE, steps, without_labels)
    return {"told": told, "average": trainer.averaged_state(), "seconds": trainer.seconds_seen}


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-5) -> None:
    for mine, theirs in zip(found["told"], expected["told"], strict=True):
        assert mine == pytest.approx(theirs, abs=tolerance)
    assert found["average"].keys() == expected["average"].keys()
    for name, tensor in expected["average"].items():
        torch.testing.assert_close(found["average"][name], tensor, atol=tolerance, rtol=0, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("told", [True, False], ids=["counts told", "counts found"])
def test_four_batches_of_two_rows_equal_one_of_eight(tmp_path: Path, told: bool) -> None:
    whole = one_process(tmp_path)
    assert whole["told"][0]["token"] != pytest.approx(whole["told"][1]["token"], abs=1e-4)
    assert_same(one_process(tmp_path, accumulate=4, told=told), whole)


def test_counts_that_are_not_those_of_the_losses(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, accumulate=2)
    trainer.counts = lambda batch: {"token": 1.0, "ctc": 1.0}
    with pytest.raises(OptionError, match=r"'token': 2.0.*but the losses counted.*'token': 71.0"):
        take_steps(trainer, ONE, 1)


def test_counting_leaves_statistics_alone(tmp_path: Path) -> None:
    found = [one_process(tmp_path, 1, statistics=True, accumulate=2, told=told)["average"] for told in (True, False)]
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name]), name


@pytest.mark.full
@pytest.mark.parametrize("case", ["plain", "accumulated", "sharded"])
def test_two_ranks_equal_one_process(two_ranks: Path, tmp_path: Path, case: str) -> None:
    found, expected = result(two_ranks / case), one_process(tmp_path)
    assert_same(found, expected)
    assert found["seconds"] == pytest.approx(expected["seconds"])


@pytest.mark.full
@pytest.mark.parametrize("case", WITHOUT_LABELS)
def test_a_loss_that_not_all_ranks_have(two_ranks: Path, tmp_path: Path, case: str) -> None:
    assert_same(result(two_ranks / case), one_process(tmp_path, without_labels=WITHOUT_LABELS[case]))


def test_a_loss_without_targets_is_not_reported(tmp_path: Path) -> None:
    assert one_process(tmp_path, 1, without_labels=8)["told"][0].keys() == {"token", "norm"}


@pytest.mark.full
def test_slices_equal_copies_with_statistics_and_layers_computed_again(two_ranks: Path) -> None:
    whole, sharded = (result(two_ranks / case) for case in ("statistics", "sharded_statistics"))
    assert_same(sharded, whole)
    assert sharded["values"] == pytest.approx(whole["values"], abs=1e-5)


@pytest.mark.full
def test_slices_equal_copies_in_bfloat16(two_ranks: Path) -> None:
    """As far as sums in bfloat16 are equal in another order."""
    whole, sharded = (result(two_ranks / case) for case in ("bfloat16", "sharded_bfloat16"))
    for mine, theirs in zip(sharded["told"], whole["told"], strict=True):
        assert mine == pytest.approx(theirs, rel=0.02)
    assert sharded["values"] == pytest.approx(whole["values"], rel=0.02)


@pytest.mark.full
def test_all_ranks_stop_when_the_first_one_says_so(two_ranks: Path) -> None:
    assert [torch.load(two_ranks / f"stopped_{rank}.pt", weights_only=True) for rank in (0, 1)] == [4, 4]


@pytest.mark.full
def test_two_ranks_go_on_from_the_slices_of_one(two_ranks: Path, tmp_path: Path) -> None:
    found, whole = result(two_ranks / "from_one"), one_process(tmp_path)
    assert found["step"] == 4
    assert_same(found, {**whole, "told": whole["told"][2:]})


@pytest.mark.full
@pytest.mark.parametrize("shard", [True, False], ids=["sharded", "not sharded"])
def test_one_rank_goes_on_from_the_slices_of_two(two_ranks: Path, tmp_path: Path, one_rank: None, shard: bool) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last-0000004").symlink_to(two_ranks / "sharded" / "last-0000004")
    resumed = make_trainer(tmp_path / "run", seed=3, shard=shard)
    assert resumed.resume()
    assert resumed.step == 4
    told = take_steps(resumed, ONE, 2)
    whole = one_process(tmp_path / "whole", 6)
    assert_same({"told": told, "average": resumed.averaged_state()}, {**whole, "told": whole["told"][4:]})


def test_slices_go_on_from_a_whole_file_and_evaluate(tmp_path: Path, one_rank: None) -> None:
    whole = make_trainer(tmp_path)
    take_steps(whole, ONE, 3)
    whole.save()
    sharded = make_trainer(tmp_path, seed=3, shard=True)
    assert sharded.resume()
    values = sharded.with_average(lambda: evaluate(sharded))
    assert values == pytest.approx(whole.with_average(lambda: evaluate(whole)), abs=1e-5)
    assert_same(
        {"told": take_steps(sharded, ONE, 2), "average": sharded.averaged_state()},
        {"told": take_steps(whole, ONE, 2), "average": whole.averaged_state()},
    )
    sharded.save()
    assert [path.name for path in sorted(tmp_path.glob("last*"))] == ["last-0000005"]


def test_a_folder_that_was_not_finished_is_no_checkpoint(tmp_path: Path, one_rank: None) -> None:
    (tmp_path / "last-0000009.part").mkdir()
    assert not make_trainer(tmp_path, shard=True).resume()


def test_slices_of_another_model(tmp_path: Path, one_rank: None) -> None:
    trainer = make_trainer(tmp_path, shard=True)
    trainer.save()
    other = make_trainer(tmp_path)
    other.exact.pop("encoder.out.bias")
    with pytest.raises(CheckpointError, match=r"1 are not part of this run \(exact.encoder.out.bias\)"):
        other.resume()


def test_slices_need_ranks(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="torchrun"):
        make_trainer(tmp_path, shard=True)
