"""Losses and starting weights of the non-autoregressive editing model (NLE, arXiv 2603.08397).

The CTC hypothesis fills the slots; the losses are CTC of the reference over the slots, and a copy term of the slots'
tokens. A share of the training hypotheses, which have few errors, may be corrupted.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lithophone.checkpoint import Checkpoint
from lithophone.decode.edit import ctc_hypotheses, edit_slots
from lithophone.errors import CheckpointError, OptionError
from lithophone.model.config import EncoderConfig
from lithophone.model.conformer import EncoderOutput
from lithophone.model.granite import pad_rows
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import NarConfig, NarEncoderConfig, NarProjectorConfig
from lithophone.model.speech import GraniteSpeech
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.text_noise import Corruption, misspell
from lithophone.train.targets.losses import Loss, ctc, next_token

WEIGHTS = {"ctc": 1.0, "copy": 0.02, "unreachable": 0.0}
"""The paper's weights; the last is logged only."""

HEAD_DIM = 64
"""Channels per head of the projector, as in granite-speech-4.1-2b-nar (32 heads)."""

FRESH_DEVIATION = 3**-0.5
"""Standard deviation of a new linear layer's output over normed states."""


def editing_losses(
    model: GraniteSpeechNar,
    audio: Tensor,
    counts: Tensor,
    hypotheses: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
) -> dict[str, Loss]:
    """Losses of token-id hypotheses and references; audio (B, N, H) and counts (B,) from `project`.

    `ctc`: reference over slots, per reference token. `copy`: the slots' own tokens, per slot, blanks included.
    `unreachable`: share of reference tokens in rows with too few slots, in no loss.
    """
    blank = model.config.blank_token_id
    slots = [edit_slots(ids, blank) for ids in hypotheses]
    states, lengths = pad_rows(model(audio, counts, slots))
    logits = model.language_model.logits(states)
    inside = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]
    kept = torch.tensor([token for row in slots for token in row], device=logits.device)
    aligned, wanted = ctc(logits, lengths, references, blank), float(sum(len(ids) for ids in references))
    unreachable = Loss(torch.tensor(wanted - aligned.count, device=logits.device), wanted)
    return {"ctc": aligned, "copy": next_token(logits[inside], kept), "unreachable": unreachable}


def frames_that_fit(config: NarConfig) -> int:
    """Most frames whose embeddings and slots fit the model's positions, with a token in every pooling window."""
    window, limit = config.encoder_config.bpe_pooling_window, config.text_config.max_position_embeddings
    per_frame = 1.0 / config.downsample_rate + 2.0 / window
    return int((limit - 3) / per_frame)  # two slots a token and one more, and two for an incomplete window


@torch.no_grad()
def ctc_drafts(model: GraniteSpeechNar, frames: Tensor, lengths: Tensor) -> tuple[EncoderOutput, list[list[int]]]:
    """Frames (B, T, 160), lengths (B,) -> encoder output, greedy hypotheses of the BPE head; no gradients."""
    encoded = model.encode(frames, lengths)
    return encoded, ctc_hypotheses(model, encoded)


