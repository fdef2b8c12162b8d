"""A faster pass through a language model of the recipe `transplant_decoder`, for its training.

There, the first layer adds positions to audio embeddings. In all others they attend to the first token alone and their
MLPs are off, so a layer adds the same vector to all of them. This pass takes that for granted: behind the first layer
they are keys and values, and only tokens go through the layers. A window has about five times as many audio embeddings
as tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from lithophone.model.granite import AttentionInputs, DecoderLayer, GraniteForCausalLM, pad_rows
from lithophone.model.rotary import rotary_tables, rotate
from lithophone.train.targets.prompt_reply import Example, like_lengths


def reply_logits(
    model: GraniteForCausalLM, embeddings: Sequence[Tensor], examples: Sequence[Example], audio_token: int
) -> Iterator[tuple[list[int], Tensor]]:
    """As `prompt_reply.reply_logits`: groups of examples, and logits (n, V) of all their replies.

    Each prompt has one run of `audio_token` behind its first token.
    """
    slots = [audio_slots(example.prompt, audio_token) for example in examples]
    for group in like_lengths([len(row) for row in embeddings]):
        chosen = [examples[i] for i in group]
        rows = PromptRows.of(first_layer(model, [embeddings[i] for i in group]), [slots[i] for i in group])
        hidden = token_states(model, rows)
        starts = [len(example.prompt) - 1 - count for example, count in zip(chosen, rows.counts, strict=True)]
        replies = [
            row[start : start + len(example.reply)] for row, start, example in zip(hidden, starts, chosen, strict=True)
        ]
        yield group, model.logits(torch.cat(replies))


def audio_slots(prompt: Sequence[int], audio_token: int) -> slice:
    """Where the run of audio slots lies."""
    return slice(prompt.index(audio_token), len(prompt) - prompt[::-1].index(audio_token))


@dataclass(frozen=True)
class PromptRows:
    """B rows: states of tokens (B, N, H) and of audio (B, A, H), their positions (B, N) and (B, A)."""

    tokens: Tensor
    audio: Tensor
    token_positions: Tensor
    audio_positions: Tensor
    counts: list[int]
    """Of audio embeddings."""
    visible: Tensor
    """(B, 1, N, A + N): what tokens attend to, audio first."""

    @classmethod
    def of(cls, rows: Sequence[Tensor], slots: Sequence[slice]) -> PromptRows:
        """From rows of states (L_i, H) in which audio lies in these slots."""
        pairs = list(zip(rows, slots, strict=True))
        tokens, _ = pad_rows([torch.cat([row[: own.start], row[own.stop :]]) for row, own in pairs])
        audio, counts = pad_rows([row[own] for row, own in pairs])
        at = torch.arange(tokens.shape[1], device=tokens.device)
        slot = torch.arange(audio.shape[1], device=tokens.device)
        first = torch.tensor([own.start for own in slots], device=tokens.device)[:, None]
        behind = at >= first
        heard = behind[:, :, None] & (slot < counts[:, None])[:, None]
        before = (at <= at[:, None]).expand(len(rows), -1, -1)
        visible = torch.cat([heard, before], -1)[:, None]
        return cls(tokens, audio, at + behind * counts[:, None], first + slot, counts.tolist(), visible)


def first_layer(model: GraniteForCausalLM, embeddings: Sequence[Tensor]) -> list[Tensor]:
    """Rows of embeddings (L_i, H) behind the first layer."""
    padded, lengths = pad_rows(embeddings)
    positions = torch.arange(padded.shape[1], device=padded.device)[None]
    inputs = AttentionInputs(*rotary_tables(positions, model.config), None, True)
    states = model.model.layers[0](padded * model.config.embedding_multiplier, inputs, None)
    return [row[:length] for row, length in zip(states, lengths.tolist(), strict=True)]


def token_states(model: GraniteForCausalLM, rows: PromptRows) -> Tensor:
    """States behind the first layer -> final-normed hidden states (B, N, H) of the tokens."""
    inputs = AttentionInputs(*rotary_tables(rows.token_positions, model.config), rows.visible, False)
    rotary = rotary_tables(rows.audio_positions, model.config)
    x, audio = rows.tokens, rows.audio
    for each in list(model.model.layers)[1:]:
        layer = cast(DecoderLayer, each)
        memory = AudioMemory(layer, audio, rotary)
        x = layer(x, inputs, memory)
        audio = audio + layer.residual_multiplier * memory.change()
    out: Tensor = model.model.norm(x)
    return out


class AudioMemory:
    """Audio embeddings (B, A, H) in front of a layer, as keys and values in front of those of tokens."""

    def __init__(self, layer: DecoderLayer, audio: Tensor, rotary: tuple[Tensor, Tensor]) -> None:
        attention, normed = layer.self_attn, layer.input_layernorm(audio)
        self.layer = layer
        self.keys = rotate(attention.heads(attention.k_proj(normed)), *rotary)
        self.values = attention.heads(attention.v_proj(normed))
        self.first = self.values[:, :, :0]

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keeps the value of the first token, too."""
        self.first = v[:, :, :1]
        return torch.cat([self.keys, k], 2), torch.cat([self.values, v], 2)

    def change(self) -> Tensor:
        """What the layer adds to audio embeddings (B, 1, H), once it has been called."""
        change: Tensor = self.layer.self_attn.o_proj(self.first.transpose(1, 2).flatten(2))
        return change + self.layer.mlp.down_proj.bias
