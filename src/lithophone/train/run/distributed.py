"""Process groups: ranks started by `torchrun`, or a single process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process's rank of `world`, and its device. Rank 0 writes logs and checkpoints."""

    rank: int
    world: int
    device: str

    @property
    def leads(self) -> bool:
        return self.rank == 0


def join_ranks(device: str) -> Ranks:
    """Join the process group of `torchrun` (RANK, WORLD_SIZE, LOCAL_RANK), one GPU per rank."""
    if "RANK" not in os.environ:
        return Ranks(0, 1, device)
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Ranks(dist.get_rank(), dist.get_world_size(), device)


def rank_and_world() -> tuple[int, int]:
    """(0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def sum_over_ranks(values: Tensor) -> Tensor:
    """All-reduce in place; unchanged in a single process."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Sum gradients over ranks; parameters unused on a rank count as zeros."""
    if not dist.is_initialized():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    _reduce_all([parameter.grad for parameter in parameters if parameter.grad is not None])


def average_statistics(tensors: Sequence[Tensor]) -> None:
    """Average running statistics over ranks, in place."""
    if not dist.is_initialized():
        return
    _reduce_all(tensors)
    for tensor in tensors:
        tensor.div_(dist.get_world_size())


def _reduce_all(tensors: Iterable[Tensor]) -> None:
    """Asynchronous all-reduces, then a wait for all."""
    for work in [dist.all_reduce(tensor, async_op=True) for tensor in tensors]:
        work.wait()


def broadcast_bool(answer: bool, device: str) -> bool:
    """Rank 0's answer on every rank."""
    if not dist.is_initialized():
        return answer
    value = torch.tensor(int(answer), device=device)
    dist.broadcast(value, 0)
    return bool(value)


def wait_for_all() -> None:
    if dist.is_initialized():
        dist.barrier()


def broadcast_parameters(model: nn.Module) -> None:
    if dist.is_initialized():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
