"""Weights of Whisper's encoder, mapped to a conformer.

Block 1 is a stem that has to learn the function of Whisper's convolutions; block k + 1 is layer k, whose MLP is the
second feed-forward; the last block starts as Whisper's final norm. The target of a mapped block is Whisper's residual
stream behind the layer, without position offset, at a usual deviation of 1.

Whisper does not normalise its residual stream, a conformer block does. So the conformer has `SPARE` more channels:

* A pair holds a constant, large and opposite while the block's norm is computed. The deviation of the frame is then
  nearly that constant, and the norm nearly linear. The first feed-forward of the next block removes the pair.
* One is zero in the stream and one in the input of attention. Its weights are biases, which a conformer's queries lack.
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
from lithophone.train.transplant.statistics import REACH, Statistics, centred, whisper_layers
from lithophone.train.transplant.whisper import WhisperEncoder, WhisperLayer

GELU_RATE = 1.702
"""gelu(x) is approximately silu(1.702 x) / 1.702 (Hendrycks and Gimpel 2016, arXiv 1606.08415)."""

SPARE = 32
"""Channels beyond Whisper's; a multiple of 16 keeps matrices aligned. With 16, whisper-base would become 528 channels
wide, and their depthwise convolution in bfloat16 does not return on two threads (PyTorch 2.13, AVX-512 BF16)."""
PAIR = (0, 1)
ONE = 2
"""Which of them hold the pair, and the input of biases."""

CONTEXT_FRAMES = 512
"""Frames of an attention block. Whisper attends to all of 30 s, Granite to 200 frames (`docs/experiments.md`)."""

PAIR_POWER = 10_000.0
"""Sum of squares of the pair, relative to that of a usual frame. In deep layers a few frames have 1,400 times that."""

POSITION_RIDGE = 1e-2
"""Regularisation relative to the queries' squared norm, where position vectors are fitted to scores."""


