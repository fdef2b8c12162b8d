"""Fully sharded training (FSDP2, `torch.distributed.fsdp.fully_shard`).

Layers are gathered one by one; embeddings, projector and heads for a full pass. Batch normalisation is sharded apart:
it keeps float32, and a shard has one dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from lithophone.errors import OptionError
from lithophone.model.conformer import ConformerBlock
from lithophone.model.granite import DecoderLayer

LAYERS = (ConformerBlock, DecoderLayer)

T = TypeVar("T")


class Sharded(nn.Module):
    """A model sharded over all ranks; computation runs inside `forward(call)`.

    FSDP gathers weights around `forward` only, but recipes call other methods too.
    """

    def __init__(self, model: nn.Module, device: str) -> None:
        super().__init__()
        if not dist.is_initialized():
            raise OptionError("--shard needs several processes: start them with torchrun, or leave it out")
        self.model = model
        mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
        policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
        parts = [m for kind in (nn.BatchNorm1d, LAYERS) for m in model.modules() if isinstance(m, kind)]
        for part in [*parts, self]:
            fully_shard(part, mesh=mesh, mp_policy=policy)

    def forward(self, call: Callable[[], T]) -> T:
        return call()

    def reshard(self) -> None:
        """Free gathered weights, so that changed ones are gathered again."""
        for module in self.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def shard_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """This rank's shard of rank 0's `whole`, placed as `parameter`."""
    assert isinstance(parameter, DTensor)
    mesh = parameter.device_mesh
    return distribute_tensor(whole.to(mesh.device_type), mesh, parameter.placements)


def gathered(tensor: Tensor) -> Tensor:
    """A sharded tensor, complete on the CPU (a collective call); any other tensor unchanged."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
