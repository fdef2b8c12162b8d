"""Weights of Whisper's encoder, mapped to a conformer.

Block 1 is a stem that has to learn the function of Whisper's convolutions; block k + 1 takes layer k; the last block is
left to CTC. A conformer block ends inside a Whisper layer: its second feed-forward is the first half of the MLP's
units, the other half is the first feed-forward of the next block. The target of a block is Whisper's residual stream
at that tap, without position offset, and normalised, since a block ends with a LayerNorm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lithophone.model.config import EncoderConfig
from lithophone.model.conformer import BlockAttention, Conformer, ConformerBlock, FeedForward
from lithophone.train.transplant.statistics import REACH, Statistics, whisper_layers
from lithophone.train.transplant.whisper import WhisperEncoder, WhisperLayer

GELU_RATE = 1.702
"""gelu(x) is approximately silu(1.702 x) / 1.702 (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""

QUERY_SHIFT = 0.25
"""Root mean square of what is added to a norm's bias to carry the query biases."""

POSITION_RIDGE = 1e-2
"""Regularisation relative to the queries' squared norm, where position vectors are fitted to scores."""


def student_config(teacher: WhisperEncoder) -> EncoderConfig:
    """The conformer for a Whisper of this size."""
    layer = whisper_layers(teacher)[0]
    return EncoderConfig(
        hidden_dim=teacher.size,
        num_layers=len(teacher.layers) + 2,
        num_heads=layer.num_heads,
        dim_head=teacher.size // layer.num_heads,
        feedforward_mult=layer.up.out_features // teacher.size // 2,
        conv_expansion_factor=1,
        dropout=0.0,
    )


def distillation_config(config: EncoderConfig) -> EncoderConfig:
    """The same conformer, which also returns the blocks with a target, except the one that the feedback is added to."""
    blocks = tuple(n for n in range(1, config.num_layers) if n != config.mid_layer)
    return replace(config, cat_hidden_layers=blocks)


def conformer_blocks(encoder: Conformer) -> list[ConformerBlock]:
    return [cast(ConformerBlock, block) for block in encoder.layers]


@torch.no_grad()
def transplant(teacher: WhisperEncoder, encoder: Conformer, statistics: Statistics) -> None:
    """Initialise a conformer from a teacher whose units are in the order of `statistics`."""
    blocks = conformer_blocks(encoder)
    blocks[0].post_norm.weight.copy_(statistics.deviation[0])
    blocks[0].post_norm.bias.copy_(statistics.mean[0])
    for n, (layer, block, following) in enumerate(zip(whisper_layers(teacher), blocks[1:], blocks[2:], strict=False)):
        half = layer.up.out_features // 2
        before, after = statistics.scale[n], statistics.scale[n + 1]
        init_attention(layer, block.attn, before, statistics.attention_gain[n])
        init_positions(block.attn, statistics.mean[n], statistics.position_scores[n])
        gelu = MeanGelu(statistics.unit_mean[n], statistics.unit_deviation[n])
        init_feed_forward(layer, slice(0, half), block.ff2, before, gelu, gain=statistics.mlp_gain[n], bias=True)
        init_feed_forward(layer, slice(half, None), following.ff1, after, gelu, gain=statistics.mlp_gain[n], bias=False)
    init_zero(blocks[1].ff1.down_proj)
    blocks[1].ff1.down_proj.bias.copy_(2.0 * teacher.positions.mean(0) / statistics.scale[0])
    init_zero(blocks[-1].ff2.down_proj)
    init_zero(encoder.out_mid)
    for block in blocks[1:]:
        block.conv.down_conv.weight.mul_(0.1)
        init_zero(block.conv.down_conv, weight=False)


def init_attention(
    layer: WhisperLayer, attention: BlockAttention, scale: Tensor | float, gain: Tensor | float = 1.0
) -> None:
    """The same attention without positions, with its norm multiplied by `gain` and its output divided by `scale`.

    The conformer's projections have no biases. A shift of the norm's bias carries that of the queries; it cancels in
    the softmax for the keys, and the constant that it adds to the values is subtracted from the output bias.
    """
    q, k, v = layer.query_key_value.weight.chunk(3)
    q_bias, _, v_bias = layer.query_key_value.bias.chunk(3)
    norm = attention.pre_norm
    norm.weight.copy_(layer.attention_norm.weight * gain)
    norm.bias.copy_(layer.attention_norm.bias)
    shift = fold_query_bias(norm, q, q_bias, attention.to_q.weight)
    attention.to_kv.weight.copy_(torch.cat([k, v]))
    attention.rel_pos_emb.weight.zero_()
    out = layer.attention_out
    attention.to_out.weight.copy_(out.weight / scale)
    attention.to_out.bias.copy_((out.bias + out.weight @ (v_bias - v @ shift)) / scale)


def fold_query_bias(norm: nn.LayerNorm, query: Tensor, bias: Tensor, folded: Tensor) -> Tensor:
    """Write the weight `folded` that gives queries of `query` and `bias` on a shifted norm. Returns the shift (D,).

    The normalised input sums to zero. So the component of the norm's output along 1 / weight is constant, and a matrix
    of rank one turns that constant into any bias, exactly.
    """
    weight = norm.weight.where(norm.weight.abs() > 1e-9, 1e-9).double()
    direction = F.normalize(1.0 / weight, dim=0).to(query)
    before = direction @ norm.bias
    shift = direction * (QUERY_SHIFT * math.sqrt(len(direction)) * (1.0 if before >= 0 else -1.0))
    norm.bias.add_(shift)
    folded.copy_(query + torch.outer((bias - query @ shift) / (direction @ norm.bias), direction))
    return shift


def init_positions(attention: BlockAttention, mean: Tensor, scores: Tensor) -> None:
    """Relative positions that give `scores` (heads, 2 REACH - 1) for the queries of the mean input (D,).

    All heads share one vector per distance; there are more channels than heads, so it fits them all.
    """
    norm = attention.pre_norm
    queries = attention.to_q(mean * norm.weight + norm.bias).view(attention.num_heads, -1)
    wanted = (scores - scores.mean(1, keepdim=True)) / attention.scale
    products = queries @ queries.T
    damped = products + POSITION_RIDGE * products.diagonal().mean() * torch.eye(len(products))
    near = min(REACH, attention.context_size)
    vectors = (queries.T @ torch.linalg.solve(damped, wanted)).T[REACH - near : REACH + near - 1]
    attention.rel_pos_emb.weight[attention.max_pos_emb - near + 1 : attention.max_pos_emb + near] = vectors


@dataclass(frozen=True)
class MeanGelu:
    """The mean of gelu(x + noise) over the pre-activations of units that also depend on the position.

    A wider bend than GELU's, which SiLU approximates at a lower rate, plus a constant at the units' usual input.
    """

    mean: Tensor
    """(units,): usual pre-activation."""
    deviation: Tensor
    """(units,): deviation over positions; 0 is a plain GELU."""

    @property
    def rate(self) -> Tensor:
        """(units,): silu(rate x) / rate + `constant` is the approximation."""
        return GELU_RATE / (1.0 + self.deviation.square()).sqrt()

    @property
    def constant(self) -> Tensor:
        """(units,): exact at the usual pre-activation."""
        width = (1.0 + self.deviation.square()).sqrt()
        x = self.mean / width
        density = (-0.5 * x.square()).exp() / math.sqrt(2.0 * math.pi)
        exact = self.mean * torch.special.ndtr(x) + self.deviation.square() / width * density
        missing: Tensor = exact - F.silu(self.rate * self.mean) / self.rate
        return missing


def init_feed_forward(
    layer: WhisperLayer, units: slice, target: FeedForward, scale: Tensor | float, gelu: MeanGelu, *,
    gain: Tensor | float = 1.0, bias: bool,
) -> None:  # fmt: skip
    """Some units of an MLP as a feed-forward, half of which a block adds; `bias`: with the MLP's output bias."""
    rate, down = gelu.rate[units], layer.down.weight[:, units]
    target.pre_norm.weight.copy_(layer.mlp_norm.weight * gain)
    target.pre_norm.bias.copy_(layer.mlp_norm.bias)
    target.up_proj.weight.copy_(layer.up.weight[units] * rate[:, None])
    target.up_proj.bias.copy_(layer.up.bias[units] * rate)
    target.down_proj.weight.copy_(down / rate * (2.0 / scale))
    constant = down @ gelu.constant[units] + (layer.down.bias if bias else 0.0)
    target.down_proj.bias.copy_(constant * (2.0 / scale))


def init_zero(layer: nn.Linear | nn.Conv1d, weight: bool = True) -> None:
    """Zero the bias, and the weight unless `weight` is False."""
    if weight:
        layer.weight.zero_()
    if layer.bias is not None:
        layer.bias.zero_()
