"""Gradient checkpointing (arXiv 1604.06174): layers keep only their input and recompute the rest in the backward pass.

A third more computing, a small part of the memory, gradients equal bit for bit: random draws are repeated, and the
running statistics of batch normalisation are updated once per batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lithophone.errors import OptionError


@runtime_checkable
class Recomputes(Protocol):
    """A module that runs its layers by `run_layer`."""

    gradient_checkpointing: bool


def recompute_layers(model: nn.Module) -> None:
    """Enable gradient checkpointing; OptionError for a model without layers that support it."""
    able = [module for module in model.modules() if isinstance(module, Recomputes)]
    if not able:
        raise OptionError("gradient checkpointing needs an encoder or a language model: this model has neither")
    for module in able:
        module.gradient_checkpointing = True


def run_layer(layer: nn.Module, *inputs: Any, recompute: bool) -> Tensor:
    """The layer's output; `recompute` has no effect without gradients."""
    if recompute and torch.is_grad_enabled():
        out: Tensor = checkpoint(layer, *inputs, use_reentrant=False, context_fn=_contexts(layer))
        return out
    out = layer(*inputs)
    return out


def _contexts(layer: nn.Module) -> Callable[[], tuple[AbstractContextManager[None], AbstractContextManager[None]]]:
    return lambda: (nullcontext(), _held_statistics(layer))


@contextmanager
def _held_statistics(layer: nn.Module) -> Iterator[None]:
    """Direct updates of running statistics to copies during recomputation."""
    kept = [(m, dict(m.named_buffers(recurse=False))) for m in layer.modules() if isinstance(m, nn.BatchNorm1d)]
    for module, buffers in kept:
        for name, buffer in buffers.items():
            setattr(module, name, buffer.clone())
    try:
        yield
    finally:
        for module, buffers in kept:
            for name, buffer in buffers.items():
                setattr(module, name, buffer)
