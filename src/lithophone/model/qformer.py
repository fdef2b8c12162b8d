"""The projector: a window Q-Former (BLIP-2), 15 encoder frames -> 3 audio embeddings (50 Hz -> 10 Hz).

The same learned queries read every window. Parameter names are the checkpoint's below `projector.`. Source:
`projector_config` of granite-speech-4.1-2b and its reference implementation.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lithophone.model.config import ProjectorConfig


class MultiHeadAttention(nn.Module):
    """Queries `(W, Q, D)`, or `(1, Q, D)` shared by all windows, attend to `(W, K, memory_size)`."""

    def __init__(self, config: ProjectorConfig, memory_size: int) -> None:
        super().__init__()
        self.num_heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(memory_size, config.hidden_size)
        self.value = nn.Linear(memory_size, config.hidden_size)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        q = self._heads(self.query(x)).expand(len(memory), -1, -1, -1)
        k, v = self._heads(self.key(memory)), self._heads(self.value(memory))
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout).transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


class Output(nn.Module):
    """Linear layer, residual, then LayerNorm."""

    def __init__(self, config: ProjectorConfig, input_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(input_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        out: Tensor = self.LayerNorm(self.dropout(self.dense(x)) + residual)
        return out


class AttentionBlock(nn.Module):
    """Attention with its output layer, among the queries or from them to the frames."""

    def __init__(self, config: ProjectorConfig, memory_size: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(config, memory_size)
        self.output = Output(config, config.hidden_size)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        out: Tensor = self.output(self.attention(x, memory), x)
        return out


class Intermediate(nn.Module):
    """The widening half of the feed-forward."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class QFormerLayer(nn.Module):
    """Self-attention of the queries, cross-attention to the frames, feed-forward."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.attention = AttentionBlock(config, config.hidden_size)
        self.crossattention = AttentionBlock(config, config.encoder_hidden_size)
        self.intermediate_query = Intermediate(config)
        self.output_query = Output(config, config.intermediate_size)

    def forward(self, queries: Tensor, frames: Tensor) -> Tensor:
        queries = self.attention(queries, queries)
        queries = self.crossattention(queries, frames)
        out: Tensor = self.output_query(self.intermediate_query(queries), queries)
        return out


class QFormerEncoder(nn.Module):
    """The layers, named `encoder.layer` as in the checkpoint."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(QFormerLayer(config) for _ in range(config.num_hidden_layers))


class QFormer(nn.Module):
    """Queries `(1, Q, D)` and windows of frames `(W, K, C)` -> queries `(W, Q, D)`."""

    def __init__(self, config: ProjectorConfig) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.encoder = QFormerEncoder(config)

    def forward(self, queries: Tensor, frames: Tensor) -> Tensor:
        queries = self.dropout(self.layernorm(queries))
        for layer in self.encoder.layer:
            queries = layer(queries, frames)
        return queries


class WindowQFormer(nn.Module):
    """Encoder states -> audio embeddings, `window_size // downsample_rate` per window."""

    def __init__(self, config: ProjectorConfig, text_hidden_size: int, window_size: int, downsample_rate: int) -> None:
        super().__init__()
        self.window_size, self.num_queries = window_size, window_size // downsample_rate
        self.query = nn.Parameter(torch.empty(1, self.num_queries, config.hidden_size))
        nn.init.normal_(self.query)
        self.qformer = QFormer(config)
        self.linear = nn.Linear(config.hidden_size, text_hidden_size)

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """States `(B, T, C)`, lengths `(B,)` -> embeddings `(B, N, H)`, zeros beyond their counts `(B,)`.

        n frames give `ceil(n / window_size) * num_queries` embeddings. The last window is zero-padded without a mask,
        as in training.
        """
        windows = self._windows(_zero_past(states, lengths))
        queries = self.qformer(self.query, windows.flatten(0, 1))
        embeddings = self.linear(queries.view(len(states), -1, queries.shape[2]))
        counts = self.counts(lengths)
        return _zero_past(embeddings, counts), counts

    def counts(self, lengths: Tensor) -> Tensor:
        """Number of audio embeddings for frame counts `(B,)`."""
        return (lengths + self.window_size - 1) // self.window_size * self.num_queries

    def _windows(self, states: Tensor) -> Tensor:
        missing = -states.shape[1] % self.window_size
        return F.pad(states, (0, 0, 0, missing)).view(len(states), -1, self.window_size, states.shape[2])


def _zero_past(x: Tensor, lengths: Tensor) -> Tensor:
    """`(B, T, D)` with zeros from each row's length on."""
    inside = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return x.masked_fill(~inside[..., None], 0.0)
