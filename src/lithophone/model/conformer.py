"""Conformer encoder: frames (B, T, 160) at 50 Hz -> states (B, T, D), with self-conditioned character CTC.

Attention is full within blocks of `context_size` frames; only convolutions cross blocks. A padded batch equals its
items alone. Parameter names are those of granite-speech-4.1, `encoder.*`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lithophone.model.config import EncoderConfig
from lithophone.model.gradient_checkpointing import run_layer


@dataclass(frozen=True)
class EncoderBias:
    """Language conditioning: (labels,) for all rows of a batch, or (B, 1, labels) for each."""

    penalty: Tensor
    """Nats subtracted from the character logits of the middle and last block."""
    language_id: Tensor | None = None
    """Added to the probabilities fed back by the middle block."""


@dataclass(frozen=True)
class EncoderOutput:
    """Encoder output of a batch; beyond `lengths` `states` and `last` are zero, the others undefined."""

    states: Tensor
    """(B, T, output_size), read by the projector: layers of `cat_hidden_layers` (plus, nar), then the last."""
    last: Tensor
    """(B, T, hidden_dim): output of the last block."""
    logits: Tensor
    """(B, T, output_dim): final character logits, label 0 is the blank."""
    mid_logits: Tensor
    """(B, T, output_dim): character logits of the middle block."""
    lengths: Tensor
    """(B,) valid frames."""


class Conformer(nn.Module):
    """The encoder, `encoder.*` of a checkpoint."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.input_linear = nn.Linear(config.input_dim, config.hidden_dim)
        self.layers = nn.ModuleList(ConformerBlock(config) for _ in range(config.num_layers))
        self.out = nn.Linear(config.hidden_dim, config.output_dim)
        self.out_mid = nn.Linear(config.output_dim, config.hidden_dim)
        self.gradient_checkpointing = False

    def forward(self, frames: Tensor, lengths: Tensor | None = None, bias: EncoderBias | None = None) -> EncoderOutput:
        """Frames (B, T, 160), lengths (B,) or None for T, language conditioning -> `EncoderOutput`."""
        if lengths is None:
            lengths = torch.full((frames.shape[0],), frames.shape[1], device=frames.device)
        valid = torch.arange(frames.shape[1], device=frames.device) < lengths[:, None]
        x = self.input_linear(frames)
        mid_logits = x
        kept = [x] if 0 in self.config.cat_hidden_layers else []
        for number, layer in enumerate(self.layers, 1):
            x = run_layer(layer, x, valid, recompute=self.gradient_checkpointing)
            if number == self.config.mid_layer:
                mid_logits = self.character_logits(x, bias)
                x = x + self.feedback(mid_logits, bias)
            if number in self.config.cat_hidden_layers:
                kept.append(x)
        last = x * valid[..., None]
        states = torch.cat([*(k * valid[..., None] for k in kept), last], -1) if kept else last
        return EncoderOutput(states, last, self.character_logits(last, bias), mid_logits, lengths)

    def character_logits(self, x: Tensor, bias: EncoderBias | None) -> Tensor:
        """(B, T, D) -> (B, T, labels), with the bias' penalty."""
        logits: Tensor = self.out(x)
        return logits if bias is None else logits - bias.penalty.to(logits)

    def feedback(self, mid_logits: Tensor, bias: EncoderBias | None) -> Tensor:
        """Self-conditioning: logits of the middle block (B, T, labels) -> what is added to its output (B, T, D)."""
        probabilities = mid_logits.softmax(-1)
        if bias is not None and bias.language_id is not None:
            probabilities = probabilities + bias.language_id.to(probabilities)
        added: Tensor = self.out_mid(probabilities)
        return added


class ConformerBlock(nn.Module):
    """Half feed-forward, attention, convolution, half feed-forward; one residual stream, one final norm."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.ff1 = FeedForward(config)
        self.attn = BlockAttention(config)
        self.conv = ConvModule(config)
        self.ff2 = FeedForward(config)
        self.post_norm = nn.LayerNorm(config.hidden_dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), valid (B, T) bool -> (B, T, D)."""
        return self.convolve(self.attend(x, valid), valid)

    def attend(self, x: Tensor, valid: Tensor) -> Tensor:
        """The first half, which reads one block: half feed-forward, attention."""
        x = x + 0.5 * self.ff1(x)
        out: Tensor = x + self.attn(x, valid)
        return out

    def convolve(self, x: Tensor, valid: Tensor) -> Tensor:
        """The second half, which reads the neighbouring frames: convolution, half feed-forward, norm."""
        x = x + self.conv(x, valid)
        x = x + 0.5 * self.ff2(x)
        out: Tensor = self.post_norm(x)
        return out


