"""Several processes, one run: started by `torchrun`, or a single process where nothing says otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among `world`: rank 0 writes logs and checkpoints. `device` is the one it computes on."""

    rank: int
    world: int
    device: str

    @property
    def leads(self) -> bool:
        return self.rank == 0


def join_ranks(device: str) -> Ranks:
    """Join the processes that `torchrun` started (RANK, WORLD_SIZE, LOCAL_RANK), each on a GPU of its own."""
    if "RANK" not in os.environ:
        return Ranks(0, 1, device)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


def own_place() -> tuple[int, int]:
    """This process's rank, and the number of processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of every rank's tensor; the tensor itself where there is one process."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Add up the gradients of all ranks. A rank that did not use a parameter adds zeros: all must take part."""
    if not dist.is_initialized():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    _reduce_all([parameter.grad for parameter in parameters if parameter.grad is not None])


def average_statistics(tensors: Sequence[Tensor]) -> None:
    """Give every rank the mean of what the ranks hold: running statistics, which each gathers from its own batches."""
    if not dist.is_initialized():
        return
    _reduce_all(tensors)
    for tensor in tensors:
        tensor.div_(dist.get_world_size())


def _reduce_all(tensors: Iterable[Tensor]) -> None:
    """All sums under way at once: small tensors do not wait for one another."""
    for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
        work.wait()


def agree(answer: bool, device: str) -> bool:
    """The answer of rank 0, on every rank."""
    if not dist.is_initialized():
        return answer
    said = torch.tensor(int(answer), device=device)
    dist.broadcast(said, 0)
    return bool(said)


def wait_for_all() -> None:
    """Go on when every rank has come here."""
    if dist.is_initialized():
        dist.barrier()


def copy_from_first(model: nn.Module) -> None:
    """Give every rank the state of rank 0."""
    if dist.is_initialized():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
