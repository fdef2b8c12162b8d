"""The Granite language model: embeddings -> hidden states and logits.

Rotary positions, grouped-query attention, SwiGLU, RMSNorm and the four Granite multipliers. Rows are padded on the
right, so causal attention needs no padding mask. Parameter names are the checkpoint's below `language_model.`. Source:
`text_config` of granite-speech-4.1-2b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lithophone.model.cache import KVCache
from lithophone.model.config import TextConfig
from lithophone.model.gradient_checkpointing import run_layer
from lithophone.model.quantize import products
from lithophone.model.rotary import rotary_tables, rotate

INIT_STD = 0.02


@dataclass(frozen=True)
class AttentionInputs:
    """Shared by all layers of a pass: rotary tables `(B, 1, L, head_dim)` and the attention mask.

    `lengths`: of the rows of a causal pass, where each attends for itself.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    is_causal: bool
    lengths: Sequence[int] | None = None


class KeyValues(Protocol):
    """What queries attend to beyond the keys and values of their own pass."""

    def write(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, L, D) of a pass -> all of them (B, heads, S, D)."""
        ...


def attend(q: Tensor, k: Tensor, v: Tensor, inputs: AttentionInputs, scale: float, dropout: float) -> Tensor:
    """Grouped-query attention of `(B, heads, L, D)` over `(B, key_value_heads, S, D)`; gives `(B, heads, L, D)`."""
    if inputs.lengths is not None:
        out, alone = torch.zeros_like(q), replace(inputs, lengths=None)
        for row, n in enumerate(inputs.lengths):
            own = slice(row, row + 1), slice(None), slice(n)
            out[own] = attend(q[own], k[own], v[own], alone, scale, dropout)
        return out
    if q.shape[2] == 1 and not inputs.is_causal:
        # One position: the heads of a group become the queries of one head, and no key is copied.
        grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[3])
        return F.scaled_dot_product_attention(grouped, k, v, inputs.mask, dropout, scale=scale).view_as(q)
    return F.scaled_dot_product_attention(
        q, k, v, inputs.mask, dropout, inputs.is_causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
    )


def pad_rows(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows `(L_i, H)` -> zero-padded `(B, max L_i, H)` and lengths `(B,)`."""
    lengths = torch.tensor([len(row) for row in rows], device=rows[0].device)
    return nn.utils.rnn.pad_sequence(list(rows), batch_first=True), lengths


