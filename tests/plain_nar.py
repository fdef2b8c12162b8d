"""What a nar model computes, one recording at a time: plain loops over its weights, from `model.md`, section 6.

The blocks of the encoder are the model's own: they are compared with `transformers` elsewhere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lithophone.model.config import TextConfig
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.rotary import rotary_tables, rotate


def plain_encoding(model: GraniteSpeechNar, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One utterance (T, 160) -> layers 0, 3 and the last joined (T, 96), the last (T, 32), posteriors of layer 3."""
    encoder, valid = model.encoder, torch.ones(1, len(frames), dtype=torch.bool)
    x = encoder.input_linear(frames[None])
    outputs = [x]
    for number, layer in enumerate(encoder.layers, 1):
        x = layer(x, valid)
        if number == 3:
            posteriors = encoder.out(x).softmax(-1)
            x = x + encoder.out_mid(posteriors)
        outputs.append(x)
    return torch.cat([outputs[i] for i in (0, 3, -1)], -1)[0], x[0], posteriors[0]


def plain_hypothesis_logits(model: GraniteSpeechNar, last: Tensor, posteriors: Tensor) -> Tensor:
    """Last layer (T, 32) and character posteriors (T, V) -> BPE logits (ceil(T / 4), labels)."""
    weights = 1.0 - posteriors[:, 0]
    pooled = []
    for start in range(0, len(last), 4):
        w = weights[start : start + 4]
        pooled.append((w[:, None] * last[start : start + 4]).sum(0) / (w.sum() + 1e-8))
    return torch.stack(pooled) @ model.encoder.out_bpe.weight.T + model.encoder.out_bpe.bias


def plain_audio(model: GraniteSpeechNar, states: Tensor) -> Tensor:
    """One utterance (T, 96) -> audio embeddings (T // 5, H)."""
    weights, eps = model.projector.state_dict(), model.config.projector_config.layernorm_eps

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], weights.get(f"{name}.weight"), weights.get(f"{name}.bias"), eps)

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    joined = torch.cat([norm(part, f"layer_norms.{i}") for i, part in enumerate(states.split(32, -1))], -1)
    h = F.gelu(linear(joined, "layer_projector"))
    h = F.pad(h, (0, 0, 0, -len(h) % 15))
    embeddings = []
    for window in h.split(15):
        kv = window + weights["window_positions"][0]
        q = weights["query"][0] + torch.stack([group.mean(0) for group in window.split(5)])
        for i in range(2):
            at = f"qformer.layers.{i}"
            x = norm(q, f"{at}.attn_norm")
            heads = zip(
                *(
                    linear(source, f"{at}.cross_attention.{name}_proj").chunk(4, -1)
                    for source, name in ((x, "q"), (kv, "k"), (kv, "v"))
                ),
                strict=True,
            )
            mixed = [(a @ b.T / math.sqrt(a.shape[-1])).softmax(-1) @ c for a, b, c in heads]
            q = q + linear(torch.cat(mixed, -1), f"{at}.cross_attention.o_proj")
            q = q + linear(F.silu(linear(norm(q, f"{at}.mlp_norm"), f"{at}.mlp.fc1")), f"{at}.mlp.fc2")
        embeddings.append(linear(norm(q, "out_norm"), "out_linear"))
    return torch.cat(embeddings)[: len(states) // 5]


def plain_logits(model: GraniteSpeechNar, audio: Tensor, slots: list[int]) -> Tensor:
    """One row: audio embeddings (n, H) and slots of token ids -> logits of the slots; everything sees everything."""
    text, weights = model.config.text_config, model.language_model.state_dict()
    table = weights["model.embed_tokens.weight"]
    x = torch.cat((audio / text.embedding_multiplier, table[slots])) * text.embedding_multiplier
    for i in range(text.num_hidden_layers):
        x = plain_layer(x, {k.removeprefix(f"model.layers.{i}."): v for k, v in weights.items()}, text)
    hidden = rms_norm(x, weights["model.norm.weight"], text)[len(audio) :]
    scaling = 1.0 if model.config.generation == "G1" else text.logits_scaling
    return hidden @ table.T / scaling


def plain_layer(x: Tensor, weights: dict[str, Tensor], text: TextConfig) -> Tensor:
    normed = rms_norm(x, weights["input_layernorm.weight"], text)
    q, k, v = (
        (normed @ weights[f"self_attn.{name}_proj.weight"].T).view(len(x), -1, text.head_size).transpose(0, 1)
        for name in "qkv"
    )
    cos, sin = (t[0] for t in rotary_tables(torch.arange(len(x))[None], text))
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    k, v = (t.repeat_interleave(len(q) // len(t), 0) for t in (k, v))
    mixed = (q @ k.transpose(1, 2) * text.attention_multiplier).softmax(-1) @ v
    attended = mixed.transpose(0, 1).flatten(1) @ weights["self_attn.o_proj.weight"].T
    x = x + text.residual_multiplier * attended
    normed = rms_norm(x, weights["post_attention_layernorm.weight"], text)
    gate, up = (normed @ weights[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
    return x + text.residual_multiplier * (F.silu(gate) * up) @ weights["mlp.down_proj.weight"].T


def rms_norm(x: Tensor, weight: Tensor, text: TextConfig) -> Tensor:
    return weight * x / (x.square().mean(-1, keepdim=True) + text.rms_norm_eps).sqrt()
