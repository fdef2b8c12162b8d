"""Models too large for one GPU: FSDP2 (`torch.distributed.fsdp.fully_shard`), every rank with a slice of each tensor.

A layer's weights are gathered when it computes and let go after it; all that is in no layer (embeddings, projector,
heads) is gathered for a whole pass. Batch normalisation is a shard of its own, because it keeps float32 and a shard has
one type.
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
    """A model with its weights sharded over all ranks. What computes with it runs inside of `forward`.

    Recipes call a model by many of its methods. FSDP gathers and lets go around `forward` alone, so the forward of the
    root is to call what the recipe wants called.
    """

    def __init__(self, model: nn.Module, device: str) -> None:
        super().__init__()
        if not dist.is_initialized():
            raise OptionError("weights are sharded over the processes that torchrun starts: none did, so leave it out")
        self.model = model
        mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
        policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
        parts = [m for kind in (nn.BatchNorm1d, LAYERS) for m in model.modules() if isinstance(m, kind)]
        for part in [*parts, self]:
            fully_shard(part, mesh=mesh, mp_policy=policy)

    def forward(self, call: Callable[[], T]) -> T:
        return call()

    def let_go(self) -> None:
        """Hold slices only; weights that change are to be gathered anew."""
        for module in self.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def shard_like(whole: Tensor, parameter: Tensor) -> Tensor:
    """This rank's slice of rank 0's `whole`, cut as `parameter` is."""
    assert isinstance(parameter, DTensor)
    mesh = parameter.device_mesh
    return distribute_tensor(whole.to(mesh.device_type), mesh, parameter.placements)


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on the CPU; any other tensor as it is. All ranks must ask."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor
