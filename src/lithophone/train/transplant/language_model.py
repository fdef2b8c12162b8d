"""Weights of Whisper's decoder, mapped to a Granite language model that reads audio embeddings.

Whisper attends to text and to encoder states in two attentions; Granite has one, over the prompt. Its heads are split:
the first half are those of self-attention, and see text alone; the other half are those of cross-attention, and see
audio embeddings alone. A layer has both where one is not needed to compute the other (`MappedLayer`). Audio embeddings
stay as they are from layer to layer, as Whisper's encoder states do.

Marks in channels of their own (`marks.py`) tell audio, text and the start of the prompt apart. A score that keeps a
head from seeing something is negative there, and zero where the head is to see: the marks behind a norm vary.

Whisper's decoder has learned positions, a language model rotates queries and keys. The rotary base is so large that
all but the `FAST` first pairs of channels are unchanged over a prompt; those start small, for the training to use.
Positions of tokens are replaced by their mean. Those of audio are added by the heads of the first layer that would
see audio, if it has none of Whisper's (`positions.py`). The bias of the final norm is added in front of it, for the
usual norm.
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
from lithophone.train.transplant.marks import FIRST_MARK, SPARE, Marks
from lithophone.train.transplant.positions import PositionHeads
from lithophone.train.transplant.statistics import centred
from lithophone.train.transplant.weights import GELU_RATE, UnitOutputs, init_zero
from lithophone.train.transplant.whisper_decoder import WhisperAttention, WhisperDecoder, WhisperDecoderLayer

FAST = 4
"""Pairs of channels that are left to relative positions."""
SLOW_ROTATION = 0.00025
"""Radians per position of the first pair of channels that keeps its content."""
NEW_DEVIATION = 0.005
"""Of weights of the fast pairs, which training is to find."""

CLOSED, SHUT = 40.0, 50.0
"""What scores are lowered by to keep a head from audio or from text, and from the start; logits of attention."""
POSITION_VALUE = 32.0
"""Value of the second token in heads of positions; the larger it is, the smaller are the output weights."""
TEXT_SAFETY = 2.0
"""Of CLOSED for texts, whose marks behind the norm vary most."""
TEXT_MARK = 2.5
"""Of texts behind the norm of attention, whose largest channels are 5 to 10."""
UNIT_OFF = 25.0
"""What is subtracted from the gates of an MLP at audio embeddings."""


@dataclass(frozen=True)
class MappedLayer:
    """What a layer takes from Whisper's layers, counted from 1; the weights of what is None are zero."""

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


@torch.no_grad()
def transplant_decoder(
    decoder: WhisperDecoder,
    model: GraniteForCausalLM,
    plan: Sequence[MappedLayer],
    statistics: DecoderStatistics,
    positions: PositionHeads | None = None,
) -> None:
    """Initialise layers and final norm of a language model of `text_config` from Whisper's decoder.

    `positions` are added to audio embeddings. Raises OptionError where there is no room for them.
    """
    marks, last = Marks.of(statistics), float(statistics.last_deviation)
    if positions is not None and plan[0].cross_attention is not None:
        raise OptionError(
            f"the first layer is {plan[0]}: positions of audio need one without attention to audio, such as s1"
        )
    constant = -statistics.state_mean
    """What audio embeddings have too much, compared with Whisper's encoder states."""
    for layer, mapped in zip(model.model.layers, plan, strict=True):
        layer = cast(DecoderLayer, layer)
        constant = constant + _init_attention(decoder, layer.self_attn, mapped, statistics, marks, constant)
        _init_mlp(decoder, layer, mapped.mlp, statistics, marks)
    if positions is not None:
        usual = float(statistics.text_deviation[0, 0])
        _init_positions(cast(DecoderLayer, model.model.layers[0]).self_attn, positions, marks, usual)
    for layer, mapped in zip(model.model.layers, plan, strict=True):
        deviations = [
            float(statistics.text_deviation[number - 1, part])
            for part, number in enumerate((mapped.self_attention, mapped.cross_attention))
            if number is not None
        ]
        if deviations:
            _raise_text_marks(cast(DecoderLayer, layer), marks, max(deviations))
    norm = decoder.norm
    shift = last * norm.bias / norm.weight
    cast(DecoderLayer, model.model.layers[-1]).mlp.down_proj.bias[: marks.size] += shift
    model.model.norm.weight.zero_()
    larger = math.sqrt(1.0 + float(shift.square().mean()) / last**2)
    model.model.norm.weight[: marks.size] = norm.weight * marks.text_gain(last) * larger


def _raise_text_marks(layer: DecoderLayer, marks: Marks, deviation: float) -> None:
    """Let the norm of attention make the marks of text `TEXT_MARK`, and what reads them smaller: the same function.

    Texts grow from layer to layer, and their marks do not. Activations of 8 bits would round them away, and heads that
    see audio alone would see texts as well.
    """
    gain = max(1.0, TEXT_MARK / marks.text_behind_norm(deviation))
    layer.input_layernorm.weight[marks.text_channels] *= gain
    for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
        linear.weight[:, marks.text_channels] /= gain


def position_frequencies(config: TextConfig) -> list[float]:
    """Radians per position of the pairs of channels that `PositionHeads` use: all fast ones but the fastest."""
    return [config.rope_theta ** (-2.0 * pair / config.head_size) for pair in range(1, FAST)]


def _init_positions(target: Attention, positions: PositionHeads, marks: Marks, deviation: float) -> None:
    """Heads in which audio embeddings see the first two tokens, and texts nothing of value.

    The value of the second token is a constant, all others are zero. The score of the start beside the second's, which
    is zero, makes a sigmoid.
    """
    half, scale = target.head_size // 2, target.scale
    count = target.q_proj.out_features // target.head_size // 2
    reach = math.sqrt(SHUT / scale)
    queries, keys = target.q_proj.weight, target.k_proj.weight
    for number in range(len(positions.bias)):
        first = (count + number) * target.head_size
        own = slice(first, first + target.head_size)
        for layer in (target.q_proj, target.k_proj, target.v_proj):
            layer.weight[own] = 0.0
            layer.bias[own] = 0.0
        # All but the start's neighbour: audio sees the first tokens, and texts do not.
        gate, other = first + target.head_size - 1, first + half - 2
        queries[gate, marks.audio_channels] = marks.at_audio(reach)
        queries[gate, marks.text_channels] = marks.at_text(-TEXT_SAFETY * reach, deviation)
        keys[gate, [marks.start, marks.second]] = marks.at_first(reach)
        queries[other, marks.second] = marks.at_first(reach)
        keys[other, marks.start] = marks.at_first(reach)
        # The score does not depend on the content of audio embeddings: their norm varies, a bias does not.
        level = first + half - 1
        channels = [level, *(first + pair + part for pair in range(1, FAST) for part in (0, half))]
        waves = torch.stack([positions.cosines[:, number], positions.sines[:, number]], 1).flatten().tolist()
        for channel, value in zip(channels, [float(positions.bias[number]), *waves], strict=True):
            keys[channel, marks.start] = marks.at_first(-value / (reach * scale))
        target.q_proj.bias[[level, *(first + pair for pair in range(1, FAST))]] = reach
        target.v_proj.weight[first, marks.second] = marks.at_first(POSITION_VALUE)
        target.o_proj.weight[:, own] = 0.0
        target.o_proj.weight[: marks.size, first] = positions.directions[number] / POSITION_VALUE


@dataclass(frozen=True)
class AudioOffset:
    """What audio embeddings have too much (D,), compared with Whisper's encoder states, and the states' mean (D,)."""

    constant: Tensor
    state_mean: Tensor


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
    audio = AudioOffset(constant, statistics.state_mean)
    for layer in (target.q_proj, target.k_proj, target.v_proj, target.o_proj):
        init_zero(layer)
    for number, first, part in ((mapped.self_attention, 0, 0), (mapped.cross_attention, half, 1)):
        if number is not None:
            whisper = decoder_layers(decoder)[number - 1]
            attention = (whisper.self_attention, whisper.cross_attention)[part]
            deviation = float(statistics.text_deviation[number - 1, part])
            queries = Roots.of(statistics.queries[number - 1, part])
            keys = Roots.of(statistics.state_covariance if part else statistics.keys[number - 1])
            for head in range(half):
                maps = _head_maps(attention, head, queries, keys, target)
                _init_head(target, first + head, maps, attention.norm, marks, deviation, audio if part else None)
                target.o_proj.bias[:size] += centred(maps.out_bias)
            target.o_proj.bias[:size] += centred(attention.out.bias)
            for head in range(first, first + half):
                _init_visibility(target, head, marks, deviation, audio=bool(part))
    for channel in (marks.start, marks.second):
        target.v_proj.weight[:, channel] = -target.v_proj.bias * marks.at_first(1.0)
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
    deviation: float,
    audio: AudioOffset | None,
) -> None:
    """A head of self-attention, or of attention to audio; `deviation` is that of texts in front of the norm."""
    size, gain = marks.size, marks.text_gain(deviation)
    own = slice(head * target.head_size, (head + 1) * target.head_size)
    rows = torch.tensor(content_channels(target.head_size)[: len(maps.query)]) + own.start
    query, bias = maps.query[:, :size], maps.query[:, size]
    for layer in (target.q_proj, target.k_proj):
        nn.init.normal_(layer.weight[own], std=NEW_DEVIATION)
        layer.weight[rows] = 0.0
    target.q_proj.weight[rows, :size] = centred(query * norm.weight) * gain
    target.q_proj.bias[rows] = bias + query @ norm.bias
    values = slice(own.start, own.start + len(maps.value))
    if audio is None:
        target.k_proj.weight[rows, :size] = centred(maps.key * norm.weight) * gain
        target.v_proj.weight[values, :size] = centred(maps.value * norm.weight) * gain
        target.v_proj.bias[values] = maps.value @ norm.bias
    else:
        target.k_proj.weight[rows, :size] = maps.key * marks.content
        target.v_proj.weight[values, :size] = maps.value * marks.content
        target.v_proj.bias[values] = -maps.value @ audio.constant
        # Whisper's scores without what they have in common, which rotation would make differ.
        target.k_proj.bias[rows] = -maps.key @ (audio.constant + audio.state_mean)
    target.o_proj.weight[:size, values] = centred(maps.out.T).T


def _init_visibility(target: Attention, head: int, marks: Marks, deviation: float, *, audio: bool) -> None:
    """Scores that keep texts from texts if the head is for audio, else from audio, and always from the first tokens.

    Audio embeddings are led to the start.
    """
    gate = head * target.head_size + target.head_size // 2 - 1
    start = (head + 1) * target.head_size - 1
    for layer in (target.q_proj, target.k_proj):
        layer.weight[[gate, start]] = 0.0
        layer.bias[[gate, start]] = 0.0
    reach = math.sqrt(CLOSED / target.scale)
    target.q_proj.bias[gate] = reach
    if audio:
        target.k_proj.weight[gate, marks.text_channels] = marks.at_text(-TEXT_SAFETY * reach, deviation)
    else:
        target.k_proj.weight[gate, marks.audio_channels] = marks.at_audio(-reach)
    reach = math.sqrt(SHUT / target.scale)
    target.q_proj.bias[start] = -reach
    target.q_proj.weight[start, marks.audio_channels] = marks.at_audio(2.0 * reach)
    target.k_proj.weight[start, marks.start] = marks.at_first(reach)
    target.k_proj.weight[start, marks.second] = marks.at_first(0.5 * reach)


def _init_mlp(
    decoder: WhisperDecoder, layer: DecoderLayer, number: int | None, statistics: DecoderStatistics, marks: Marks
) -> None:
    """The units of Whisper's MLP that move the output most; the last unit adds the bias to texts alone.

    SiLU stands in for GELU: gelu(x) is approximately silu(1.702 x) / 1.702, and `up_proj` is constant.
    """
    mlp, size = layer.mlp, marks.size
    for projection in (mlp.gate_proj, mlp.up_proj, mlp.down_proj):
        init_zero(projection)
    if number is not None:
        whisper, kept = decoder_layers(decoder)[number - 1], len(mlp.gate_proj.weight) - 1
        outputs = UnitOutputs(statistics.unit_mean[number - 1], statistics.unit_deviation[number - 1])
        units, missing = outputs.largest(whisper.down.weight, kept)
        up, norm = whisper.up, whisper.mlp_norm
        gain = marks.text_gain(float(statistics.text_deviation[number - 1, 1]))
        mlp.up_proj.bias.fill_(1.0 / GELU_RATE)
        mlp.gate_proj.weight[: len(units), :size] = GELU_RATE * centred(up.weight[units] * norm.weight) * gain
        mlp.gate_proj.bias[: len(units)] = GELU_RATE * (up.bias[units] + up.weight[units] @ norm.bias)
        mlp.down_proj.weight[:size, : len(units)] = centred(whisper.down.weight[:, units].T).T
        lost = whisper.down.weight[:, missing] @ outputs.mean[missing]
        mlp.gate_proj.bias[-1], mlp.up_proj.bias[-1] = UNIT_OFF, 1.0 / UNIT_OFF
        mlp.down_proj.weight[:size, -1] = centred(whisper.down.bias + lost)
        off = -mlp.gate_proj.bias.clamp_min(0.0) - UNIT_OFF
        mlp.gate_proj.weight[:, marks.audio_channels] = marks.at_audio(1.0) * off[:, None]
        for channel in (marks.start, marks.second):
            mlp.gate_proj.weight[:, channel] = marks.at_first(1.0) * off


