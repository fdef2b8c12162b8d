"""Tiny random models for tests: the shapes we support, and the transformers models they are compared with.

Weights are larger than a fresh initialisation's, and BatchNorm statistics are not trivial: a model at rest would hide
a missing term, and would repeat one token for ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from lithophone.model.config import EncoderConfig, ModelConfig, ProjectorConfig, TextConfig, Yarn
from lithophone.model.lora import LoraConfig
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import Generation, NarConfig, NarEncoderConfig, NarProjectorConfig
from lithophone.model.speech import GraniteSpeech

if TYPE_CHECKING:
    from transformers import GraniteSpeechForConditionalGeneration

M = TypeVar("M", bound=nn.Module)

SEED = 20_260_401
KINDS = ("base", "plus", "wide", "biased", "lora")
EOS, PAD, AUDIO = 97, 96, 98
VOCABULARY = 99
"""Ids 0..95 are text, then padding, end of text and the audio token, in the order of the real vocabulary."""
BPE_LABELS = VOCABULARY + 1
LORA = LoraConfig(rank=4, alpha=2.0)

ENCODER = EncoderConfig(hidden_dim=32, num_layers=4, num_heads=2, dim_head=16, output_dim=40)
PROJECTOR = ProjectorConfig(hidden_size=32, intermediate_size=64, num_attention_heads=4, encoder_hidden_size=32)
TEXT = TextConfig(
    vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, attention_multiplier=1 / 16, bos_token_id=EOS,
    eos_token_id=EOS, pad_token_id=PAD,
)  # fmt: skip
BASE = ModelConfig(ENCODER, PROJECTOR, TEXT, audio_token_index=AUDIO)

YARN_SMALL = Yarn(factor=6.0, original_max_position_embeddings=64, beta_fast=8.0, truncate=False)

GENERATIONS: tuple[Generation, ...] = ("G1", "G2", "G3")
"""Of the models that edit."""


def tiny_nar_config(generation: Generation) -> NarConfig:
    """A model that edits: it joins what its first layer reads, the layer of the self-conditioning, and the last one."""
    encoder = NarEncoderConfig(
        hidden_dim=32, num_layers=4, num_heads=2, dim_head=16, output_dim=40, cat_hidden_layers=(0, 3),
        bpe_output_dim=VOCABULARY + (generation == "G1"), self_conditioning_layer=3,
    )  # fmt: skip
    projector = NarProjectorConfig(
        encoder_dim=32, num_encoder_layers=3, hidden_size=64 if generation == "G3" else 48, num_heads=4, llm_dim=64,
        dropout_prob=0.0,
    )  # fmt: skip
    return NarConfig(encoder, projector, replace(TEXT, tie_word_embeddings=True), generation)


def tiny_nar_model(generation: Generation, seed: int = SEED) -> GraniteSpeechNar:
    """A random model that edits, in float32, ready for inference."""
    return randomise(GraniteSpeechNar(tiny_nar_config(generation)), seed)


def tiny_config(kind: str = "base") -> ModelConfig:
    """One of KINDS.

    `base` (4.1), `plus` (concatenated layers, tied head), `wide` (other sizes, one head group), `biased` (a language
    model with biases, and heads of a size of their own), `lora` (3.3).

    With `-yarn` behind it: YaRN and the positions of the checkpoints of October 2026, or those of `YARN_SMALL`.
    """
    kind, _, rope = kind.partition("-")
    text = replace(TEXT, attention_bias=True, mlp_bias=True, head_dim=24)
    config = {
        "base": BASE, "plus": _plus(), "wide": _wide(), "biased": replace(BASE, text_config=text),
        "lora": replace(BASE, has_lora_adapter=True),
    }[kind]  # fmt: skip
    if not rope:
        return config
    yarn = {"yarn": Yarn(), "small": YARN_SMALL}[rope]
    positions = int(yarn.factor * yarn.original_max_position_embeddings)
    text = replace(config.text_config, yarn=yarn, max_position_embeddings=positions)
    return replace(config, text_config=text)


def _plus() -> ModelConfig:
    return replace(
        BASE,
        model_type="granite_speech_plus",
        encoder_config=replace(ENCODER, cat_hidden_layers=(1,)),
        projector_config=replace(PROJECTOR, encoder_hidden_size=64),
        text_config=replace(TEXT, tie_word_embeddings=True, embedding_multiplier=2.0),
        tie_word_embeddings=True,
    )


def _wide() -> ModelConfig:
    """Sizes that differ from each other where the base has equal ones, and from the checkpoint's ratios."""
    encoder = replace(
        ENCODER, hidden_dim=48, num_layers=5, num_heads=3, dim_head=8, feedforward_mult=3, conv_kernel_size=7,
        conv_expansion_factor=3, context_size=50, max_pos_emb=64, output_dim=348,
    )  # fmt: skip
    projector = replace(
        PROJECTOR, hidden_size=40, intermediate_size=72, num_attention_heads=5, num_hidden_layers=3,
        encoder_hidden_size=48,
    )  # fmt: skip
    text = replace(
        TEXT, hidden_size=96, intermediate_size=80, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=1,
        rope_theta=500.0, embedding_multiplier=6.0, residual_multiplier=0.4, logits_scaling=3.0,
    )  # fmt: skip
    return replace(BASE, encoder_config=encoder, projector_config=projector, text_config=text)


