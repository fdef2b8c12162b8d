"""What a model that edits learns from a hypothesis and a reference (NLE, arXiv 2603.08397), and what it starts from.

The encoder's own hypothesis stands in the slots; the language model is to say the reference there, wherever it likes
(CTC over the slots), and is held lightly to what the slots already say (the copy term). A good encoder leaves little to
mend in the recordings it was trained on: hypotheses may be bent, so that there is something to learn from.
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
from lithophone.train.data.text_noise import Disguise, misspell
from lithophone.train.targets.losses import Loss, ctc, next_token

WEIGHTS = {"ctc": 1.0, "copy": 0.02, "unreachable": 0.0}
"""The paper's; the last one is no loss but a figure for the log."""

HEAD_DIM = 64
"""Channels of a head of the projector: 32 heads of granite-speech-4.1-2b-nar."""

FRESH_DEVIATION = 3**-0.5
"""Of the outputs of a fresh linear layer over normed states."""


def editing_losses(
    model: GraniteSpeechNar,
    audio: Tensor,
    counts: Tensor,
    hypotheses: Sequence[Sequence[int]],
    references: Sequence[Sequence[int]],
) -> dict[str, Loss]:
    """Hypotheses and references of token ids; audio embeddings `(B, N, H)` and counts `(B,)` are what `project` gives.

    `ctc`: the reference over the slots, per token of it. `copy`: what each slot holds, empty ones too, per slot.
    `unreachable`: the share of the references' tokens that are in no loss, as their row has too few slots for them.
    """
    blank = model.config.blank_token_id
    slots = [edit_slots(ids, blank) for ids in hypotheses]
    states, lengths = pad_rows(model(audio, counts, slots))
    logits = model.language_model.logits(states)
    inside = torch.arange(logits.shape[1], device=logits.device) < lengths[:, None]
    held = torch.tensor([token for row in slots for token in row], device=logits.device)
    said, wanted = ctc(logits, lengths, references, blank), float(sum(len(ids) for ids in references))
    unreachable = Loss(torch.tensor(wanted - said.count, device=logits.device), wanted)
    return {"ctc": said, "copy": next_token(logits[inside], held), "unreachable": unreachable}


def frames_that_fit(config: NarConfig) -> int:
    """Frames whose embeddings and slots fit into the model's positions whatever is heard: a token in every window."""
    window, limit = config.encoder_config.bpe_pooling_window, config.text_config.max_position_embeddings
    per_frame = 1.0 / config.downsample_rate + 2.0 / window
    return int((limit - 3) / per_frame)  # one slot more than two a token, and two for a window that is begun


@torch.no_grad()
def hear(model: GraniteSpeechNar, frames: Tensor, lengths: Tensor) -> tuple[EncoderOutput, list[list[int]]]:
    """Frames `(B, T, 160)`, lengths `(B,)` -> what `project` takes, and what the BPE head spells, without gradients."""
    encoded = model.encode(frames, lengths)
    return encoded, ctc_hypotheses(model, encoded)


@dataclass(frozen=True)
class Corruption:
    """How hypotheses are bent: the share `row_p` of them; in those, letters of words as `disguise` says, and of the
    tokens some are lost and some said twice."""

    row_p: float = 0.3
    disguise: Disguise = field(default_factory=lambda: Disguise(word_p=0.15))
    lose_p: float = 0.03
    repeat_p: float = 0.02

    def __post_init__(self) -> None:
        for name in ("row_p", "lose_p", "repeat_p"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise OptionError(f"{name} is {getattr(self, name)}: a share lies in 0..1, and 0 bends nothing")


def corrupt(
    hypothesis: Sequence[int], corruption: Corruption, tokenizer: Tokenizer, rng: np.random.Generator
) -> list[int]:
    """Token ids as a worse encoder might have spelt them; most rows stay as they are."""
    if rng.random() >= corruption.row_p:
        return list(hypothesis)
    bent = tokenizer.encode(misspell(tokenizer.decode(hypothesis), corruption.disguise, rng))
    times = rng.choice(3, size=len(bent), p=_times(corruption))
    return [token for token, n in zip(bent, times.tolist(), strict=True) for _ in range(n)]


def _times(corruption: Corruption) -> list[float]:
    """Probabilities that a token is said never, once, twice."""
    kept = 1.0 - corruption.lose_p
    return [corruption.lose_p, kept * (1.0 - corruption.repeat_p), kept * corruption.repeat_p]


def editor_from(base: Checkpoint) -> Checkpoint:
    """A model that edits, to be trained: encoder, BPE head and language model of `base`, and a new projector.

    It is of the third generation: the newest, the one proposed to `transformers`, and close to the base model, as it
    divides the logits and edits hypotheses as they were spelt. A model that edits already is given back as it is.
    Raises OptionError where `base` has no BPE head, or adapters that are not merged.
    """
    if isinstance(base.network, GraniteSpeechNar):
        return base
    model = base.model
    if model.bpe_head is None:
        raise OptionError(f"{base.folder} has no BPE head, which spells what is edited: train one with the encoder")
    if model.config.has_lora_adapter:
        raise OptionError(f"{base.folder} has LoRA adapters of its own: merge them into the weights first")
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
    """The shape of the model that edits what this one's encoder spells; CheckpointError where its head does not fit."""
    assert model.bpe_head is not None, "who edits needs somebody who spells"
    base, n_tokens = model.config, model.bpe_head.out_features - 1
    if not base.text_config.eos_token_id < n_tokens <= base.text_config.vocab_size:
        raise CheckpointError(
            f"the BPE head has labels for {n_tokens} tokens, the language model knows {base.text_config.vocab_size}: "
            "both must come from one tokenizer"
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
    """Rows for blank and tokens `(1 + n, ...)` -> rows for tokens alone `(n, ...)`, the end of text being the blank.

    No text that the head was trained on holds an end of text: nothing is lost with its row.
    """
    tokens = labels[1:].clone()
    tokens[end] = labels[0]
    return tokens


@torch.no_grad()
def _match_scale(model: GraniteSpeechNar) -> None:
    """Let the new projector speak as loudly as the embeddings: unlike them, audio is not multiplied."""
    linear, table = model.projector.out_linear, model.language_model.model.embed_tokens.weight
    loudness = model.config.text_config.embedding_multiplier * table.std()
    linear.weight.mul_(loudness / FRESH_DEVIATION)
    linear.bias.zero_()