@torch.no_grad()
def init_embeddings(
    decoder: WhisperDecoder,
    model: GraniteForCausalLM,
    tokens: Sequence[Tensor],
    first: tuple[int, int],
    statistics: DecoderStatistics,
) -> None:
    """The embedding table from embeddings (D,) of Whisper, one a token; `first` are the first two of every prompt."""
    table, marks = model.model.embed_tokens.weight, Marks.of(statistics)
    usual = decoder.positions[: max(1, len(decoder.positions) // 10)].mean(0)
    table.zero_()
    table[:, : marks.size] = centred(torch.stack(list(tokens)) + usual)
    table[:, marks.text_channels] = marks.raw_text
    for token, channel in zip(first, (marks.start, marks.second), strict=True):
        table[token] = 0.0
        table[token, channel] = FIRST_MARK


def projector_config(size: int, encoder_size: int, num_heads: int) -> ProjectorConfig:
    """One layer of Whisper's size and `SPARE` channels, with at most so many heads."""
    wide = size + SPARE
    return ProjectorConfig(
        hidden_size=wide,
        intermediate_size=size,
        num_attention_heads=max(n for n in range(1, num_heads + 1) if wide % n == 0),
        num_hidden_layers=1,
        encoder_hidden_size=encoder_size,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )


@torch.no_grad()
def init_projector(
    projector: WindowQFormer, statistics: DecoderStatistics, positions: PositionHeads | None = None
) -> None:
    """Each embedding starts as the mean of a window's encoder states, the first channels of which are Whisper's.

    A layer norm would take away how large a state is: marks in the spare channels make its divisor nearly constant.
    """
    marks = Marks.of(statistics)
    size = marks.size
    layer = cast(QFormerLayer, projector.qformer.encoder.layer[0])
    own, cross = layer.attention, layer.crossattention
    own.output.LayerNorm.weight.fill_(0.02)
    # One query attends to itself: a constant.
    for linear in (own.attention.query, own.attention.key, own.attention.value, own.output.dense):
        init_zero(linear)
    for linear in (cross.attention.value, cross.output.dense, layer.output_query.dense, projector.linear):
        init_zero(linear)
    nn.init.normal_(cross.attention.key.weight, std=0.02)
    nn.init.zeros_(cross.attention.key.bias)
    content = slice(size)
    cross.attention.value.weight[content, content] = torch.eye(size)
    cross.output.dense.weight[content, content] = torch.eye(size)
    cross.output.dense.bias[content] = statistics.offset_mean - statistics.state_mean
    cross.output.dense.bias[size:] = marks.raw_audio * torch.tensor([1.0, -1.0]).repeat(SPARE // 2)
    energy = size * float(statistics.state_deviation) ** 2 + SPARE * marks.raw_audio**2
    projector.linear.weight[content, content] = torch.eye(size) * math.sqrt(energy / (size + SPARE))
    projector.linear.bias[marks.audio_channels] = marks.raw_audio
    if positions is not None:
        projector.linear.bias[content] = positions.constant


@torch.no_grad()
def audio_embeddings(states: Tensor, statistics: DecoderStatistics, positions: PositionHeads | None = None) -> Tensor:
    """Encoder states (..., D) without positions -> audio embeddings (..., D + SPARE) of a projector, one a state."""
    marks = Marks.of(statistics)
    constant = 0.0 if positions is None else positions.constant
    x = F.pad(states + statistics.offset_mean - statistics.state_mean + constant, (0, SPARE))
    x[..., marks.audio_channels] = marks.raw_audio
    return x
