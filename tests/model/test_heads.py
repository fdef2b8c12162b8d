"""Posterior-weighted pooling and the BPE head, against a float64 loop written from the formula."""

from __future__ import annotations

import math

import pytest
import torch

from lithophone.model.conformer import EncoderOutput
from lithophone.model.heads import BPEHead, posterior_weighted_pooling


def plain_pooling(states: list[list[float]], mid_logits: list[list[float]], window: int) -> list[list[float]]:
    """One utterance, number by number: w_t = 1 - softmax(mid)_t[0]; z_k = sum of w_t / (sum of w + 1e-8) * h_t."""
    weights = []
    for row in mid_logits:
        top = max(row)
        weights.append(1.0 - math.exp(row[0] - top) / sum(math.exp(x - top) for x in row))
    pooled = []
    for start in range(0, len(states), window):
        inside = range(start, min(start + window, len(states)))
        total = sum(weights[t] for t in inside) + 1e-8
        pooled.append([sum(weights[t] / total * states[t][d] for t in inside) for d in range(len(states[0]))])
    return pooled


def random_output(lengths: list[int], size: int = 6, labels: int = 9) -> EncoderOutput:
    frames = max(lengths)
    valid = torch.arange(frames) < torch.tensor(lengths)[:, None]
    states = torch.randn(len(lengths), frames, size) * valid[..., None]
    mid = 3 * torch.randn(len(lengths), frames, labels)
    return EncoderOutput(states, states, mid, mid, torch.tensor(lengths))


@pytest.mark.parametrize("lengths", [[1], [4], [5], [7, 12, 3], [16, 1]])
def test_pooling_equals_the_plain_loop(lengths: list[int]) -> None:
    torch.manual_seed(0)
    output = random_output(lengths)
    pooled = posterior_weighted_pooling(output.last, output.mid_logits, output.lengths, window=4)
    for row, states, mid, length in zip(pooled, output.last, output.mid_logits, lengths, strict=True):
        wanted = plain_pooling(states[:length].double().tolist(), mid[:length].double().tolist(), 4)
        torch.testing.assert_close(row[: len(wanted)], torch.tensor(wanted), atol=1e-6, rtol=1e-5)


def test_head_logits_and_lengths() -> None:
    torch.manual_seed(0)
    output = random_output([7, 12])
    head = BPEHead(6, 11)
    logits, lengths = head.logits(output)
    assert logits.shape == (2, 3, 11)
    assert lengths.tolist() == [2, 3]
    wanted = plain_pooling(output.last[1].double().tolist(), output.mid_logits[1].double().tolist(), 4)
    by_hand = torch.tensor(wanted) @ head.weight.T + head.bias
    torch.testing.assert_close(logits[1], by_hand, atol=1e-5, rtol=1e-5)


def test_silent_windows_do_not_divide_by_zero() -> None:
    output = random_output([8])
    blank = torch.zeros_like(output.mid_logits)
    blank[..., 0] = 1000.0
    pooled = posterior_weighted_pooling(output.last, blank, output.lengths, window=4)
    assert pooled.abs().max() == 0