class RMSNorm(nn.Module):
    """RMSNorm over channels, in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * F.rms_norm(x.float(), self.weight.shape, eps=self.eps).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention, scaled by `attention_multiplier`, not by the head size."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_size = layer, config.head_size
        self.scale, self.dropout = config.attention_multiplier, config.attention_dropout
        size, bias = config.hidden_size, config.attention_bias
        query_size, key_value_size = (
            heads * config.head_size for heads in (config.num_attention_heads, config.num_key_value_heads)
        )
        self.q_proj = nn.Linear(size, query_size, bias=bias)
        self.k_proj = nn.Linear(size, key_value_size, bias=bias)
        self.v_proj = nn.Linear(size, key_value_size, bias=bias)
        self.o_proj = nn.Linear(query_size, size, bias=bias)

    def forward(self, x: Tensor, inputs: AttentionInputs, cache: KeyValues | None) -> Tensor:
        q, k, v = map(self.heads, products(x, self.q_proj, self.k_proj, self.v_proj))
        q, k = (rotate(part, inputs.cos, inputs.sin) for part in (q, k))
        if cache is not None:
            k, v = cache.write(self.layer, k, v)
        mixed = attend(q, k, v, inputs, self.scale, self.dropout if self.training else 0.0)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).flatten(2))
        return out

    def heads(self, x: Tensor) -> Tensor:
        """(B, L, heads * D) -> (B, heads, L, D)."""
        return x.view(*x.shape[:2], -1, self.head_size).transpose(1, 2)


class MLP(nn.Module):
    """SwiGLU feed-forward.

    `constant` and `constant_gate` are set where all layers, or `up_proj`, have no weights other than zero and cannot be
    trained, as in a language model from Whisper's decoder in int8: their products are left out.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)
        self.constant = self.constant_gate = False

    def forward(self, x: Tensor) -> Tensor:
        if self.constant:
            return self.down_proj.bias.expand_as(x)
        up: Tensor
        if self.constant_gate:
            gate, up = self.gate_proj(x), self.up_proj.bias
        else:
            gate, up = products(x, self.gate_proj, self.up_proj)
        out: Tensor = self.down_proj(F.silu(gate) * up)
        return out


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each normed before and scaled by `residual_multiplier` after."""

    def __init__(self, config: TextConfig, layer: int) -> None:
        super().__init__()
        self.residual_multiplier = config.residual_multiplier
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, inputs: AttentionInputs, cache: KeyValues | None) -> Tensor:
        x = torch.add(x, self.self_attn(self.input_layernorm(x), inputs, cache), alpha=self.residual_multiplier)
        return torch.add(x, self.mlp(self.post_attention_layernorm(x)), alpha=self.residual_multiplier)


class GraniteModel(nn.Module):
    """Embedding table, decoder layers, final norm: the checkpoint's `language_model.model`."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class GraniteForCausalLM(nn.Module):
    """The language model with its head: `lm_head`, or the tied embedding table."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.model = GraniteModel(config)
        tied = config.tie_word_embeddings
        self.lm_head = None if tied else nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.gradient_checkpointing = False
        self.apply(_initialise)

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids `(...)` -> embeddings `(..., H)`, before `embedding_multiplier`."""
        out: Tensor = self.model.embed_tokens(ids)
        return out

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache on the model's device and in its dtype; `capacity` in positions a row."""
        weight = self.model.embed_tokens.weight
        return KVCache(self.config, batch, capacity, device=weight.device, dtype=weight.dtype)

    def forward(
        self,
        embeddings: Tensor,
        cache: KVCache | None = None,
        *,
        positions: Tensor | None = None,
        lengths: Tensor | None = None,
        causal: bool = True,
    ) -> Tensor:
        """Embeddings `(B, L, H)` without the multiplier -> final-normed hidden states `(B, L, H)`.

        `lengths` `(B,)`: embeddings without padding. `cache`: the L positions follow those it holds, and are added to
        it. `positions` `(B, L)`: rotary positions, by default from each row's start. `causal=False`: every position
        attends to all `lengths` positions of its row; without a cache only.
        """
        assert causal or cache is None, "only a causal pass can be continued from a cache"
        n = embeddings.shape[1]
        slots = torch.arange(n, device=embeddings.device)[None] if cache is None else cache.slots(n)
        tables = rotary_tables(slots if positions is None else positions, self.config)
        mask, is_causal = _attention_mask(slots, lengths, causal) if cache is None else cache.attention_mask(slots)
        if mask is not None:  # once: kernels on CPUs make this of a mask of truth values in every layer
            mask = torch.zeros(mask.shape, dtype=embeddings.dtype, device=mask.device).masked_fill_(~mask, -torch.inf)
        # Kernels on CPUs sum in an order that depends on the length: a prompt is to have the same states in any batch.
        prompts = lengths if is_causal and cache is not None and embeddings.device.type == "cpu" else None
        inputs = AttentionInputs(*tables, mask, is_causal, None if prompts is None else prompts.tolist())
        x = embeddings * self.config.embedding_multiplier
        for layer in self.model.layers:
            x = run_layer(layer, x, inputs, cache, recompute=self.gradient_checkpointing and cache is None)
        if cache is not None:
            cache.advance(n, lengths)
        out: Tensor = self.model.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states `(..., H)` -> logits `(..., vocab_size)`, divided by `logits_scaling`."""
        weight = self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight
        return F.linear(hidden, weight) / self.config.logits_scaling


def _attention_mask(slots: Tensor, lengths: Tensor | None, causal: bool) -> tuple[Tensor | None, bool]:
    """As `KVCache.attention_mask`, without a cache."""
    if causal or lengths is None:
        return None, causal
    return (slots < lengths[:, None])[:, None, None], False


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
