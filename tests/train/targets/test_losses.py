"""Losses: against plain definitions, and additive over batches."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from lithophone.ctc.forced_alignment import collapse
from lithophone.train.targets.losses import ctc, next_token, regression


def plain_ctc(log_probs: torch.Tensor, target: list[int]) -> float:
    """-log of the summed probability of all paths that spell the target."""
    frames, labels = log_probs.shape
    paths = (p for p in itertools.product(range(labels), repeat=frames) if collapse(p) == target)
    return -math.log(sum(math.exp(sum(float(log_probs[t, i]) for t, i in enumerate(p))) for p in paths))


def test_ctc_equals_the_sum_over_all_paths() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3)
    loss = ctc(logits, torch.tensor([5, 4]), [[1, 2], [1, 1]])
    log_probs = logits.log_softmax(-1)
    assert float(loss.total) == pytest.approx(
        plain_ctc(log_probs[0], [1, 2]) + plain_ctc(log_probs[1, :4], [1, 1]), rel=1e-5
    )
    assert loss.count == 4
    assert loss.mean == pytest.approx(float(loss.total) / 4)


def test_rows_that_cannot_be_aligned_count_nothing() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 5, 3, requires_grad=True)
    fitting = ctc(logits[:1], torch.tensor([5]), [[1, 2]])
    loss = ctc(logits, torch.tensor([5, 2, 5]), [[1, 2], [1, 1], []])
    assert float(loss.total.detach()) == pytest.approx(float(fitting.total.detach()))
    assert loss.count == 2
    nothing = ctc(logits, torch.tensor([1, 1, 1]), [[1, 1], [1, 1], []])
    nothing.total.backward()
    assert nothing.count == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_sums_over_parts_equal_the_whole() -> None:
    torch.manual_seed(0)
    logits, lengths = torch.randn(4, 9, 5), torch.tensor([9, 7, 8, 9])
    targets = [[1, 2, 3], [4], [2, 2], [1, 4, 1, 4]]
    whole = ctc(logits, lengths, targets)
    parts = [ctc(logits[i : i + 2], lengths[i : i + 2], targets[i : i + 2]) for i in (0, 2)]
    assert float(whole.total) == pytest.approx(sum(float(p.total) for p in parts), rel=1e-5)
    assert whole.count == sum(p.count for p in parts)


def test_another_blank() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 6, 4)
    rolled = ctc(logits.roll(1, -1), torch.tensor([6]), [[1, 2]])
    assert float(ctc(logits, torch.tensor([6]), [[0, 1]], blank=3).total) == pytest.approx(float(rolled.total))


def test_regression_counts_valid_frames_only() -> None:
    predicted, teacher = torch.zeros(2, 3, 4), torch.ones(2, 3, 4)
    valid = torch.tensor([[True, True, False], [False, False, False]])
    loss = regression(predicted, teacher, valid)
    assert loss.count == 2
    assert loss.mean == pytest.approx(0.5)


def test_next_token_is_cross_entropy() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 1000.0]])
    loss = next_token(logits, torch.tensor([0, 1]))
    assert loss.mean == pytest.approx(math.log(2) / 2)
