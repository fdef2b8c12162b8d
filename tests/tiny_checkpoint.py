"""Tiny checkpoint folders, ours and transformers', whose tokenizer and model agree on every id."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lithophone.checkpoint import Checkpoint
from lithophone.ctc.characters import N_LABELS
from lithophone.model.config import ModelConfig
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import Generation
from lithophone.model.speech import GraniteSpeech
from tests.tiny import LORA, SEED, randomise, tiny_config, tiny_nar_config
from tests.tiny_tokenizer import BASE_TEMPLATE, PLUS_TEMPLATE, tiny_tokenizer

if TYPE_CHECKING:
    from transformers import GraniteSpeechForConditionalGeneration


def checkpoint_config(kind: str = "base") -> ModelConfig:
    """`tiny_config` with the ids of the tiny tokenizer."""
    config, tokenizer = tiny_config(kind), tiny_tokenizer()
    text = replace(
        config.text_config, vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )  # fmt: skip
    return replace(config, text_config=text, audio_token_index=tokenizer.audio_id)


def tiny_checkpoint(kind: str = "base", *, bpe: bool = False, seed: int = SEED) -> Checkpoint:
    """A random model with its tokenizer; `save_checkpoint` makes a folder of it."""
    config = checkpoint_config(kind)
    n_labels = config.text_config.vocab_size + 1 if bpe else None
    model = randomise(GraniteSpeech(config, n_labels, LORA), seed)
    assert isinstance(model, GraniteSpeech)
    template = PLUS_TEMPLATE if kind.startswith("plus") else BASE_TEMPLATE
    return Checkpoint(model, tiny_tokenizer(template), config, Path())


def spelling_checkpoint() -> Checkpoint:
    """A random base model with both CTC heads, the family's characters, and language conditioning."""
    made = tiny_checkpoint()
    config = replace(made.config, encoder_config=replace(made.config.encoder_config, output_dim=N_LABELS))
    model = GraniteSpeech(config, bpe_labels=config.text_config.vocab_size + 1)
    return replace(made, network=randomise(model, 3), config=config, foreign_penalty=4.0, language_ids=True)


def spelling_plus(seed: int = 3) -> Checkpoint:
    """A random plus model with the family's characters."""
    made = tiny_checkpoint("plus")
    config = replace(made.config, encoder_config=replace(made.config.encoder_config, output_dim=N_LABELS))
    return replace(made, network=randomise(GraniteSpeech(config), seed), config=config)


def tiny_nar_checkpoint(generation: Generation, seed: int = SEED) -> Checkpoint:
    """A random model that edits, with its tokenizer, which has no chat template."""
    config, tokenizer = tiny_nar_config(generation), tiny_tokenizer(None)
    text = replace(
        config.text_config, vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_id, eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )  # fmt: skip
    encoder = replace(config.encoder_config, bpe_output_dim=len(tokenizer) + config.first_label)
    config = replace(config, text_config=text, encoder_config=encoder)
    return Checkpoint(randomise(GraniteSpeechNar(config), seed), tokenizer, config, Path())


def reference_checkpoint(kind: str = "base", seed: int = SEED) -> GraniteSpeechForConditionalGeneration:
    """The transformers model of `checkpoint_config`, with random weights."""
    import transformers

    config = checkpoint_config(kind)
    name = "GraniteSpeechPlus" if config.model_type == "granite_speech_plus" else "GraniteSpeech"
    values: dict[str, Any] = {k: v for k, v in config.to_dict().items() if k not in ("model_type", "architectures")}
    reference_config = getattr(transformers, f"{name}Config")(**values)
    return randomise(getattr(transformers, f"{name}ForConditionalGeneration")(reference_config), seed)  # type: ignore
