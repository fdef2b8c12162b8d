"""Fingerprint of a loaded model: equal for models that transcribe alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from lithophone.checkpoint import Checkpoint
from lithophone.model.quantize import Operand

SAMPLES = 64
"""Elements of every tensor that are hashed."""


def fingerprint(checkpoint: Checkpoint) -> str:
    """16 hexadecimal digits of configuration, decoding settings, tokenizer and samples of every tensor.

    Training changes all elements of a tensor, so a few are enough: a model of 2 billion weights takes a second.
    """
    sha = hashlib.sha256(json.dumps(checkpoint.config.to_dict(), sort_keys=True, default=str).encode())
    settings = (
        checkpoint.beams, checkpoint.foreign_penalty, checkpoint.language_ids, checkpoint.raw_languages,
        checkpoint.min_confidence, len(checkpoint.tokenizer), checkpoint.tokenizer.chat_template,
    )  # fmt: skip
    sha.update(repr(settings).encode())
    for name, tensor in _tensors(checkpoint.network):
        sha.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        sha.update(_sampled(tensor))
    return sha.hexdigest()[:16]


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters, buffers, and the scales of int8 weights."""
    yield from network.named_parameters()
    yield from network.named_buffers()
    for path, layer in network.named_modules():
        weight = vars(layer).get("weight")
        if isinstance(weight, Operand):
            yield path, weight.scale


def _sampled(tensor: Tensor) -> bytes:
    """Elements at equal distances, the last among them."""
    flat = tensor.detach().flatten() if tensor.is_contiguous() else tensor.detach().reshape(-1)
    if not len(flat):
        return b""
    at = torch.linspace(0, len(flat) - 1, min(SAMPLES, len(flat)), dtype=torch.float64).long()
    return flat[at.to(flat.device)].double().cpu().numpy().tobytes()
