"""Peak memory for long recordings, throughput of many short files in one call, and clips joined with silences.

    python bench/hours.py memory --seconds 180 10800 --model FOLDER --decode ctc
    python bench/hours.py files --clips 60 --threads 1
    python bench/hours.py joined --manifest dev.jsonl --corpus librispeech_devclean_mp3 --minutes 60 --decode greedy

`memory` transcribes a recording of each length, the demo over and over, by a process of its own with a journal.
`files` compares one call for all clips with one call for each, with the model kept loaded, round by round; the clips
are cut from the demo at several lengths. One thread is what the commands give a small model.
`joined` compares clips of one language, joined with silences of 5 to 60 s, with the same clips alone: word ends, error
rates, words dropped, added, repeated or in silence (`bench/joined.py`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

import soundfile
import torch
from joined import compared
from report import save_results

import lithophone
from lithophone.data.manifest import read_entries
from lithophone.pipeline.journal import Journal

DEMO = Path(lithophone.__file__).parent / "assets" / "demo" / "demo.flac"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(MEASURES))
    parser.add_argument("--seconds", type=float, nargs="+", default=[180.0, 10_800.0])
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--manifest", type=Path, help="for joined")
    parser.add_argument("--lang", default="en")
    parser.add_argument("--corpus", help="of the manifest's lines; all where it is not given")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--model", default="lithophone-tiny")
    parser.add_argument("--decode")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.what == "joined" and args.manifest is None:
        parser.error("joined needs --manifest")
    with tempfile.TemporaryDirectory() as folder:
        found = {"decode": args.decode, **MEASURES[args.what](args, Path(folder))}
    print(found)
    if args.out:
        save_results(args.out, found)


def memory(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Peak resident MiB by seconds of audio."""
    rows = []
    for seconds in args.seconds:
        path = looped(folder / f"{seconds:.0f}.flac", seconds)
        began = time.perf_counter()
        peak_mib = peak_of(["transcribe", str(path), "-o", str(folder / "out"), "--model", args.model, *decoder(args)])
        rows.append({"audio_s": seconds, "wall_s": round(time.perf_counter() - began, 1), "peak_mib": round(peak_mib)})
        print(rows[-1], file=sys.stderr, flush=True)
    return {"memory": rows}


def files(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of one call for all clips, with and without a journal, and of one call for each: wall and CPU time."""
    paths = clips(folder, args.clips)
    options = decoder_options(args)
    transcriber = loaded(args)
    list(transcriber.transcribe_many(paths[:2], **options))
    texts: set[tuple[str, ...]] = set()
    wall_s: dict[str, list[float]] = defaultdict(list)
    cpu_s: dict[str, list[float]] = defaultdict(list)

    def timed(name: str, results: Any) -> None:
        began, cpu = time.perf_counter(), time.process_time()
        texts.add(tuple(result.text for result in results))
        wall_s[name].append(round(time.perf_counter() - began, 2))
        cpu_s[name].append(round(time.process_time() - cpu, 2))

    for i in range(args.rounds):
        with Journal(folder / f"journal{i}") as journal:
            kept = transcriber.transcribe_many(paths, journal=journal, **options)
            timed("one_call_with_journal", (result for _, result in kept))
        timed("one_call", (result for _, result in transcriber.transcribe_many(paths, **options)))
        timed("a_call_each", (transcriber.transcribe(path, **options) for path in paths))
    each_s = wall_s["a_call_each"]
    ratio = {name: median(map(truediv, each_s, some)) for name, some in wall_s.items()}
    return {
        "clips": len(paths), "threads": torch.get_num_threads(), "wall_s": dict(wall_s), "cpu_s": dict(cpu_s),
        "ratio": {name: round(value, 2) for name, value in ratio.items()}, "same_texts": len(texts) == 1,
    }  # fmt: skip


def joined(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Clips of the manifest joined, and alone."""
    entries = [e for e in read_entries(args.manifest, args.lang) if args.corpus in (None, e.corpus)]
    began = time.process_time()
    found = compared(loaded(args), entries, 60 * args.minutes, args.seed, folder, **decoder_options(args))
    setting = {"model": args.model, "lang": args.lang, "corpus": args.corpus, "seed": args.seed}
    return {"joined": {**setting, "cpu_s": round(time.process_time() - began, 1), **found}}


MEASURES = {"memory": memory, "files": files, "joined": joined}


def loaded(args: argparse.Namespace) -> lithophone.Transcriber:
    if args.threads:
        torch.set_num_threads(args.threads)
    return lithophone.load(args.model, device="cpu")


def decoder_options(args: argparse.Namespace) -> dict[str, Any]:
    return {"decode": args.decode} if args.decode else {}


def decoder(args: argparse.Namespace) -> list[str]:
    return ["--decode", args.decode] if args.decode else []


def peak_of(arguments: list[str]) -> float:
    """Peak resident MiB of a command."""
    process = subprocess.Popen([sys.executable, "-m", "lithophone", *arguments, "--threads", "1", "--quiet"])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"status {status}"
    return usage.ru_maxrss / 1024


def looped(path: Path, seconds: float) -> Path:
    """The demo over and over."""
    samples, rate_hz = soundfile.read(DEMO, dtype="int16")
    with soundfile.SoundFile(path, "w", rate_hz, 1, format="FLAC") as file:
        left = round(seconds * rate_hz)
        while left > 0:
            file.write(samples[:left])
            left -= len(samples)
    return path


def clips(folder: Path, n: int) -> list[Path]:
    """Clips of 1 to 5 s."""
    samples, rate_hz = soundfile.read(DEMO, dtype="int16")
    made = []
    for i in range(n):
        made.append(folder / f"{i:03d}.wav")
        soundfile.write(made[-1], samples[: round(rate_hz * (1 + 4 * (i % 7) / 6))], rate_hz)
    return made


if __name__ == "__main__":
    main()
