"""The real shape on this machine: 30 s of audio and 100 tokens, ours and transformers, one process after the other.

    python bench/real_checkpoint.py /tmp/real-shape
    python bench/real_shape.py /tmp/real-shape --out bench/results/real_shape.json

Every engine loads the same random weights in its own process; reported is the median. Ours keep freed memory, as the
command `lithophone` does; transformers is measured with and without that. Drafts are the engine's greedy reply with
errors, a third each of wrong, extra and missing tokens; making them is part of the encoder's time.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from report import save_results
from torch import Tensor

from lithophone.audio.features import audio_embedding_count, frame_count, log_mel_frames
from lithophone.checkpoint import Checkpoint, load_checkpoint
from lithophone.decode.options import Greedy, Speculative
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import decode_batch
from lithophone.memory import keep_freed_memory
from lithophone.text.prompts import Transcribe, build_prompt

AUDIO_S = 30.0
N_NEW = 100
ERROR_RATES = (0.0, 0.02, 0.05, 0.1, 0.2)
DTYPES = {"lithophone bfloat16": torch.bfloat16, "lithophone int8": torch.int8}
PEER, PEER_KEPT = "transformers bfloat16", "transformers bfloat16, memory kept"


def recording() -> Tensor:
    """Frames (1, T, 160) of noise: speech makes no difference to random weights."""
    samples = 0.1 * torch.randn(int(16_000 * AUDIO_S), generator=torch.Generator().manual_seed(1))
    return log_mel_frames(samples)[None]


def prompt_ids(checkpoint: Checkpoint) -> list[int]:
    n_audio = audio_embedding_count(frame_count(int(16_000 * AUDIO_S)))
    return build_prompt(Transcribe(), checkpoint.tokenizer, "granite_speech", n_audio)


def with_errors(ids: Sequence[int], rate: float, seed: int = 0) -> list[int]:
    """The ids with a share `rate` of them, at random places, in turn changed, left out, or followed by another one."""
    rng, draft = random.Random(seed), list[int]()
    places = rng.sample(range(len(ids)), round(rate * len(ids)))
    kinds = dict(zip(places, cycle(("change", "leave out", "add")), strict=False))
    for place, token in enumerate(ids):
        kind, other = kinds.get(place, "keep"), rng.randrange(100_000)
        draft += {"keep": [token], "change": [other], "leave out": [], "add": [token, other]}[kind]
    return draft


def timed(run: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Median seconds after a warm-up round, and the last result."""
    found, times = run(), []
    for _ in range(rounds):
        began = time.perf_counter()
        found = run()
        times.append(time.perf_counter() - began)
    return statistics.median(times), found


def ours(folder: Path, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    began = time.perf_counter()
    checkpoint = load_checkpoint(folder, dtype=dtype)
    load_s = time.perf_counter() - began
    model, ids = checkpoint.model, prompt_ids(checkpoint)
    frames = recording().to(model.projector.linear.bias.dtype)

    def encode() -> tuple[Tensor, Tensor]:
        encoded = model.encode(frames)
        assert model.bpe_head is not None
        model.bpe_head.logits(encoded)[0].argmax(-1)
        return model.project(encoded)

    encoder_s, (audio, counts) = timed(encode, rounds)
    prompts = model.embed([ids], audio, counts)

    def answer(options: Greedy | Speculative, draft: Sequence[int] = ()) -> Reply:
        return decode_batch(model, prompts, options, counts.tolist(), [draft])[0]

    first_s, _ = timed(lambda: answer(Greedy(1)), rounds)
    greedy_s, greedy = timed(lambda: answer(Greedy(N_NEW)), rounds)
    found = {"load_s": load_s, "encoder_s": encoder_s, "prefill_s": first_s, **figures(encoder_s + greedy_s, greedy)}
    for rate in ERROR_RATES:
        draft = with_errors(greedy.ids, rate)
        speculative_s, reply = timed(lambda draft=draft: answer(Speculative(N_NEW), draft), rounds)  # type: ignore[misc]
        same = sum(a == b for a, b in zip(reply.ids, greedy.ids, strict=True)) / N_NEW
        found[f"drafts with {rate:.0%} errors"] = figures(encoder_s + speculative_s, reply) | {"same_tokens": same}
    return found


def figures(total_s: float, reply: Reply) -> dict[str, Any]:
    counts = {"tokens": len(reply.ids), "distinct": len(set(reply.ids)), "passes": reply.passes}
    return {"total_s": round(total_s, 3), "rtfx": round(AUDIO_S / total_s, 3), **counts}


def theirs(folder: Path, rounds: int) -> dict[str, Any]:
    from transformers import GraniteSpeechForConditionalGeneration

    from lithophone.text.tokenizer import Tokenizer

    began = time.perf_counter()
    model = GraniteSpeechForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16).eval()
    load_s = time.perf_counter() - began
    n_audio = audio_embedding_count(frame_count(int(16_000 * AUDIO_S)))
    ids = torch.tensor([build_prompt(Transcribe(), Tokenizer.from_folder(folder), "granite_speech", n_audio)])
    frames = recording().bfloat16()

    def answer() -> Tensor:
        asked: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "input_features": frames}
        reply: Tensor = model.generate(**asked, max_new_tokens=N_NEW, min_new_tokens=N_NEW, do_sample=False)
        return reply[0, ids.shape[1] :]

    total_s, reply = timed(answer, rounds)
    assert len(reply) == N_NEW
    return {"load_s": load_s, **figures(total_s, Reply(tuple(reply.tolist()), True, (), passes=N_NEW))}


@torch.inference_mode()
def measure(engine: str, folder: Path, rounds: int) -> dict[str, Any]:
    if engine != PEER:
        keep_freed_memory()
    found = ours(folder, DTYPES[engine], rounds) if engine in DTYPES else theirs(folder, rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {key: round(v, 3) if isinstance(v, float) else v for key, v in found.items()} | {"peak_gib": round(peak, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", choices=[PEER, PEER_KEPT, *DTYPES], help="measure this one, in this process")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(measure(args.engine, args.folder, args.rounds)))
        return
    results = {}
    for engine in (PEER, PEER_KEPT, *DTYPES):
        command = [sys.executable, __file__, str(args.folder), "--engine", engine, "--rounds", str(args.rounds)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        results[engine] = json.loads(done.stdout.splitlines()[-1])
        ratio = results[engine]["rtfx"] / results[PEER]["rtfx"]
        print(engine, f"x{ratio:.2f}", json.dumps(results[engine], indent=1), flush=True)
    if args.out:
        save_results(args.out, {"audio_s": AUDIO_S, "tokens": N_NEW, "engines": results})


if __name__ == "__main__":
    main()
