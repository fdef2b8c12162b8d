"""What Whisper and a conformer share is equal; the rest is close, or near zero at first."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.model.conformer import Conformer
from lithophone.train.transplant.statistics import REACH, Statistics
from lithophone.train.transplant.weights import (
    QUERY_SHIFT,
    MeanGelu,
    conformer_blocks,
    distillation_config,
    init_attention,
    init_feed_forward,
    init_positions,
    student_config,
    transplant,
)
from lithophone.train.transplant.whisper import WhisperEncoder
from lithophone.train.transplant.windows import rows_of
from tests.train.transplant.tiny_whisper import HEADS, LAYERS, SIZE, UNITS, noise_windows

PUBLISHED = {"tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12), "medium": (1024, 16, 24),
             "large": (1280, 20, 32)}  # fmt: skip


def test_sizes_come_from_the_teacher(teacher: WhisperEncoder) -> None:
    config = student_config(teacher)
    assert (config.hidden_dim, config.num_heads, config.dim_head) == (SIZE, HEADS, SIZE // HEADS)
    assert (config.num_layers, config.feedforward_mult, config.conv_expansion_factor) == (LAYERS + 2, 2, 1)
    assert distillation_config(config).cat_hidden_layers == (1, 3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_has_a_conformer(name: str) -> None:
    size, heads, layers = PUBLISHED[name]
    with torch.device("meta"):
        config = student_config(WhisperEncoder(80, size, 4 * size, heads, layers))
    assert (config.hidden_dim, config.dim_head, config.num_layers) == (size, 64, layers + 2)
    assert len(distillation_config(config).cat_hidden_layers) == layers


@torch.no_grad()
@pytest.mark.parametrize("dead", [None, 0.0, 1e-8])
def test_attention_without_positions_is_equal(teacher: WhisperEncoder, dead: float | None) -> None:
    layer = copy.deepcopy(teacher.layers[0])
    layer.query_key_value.bias[:SIZE].mul_(50.0)
    if dead is not None:
        layer.attention_norm.weight[3] = dead
    attention = conformer_blocks(Conformer(student_config(teacher)))[1].attn
    init_attention(layer, attention, scale=0.5)
    shift = attention.pre_norm.bias - layer.attention_norm.bias
    assert shift.square().mean().sqrt().item() == pytest.approx(QUERY_SHIFT)
    x = torch.randn(2, 150, SIZE, generator=torch.Generator().manual_seed(4))
    expected = layer.attention(x)
    found = attention(x, torch.ones(2, 150, dtype=torch.bool)) * 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.std()))


@torch.no_grad()
def test_an_mlp_is_close_in_two_halves(teacher: WhisperEncoder) -> None:
    layer = teacher.layers[0]
    first, second = (conformer_blocks(Conformer(student_config(teacher)))[n].ff2 for n in (0, 1))
    gelu = MeanGelu(torch.zeros(UNITS), torch.zeros(UNITS))
    init_feed_forward(layer, slice(0, UNITS // 2), first, 0.5, gelu, bias=True)
    init_feed_forward(layer, slice(UNITS // 2, None), second, 0.5, gelu, bias=False)
    x = torch.randn(2, 50, SIZE, generator=torch.Generator().manual_seed(5))
    expected = layer.down(F.gelu(layer.up(layer.mlp_norm(x))))
    found = 0.5 * (first(x) + second(x)) * 0.5
    assert (found - expected).square().mean() < 2e-3 * expected.square().mean()


def test_the_mean_of_gelu_over_noise_is_close() -> None:
    mean, deviation = torch.tensor([-1.0, 0.0, 0.7]), torch.tensor([0.5, 1.0, 3.0])
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(8))
    gelu = MeanGelu(mean, deviation)
    for shift in (-1.0, 0.0, 1.0):
        exact = F.gelu(mean + shift + deviation * noise).mean(0)
        found = F.silu(gelu.rate * (mean + shift)) / gelu.rate + gelu.constant
        torch.testing.assert_close(found, exact, rtol=0, atol=0.01 if shift == 0.0 else 0.15)


@torch.no_grad()
def test_relative_positions_give_the_scores_asked_for(teacher: WhisperEncoder) -> None:
    attention = conformer_blocks(Conformer(student_config(teacher)))[1].attn
    init_attention(teacher.layers[0], attention, scale=1.0)
    generator = torch.Generator().manual_seed(9)
    mean = torch.randn(SIZE, generator=generator)
    scores = torch.randn(HEADS, 2 * REACH - 1, generator=generator)
    init_positions(attention, mean, scores)
    query = attention.to_q(mean * attention.pre_norm.weight + attention.pre_norm.bias).view(HEADS, 1, -1)
    near = attention.rel_pos_emb.weight[attention.max_pos_emb - REACH + 1 : attention.max_pos_emb + REACH]
    found = (query @ near.T).squeeze(1) * attention.scale
    wanted = scores - scores.mean(1, keepdim=True)
    assert (found - wanted).square().mean() < 0.01 * wanted.square().mean()


def test_mapped_blocks_are_closer_to_their_targets_than_random_ones(
    teacher: WhisperEncoder, statistics: Statistics
) -> None:
    mapped, random = (distances(teacher, statistics, init) for init in (True, False))
    assert all(a < 0.7 * b for a, b in zip(mapped, random, strict=True)), (mapped, random)


@torch.no_grad()
def distances(teacher: WhisperEncoder, statistics: Statistics, init: bool) -> list[float]:
    """Loss of every mapped block behind the stem, on the target of the one before."""
    torch.manual_seed(0)
    encoder = Conformer(student_config(teacher)).eval()
    if init:
        transplant(teacher, encoder, statistics)
    window = noise_windows(6)[5]
    targets = [rows_of(target, 6) for target in statistics.targets(teacher.taps(window[None]))]
    valid = torch.ones(6, 250, dtype=torch.bool)
    outputs: list[Tensor] = [
        block(x, valid) for block, x in zip(conformer_blocks(encoder)[1:], targets[:-1], strict=False)
    ]
    return [statistics.distance(n, x, targets[n], valid).mean for n, x in enumerate(outputs, 1)]


def test_feedback_and_convolutions_start_near_zero(teacher: WhisperEncoder, statistics: Statistics) -> None:
    encoder = Conformer(student_config(teacher))
    before = [block.conv.down_conv.weight.detach().clone() for block in conformer_blocks(encoder)]
    transplant(teacher, encoder, statistics)
    assert not encoder.out_mid.weight.any()
    for block, weight in zip(conformer_blocks(encoder)[1:], before[1:], strict=True):
        assert not block.conv.down_conv.bias.any()
        torch.testing.assert_close(block.conv.down_conv.weight, 0.1 * weight)
    assert not conformer_blocks(encoder)[1].ff1.down_proj.weight.any()
    assert not conformer_blocks(encoder)[-1].ff2.down_proj.weight.any()
