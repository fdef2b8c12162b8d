"""Several processes, one run: started by `torchrun`, or a single process where nothing says otherwise."""

from __future__ import annotations

import os
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


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of every rank's tensor; the tensor itself where there is one process."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def sum_gradients(parameters: list[Tensor]) -> None:
    """Add up the gradients of all ranks. A rank that did not use a parameter adds zeros: all must take part."""
    if not dist.is_initialized():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def copy_from_first(model: nn.Module) -> None:
    """Give every rank the state of rank 0."""
    if dist.is_initialized():
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)
