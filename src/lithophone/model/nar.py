"""Non-autoregressive editing model (nar; NLE, arXiv 2603.08397).

The BPE head gives a CTC hypothesis; the language model, without causal mask, reads audio embeddings and hypothesis with
an empty slot around every token, and predicts a token per slot. A padded batch equals its items alone. Parameter names
are the checkpoint's. Source: granite-speech-4.1-2b-nar.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lithophone.errors import PromptError
from lithophone.model.acoustic import AcousticModel
from lithophone.model.conformer import Conformer
from lithophone.model.granite import GraniteForCausalLM, pad_rows
from lithophone.model.heads import BPEHead
from lithophone.model.nar_config import NarConfig, NarEncoderConfig, NarProjectorConfig


class NarEncoder(Conformer):
    """The encoder, with the BPE head inside."""

    def __init__(self, config: NarEncoderConfig) -> None:
        super().__init__(config)
        self.out_bpe = BPEHead(config.hidden_dim, config.bpe_output_dim, config.bpe_pooling_window)


class CrossAttention(nn.Module):
    """Queries `(W, Q, D)` attend to the frames of their window `(W, K, D)`."""

    def __init__(self, config: NarProjectorConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(config.hidden_size, config.hidden_size, bias=config.attn_bias) for _ in range(4)
        )

    def forward(self, queries: Tensor, frames: Tensor) -> Tensor:
        q, k, v = self._heads(self.q_proj(queries)), self._heads(self.k_proj(frames)), self._heads(self.v_proj(frames))
        out: Tensor = self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, -1).transpose(1, 2)


class MLP(nn.Module):
    """Widening, SiLU, narrowing."""

    def __init__(self, config: NarProjectorConfig) -> None:
        super().__init__()
        inner = config.hidden_size * config.mlp_ratio
        self.fc1 = nn.Linear(config.hidden_size, inner, bias=config.mlp_bias)
        self.fc2 = nn.Linear(inner, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.silu(self.fc1(x)))
        return out


class QFormerLayer(nn.Module):
    """Cross-attention to the frames and feed-forward, pre-norm; no self-attention."""

    def __init__(self, config: NarProjectorConfig, norms_learn: bool) -> None:
        super().__init__()
        self.attn_norm = nn.LayerNorm(config.hidden_size, config.layernorm_eps, norms_learn)
        self.cross_attention = CrossAttention(config)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, config.layernorm_eps, norms_learn)
        self.mlp = MLP(config)

    def forward(self, queries: Tensor, frames: Tensor) -> Tensor:
        queries = queries + self.cross_attention(self.attn_norm(queries), frames)
        out: Tensor = queries + self.mlp(self.mlp_norm(queries))
        return out


class QFormer(nn.Module):
    """Queries `(W, Q, D)` and frames `(W, K, D)` -> queries `(W, Q, D)`."""

    def __init__(self, config: NarProjectorConfig, norms_learn: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(QFormerLayer(config, norms_learn) for _ in range(config.num_layers))

    def forward(self, queries: Tensor, frames: Tensor) -> Tensor:
        for layer in self.layers:
            queries = layer(queries, frames)
        return queries


class NarProjector(nn.Module):
    """Several encoder layers -> audio embeddings, one for every `downsample_rate` frames."""

    def __init__(self, config: NarProjectorConfig, norms_learn: bool) -> None:
        super().__init__()
        self.config = config
        width, eps = config.hidden_size, config.layernorm_eps
        self.layer_norms = nn.ModuleList(
            nn.LayerNorm(config.encoder_dim, eps, norms_learn) for _ in range(config.num_encoder_layers)
        )
        self.layer_projector = nn.Linear(config.encoder_dim * config.num_encoder_layers, width)
        self.query = nn.Parameter(torch.empty(1, config.num_queries, width))
        self.window_positions = nn.Parameter(torch.empty(1, config.block_size, width))
        nn.init.normal_(self.query, std=width**-0.5)
        nn.init.normal_(self.window_positions, std=width**-0.5)
        self.qformer = QFormer(config, norms_learn)
        self.out_norm = nn.LayerNorm(width, eps, norms_learn)
        self.out_linear = nn.Linear(width, config.llm_dim)
        self.dropout = nn.Dropout(config.dropout_prob)

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """States `(B, T, layers * D)`, lengths `(B,)` -> embeddings `(B, N, H)`, zeros beyond their counts `(B,)`.

        An incomplete group of `downsample_rate` frames gives no embedding. The last window is zero-padded without a
        mask, as in training.
        """
        windows = self._windows(self._joined(states) * _inside(states.shape[1], lengths))
        groups = windows.view(len(windows), self.config.num_queries, -1, windows.shape[2]).mean(2)
        queries = self.qformer(self.dropout(self.query + groups), self.dropout(windows + self.window_positions))
        embeddings = self.out_linear(self.dropout(self.out_norm(queries)))
        embeddings = embeddings.view(len(states), -1, embeddings.shape[2])
        counts = lengths // self.config.downsample_rate
        return embeddings * _inside(embeddings.shape[1], counts), counts

    def _joined(self, states: Tensor) -> Tensor:
        """Each layer normed, then all mixed: `(B, T, layers * D)` -> `(B, T, hidden_size)`."""
        layers = states.chunk(self.config.num_encoder_layers, -1)
        normed = [norm(layer) for norm, layer in zip(self.layer_norms, layers, strict=True)]
        return F.gelu(self.layer_projector(torch.cat(normed, -1)))

    def _windows(self, x: Tensor) -> Tensor:
        """`(B, T, D)` -> `(B * windows, block_size, D)`, the last window zero-padded."""
        size = self.config.block_size
        return F.pad(x, (0, 0, 0, -x.shape[1] % size)).view(-1, size, x.shape[2])


class GraniteSpeechNar(AcousticModel):
    """A nar model of any generation."""

    encoder: NarEncoder
    projector: NarProjector

    def __init__(self, config: NarConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = NarEncoder(config.encoder_config)
        self.projector = NarProjector(config.projector_config, config.projector_norms_learn)
        self.language_model = GraniteForCausalLM(config.editor_config)

    def forward(self, audio: Tensor, counts: Tensor, slots: Sequence[Sequence[int]]) -> list[Tensor]:
        """Audio embeddings `(B, N, H)` with counts `(B,)`, and slots of token ids `(L_i,)` -> slot states `(L_i, H)`.

        `language_model.logits` takes the states. Raises PromptError for rows longer than `max_position_embeddings`.
        """
        n_audio = counts.tolist()
        embeddings, lengths = pad_rows([self._row(*row) for row in zip(audio, n_audio, slots, strict=True)])
        hidden = self.language_model(embeddings, lengths=lengths, causal=False)
        return [row[n : n + len(ids)] for row, n, ids in zip(hidden, n_audio, slots, strict=True)]

    def _row(self, audio: Tensor, n_audio: int, slots: Sequence[int]) -> Tensor:
        """`(n_audio + L, H)`. Audio is divided by the language model's multiplier, which is for tokens alone."""
        needed, limit = n_audio + len(slots), self.config.text_config.max_position_embeddings
        if needed > limit:
            raise PromptError(
                f"{n_audio} audio embeddings and {len(slots)} slots take {needed} positions, the model has {limit}: "
                "cut the recording into shorter windows"
            )
        tokens = self.language_model.embed(torch.as_tensor(slots, device=audio.device))
        return torch.cat((audio[:n_audio] / self.config.text_config.embedding_multiplier, tokens))


def _inside(n: int, lengths: Tensor) -> Tensor:
    """`(B, n, 1)`, True before each row's length."""
    return (torch.arange(n, device=lengths.device) < lengths[:, None])[..., None]
