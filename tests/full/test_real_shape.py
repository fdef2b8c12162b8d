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

import lithophone
from bench.real_checkpoint import write_checkpoint

pytestmark = pytest.mark.full

MEMORY_LIMIT = 12 * 2**30
N_NEW = 20

SCRIPT = """
import json, resource, sys, time
import torch
from lithophone.checkpoint import load_checkpoint
from lithophone.decode.scheduler import decode_batch
from lithophone.decode.options import Greedy
from lithophone.audio.features import log_mel_frames
from lithophone.text.prompts import Transcribe, build_prompt

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
    write_checkpoint(path)
    yield path
    shutil.rmtree(path)


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
