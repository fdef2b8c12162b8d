"""A base model assembled from trained parts and a new projector."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from lithophone.checkpoint import Checkpoint, load_checkpoint
from lithophone.hub import resolve
from lithophone.model.config import EncoderConfig, ModelConfig, ProjectorConfig, TextConfig
from lithophone.model.speech import GraniteSpeech
from lithophone.text.tokenizer import Tokenizer


def read_part(folder: Path, name: str) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    return json.loads((folder / f"{name}_config.json").read_text()), load_file(folder / f"{name}.safetensors")


PROJECTOR_SIZE = 192


def assemble(
    encoder: Path, language_model: Path, tokenizer: Tokenizer, projector_size: int = PROJECTOR_SIZE
) -> GraniteSpeech:
    """Model of the encoder of stage 1 and the language model of stage 2a.

    The projector is the one beside the language model (`transplant_decoder`), or a new one of so many channels.
    """
    encoder_values, encoder_weights = read_part(encoder, "encoder")
    text_values, text_weights = read_part(language_model, "language_model")
    encoder_config, text_config = EncoderConfig.from_dict(encoder_values), TextConfig.from_dict(text_values)
    projector = ProjectorConfig(
        hidden_size=projector_size,
        intermediate_size=4 * projector_size,
        num_attention_heads=4,
        encoder_hidden_size=encoder_config.output_size,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    config = ModelConfig(
        encoder_config,
        projector,
        text_config,
        audio_token_index=tokenizer.audio_id,
        tie_word_embeddings=text_config.tie_word_embeddings,
    )
    weights = encoder_weights | text_weights
    mapped = (language_model / "projector.safetensors").is_file()
    if mapped:
        values, projector_weights = read_part(language_model, "projector")
        window, rate = (int(str(values.pop(name))) for name in ("window_size", "downsample_rate"))
        config = replace(
            config, projector_config=ProjectorConfig.from_dict(values), window_size=window, downsample_rate=rate
        )
        weights |= projector_weights
    model = GraniteSpeech(config, bpe_labels=len(tokenizer) + 1)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith("projector.") for name in missing), missing
    if not mapped:
        match_scale(model)
    return model


@torch.no_grad()
def match_scale(model: GraniteSpeech) -> None:
    """Scale a new projector's output to the deviation of the embeddings: a new linear layer's variance is 1/3."""
    linear = model.projector.linear
    linear.weight.mul_(3**0.5 * model.language_model.model.embed_tokens.weight.std())
    linear.bias.zero_()


def starting_checkpoint(args: argparse.Namespace) -> Checkpoint:
    """Model of `--init`, or one assembled from `--encoder`, `--language-model` and `--tokenizer`."""
    if args.init:
        return load_checkpoint(resolve(args.init))
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    model = assemble(args.encoder, args.language_model, tokenizer)
    return Checkpoint(model.eval(), tokenizer, model.config, args.encoder)