def tiny_model(kind: str = "base", *, bpe: bool = False, seed: int = SEED) -> GraniteSpeech:
    """A random model in float32, ready for inference."""
    model = GraniteSpeech(tiny_config(kind), BPE_LABELS if bpe else None, LORA)
    return randomise(model, seed)


def randomise(model: M, seed: int = SEED) -> M:
    """Give every weight and BatchNorm statistic a lively random value, in place; the model comes back in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and "inv_freq" not in name:
            tensor.data.copy_(_random_like(name, tensor, generator))
        if "embed_tokens" in name or "lm_head" in name:
            tensor.data[AUDIO] = 0.0  # never the most probable: transformers embeds a generated audio token as id 0
    return model.eval()


def _random_like(name: str, tensor: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(tensor.shape, generator=generator)
    if name.endswith("running_var"):
        return 0.5 + noise.abs()
    if name.endswith("projector.query") or (tensor.dim() == 1 and name.endswith("bias")):
        return 0.5 * noise
    if tensor.dim() == 1:
        return (0.2 * noise + 1.0) if "running_mean" not in name else 0.5 * noise
    if "embed_tokens" in name or "lm_head" in name:
        return 0.1 * noise
    gain = 3.0 if "language_model" in name else 1.5
    return noise * (gain / tensor[0].numel() ** 0.5)


def tiny_frames(*lengths: int, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """Random frames `(B, T, 160)`, zero-padded, and their lengths `(B,)`."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n, ENCODER.input_dim, generator=generator) for n in lengths]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor(lengths)


def audio_prompt(n_audio: int, before: int = 5, after: int = 4, seed: int = SEED) -> list[int]:
    """Random text ids around `n_audio` audio slots."""
    text = torch.randint(PAD, (before + after,), generator=torch.Generator().manual_seed(seed)).tolist()
    return text[:before] + [AUDIO] * n_audio + text[before:]


def reference_model(kind: str = "base", seed: int = SEED) -> GraniteSpeechForConditionalGeneration:
    """The transformers model of the same shape, with random weights; 3.3's adapters are left out."""
    import transformers

    config = tiny_config(kind)
    plus = config.model_type == "granite_speech_plus"
    name = "GraniteSpeechPlus" if plus else "GraniteSpeech"
    values = config.to_dict() | {"has_lora_adapter": False}
    values.pop("model_type")
    if not plus:
        values["encoder_config"].pop("cat_hidden_layers", None)
    else:
        values["encoder_config"]["cat_hidden_layers"] = list(config.encoder_config.cat_hidden_layers)
    reference_config = getattr(transformers, f"{name}Config")(**values)
    model = getattr(transformers, f"{name}ForConditionalGeneration")(reference_config)
    return randomise(model, seed)


def load_reference(model: GraniteSpeech, reference: nn.Module) -> GraniteSpeech:
    """Copy a transformers model's weights into ours, tensor by tensor, strictly."""
    state = {_our_name(name): tensor for name, tensor in reference.state_dict().items()}
    if model.language_model.lm_head is None:
        del state["language_model.lm_head.weight"]
    model.load_state_dict(state)
    return model.eval()


def _our_name(name: str) -> str:
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    return name.removeprefix("model.").replace("language_model.", "language_model.model.", 1)
