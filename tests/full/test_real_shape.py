"""A checkpoint of the real shape, 2.4 billion random weights: it loads and decodes in bounded memory.

Needs some 5 GB of disk in pytest's temporary folder and, for the process under test, up to 12 GiB of memory.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers
import torch
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers
from torch import Tensor

import lithophone
from lithophone.config import ModelConfig
from lithophone.model.speech import GraniteSpeech
from lithophone.tokenizer import Tokenizer

pytestmark = pytest.mark.full

CONFIG = ModelConfig()
TEXT = CONFIG.text_config
SHARD_BYTES = 500_000_000
MEMORY_LIMIT = 12 * 2**30
N_NEW = 20

SCRIPT = """
import json, resource, sys, time
import torch
from lithophone.checkpoint import load_checkpoint
from lithophone.decode.batched import decode_batch
from lithophone.decode.options import Greedy
from lithophone.features import log_mel_frames
from lithophone.prompts import Transcribe, build_prompt

start = time.monotonic()
loaded = load_checkpoint(sys.argv[1], dtype=torch.bfloat16)
load_s = time.monotonic() - start
model = loaded.model
frames = log_mel_frames(0.1 * torch.randn(5 * 16_000))[None].bfloat16()
with torch.inference_mode():
    audio, counts = model.audio_embeddings(frames)
    n_audio = int(counts[0])
    ids = build_prompt(Transcribe(), loaded.tokenizer, loaded.config.model_type, n_audio)
    prompts = model.embed([ids], audio, counts)
    reply = decode_batch(model, prompts, Greedy(max_new_tokens=int(sys.argv[2])), [n_audio])[0]
print(json.dumps({
    "n_parameters": sum(p.numel() for p in model.parameters()),
    "n_audio": n_audio,
    "ids": reply.ids,
    "finite": all(map(lambda x: x == x and x <= 0, reply.logprobs)),
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "load_s": load_s,
    "total_s": time.monotonic() - start,
}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("real-shape")
    write_weights(path)
    real_vocabulary().save(path)
    (path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    yield path
    shutil.rmtree(path)


def write_weights(folder: Path) -> None:
    """Shard by shard, as transformers lays them out; never more than one shard in memory."""
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
    return torch.empty(tensor.shape, dtype=torch.bfloat16).uniform_(-0.03, 0.03)


def real_vocabulary() -> Tokenizer:
    """The published ids of the special tokens over a vocabulary of the published size."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, *(f"piece{i}" for i in range(TEXT.pad_token_id - len(alphabet)))]
    core = tokenizers.Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    fillers = [f"<|unused_{i}|>" for i in range(TEXT.eos_token_id + 1, CONFIG.audio_token_index)]
    core.add_special_tokens(["<|pad|>", "<|end_of_text|>", *fillers, "<|audio|>"])
    settings = {"bos_token": "<|end_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
    return Tokenizer(core, settings, None)


def test_it_loads_and_decodes_in_bounded_memory(folder: Path) -> None:
    source = str(Path(lithophone.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(N_NEW)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert 2.4e9 < seen["n_parameters"] < 2.45e9
    assert seen["n_audio"] == 51
    assert len(seen["ids"]) == N_NEW
    assert seen["finite"]
    assert seen["peak_bytes"] < MEMORY_LIMIT, seen