class FeedForward(nn.Module):
    """LayerNorm -> wide SiLU layer -> back."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.pre_norm = nn.LayerNorm(config.hidden_dim)
        self.up_proj = nn.Linear(config.hidden_dim, config.hidden_dim * config.feedforward_mult)
        self.down_proj = nn.Linear(config.hidden_dim * config.feedforward_mult, config.hidden_dim)
        self.dropout = nn.Dropout(config.dropout)
        self.constant = False
        """Whether all weights are zero: the output is a bias, and neither computed nor trained."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D), or (D,) where it is constant."""
        if self.constant:
            return self.down_proj.bias
        out: Tensor = self.dropout(self.down_proj(self.dropout(F.silu(self.up_proj(self.pre_norm(x))))))
        return out


class BlockAttention(nn.Module):
    """Block attention with Shaw's relative positions (arXiv 1803.02155): one table a layer, shared by the heads."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        inner = config.num_heads * config.dim_head
        self.num_heads = config.num_heads
        self.context_size = config.context_size
        self.max_pos_emb = config.max_pos_emb
        self.scale = config.dim_head**-0.5
        self.pre_norm = nn.LayerNorm(config.hidden_dim)
        self.to_q = nn.Linear(config.hidden_dim, inner, bias=False)
        self.to_kv = nn.Linear(config.hidden_dim, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, config.hidden_dim)
        self.rel_pos_emb = nn.Embedding(2 * config.max_pos_emb + 1, config.dim_head)
        nn.init.normal_(self.rel_pos_emb.weight, std=0.02)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), valid (B, T) -> (B, T, D)."""
        batch, frames, _ = x.shape
        size = block_size(frames, self.context_size)
        pad = -frames % size
        allowed = F.pad(valid, (0, pad)).view(-1, 1, 1, size)
        x = self.pre_norm(x)
        q = self._heads(F.pad(self.to_q(x), (0, 0, 0, pad)), size)
        k, v = (self._heads(part, size) for part in F.pad(self.to_kv(x), (0, 0, 0, pad)).chunk(2, -1))
        attended = self._with_gradients if torch.is_grad_enabled() else self._without_gradients
        out = attended(q, k, v, ~allowed).transpose(1, 2).reshape(batch, frames + pad, -1)[:, :frames]
        result: Tensor = self.dropout(self.to_out(out))
        return result

    def _heads(self, x: Tensor, size: int) -> Tensor:
        """(B, blocks * size, heads * d) -> (B * blocks, heads, size, d)."""
        return x.reshape(-1, size, self.num_heads, x.shape[-1] // self.num_heads).transpose(1, 2)

    def _with_gradients(self, q: Tensor, k: Tensor, v: Tensor, masked: Tensor) -> Tensor:
        """q, k, v (N, H, C, d), masked keys (N, 1, 1, C) -> (N, H, C, d)."""
        bias = skewed_bias(q * self.scale, self._positions(q.shape[2]))
        return attend(q, k, v, bias.masked_fill(masked, torch.finfo(q.dtype).min), self.scale)

    def _without_gradients(self, q: Tensor, k: Tensor, v: Tensor, masked: Tensor) -> Tensor:
        """The same, with the queries from the last to the first, as `windowed_bias` wants them."""
        q = q.flip(2)
        bias = windowed_bias(q * self.scale, self._positions(q.shape[2]))
        return attend(q, k, v, bias.masked_fill_(masked, torch.finfo(q.dtype).min), self.scale).flip(2)

    def _positions(self, size: int) -> Tensor:
        """Vectors of the distances size - 1 down to 1 - size (2 size - 1, d)."""
        return self.rel_pos_emb.weight[self.max_pos_emb - size + 1 : self.max_pos_emb + size].flip(0)


RUN_KEYS = 192
ALIGNED_FRAMES = 16


def block_size(frames: int, context_size: int) -> int:
    """Frames of a block, padding included: the least with the same sums over keys as in `context_size` frames.

    torch's products on CPUs sum up to `RUN_KEYS` keys in one run, more in two halves, and from twice as many on in runs
    of `RUN_KEYS`. With equal runs an utterance has the same states alone and in a batch of longer ones, bit by bit:
    int8 would make more of a difference in the last.
    """
    if frames > first_run(context_size):
        frames = max(frames, 2 * RUN_KEYS) if context_size >= 2 * RUN_KEYS else context_size
    return min(context_size, -(-frames // ALIGNED_FRAMES) * ALIGNED_FRAMES)


def first_run(keys: int) -> int:
    """Keys of the first run of a sum over so many."""
    if keys <= RUN_KEYS:
        return keys
    return keys // 2 if keys < 2 * RUN_KEYS else RUN_KEYS


def windowed_bias(q: Tensor, table: Tensor) -> Tensor:
    """Queries q (N, H, C, d) from c = C - 1 down to 0, vectors of the distances C - 1 down to 1 - C (2C - 1, d) ->
    q_c . E[c - r] (N, H, C, C).

    In this order the vectors that each row reads are a window of the table, a view without gather or copy: fastest
    forward.
    """
    return torch.einsum("nhcd,cdr->nhcr", q, table.unfold(0, q.shape[2], 1))


def skewed_bias(q: Tensor, table: Tensor) -> Tensor:
    """As `windowed_bias`, with the queries from 0 to C - 1, by one product with all distances and a shift of each row:
    fastest backward.
    """
    size = q.shape[2]
    rows = F.pad(q @ table.T, (0, 1)).flatten(2)[..., size - 1 : size - 1 + size * (2 * size - 1)]
    return rows.reshape(*q.shape[:3], 2 * size - 1)[..., :size]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Softmax attention with an additive bias; fused, except on CPUs, which have no fused backward for a bias."""
    if q.device.type == "cpu" and torch.is_grad_enabled():
        return ((q * scale) @ k.transpose(-1, -2) + bias).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)


class ConvModule(nn.Module):
    """Pointwise -> GLU -> depthwise over time -> BatchNorm -> SiLU -> pointwise."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        inner = config.hidden_dim * config.conv_expansion_factor
        self.norm = nn.LayerNorm(config.hidden_dim)
        self.up_conv = nn.Conv1d(config.hidden_dim, 2 * inner, 1)
        self.depth_conv = DepthwiseConv(inner, config.conv_kernel_size)
        self.batch_norm = nn.BatchNorm1d(inner)
        self.down_conv = nn.Conv1d(inner, config.hidden_dim, 1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """x (B, T, D), valid (B, T) -> (B, T, D); padding is zeroed before the depthwise convolution."""
        x = F.glu(pointwise(self.norm(x), self.up_conv), -1) * valid[..., None]
        x = self._normalise(self.depth_conv(x), valid)
        out: Tensor = self.dropout(pointwise(F.silu(x), self.down_conv))
        return out

    def _normalise(self, x: Tensor, valid: Tensor) -> Tensor:
        """BatchNorm with the statistics of valid frames only."""
        flat = x.flatten(0, 1)
        if not self.training:
            normalised: Tensor = self.batch_norm(flat)
            return normalised.view_as(x)
        rows = valid.flatten().nonzero().squeeze(-1)
        return torch.zeros_like(flat).index_copy(0, rows, self.batch_norm(flat.index_select(0, rows))).view_as(x)


class DepthwiseConv(nn.Module):
    """One filter a channel over time, `depth_conv.conv.weight` (C, 1, k), zero padding to equal length."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.padding = (kernel_size // 2, kernel_size // 2 - (kernel_size + 1) % 2)
        self.conv = nn.Conv1d(channels, channels, kernel_size, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, C), as a 2-d convolution over a channels-last view: no copy, and faster on CPUs."""
        image = F.pad(x, (0, 0, *self.padding)).transpose(1, 2).unsqueeze(2)
        out = F.conv2d(image, self.conv.weight.unsqueeze(2), groups=x.shape[-1])
        return out.squeeze(2).transpose(1, 2)


def pointwise(x: Tensor, conv: nn.Conv1d) -> Tensor:
    """Convolution of width 1 as a matrix product: (B, T, C) -> (B, T, C')."""
    return F.linear(x, conv.weight.squeeze(-1), conv.bias)
