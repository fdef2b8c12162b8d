"""Losses as sums with counts, which add over batches and ranks; means of means would be biased."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """Differentiable sum over `count` targets."""

    total: Tensor
    count: float

    @property
    def mean(self) -> float:
        return float(self.total.detach()) / max(self.count, 1.0)


def ctc(logits: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]], blank: int = 0) -> Loss:
    """CTC over logits (B, T, V), counted per label.

    Rows with too few frames are left out: one per label is needed, and one more between equal neighbours.
    """
    fits = [_needed(t) <= int(n) and len(t) > 0 for t, n in zip(targets, lengths, strict=True)]
    kept = [list(t) for t, ok in zip(targets, fits, strict=True) if ok]
    if not kept:
        return Loss(logits.sum() * 0.0, 0.0)
    rows = torch.tensor(fits, device=logits.device)
    log_probs = logits[rows].float().log_softmax(-1).transpose(0, 1)
    sizes = torch.tensor([len(t) for t in kept], device=logits.device)
    flat = torch.tensor([label for t in kept for label in t], device=logits.device)
    total = F.ctc_loss(log_probs, flat, lengths[rows], sizes, blank, reduction="sum")
    return Loss(total, float(sizes.sum()))


def _needed(target: Sequence[int]) -> int:
    return len(target) + sum(a == b for a, b in itertools.pairwise(target))


def regression(predicted: Tensor, teacher: Tensor, valid: Tensor) -> Loss:
    """Smooth L1 of predicted and teacher states (B, T, K), mean over channels; counted per valid frame."""
    wanted = teacher[valid].float()
    distance = F.smooth_l1_loss(predicted[valid].float(), wanted, reduction="sum") / teacher.shape[-1]
    return Loss(distance, float(valid.sum()))


def next_token(logits: Tensor, targets: Tensor) -> Loss:
    """Cross-entropy of logits (N, V) and token ids (N,)."""
    return Loss(F.cross_entropy(logits.float(), targets, reduction="sum"), float(targets.numel()))
