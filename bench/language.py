"""Languages detected (`language="auto"`), compared with those of a manifest.

    python bench/language.py --manifest ../shared/speech/dev.jsonl --clips 20

Clips of the languages that the model understands, of `--min-s` seconds and more, `--clips` of each language at most,
drawn by `--seed`. `clips` has the share that is right, in percent, by language and by seconds, and the confusions;
`joined` the same for recordings of 10 and 20 s and more, made of clips of a language with silences of 1 s between
them; `warned` how many of the right and wrong guesses have the warning `unsure_language`.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import save_results

import lithophone
from lithophone.audio.reader import RATE_HZ, Samples, load_audio
from lithophone.data.manifest import Entry, read_entries
from lithophone.languages import base_language
from lithophone.pipeline.quality import SURE_LANGUAGE
from lithophone.pipeline.spoken_language import SPEECH_S, TEMPERATURE, languages_of

JOINED_S = 10.0, 20.0
BOUNDS_S = 0.0, 3.0, 5.0, 10.0, 1e9
SILENCE = np.zeros(RATE_HZ, np.float32)


@dataclass(frozen=True)
class Detected:
    """A recording, its language, and the one detected; none without speech."""

    lang: str
    seconds: float
    guess: lithophone.LanguageGuess

    @property
    def is_right(self) -> bool:
        return self.guess.language == self.lang

    @property
    def is_sure(self) -> bool:
        return self.guess.probability is not None and self.guess.probability >= SURE_LANGUAGE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", default="lithophone-tiny")
    parser.add_argument("--clips", type=int, help="of each language (default: all)")
    parser.add_argument("--min-s", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    transcriber = lithophone.load(args.model)
    chosen = drawn(read_entries(args.manifest), languages_of(transcriber.checkpoint), args.clips, args.min_s, args.seed)
    began = time.process_time()
    clips = {lang: [load_audio(one.audio) for one in entries] for lang, entries in chosen.items()}
    recordings = {f"{least_s:g} s": joined(clips, least_s) for least_s in JOINED_S}
    results = {
        "model": transcriber.checkpoint.folder.name,
        "manifest": args.manifest.name,
        "min_s": args.min_s,
        "speech_s": SPEECH_S,
        "temperature": TEMPERATURE,
        "clips": counts(detected(transcriber, clips), with_seconds=True),
        "joined": {name: counts(detected(transcriber, some)) for name, some in recordings.items()},
        "cpu_s": round(time.process_time() - began, 1),
    }
    json.dump(results, sys.stdout, indent=1)
    print()
    if args.out:
        save_results(args.out, results)


def drawn(
    entries: Iterable[Entry], languages: Sequence[str], clips: int | None, min_s: float, seed: int
) -> dict[str, list[Entry]]:
    """Entries by language."""
    found: dict[str, list[Entry]] = {lang: [] for lang in languages}
    for entry in entries:
        if base_language(entry.lang) in found and (entry.duration_s or 0.0) >= min_s:
            found[base_language(entry.lang)].append(entry)
    draw = random.Random(seed)
    return {lang: draw.sample(some, min(len(some), clips or len(some))) for lang, some in found.items()}


def joined(clips: Mapping[str, Sequence[Samples]], least_s: float) -> dict[str, list[Samples]]:
    """Recordings with `least_s` of clips and more each; clips that are left over are in none."""
    return {lang: list(_joined(some, least_s)) for lang, some in clips.items()}


def _joined(clips: Sequence[Samples], least_s: float) -> Iterator[Samples]:
    waiting: list[Samples] = []
    for clip in clips:
        waiting.append(clip)
        if sum(map(len, waiting)) >= least_s * RATE_HZ:
            yield np.concatenate([part for one in waiting for part in (one, SILENCE)])
            waiting = []


def detected(transcriber: lithophone.Transcriber, recordings: Mapping[str, Sequence[Samples]]) -> list[Detected]:
    return [
        Detected(lang, len(samples) / RATE_HZ, transcriber.detect_language(samples, RATE_HZ))
        for lang, some in recordings.items()
        for samples in some
    ]


def counts(found: Sequence[Detected], *, with_seconds: bool = False) -> dict[str, Any]:
    by_lang: dict[str, list[Detected]] = defaultdict(list)
    for one in found:
        by_lang[one.lang].append(one)
    wrong = Counter(f"{one.lang} as {one.guess.language}" for one in found if not one.is_right)
    kinds = {"right": [one for one in found if one.is_right], "wrong": [one for one in found if not one.is_right]}
    result: dict[str, Any] = {
        "n": len(found),
        "right": share(found),
        "mean_of_languages": round(float(np.mean([share(some) for some in by_lang.values()])), 1) if by_lang else None,
        "by_language": {lang: {"n": len(some), "right": share(some)} for lang, some in by_lang.items()},
        "confusions": dict(wrong.most_common()),
        "warned": {
            name: {"n": len(some), "warned": sum(not one.is_sure for one in some)} for name, some in kinds.items()
        },
    }
    if with_seconds:
        result["by_seconds"] = {
            f"{low:g} to {high:g}" if high < 1e9 else f"{low:g} and more": {"n": len(some), "right": share(some)}
            for low, high in pairwise(BOUNDS_S)
            if (some := [one for one in found if low <= one.seconds < high])
        }
    return result


def share(found: Sequence[Detected]) -> float:
    """Percent right."""
    return round(100 * sum(one.is_right for one in found) / len(found), 1) if found else 0.0


if __name__ == "__main__":
    main()