def student_config(teacher: WhisperEncoder, feedforward_mult: int | None = None) -> EncoderConfig:
    """The conformer for a Whisper of this size; by default its feed-forwards hold all units of an MLP."""
    layer = whisper_layers(teacher)[0]
    return EncoderConfig(
        hidden_dim=teacher.size + SPARE,
        num_layers=len(teacher.layers) + 2,
        num_heads=layer.num_heads,
        dim_head=teacher.size // layer.num_heads,
        feedforward_mult=feedforward_mult or -(-layer.up.out_features // teacher.size),
        conv_expansion_factor=1,
        context_size=CONTEXT_FRAMES,
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
    """Initialise a conformer from its teacher."""
    size, layers, blocks = teacher.size, whisper_layers(teacher), conformer_blocks(encoder)
    scales = [float(scale) for scale in statistics.scale]
    for block in blocks[1:-1]:
        init_zero(block.ff1.up_proj)
        init_zero(block.ff1.down_proj)
        init_zero(block.conv.down_conv)
    hold_pair(blocks[0], blocks[1], size, 1.0)
    blocks[0].post_norm.weight[:size].mul_(statistics.deviation[0])
    blocks[0].post_norm.bias[:size].copy_(statistics.mean[0])
    blocks[1].ff1.down_proj.bias[:size].copy_(2.0 * centred(teacher.positions.mean(0)) / scales[0])
    for n, (layer, block) in enumerate(zip(layers, blocks[1:], strict=False)):
        init_attention(layer, block.attn, scales[n], statistics.attention_gain[n])
        init_positions(block.attn, widened(statistics.mean[n]), statistics.position_scores[n])
        gelu = MeanGelu(statistics.unit_mean[n], statistics.unit_deviation[n])
        outputs = UnitOutputs(statistics.unit_output_mean[n], statistics.unit_output_deviation[n])
        init_feed_forward(layer, block.ff2, scales[n], gelu, outputs, gain=statistics.mlp_gain[n])
        hold_pair(block, blocks[n + 2], size, scales[n + 1] / scales[n])
    init_last(teacher, blocks[-1])
    init_zero(encoder.out_mid)


def init_last(teacher: WhisperEncoder, block: ConformerBlock) -> None:
    """Whisper's final norm; the parts of the block start as almost nothing, and learn what CTC needs."""
    size = teacher.size
    block.ff1.down_proj.weight.zero_()  # Its bias takes the pair away.
    for layer in (block.attn.to_out, block.conv.down_conv, block.ff2.down_proj):
        init_zero(layer)
    block.post_norm.weight[:size] = teacher.norm.weight * math.sqrt(size / (size + SPARE))
    block.post_norm.bias[:size] = teacher.norm.bias


def widened(x: Tensor, fill: float = 0.0) -> Tensor:
    """(..., D) -> (..., D + SPARE)."""
    return F.pad(x, (0, SPARE), value=fill)


def block_input(target: Tensor) -> Tensor:
    """A target (B, T, D) -> the output (B, T, D + SPARE) of the block, with the pair."""
    x = widened(target)
    x[..., target.shape[-1] + PAIR[0]] = pair_value(target.shape[-1])
    x[..., target.shape[-1] + PAIR[1]] = -pair_value(target.shape[-1])
    return x


def pair_value(size: int) -> float:
    """The pair's value behind the norm of a block: its deviation is one, and of the rest little is left."""
    return math.sqrt((size + SPARE) / 2.0 * PAIR_POWER / (PAIR_POWER + 1.0))


def hold_pair(block: ConformerBlock, following: ConformerBlock, size: int, scale: float) -> None:
    """Make the norm of a block divide frames of the usual deviation `scale`, in `size` channels, by that deviation."""
    pair = torch.tensor([1.0, -1.0])
    channels = torch.tensor(PAIR) + size
    usual = scale * math.sqrt(size / (size + SPARE) * (PAIR_POWER + 1.0))
    block.ff2.down_proj.bias[channels] = 2.0 * scale * math.sqrt(size / 2.0 * PAIR_POWER) * pair
    block.post_norm.weight.fill_(1.0)
    block.post_norm.weight[:size] = usual / scale
    block.post_norm.bias.zero_()
    following.ff1.down_proj.bias[channels] = -2.0 * pair_value(size) * pair


def init_norm(norm: nn.LayerNorm, target: nn.LayerNorm, gain: Tensor | float = 1.0) -> None:
    """The same norm of the first channels, times `gain`, when the spare ones are zero; a one in channel `ONE`."""
    size = len(norm.weight)
    target.weight.copy_(widened(norm.weight * gain * math.sqrt(size / (size + SPARE))))
    target.bias.copy_(widened(norm.bias))
    target.bias[size + ONE] = 1.0


def init_attention(layer: WhisperLayer, attention: BlockAttention, scale: float, gain: Tensor | float = 1.0) -> None:
    """The same attention without positions, with its norm multiplied by `gain` and its output divided by `scale`.

    The bias of the values is that of the output.
    """
    q, k, v = layer.query_key_value.weight.chunk(3)
    q_bias, _, v_bias = layer.query_key_value.bias.chunk(3)
    init_norm(layer.attention_norm, attention.pre_norm, gain)
    attention.to_q.weight.copy_(widened(q))
    attention.to_q.weight[:, q.shape[1] + ONE] = q_bias
    attention.to_kv.weight.copy_(widened(torch.cat([k, v])))
    attention.rel_pos_emb.weight.zero_()
    out = layer.attention_out
    init_output(attention.to_out, out.weight / scale, (out.bias + out.weight @ v_bias) / scale)


def init_output(target: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """An output to the first channels whose mean over them is zero."""
    target.weight.copy_(widened(centred(weight.T)).T)
    target.bias.copy_(widened(centred(bias)))


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


@dataclass(frozen=True)
class UnitOutputs:
    """Mean and deviation (units,) of the outputs of an MLP's units."""

    mean: Tensor
    deviation: Tensor

    def largest(self, down: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Indices of the `count` units that move the output of `down` (D, units) most, rising, and of the others."""
        order = (self.deviation * down.norm(dim=0)).argsort(descending=True)
        return order[:count].sort().values, order[count:]


def init_feed_forward(
    layer: WhisperLayer,
    target: FeedForward,
    scale: float,
    gelu: MeanGelu,
    outputs: UnitOutputs,
    gain: Tensor | float = 1.0,
) -> None:
    """An MLP, or its units that matter most, as a feed-forward, half of which a block adds."""
    kept, others = outputs.largest(layer.down.weight, target.up_proj.out_features)
    init_norm(layer.mlp_norm, target.pre_norm, gain)
    init_zero(target.up_proj)
    rate = gelu.rate[kept]
    target.up_proj.weight[: len(kept)] = widened(layer.up.weight[kept] * rate[:, None])
    target.up_proj.bias[: len(kept)] = layer.up.bias[kept] * rate
    down = F.pad(layer.down.weight[:, kept] / rate, (0, target.up_proj.out_features - len(kept)))
    constant = layer.down.weight[:, kept] @ gelu.constant[kept] + layer.down.bias
    constant = constant + layer.down.weight[:, others] @ outputs.mean[others]
    init_output(target.down_proj, down * (2.0 / scale), constant * (2.0 / scale))


def init_zero(layer: nn.Linear | nn.Conv1d) -> None:
    layer.weight.zero_()
    if layer.bias is not None:
        layer.bias.zero_()
