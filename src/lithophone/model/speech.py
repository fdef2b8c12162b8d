"""Granite Speech: encoder, projector and language model in one module.

Audio embeddings replace the `<|audio|>` slots of a prompt. Source: the reference `GraniteSpeechModel`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from lithophone.errors import PromptError
from lithophone.model.acoustic import AcousticModel
from lithophone.model.config import ModelConfig
from lithophone.model.conformer import Conformer
from lithophone.model.granite import GraniteForCausalLM, pad_rows
from lithophone.model.heads import BPEHead
from lithophone.model.lora import LoraConfig, add_lora, lora_enabled
from lithophone.model.qformer import WindowQFormer

Ids = Tensor | Sequence[int]


class GraniteSpeech(AcousticModel):
    """A base or plus model; with `bpe_labels` also the BPE head of `out_llm.safetensors`.

    `config.has_lora_adapter` adds adapters to the language model (`lora.py`).
    """

    projector: WindowQFormer

    def __init__(self, config: ModelConfig, bpe_labels: int | None = None, lora: LoraConfig | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoder = Conformer(config.encoder_config)
        self.projector = WindowQFormer(
            config.projector_config, config.text_config.hidden_size, config.window_size, config.downsample_rate
        )
        self.language_model = GraniteForCausalLM(config.text_config)
        self.bpe_head = None if bpe_labels is None else BPEHead(config.encoder_config.hidden_dim, bpe_labels)
        if config.has_lora_adapter:
            add_lora(self, lora or LoraConfig())

    def audio_embeddings(self, frames: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames `(B, T, 160)` and lengths `(B,)` -> audio embeddings `(B, N, H)` and their counts `(B,)`."""
        return self.project(self.encode(frames, lengths))

    def embed(self, prompts: Sequence[Ids], audio: Tensor | None = None, counts: Tensor | None = None) -> list[Tensor]:
        """Prompts of token ids `(L_i,)` and audio embeddings `(B, N, H)` with counts `(B,)` -> embeddings `(L_i, H)`.

        Audio replaces the slots `audio_token_index`. Raises PromptError where slots and embeddings differ in number, or
        a prompt exceeds `max_position_embeddings`.
        """
        assert audio is None or len(audio) == len(prompts), "one row of audio embeddings per prompt"
        rows = [None] * len(prompts) if audio is None else _rows(audio, counts)
        return [self._embed_row(ids, row) for ids, row in zip(prompts, rows, strict=True)]

    def forward(
        self, prompts: Sequence[Ids], frames: Tensor | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Token ids `(L_i,)` and frames `(B, T, 160)` with lengths `(B,)` -> logits `(B, L, V)` and lengths `(B,)`."""
        audio = (None, None) if frames is None else self.audio_embeddings(frames, lengths)
        embeddings, n_tokens = pad_rows(self.embed(prompts, *audio))
        with self.adapters(frames is not None):
            hidden = self.language_model(embeddings)
        return self.language_model.logits(hidden), n_tokens

    def adapters(self, audio: bool) -> AbstractContextManager[None]:
        """Adapters, if any, on for prompts with audio and off for text."""
        return lora_enabled(self.language_model, audio)

    def _embed_row(self, ids: Ids, audio: Tensor | None) -> Tensor:
        ids = torch.as_tensor(ids, device=self.language_model.model.embed_tokens.weight.device)
        self._check_length(len(ids))
        slots = ids == self.config.audio_token_index
        n_slots, n_audio = int(slots.sum()), 0 if audio is None else len(audio)
        if n_slots != n_audio:
            raise PromptError(
                f"the prompt has {n_slots} audio slots and the recording gives {n_audio} audio embeddings: "
                f"repeat the audio token {n_audio} times"
            )
        # The audio token may lie outside the embedding table: look up another one, it is replaced below.
        embeddings = self.language_model.embed(ids.masked_fill(slots, 0))
        if audio is None:
            return embeddings
        return embeddings.masked_scatter(slots[:, None], audio.to(embeddings.dtype))

    def _check_length(self, n: int) -> None:
        limit = self.config.text_config.max_position_embeddings
        if n > limit:
            raise PromptError(
                f"the prompt has {n} positions, the model at most {limit}: cut the recording into windows"
            )


def _rows(audio: Tensor, counts: Tensor | None) -> list[Tensor]:
    if counts is None:
        return list(audio)
    return [row[:n] for row, n in zip(audio, counts.tolist(), strict=True)]
