"""Layers that compute again give the same outputs, gradients and statistics, bit for bit, and keep less."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from lithophone.errors import OptionError
from lithophone.model.conformer import Conformer
from lithophone.model.gradient_checkpointing import recompute_layers
from lithophone.model.granite import GraniteForCausalLM
from tests.train.listener import ENCODER, TEXT


@contextmanager
def bytes_kept() -> Iterator[list[int]]:
    """Sizes of what is kept for the backward pass."""
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def encoder() -> nn.Module:
    return Conformer(replace(ENCODER, dropout=0.2))


def language_model() -> nn.Module:
    return GraniteForCausalLM(TEXT)


def passed(model: nn.Module) -> tuple[dict[str, Tensor], int]:
    """State and gradients after a pass forward and backward in training mode, and what the forward kept."""
    torch.manual_seed(1)
    size = ENCODER.input_dim if isinstance(model, Conformer) else TEXT.hidden_size
    x, lengths = torch.randn(3, 20, size), torch.tensor([20, 9, 15])
    with bytes_kept() as kept:
        out = model(x, lengths).states if isinstance(model, Conformer) else model(x, lengths=lengths)
    out.square().sum().backward()
    found = {f"{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {**model.state_dict(), **found, "out": out}, sum(kept)


@pytest.mark.parametrize("make", [encoder, language_model])
def test_the_same_with_less_kept(make: type[nn.Module]) -> None:
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = make().train()
        if recompute:
            recompute_layers(model)
        results.append(passed(model))
    (plain, much), (again, little) = results
    assert plain.keys() == again.keys()
    for name, tensor in plain.items():
        assert torch.equal(again[name], tensor), name
    assert any(float(tensor.abs().sum()) > 0 for name, tensor in plain.items() if name.endswith(".grad"))
    assert little < 0.5 * much


def test_statistics_stay_the_buffers_they_were() -> None:
    model = encoder().train()
    recompute_layers(model)
    before = dict(model.named_buffers())
    passed(model)
    assert all(buffer is before[name] for name, buffer in model.named_buffers())
    assert all(int(count) == 1 for name, count in before.items() if name.endswith("num_batches_tracked"))


def test_a_model_without_layers() -> None:
    with pytest.raises(OptionError, match="has neither"):
        recompute_layers(nn.Linear(2, 2))
