"""Weights of Whisper's decoder, mapped to a Granite language model that reads audio embeddings.

Whisper attends to text and to encoder states in two attentions; Granite has one, over the prompt. Its heads are split:
the first half are those of self-attention, and see text alone; the other half are those of cross-attention, and see
audio embeddings alone. A layer has both where one is not needed to compute the other (`MappedLayer`). Audio embeddings
stay as they are from layer to layer, as Whisper's encoder states do.

The hidden states have `SPARE` channels beyond Whisper's, zero for text. `AUDIO` marks audio embeddings; it is so large
that the norm of an embedding hardly depends on its content. `START` marks the first token of a prompt, which has no
content: it is what audio embeddings attend to, so that they read nothing.

Whisper's decoder has learned positions, a language model rotates queries and keys. The rotary base is so large that
all but the `FAST` first pairs of channels are unchanged over a prompt; those start small, for the training to use.
Positions of tokens are replaced by their mean. Those of audio are added by the heads of the first layer that would
see audio, if it has none of Whisper's (`positions.py`). The bias of the final norm is left out: Granite has no place
for it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lithophone.errors import OptionError
from lithophone.model.config import ProjectorConfig, TextConfig
from lithophone.model.granite import Attention, DecoderLayer, GraniteForCausalLM
from lithophone.model.qformer import QFormerLayer, WindowQFormer
from lithophone.train.transplant.decoder_statistics import DecoderStatistics, Roots, decoder_layers, low_rank
from lithophone.train.transplant.positions import PositionHeads
from lithophone.train.transplant.statistics import centred
from lithophone.train.transplant.weights import GELU_RATE, UnitOutputs, init_zero
from lithophone.train.transplant.whisper_decoder import WhisperAttention, WhisperDecoder, WhisperDecoderLayer

N_AUDIO, N_START = 12, 4
SPARE = N_AUDIO + N_START
"""Channels beyond Whisper's: a multiple of 16 keeps matrices aligned."""

AUDIO_MARK = 12.0
"""Of an audio embedding, relative to the usual deviation of its content. With 4 the reading falls apart."""
START_MARK = 1000.0

FAST = 4
"""Pairs of channels that are left to relative positions."""
SLOW_ROTATION = 0.00025
"""Radians per position of the first pair of channels that keeps its content."""
NEW_DEVIATION = 0.005
"""Of weights that Whisper lacks and training is to find."""

CLOSED, SHUT = 40.0, 50.0
"""Scores that keep a head from audio or from text, and from the start; logits of attention."""
HIDDEN = 12.0
"""The same between the start and other tokens in front of audio, in heads of positions."""
POSITION_VALUE = 32.0
"""Value of tokens in front of audio, in heads of positions; the larger it is, the smaller are the output weights."""
UNIT_OFF = 25.0
"""What is subtracted from the gates of an MLP at audio embeddings."""


@dataclass(frozen=True)
class MappedLayer:
    """What a layer takes from Whisper's layers, counted from 1; what is None starts as zero."""

    self_attention: int | None = None
    cross_attention: int | None = None
    mlp: int | None = None


def parse_plan(text: str, depth: int) -> tuple[MappedLayer, ...]:
    """Layers such as `s1,c1m1,s2c2m2`: attention to text, to audio, and the MLP of Whisper's layers.

    Raises OptionError for another form, or layers beyond `depth`.
    """
    layers = []
    for part in text.split(","):
        found = re.fullmatch(r"(?:s(\d+))?(?:c(\d+))?(?:m(\d+))?", part.strip())
        numbers = [None if n is None else int(n) for n in found.groups()] if found and part.strip() else []
        if not numbers or any(n is not None and not 1 <= n <= depth for n in numbers):
            raise OptionError(
                f"the plan has the layer {part!r}: expected such as s1c1m1, with Whisper's layers 1 to {depth}"
            )
        layers.append(MappedLayer(*numbers))
    return tuple(layers)


def exact_plan(depth: int) -> tuple[MappedLayer, ...]:
    """Two layers for each of Whisper's."""
    return tuple(layer for n in range(1, depth + 1) for layer in (MappedLayer(n), MappedLayer(None, n, n)))