@dataclass(frozen=True)
class HypothesisNoise:
    """Simulated recognition errors in a share `row_p` of hypotheses: misspelt words, deleted and repeated tokens."""

    row_p: float = 0.3
    corruption: Corruption = field(default_factory=lambda: Corruption(word_p=0.15))
    delete_p: float = 0.03
    repeat_p: float = 0.02

    def __post_init__(self) -> None:
        for name in ("row_p", "delete_p", "repeat_p"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise OptionError(f"{name} is {getattr(self, name)}: it must be a share, 0 to 1")


def corrupt_hypothesis(
    hypothesis: Sequence[int], noise: HypothesisNoise, tokenizer: Tokenizer, rng: np.random.Generator
) -> list[int]:
    """Token ids with this noise."""
    if rng.random() >= noise.row_p:
        return list(hypothesis)
    misspelt = tokenizer.encode(misspell(tokenizer.decode(hypothesis), noise.corruption, rng))
    times = rng.choice(3, size=len(misspelt), p=_times(noise))
    return [token for token, n in zip(misspelt, times.tolist(), strict=True) for _ in range(n)]


def _times(noise: HypothesisNoise) -> list[float]:
    """Probabilities that a token is deleted, kept, repeated."""
    kept = 1.0 - noise.delete_p
    return [noise.delete_p, kept * (1.0 - noise.repeat_p), kept * noise.repeat_p]


def editing_model_from(base: Checkpoint) -> Checkpoint:
    """Untrained editing model: encoder, BPE head and language model of `base`, and a new projector.

    Third generation, proposed to `transformers`: like the base model it scales logits and edits hypotheses without
    rewriting them. An editing model is returned unchanged. Raises OptionError for a `base` without BPE head, or with
    unmerged adapters.
    """
    if isinstance(base.network, GraniteSpeechNar):
        return base
    model = base.model
    if model.bpe_head is None:
        raise OptionError(f"{base.folder} has no BPE head for the hypotheses: train one with the recipe encoder")
    if model.config.has_lora_adapter:
        raise OptionError(f"{base.folder} has LoRA adapters: merge them into the weights first")
    config = editor_config(model)
    editor = GraniteSpeechNar(config)
    n_tokens, end = config.text_config.vocab_size, config.blank_token_id
    editor.encoder.load_state_dict(
        model.encoder.state_dict()
        | {f"out_bpe.{name}": _renumbered(tensor, end) for name, tensor in model.bpe_head.state_dict().items()}
    )
    editor.language_model.load_state_dict(
        {
            name: tensor[:n_tokens] if name.endswith(("embed_tokens.weight", "lm_head.weight")) else tensor
            for name, tensor in model.language_model.state_dict().items()
        }
    )
    _match_scale(editor)
    return Checkpoint(editor.eval(), base.tokenizer, config, base.folder)


def editor_config(model: GraniteSpeech) -> NarConfig:
    """Configuration of an editing model for this encoder. Raises CheckpointError for an unsuited BPE head."""
    assert model.bpe_head is not None, "an editing model needs a BPE head"
    base, n_tokens = model.config, model.bpe_head.out_features - 1
    if not base.text_config.eos_token_id < n_tokens <= base.text_config.vocab_size:
        raise CheckpointError(
            f"the BPE head has labels for {n_tokens} tokens, the language model has {base.text_config.vocab_size}: "
            "train both with one tokenizer"
        )
    layers, width = base.encoder_config.num_layers, base.text_config.hidden_size
    fields = {f.name: getattr(base.encoder_config, f.name) for f in dataclasses.fields(EncoderConfig)}
    encoder = NarEncoderConfig(
        **fields
        | {
            "cat_hidden_layers": tuple(sorted({layers * quarter // 4 for quarter in (1, 2, 3)})),
            "bpe_output_dim": n_tokens,
            "bpe_pooling_window": model.bpe_head.window,
            "self_conditioning_layer": base.encoder_config.mid_layer,
        }
    )
    projector = NarProjectorConfig(
        encoder_dim=encoder.hidden_dim,
        num_encoder_layers=len(encoder.cat_hidden_layers) + 1,
        hidden_size=width,
        num_heads=math.gcd(width, max(1, width // HEAD_DIM)),
        block_size=base.window_size,
        downsample_rate=base.downsample_rate,
        llm_dim=width,
        dropout_prob=0.0,
    )
    return NarConfig(encoder, projector, dataclasses.replace(base.text_config, vocab_size=n_tokens), "G3")


def _renumbered(labels: Tensor, end: int) -> Tensor:
    """Rows of blank and tokens (1 + n, ...) -> rows of tokens (n, ...), the end of text as blank.

    No training text of the head contains the end of text.
    """
    tokens = labels[1:].clone()
    tokens[end] = labels[0]
    return tokens


@torch.no_grad()
def _match_scale(model: GraniteSpeechNar) -> None:
    """Scale a new projector's output to the embeddings; unlike them, audio is not multiplied."""
    linear, table = model.projector.out_linear, model.language_model.model.embed_tokens.weight
    deviation = model.config.text_config.embedding_multiplier * table.std()
    linear.weight.mul_(deviation / FRESH_DEVIATION)
    linear.bias.zero_()
