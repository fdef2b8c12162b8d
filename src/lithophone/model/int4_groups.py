"""Weights in 4 bits: integers -8 to 7, two a byte, with a float16 scale for each group of a row.

Files alone hold them; they are read as floats, or as int8 with a scale for each row. Groups are what makes 4 bits
enough: a scale for a whole row would be set by its largest weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEAST_GROUP, LARGEST_GROUP = 32, 64
"""Weights with one scale; a group divides a row."""

LEVELS = 7
SHRINKAGE = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)
"""What `LEVELS` stands for, relative to a group's largest weight; what errs least is taken."""


def group_size(width: int) -> int | None:
    """The smallest group that divides a row; None where there is none, or the row cannot be packed in pairs."""
    sizes = (size for size in range(LEAST_GROUP, LARGEST_GROUP + 1) if width % size == 0)
    return next(sizes, None) if width % 2 == 0 else None


def pack_groups(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (N, K) or (N, K, 1) -> bytes (N, K / 2) or (N, K / 2, 1), and scales (N, groups), 0 for zeros."""
    rows = weight.detach().float().flatten(1)
    size = group_size(rows.shape[1])
    assert size is not None, f"rows of {rows.shape[1]} weights have no groups"
    groups = rows.view(len(rows), -1, size)
    largest = groups.abs().amax(-1, keepdim=True)
    scale, values = torch.zeros_like(largest, dtype=torch.float16), torch.zeros_like(groups)
    least = torch.full_like(largest, torch.inf)
    for share in SHRINKAGE:
        some = (share / LEVELS * largest).half()
        steps = torch.where(some > 0, groups / some.float(), 0.0).round_().clamp_(-LEVELS - 1, LEVELS)
        error = (steps * some.float() - groups).square().sum(-1, keepdim=True)
        better = error < least
        least, scale, values = (
            torch.where(better, new, old) for new, old in ((error, least), (some, scale), (steps, values))
        )
    codes = values.flatten(1).to(torch.int8).add_(LEVELS + 1).view(torch.uint8)
    packed = codes[:, 0::2] | (codes[:, 1::2] << 4)
    return packed.view(len(weight), -1, *weight.shape[2:]), scale[..., 0]


def unpack_groups(packed: Tensor, scale: Tensor) -> Tensor:
    """Bytes (N, K / 2, ...) and scales (N, groups) -> weight (N, K, ...) in float32."""
    pairs = packed.flatten(1)
    codes = torch.stack([pairs & 15, pairs >> 4], -1).flatten(1)
    values = (codes.float() - (LEVELS + 1)).view(*scale.shape, -1) * scale.float()[..., None]
    return values.view(len(packed), -1, *packed.shape[2:])
