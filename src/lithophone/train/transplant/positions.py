"""Whisper's positions for a language model: heads of its first layer that read them off the rotation.

Encoder states of Whisper carry their time, and its decoder reads on from there. A conformer with attention in blocks
has no such time. But in a language model an audio embedding that attends to the first token can tell how far it is
from it: scores of rotated queries and keys are sums of sinusoids of the distance. One head can add a direction whose
weight is a sigmoid of such a sum. `fit_positions` finds heads whose sum is what positions add to Whisper's states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FIT_STEPS, FIT_RATE = 1000, 0.05
RIDGE = 0.5
"""Of the directions: without it they are large, and their sums small."""


@dataclass(frozen=True)
class PositionHeads:
    """H heads over F frequencies: head h adds `directions[h]` times a sigmoid of its score."""

    cosines: Tensor
    """(F, H): coefficients of the score's cosines."""
    sines: Tensor
    """(F, H)."""
    bias: Tensor
    """(H,): of the score."""
    directions: Tensor
    """(H, D)."""
    constant: Tensor
    """(D,): what is added everywhere."""

    def weights(self, distances: Tensor, frequencies: Tensor) -> Tensor:
        """Distances (N,) from the first token, frequencies (F,) in radians -> weights (N, H)."""
        angles = distances[:, None] * frequencies
        return torch.sigmoid(angles.cos() @ self.cosines + angles.sin() @ self.sines + self.bias)

    def sums(self, distances: Tensor, frequencies: Tensor) -> Tensor:
        """What is added (N, D) at these distances."""
        return self.weights(distances, frequencies) @ self.directions + self.constant


def fit_positions(
    target: Tensor,
    frequencies: Sequence[float],
    num_heads: int,
    *,
    first: int = 1,
    importance: Tensor | None = None,
    steps: int = FIT_STEPS,
) -> PositionHeads:
    """Heads that add `target` (N, D) to N audio embeddings, of which the first is `first` positions behind the start.

    `importance` (N,) weighs the errors. Scores are found by gradient descent, directions by least squares.
    """
    rates = torch.tensor(frequencies, dtype=target.dtype, device=target.device)
    angles = torch.arange(first, first + len(target), device=target.device)[:, None] * rates
    waves = torch.cat([angles.cos(), angles.sin()], 1)
    weight = torch.ones_like(target[:, 0]) if importance is None else importance
    generator = torch.Generator().manual_seed(0)
    mixing = (3.0 * torch.randn(waves.shape[1], num_heads, generator=generator)).to(target).requires_grad_()
    bias = torch.randn(num_heads, generator=generator).to(target).requires_grad_()
    optimizer = torch.optim.Adam([mixing, bias], lr=FIT_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        columns = torch.sigmoid(waves @ mixing + bias)
        found = _directions(columns, target, weight)
        error = (columns @ found[:-1] + found[-1] - target).square().sum(1)
        optimizer.zero_grad()
        torch.autograd.backward((weight * error).mean())
        torch.nn.utils.clip_grad_norm_([mixing, bias], 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = _directions(torch.sigmoid(waves @ mixing + bias), target, weight)
        cosines, sines = mixing.detach().chunk(2)
        return PositionHeads(cosines, sines, bias.detach(), found[:-1], found[-1])


def _directions(columns: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Weighted ridge regression of `target` (N, D) on columns (N, H) and a one: (H + 1, D)."""
    wide = torch.cat([columns, torch.ones_like(columns[:, :1])], 1)
    weighted = weight[:, None] * wide
    ridge = torch.full_like(wide[0], RIDGE)
    ridge[-1] = 0.0
    solved: Tensor = torch.linalg.solve(weighted.T @ wide + torch.diag(ridge), weighted.T @ target)
    return solved
