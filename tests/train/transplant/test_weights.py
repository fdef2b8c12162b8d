"""What Whisper and a conformer share is equal; the rest is close, or near zero at first."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.model.conformer import Conformer
from lithophone.train.transplant.statistics import REACH, Statistics, centred, measure
from lithophone.train.transplant.weights import (
    SPARE,
    MeanGelu,
    UnitOutputs,
    block_input,
    conformer_blocks,
    distillation_config,
    hold_pair,
    init_attention,
    init_feed_forward,
    init_positions,
    init_zero,
    pair_value,
    student_config,
    transplant,
    widened,
)
from lithophone.train.transplant.whisper import WhisperEncoder
from lithophone.train.transplant.windows import rows_of
from tests.train.transplant.tiny_whisper import HEADS, LAYERS, SIZE, UNITS, noise_windows

PUBLISHED = {"tiny": (384, 6, 4), "base": (512, 8, 6), "small": (768, 12, 12), "medium": (1024, 16, 24),
             "large": (1280, 20, 32)}  # fmt: skip


def test_sizes_come_from_the_teacher(teacher: WhisperEncoder) -> None:
    config = student_config(teacher)
    assert (config.hidden_dim, config.num_heads, config.dim_head) == (SIZE + SPARE, HEADS, SIZE // HEADS)
    assert (config.num_layers, config.feedforward_mult, config.conv_expansion_factor) == (LAYERS + 2, 4, 1)
    assert distillation_config(config).cat_hidden_layers == (1, 3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_has_a_conformer(name: str) -> None:
    size, heads, layers = PUBLISHED[name]
    with torch.device("meta"):
        config = student_config(WhisperEncoder(80, size, 4 * size, heads, layers))
    assert (config.hidden_dim, config.dim_head, config.num_layers) == (size + SPARE, 64, layers + 2)
    assert len(distillation_config(config).cat_hidden_layers) == layers


@torch.no_grad()
def test_attention_without_positions_is_equal(teacher: WhisperEncoder) -> None:
    layer = copy.deepcopy(teacher.layers[0])
    layer.query_key_value.bias[:SIZE].mul_(50.0)
    attention = conformer_blocks(Conformer(student_config(teacher)))[1].attn
    init_attention(layer, attention, scale=0.5)
    x = centred(torch.randn(2, 150, SIZE, generator=torch.Generator().manual_seed(4)))
    expected = centred(layer.attention(x))
    found = attention(widened(x), torch.ones(2, 150, dtype=torch.bool)) * 0.5
    torch.testing.assert_close(found, widened(expected), rtol=0, atol=1e-4 * float(expected.std()))


@torch.no_grad()
def test_an_mlp_is_close(teacher: WhisperEncoder) -> None:
    layer = teacher.layers[0]
    feed_forward = conformer_blocks(Conformer(student_config(teacher)))[0].ff2
    outputs = UnitOutputs(torch.zeros(UNITS), torch.ones(UNITS))
    init_feed_forward(layer, feed_forward, 0.5, MeanGelu(torch.zeros(UNITS), torch.zeros(UNITS)), outputs)
    x = centred(torch.randn(2, 50, SIZE, generator=torch.Generator().manual_seed(5)))
    expected = centred(layer.down(F.gelu(layer.up(layer.mlp_norm(x)))))
    found = (0.5 * feed_forward(widened(x)) * 0.5)[..., :SIZE]
    assert (found - expected).square().mean() < 2e-3 * expected.square().mean()


@torch.no_grad()
def test_a_smaller_feed_forward_keeps_the_units_that_matter(teacher: WhisperEncoder) -> None:
    layer = teacher.layers[0]
    x = centred(torch.randn(2, 500, SIZE, generator=torch.Generator().manual_seed(5)))
    units = F.gelu(layer.up(layer.mlp_norm(x))).flatten(0, 1)
    expected = centred(layer.down(F.gelu(layer.up(layer.mlp_norm(x)))))
    plain = MeanGelu(torch.zeros(UNITS), torch.zeros(UNITS))

    def error(deviation: Tensor, mult: int) -> float:
        small = conformer_blocks(Conformer(student_config(teacher, mult)))[0].ff2
        init_feed_forward(layer, small, 0.5, plain, UnitOutputs(units.mean(0), deviation))
        found = (0.5 * small(widened(x)) * 0.5)[..., :SIZE]
        return float((found - expected).square().mean() / expected.square().mean())

    best, worst = units.std(0), 1.0 / units.std(0)
    assert error(best, 4) < error(best, 1) < 0.5
    assert error(best, 1) < 0.7 * error(worst, 1)


@torch.no_grad()
@pytest.mark.parametrize("loudest", [1.0, 37.0])
def test_the_norm_of_a_block_keeps_the_deviation_of_every_frame(teacher: WhisperEncoder, loudest: float) -> None:
    """Also of one with 37 times the usual deviation, nearly; the next feed-forward removes the pair."""
    block, following = conformer_blocks(Conformer(student_config(teacher)))[1:3]
    for part in (block.ff1, block.ff2, block.conv, following.ff1):
        for layer in (part.down_conv if part is block.conv else part.down_proj,):
            init_zero(layer)
    init_zero(block.attn.to_out)
    hold_pair(block, following, SIZE, scale=2.0)
    x = centred(torch.randn(1, 50, SIZE, generator=torch.Generator().manual_seed(6)))
    x = 2.0 * x / x.std(-1, keepdim=True, correction=0) * torch.linspace(0.2, loudest, 50)[:, None]
    valid = torch.ones(1, 50, dtype=torch.bool)
    found = block(widened(x), valid)
    torch.testing.assert_close(found[..., :SIZE], x / 2.0, rtol=1e-3 if loudest == 1.0 else 0.08, atol=1e-5)
    torch.testing.assert_close(found[:, 0], block_input(x[:, 0] / 2.0), rtol=1e-3, atol=1e-2)
    left = (found + 0.5 * following.ff1(found))[..., SIZE:]
    assert left.abs().max() < 1e-3 * pair_value(SIZE) * (1.0 if loudest == 1.0 else 80.0)


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
    mean = widened(torch.randn(SIZE, generator=generator))
    scores = torch.randn(HEADS, 2 * REACH - 1, generator=generator)
    init_positions(attention, mean, scores)
    query = attention.to_q(mean * attention.pre_norm.weight + attention.pre_norm.bias).view(HEADS, 1, -1)
    near = attention.rel_pos_emb.weight[attention.max_pos_emb - REACH + 1 : attention.max_pos_emb + REACH]
    found = (query @ near.T).squeeze(1) * attention.scale
    wanted = scores - scores.mean(1, keepdim=True)
    assert (found - wanted).square().mean() < 0.01 * wanted.square().mean()


@torch.no_grad()
def test_blocks_without_positions_are_layers(teacher: WhisperEncoder) -> None:
    """Apart from SiLU in place of GELU, in windows that one block of attention covers."""
    teacher.positions.zero_()
    statistics = measure(teacher, noise_windows(3))
    torch.manual_seed(0)
    encoder = Conformer(student_config(teacher)).eval()
    transplant(teacher, encoder, without_positions(statistics))
    stem = teacher.stem(noise_windows(1)[0][None])[:, :200]
    targets = without_positions(statistics).targets([stem, *(one.output for one in teacher.run_layers(stem))])
    valid = torch.ones(1, 200, dtype=torch.bool)
    x = block_input(targets[0])
    for block, target in zip(conformer_blocks(encoder)[1:-1], targets[1:], strict=True):
        x = block(x, valid)
        assert (x[..., :SIZE] - target).square().mean() < 0.005 * target.var()
    x = conformer_blocks(encoder)[-1](block_input(targets[-1]), valid)
    expected = teacher.norm(teacher.run_layers(stem)[-1].output)
    assert (x[..., :SIZE] - expected).square().mean() < 1e-3 * expected.var()
    assert float(x[..., SIZE:].abs().max()) < 0.1, "the pair, of 5, is gone"


def without_positions(statistics: Statistics) -> Statistics:
    """What is left of positions without a teacher's own is noise of the windows."""
    return replace(
        statistics, position_offset=torch.zeros_like(statistics.position_offset),
        position_scores=torch.zeros_like(statistics.position_scores),
        unit_deviation=torch.zeros_like(statistics.unit_deviation),
        attention_gain=torch.ones_like(statistics.attention_gain), mlp_gain=torch.ones_like(statistics.mlp_gain),
    )  # fmt: skip


