"""A tiny random Whisper, in the formats of `transformers` and CTranslate2."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from lithophone.train.transplant.whisper import WINDOW_SAMPLES

if TYPE_CHECKING:
    from transformers import WhisperModel

SIZE, LAYERS, HEADS = 32, 2, 2
UNITS = 4 * SIZE
SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>")
N_TOKENS = 256 + len(SPECIAL)
POSITIONS = 60
"""Of the decoder."""
TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""By CTranslate2's numbers."""


def tiny_whisper(n_mels: int = 80) -> WhisperModel:
    """Weights and biases larger than at initialisation, so that each of them changes the result."""
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(5)
    config = WhisperConfig(
        d_model=SIZE, encoder_layers=LAYERS, decoder_layers=1, encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS, encoder_ffn_dim=UNITS, decoder_ffn_dim=SIZE, num_mel_bins=n_mels,
        vocab_size=N_TOKENS, max_target_positions=POSITIONS,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm.weight" in name:
                parameter.uniform_(0.5, 1.5)
            elif "encoder.embed_positions" not in name:
                parameter.normal_(std=0.15)
    return model


def write_transformers(model: WhisperModel, folder: Path, shard_size: str = "1GB") -> Path:
    model.save_pretrained(folder, max_shard_size=shard_size)
    _write_tokenizer(folder)
    return folder


def write_ctranslate2(model: WhisperModel, folder: Path, kind: torch.dtype = torch.float16, version: int = 6) -> Path:
    """Floats, or integer matrices with a scale per row (int8) or in all (int16), as CTranslate2's converter writes."""
    folder.mkdir(parents=True)
    with (folder / "model.bin").open("wb") as file:
        file.write(struct.pack("<I", version) + _name("WhisperSpec") + struct.pack("<I", 3))
        tensors = _tensors(model, kind)
        file.write(struct.pack("<I", len(tensors)))
        for name, tensor in tensors.items():
            data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            file.write(_name(name) + struct.pack("<B", tensor.ndim))
            file.write(struct.pack(f"<{tensor.ndim}I", *tensor.shape) + struct.pack("<B", TYPES.index(tensor.dtype)))
            file.write(struct.pack("<I", len(data)) + data)
        file.write(struct.pack("<I", 0))
    _write_tokenizer(folder)
    return folder


def _write_tokenizer(folder: Path) -> None:
    """A token for each byte, and the special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = tokenizers.Tokenizer(models.BPE({token: n for n, token in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(list(SPECIAL))
    core.save(str(folder / "tokenizer.json"))


def _name(text: str) -> bytes:
    data = text.encode() + b"\0"
    return struct.pack("<H", len(data)) + data


def _tensors(model: WhisperModel, kind: torch.dtype) -> dict[str, Tensor]:
    found = {name: tensor.detach() for name, tensor in _named(model).items()}
    if not kind.is_floating_point:
        for name in [name for name in found if name.endswith("/weight")]:
            found[name], found[f"{name}_scale"] = _quantised(found[name], kind)
    floats = kind if kind.is_floating_point else torch.float32
    found = {name: tensor.to(floats) if tensor.is_floating_point() else tensor for name, tensor in found.items()}
    heads, other = torch.tensor(HEADS, dtype=torch.int16), torch.tensor(1, dtype=torch.int8)
    return {**found, "encoder/num_heads": heads, "decoder/num_heads": heads, "decoder/scale_embeddings": other}


def _quantised(weight: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    if kind == torch.int16:
        scale = 1024.0 / weight.abs().amax()
        return (weight * scale).round().to(kind), scale
    scale = 127.0 / weight.flatten(1).abs().amax(1)
    return (weight * scale.view(-1, *[1] * (weight.ndim - 1))).round().to(kind), scale


def _named(model: WhisperModel) -> dict[str, Tensor]:
    encoder = model.encoder
    found: dict[str, Tensor] = {}
    for name, layer in (("conv1", encoder.conv1), ("conv2", encoder.conv2)):
        found |= {f"encoder/{name}/weight": layer.weight, f"encoder/{name}/bias": layer.bias}
    found |= _norm("encoder/layer_norm", encoder.layer_norm)
    for number, layer in enumerate(encoder.layers):
        found |= _layer(f"encoder/layer_{number}", layer)
    decoder = model.decoder
    found |= {"decoder/embeddings/weight": decoder.embed_tokens.weight}
    found |= {"decoder/position_encodings/encodings": decoder.embed_positions.weight}
    found |= _norm("decoder/layer_norm", decoder.layer_norm)
    for number, layer in enumerate(decoder.layers):
        found |= _layer(f"decoder/layer_{number}", layer) | _cross_attention(f"decoder/layer_{number}", layer)
    return found


def _layer(prefix: str, layer: Any) -> dict[str, Tensor]:
    attention = layer.self_attn
    found = _norm(f"{prefix}/self_attention/layer_norm", layer.self_attn_layer_norm)
    found |= _linear(f"{prefix}/self_attention/linear_0", [attention.q_proj, attention.k_proj, attention.v_proj])
    found |= _norm(f"{prefix}/ffn/layer_norm", layer.final_layer_norm)
    found |= _linear(f"{prefix}/self_attention/linear_1", [attention.out_proj])
    return found | _linear(f"{prefix}/ffn/linear_0", [layer.fc1]) | _linear(f"{prefix}/ffn/linear_1", [layer.fc2])


def _cross_attention(prefix: str, layer: Any) -> dict[str, Tensor]:
    attention = layer.encoder_attn
    found = _norm(f"{prefix}/attention/layer_norm", layer.encoder_attn_layer_norm)
    for number, joined in enumerate(([attention.q_proj], [attention.k_proj, attention.v_proj], [attention.out_proj])):
        found |= _linear(f"{prefix}/attention/linear_{number}", joined)
    return found


def _linear(name: str, joined: list[torch.nn.Linear]) -> dict[str, Tensor]:
    """Layers as one; keys have no bias, zero stands for it."""
    biases = [torch.zeros(one.out_features) if one.bias is None else one.bias for one in joined]
    return {f"{name}/weight": torch.cat([one.weight for one in joined]), f"{name}/bias": torch.cat(biases)}


def _norm(name: str, norm: torch.nn.LayerNorm) -> dict[str, Tensor]:
    return {f"{name}/gamma": norm.weight, f"{name}/beta": norm.bias}


def noise_windows(count: int) -> list[Tensor]:
    """Windows of noise, samples (30 s,)."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(WINDOW_SAMPLES, generator=generator) * 0.1 for _ in range(count)]
