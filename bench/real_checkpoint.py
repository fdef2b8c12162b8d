"""A checkpoint of the real shape, 2.4 billion random weights in bfloat16: 4.9 GB in a folder.

    python bench/real_checkpoint.py FOLDER

As slow as granite-speech-4.1-2b, with meaningless but confident replies: rounding changes no token, so replies of two
engines or decoders can be compared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

from lithophone.model.config import ModelConfig
from lithophone.model.speech import GraniteSpeech
from lithophone.text.tokenizer import Tokenizer

CONFIG = ModelConfig()
TEXT = CONFIG.text_config
SHARD_BYTES = 500_000_000
HEAD = "language_model.lm_head.weight"
EMBEDDINGS = "language_model.model.embed_tokens.weight"
STEP = 997
"""After token i the model predicts i + 997: its head is the embedding table moved by so many rows."""

FAINT = ("o_proj.weight", "down_proj.weight")
"""Layers that write to the residual stream, scaled so low that the last token's embedding dominates at its end."""


def write_checkpoint(folder: Path) -> None:
    """Weights, tokenizer and configuration; replies never end by themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder)
    real_vocabulary().save(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG.to_dict()))


def write_weights(folder: Path) -> None:
    """Shards as transformers lays them out, one in memory at a time."""
    with torch.device("meta"):
        shapes = GraniteSpeech(CONFIG, TEXT.vocab_size).state_dict()
    head = {name: shapes.pop(f"bpe_head.{name}") for name in ("weight", "bias")}
    places = {}
    for number, names in enumerate(shards(shapes)):
        file = f"model-{number:05}.safetensors"
        save_file({name: random_like(name, shapes[name]) for name in names}, folder / file)
        places |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    save_file({name: random_like(name, tensor) for name, tensor in head.items()}, folder / "out_llm.safetensors")


def shards(shapes: dict[str, Tensor]) -> Iterator[list[str]]:
    group: list[str] = []
    size = 0
    for name, tensor in shapes.items():
        group.append(name)
        size += 2 * tensor.numel()
        if size > SHARD_BYTES:
            yield group
            group, size = [], 0
    yield group


def random_like(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype)
    if tensor.dim() == 1 and name.endswith(("weight", "running_var")):
        return torch.ones(tensor.shape, dtype=torch.bfloat16)
    if name in (HEAD, EMBEDDINGS):
        same = torch.Generator().manual_seed(1)
        table = torch.empty(tensor.shape, dtype=torch.bfloat16).uniform_(-0.03, 0.03, generator=same)
        if name == EMBEDDINGS:
            return table
        moved = table.roll(STEP, 0)
        moved[TEXT.eos_token_id] = 0.0  # never the most probable
        return moved
    bound = 0.003 if name.startswith("language_model") and name.endswith(FAINT) else 0.03
    return torch.empty(tensor.shape, dtype=torch.bfloat16).uniform_(-bound, bound)


def real_vocabulary() -> Tokenizer:
    """Published ids of the special tokens in a vocabulary of the published size."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, *(f"piece{i}" for i in range(TEXT.pad_token_id - len(alphabet)))]
    core = tokenizers.Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    fillers = [f"<|unused_{i}|>" for i in range(TEXT.eos_token_id + 1, CONFIG.audio_token_index)]
    core.add_special_tokens(["<|pad|>", "<|end_of_text|>", *fillers, "<|audio|>"])
    settings = {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
    return Tokenizer(core, settings, None)


if __name__ == "__main__":
    torch.manual_seed(0)
    write_checkpoint(Path(sys.argv[1]))