def test_mapped_blocks_are_closer_to_their_targets_than_random_ones(
    teacher: WhisperEncoder, statistics: Statistics
) -> None:
    mapped, random = (distances(teacher, statistics, init) for init in (True, False))
    assert all(a < 0.5 * b for a, b in zip(mapped, random, strict=True)), (mapped, random)


@torch.no_grad()
def distances(teacher: WhisperEncoder, statistics: Statistics, init: bool) -> list[float]:
    """Loss of every mapped block behind the stem, on the target of the one before."""
    torch.manual_seed(0)
    encoder = Conformer(student_config(teacher)).eval()
    if init:
        transplant(teacher, encoder, statistics)
    window = noise_windows(6)[5]
    targets = [rows_of(target, 6) for target in statistics.targets(teacher.streams(window[None]))]
    valid = torch.ones(6, 250, dtype=torch.bool)
    outputs = [
        block(block_input(x), valid)[..., :SIZE]
        for block, x in zip(conformer_blocks(encoder)[1:], targets[:-1], strict=False)
    ]
    return [statistics.distance(n, x, targets[n], valid).mean for n, x in enumerate(outputs, 1)]


def test_feedback_and_what_whisper_lacks_start_at_zero(teacher: WhisperEncoder, statistics: Statistics) -> None:
    encoder = Conformer(student_config(teacher))
    transplant(teacher, encoder, statistics)
    assert not encoder.out_mid.weight.any()
    for block in conformer_blocks(encoder)[1:-1]:
        assert not block.conv.down_conv.weight.any()
        assert not block.ff1.down_proj.weight.any()
    last = conformer_blocks(encoder)[-1]
    assert not last.ff1.down_proj.weight.any()
    assert last.ff1.up_proj.weight.any(), "the last block can learn"