def text_config(
    decoder: WhisperDecoder, plan: Sequence[MappedLayer], n_tokens: int, units: int, head_dim: int | None = None
) -> TextConfig:
    """A language model for a decoder of this size, with heads of the same size by default."""
    whisper = cast(WhisperDecoderLayer, decoder.layers[0]).self_attention
    size = decoder.embeddings.shape[1]
    head_dim = head_dim or size // whisper.num_heads
    return TextConfig(
        vocab_size=n_tokens,
        hidden_size=size + SPARE,
        intermediate_size=units,
        num_hidden_layers=len(plan),
        num_attention_heads=2 * whisper.num_heads,
        num_key_value_heads=2 * whisper.num_heads,
        head_dim=head_dim,
        max_position_embeddings=2048,
        rope_theta=SLOW_ROTATION ** (-head_dim / (2.0 * FAST)),
        embedding_multiplier=1.0,
        attention_multiplier=(size // whisper.num_heads) ** -0.5,
        residual_multiplier=1.0,
        logits_scaling=1.0,
        attention_bias=True,
        mlp_bias=True,
        tie_word_embeddings=True,
        bos_token_id=n_tokens - 1,
        eos_token_id=n_tokens - 1,
        pad_token_id=n_tokens - 1,
    )


@dataclass(frozen=True)
class Marks:
    """The marks of audio embeddings and of the start, behind the norm of a layer."""

    size: int
    """Channels of content."""
    content: float
    """What the norm of an audio embedding divides its content by."""
    audio: float
    start: float
    raw_audio: float
    """In front of the norm."""

    @classmethod
    def of(cls, statistics: DecoderStatistics) -> Marks:
        size, deviation = len(statistics.state_mean), float(statistics.state_deviation)
        mark = AUDIO_MARK * deviation
        content = math.sqrt((size * deviation**2 + N_AUDIO * mark**2) / (size + SPARE))
        return cls(size, content, mark / content, math.sqrt((size + SPARE) / N_START), mark)

    @property
    def audio_channels(self) -> slice:
        return slice(self.size, self.size + N_AUDIO)

    @property
    def start_channels(self) -> slice:
        return slice(self.size + N_AUDIO, self.size + SPARE)

    def at_audio(self, value: float) -> float:
        """Weight of the marks of audio that together add `value`."""
        return value / (N_AUDIO * self.audio)

    def at_start(self, value: Tensor | float) -> Tensor | float:
        """The same of the marks of the start."""
        return value / (N_START * self.start)

    @property
    def text_gain(self) -> float:
        """The norm over all channels of a text's hidden state, relative to that over the content."""
        return math.sqrt(self.size / (self.size + SPARE))


@torch.no_grad()
def transplant_decoder(
    decoder: WhisperDecoder,
    model: GraniteForCausalLM,
    plan: Sequence[MappedLayer],
    statistics: DecoderStatistics,
    positions: PositionHeads | None = None,
    tokens_before: int = 1,
) -> None:
    """Initialise layers and final norm of a language model of `text_config` from Whisper's decoder.

    `positions` are added to audio embeddings that have `tokens_before` tokens in front of them, besides the start.
    Raises OptionError where there is no room for them.
    """
    marks = Marks.of(statistics)
    if positions is not None and (plan[0].cross_attention is not None or tokens_before < 1):
        raise OptionError(
            f"the first layer is {plan[0]} with {tokens_before} tokens between start and audio: positions need a first "
            "layer without attention to audio, such as s1, and at least one token there"
        )
    constant = -statistics.state_mean
    """What audio embeddings have too much, compared with Whisper's encoder states."""
    for layer, mapped in zip(model.model.layers, plan, strict=True):
        layer = cast(DecoderLayer, layer)
        constant = constant + _init_attention(decoder, layer.self_attn, mapped, statistics, marks, constant)
        _init_mlp(decoder, layer, mapped.mlp, statistics, marks)
    if positions is not None:
        _init_positions(cast(DecoderLayer, model.model.layers[0]).self_attn, positions, tokens_before, marks)
    model.model.norm.weight.zero_()
    model.model.norm.weight[: marks.size] = decoder.norm.weight * marks.text_gain


def position_frequencies(config: TextConfig) -> list[float]:
    """Radians per position of the pairs of channels that `PositionHeads` use: all fast ones but the fastest."""
    return [config.rope_theta ** (-2.0 * pair / config.head_size) for pair in range(1, FAST)]


def _init_positions(target: Attention, positions: PositionHeads, tokens_before: int, marks: Marks) -> None:
    """Heads in which audio embeddings see the start and the other tokens in front, and tokens nothing of value.

    The value of those other tokens is a constant, all others are zero: the start stays without content. The score of
    the start beside `tokens_before` scores of zero makes a sigmoid.
    """
    half, scale = target.head_size // 2, target.scale
    count = target.q_proj.out_features // target.head_size // 2
    reach = math.sqrt(SHUT / scale)
    queries, keys, values = (layer.weight for layer in (target.q_proj, target.k_proj, target.v_proj))
    for number in range(len(positions.bias)):
        first = (count + number) * target.head_size
        own = slice(first, first + target.head_size)
        for layer in (target.q_proj, target.k_proj, target.v_proj):
            layer.weight[own] = 0.0
            layer.bias[own] = 0.0
        start = first + target.head_size - 1
        target.q_proj.bias[start] = -reach
        queries[start, marks.audio_channels] = marks.at_audio(2.0 * reach)
        target.k_proj.bias[start] = reach
        keys[start, marks.audio_channels] = marks.at_audio(-reach)
        keys[start, marks.start_channels] = marks.at_start(-HIDDEN / (reach * scale))
        level = HIDDEN + math.log(tokens_before) - float(positions.bias[number])
        queries[first + half - 1, marks.audio_channels] = marks.at_audio(reach)
        keys[first + half - 1, marks.start_channels] = marks.at_start(level / (reach * scale))
        waves = torch.stack([positions.cosines[:, number], positions.sines[:, number]], 1)
        for pair, (cosine, sine) in enumerate(waves.tolist(), 1):
            queries[first + pair, marks.audio_channels] = marks.at_audio(reach)
            keys[first + pair, marks.start_channels] = marks.at_start(-cosine / (reach * scale))
            keys[first + pair + half, marks.start_channels] = marks.at_start(-sine / (reach * scale))
        target.v_proj.bias[first] = POSITION_VALUE
        values[first, marks.audio_channels] = marks.at_audio(-POSITION_VALUE)
        values[first, marks.start_channels] = marks.at_start(-POSITION_VALUE)
        target.o_proj.weight[:, own] = 0.0
        target.o_proj.weight[: marks.size, first] = positions.directions[number] / POSITION_VALUE


def _init_attention(
    decoder: WhisperDecoder,
    target: Attention,
    mapped: MappedLayer,
    statistics: DecoderStatistics,
    marks: Marks,
    constant: Tensor,
) -> Tensor:
    """Both halves of the heads; gives what the output's bias adds to audio embeddings (D,)."""
    size = marks.size
    half = target.q_proj.out_features // target.head_size // 2
    for layer in (target.q_proj, target.k_proj, target.v_proj):
        nn.init.normal_(layer.weight, std=NEW_DEVIATION)
        nn.init.zeros_(layer.bias)
    init_zero(target.o_proj)
    for number, first, part in ((mapped.self_attention, 0, 0), (mapped.cross_attention, half, 1)):
        if number is not None:
            whisper = decoder_layers(decoder)[number - 1]
            attention = (whisper.self_attention, whisper.cross_attention)[part]
            queries = Roots.of(statistics.queries[number - 1, part])
            keys = Roots.of(statistics.state_covariance if part else statistics.keys[number - 1])
            for head in range(half):
                maps = _head_maps(attention, head, queries, keys, target)
                _init_head(
                    target, first + head, maps, attention.norm, marks, constant if part else None, statistics.state_mean
                )
                target.o_proj.bias[:size] += centred(maps.out_bias)
            target.o_proj.bias[:size] += centred(attention.out.bias)
        for head in range(first, first + half):
            _init_visibility(target, head, 1.0 if part else -1.0, marks)
    target.v_proj.weight[:, marks.start_channels] = marks.at_start(-target.v_proj.bias[:, None])
    return target.o_proj.bias[:size].clone()


@dataclass(frozen=True)
class _HeadMaps:
    """One head: query (R, D + 1) with bias, key (R, D), value (V, D), out (D, V), and the values' bias behind out."""

    query: Tensor
    key: Tensor
    value: Tensor
    out: Tensor
    out_bias: Tensor


def _head_maps(attention: WhisperAttention, head: int, queries: Roots, keys: Roots, target: Attention) -> _HeadMaps:
    """The maps of a head, with scores and outputs limited to the target's channels where Whisper has more."""
    width = attention.query.out_features // attention.num_heads
    own = slice(head * width, (head + 1) * width)
    key, value = (part[own] for part in attention.key_value.weight.chunk(2))
    value_bias = attention.key_value.bias.chunk(2)[1][own]
    out = attention.out.weight[:, own]
    query = torch.cat([attention.query.weight[own], attention.query.bias[own, None]], 1)
    query, key = low_rank(query, key, queries, keys, min(width, len(content_channels(target.head_size))))
    shared, value = low_rank(out.T, value, Roots.of(torch.eye(len(out))), keys, min(width, target.head_size))
    return _HeadMaps(query, key, value, shared.T, out @ value_bias)


def content_channels(head_dim: int) -> list[int]:
    """Channels of a head that keep what they hold, slowest first; the last pair is for `_init_visibility`."""
    pairs = head_dim // 2
    return [channel for pair in range(pairs - 2, FAST - 1, -1) for channel in (pair, pair + pairs)]


def _init_head(
    target: Attention,
    head: int,
    maps: _HeadMaps,
    norm: nn.LayerNorm,
    marks: Marks,
    constant: Tensor | None,
    state_mean: Tensor,
) -> None:
    """A head of self-attention, or of cross-attention to embeddings that have `constant` too much."""
    size, gain = marks.size, marks.text_gain
    own = slice(head * target.head_size, (head + 1) * target.head_size)
    rows = torch.tensor(content_channels(target.head_size)[: len(maps.query)]) + own.start
    query, bias = maps.query[:, :size], maps.query[:, size]
    target.q_proj.weight[rows] = 0.0
    target.q_proj.weight[rows, :size] = centred(query * norm.weight) * gain
    target.q_proj.bias[rows] = bias + query @ norm.bias
    values = slice(own.start, own.start + len(maps.value))
    for layer in (target.k_proj, target.v_proj):
        layer.weight[rows if layer is target.k_proj else own] = 0.0
    if constant is None:
        target.k_proj.weight[rows, :size] = centred(maps.key * norm.weight) * gain
        target.v_proj.weight[values, :size] = centred(maps.value * norm.weight) * gain
        target.v_proj.bias[values] = maps.value @ norm.bias
    else:
        target.k_proj.weight[rows, :size] = maps.key * marks.content
        target.v_proj.weight[values, :size] = maps.value * marks.content
        target.v_proj.bias[values] = -maps.value @ constant
        # Whisper's scores without what they have in common, which rotation would make differ.
        target.k_proj.bias[rows] = -maps.key @ (constant + state_mean)
    target.o_proj.weight[:size, values] = centred(maps.out.T).T


def _init_visibility(target: Attention, head: int, sign: float, marks: Marks) -> None:
    """Scores that lead texts to audio embeddings (sign 1) or to texts (-1), and audio embeddings to the start."""
    gate = head * target.head_size + target.head_size // 2 - 1
    start = (head + 1) * target.head_size - 1
    for layer in (target.q_proj, target.k_proj):
        layer.weight[[gate, start]] = 0.0
        layer.bias[[gate, start]] = 0.0
    reach = math.sqrt(CLOSED / target.scale)
    target.q_proj.bias[gate] = reach
    target.q_proj.weight[gate, marks.audio_channels] = marks.at_audio(-reach)
    target.k_proj.weight[gate, marks.audio_channels] = marks.at_audio(sign * reach)
    reach = math.sqrt(SHUT / target.scale)
    target.q_proj.bias[start] = -reach
    target.q_proj.weight[start, marks.audio_channels] = marks.at_audio(2.0 * reach)
    target.k_proj.weight[start, marks.start_channels] = marks.at_start(reach)


def _init_mlp(
    decoder: WhisperDecoder, layer: DecoderLayer, number: int | None, statistics: DecoderStatistics, marks: Marks
) -> None:
    """The units of Whisper's MLP that move the output most; the last unit adds the bias to texts alone.

    SiLU stands in for GELU: gelu(x) is approximately silu(1.702 x) / 1.702, and `up_proj` is constant.
    """
    mlp, size = layer.mlp, marks.size
    nn.init.normal_(mlp.gate_proj.weight, std=NEW_DEVIATION)
    nn.init.zeros_(mlp.gate_proj.bias)
    init_zero(mlp.up_proj)
    mlp.up_proj.bias.fill_(1.0 / GELU_RATE)
    init_zero(mlp.down_proj)
    if number is not None:
        whisper, kept = decoder_layers(decoder)[number - 1], len(mlp.gate_proj.weight) - 1
        outputs = UnitOutputs(statistics.unit_mean[number - 1], statistics.unit_deviation[number - 1])
        units, missing = outputs.largest(whisper.down.weight, kept)
        up, norm = whisper.up, whisper.mlp_norm
        mlp.gate_proj.weight[: len(units)] = 0.0
        mlp.gate_proj.weight[: len(units), :size] = (
            GELU_RATE * centred(up.weight[units] * norm.weight) * marks.text_gain
        )
        mlp.gate_proj.bias[: len(units)] = GELU_RATE * (up.bias[units] + up.weight[units] @ norm.bias)
        mlp.down_proj.weight[:size, : len(units)] = centred(whisper.down.weight[:, units].T).T
        lost = whisper.down.weight[:, missing] @ outputs.mean[missing]
        mlp.gate_proj.weight[-1] = 0.0
        mlp.gate_proj.bias[-1], mlp.up_proj.bias[-1] = UNIT_OFF, 1.0 / UNIT_OFF
        mlp.down_proj.weight[:size, -1] = centred(whisper.down.bias + lost)
    off = -mlp.gate_proj.bias.clamp_min(0.0) - UNIT_OFF
    mlp.gate_proj.weight[:, marks.audio_channels] = marks.at_audio(1.0) * off[:, None]
    mlp.gate_proj.weight[:, marks.start_channels] = marks.at_start(1.0) * off[:, None]


@torch.no_grad()
def init_embeddings(
    decoder: WhisperDecoder,
    model: GraniteForCausalLM,
    tokens: Sequence[Tensor],
    start: int,
    statistics: DecoderStatistics,
) -> None:
    """The embedding table from embeddings (D,) of Whisper, one a token; `start` is the first token of every prompt."""
    table, marks = model.model.embed_tokens.weight, Marks.of(statistics)
    usual = decoder.positions[: max(1, len(decoder.positions) // 10)].mean(0)
    table.zero_()
    table[:, : marks.size] = torch.stack(list(tokens)) + usual
    table[start] = 0.0
    table[start, marks.start_channels] = START_MARK


def projector_config(size: int, encoder_size: int, num_heads: int) -> ProjectorConfig:
    """One layer of Whisper's size."""
    return ProjectorConfig(
        hidden_size=size,
        intermediate_size=size,
        num_attention_heads=num_heads,
        num_hidden_layers=1,
        encoder_hidden_size=encoder_size,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )


@torch.no_grad()
def init_projector(
    projector: WindowQFormer, statistics: DecoderStatistics, positions: PositionHeads | None = None
) -> None:
    """Each embedding starts as the mean of a window's encoder states, the first channels of which are Whisper's."""
    marks = Marks.of(statistics)
    size = marks.size
    layer = cast(QFormerLayer, projector.qformer.encoder.layer[0])
    layer.attention.output.LayerNorm.weight.fill_(0.02)
    cross = layer.crossattention
    for linear in (cross.attention.value, cross.output.dense, layer.output_query.dense, projector.linear):
        init_zero(linear)
    cross.attention.value.weight[:, :size] = torch.eye(size)
    nn.init.normal_(cross.attention.key.weight, std=0.02)
    nn.init.zeros_(cross.attention.key.bias)
    cross.output.dense.weight.copy_(torch.eye(size))
    cross.output.dense.bias.copy_(statistics.offset_mean - statistics.state_mean)
    projector.linear.weight[:size] = torch.eye(size) * statistics.state_deviation
    projector.linear.bias[marks.audio_channels] = marks.raw_audio
    if positions is not None:
        projector.linear.bias[:size] = positions.constant


@torch.no_grad()
def audio_embeddings(states: Tensor, statistics: DecoderStatistics, positions: PositionHeads | None = None) -> Tensor:
    """Encoder states (..., D) without positions -> audio embeddings (..., D + SPARE) of a projector, one a state."""
    marks = Marks.of(statistics)
    constant = 0.0 if positions is None else positions.constant
    x = F.pad(states + statistics.offset_mean - statistics.state_mean + constant, (0, SPARE))
    x[..., marks.audio_channels] = marks.raw_audio
    return x
