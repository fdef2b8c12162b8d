"""Errors of word times, in milliseconds, where the right times are known; and the cost of the alignment.

    python bench/word_times.py --out bench/results/word_times.json
    python bench/word_times.py --manifests ../shared/speech/synth.jsonl ../shared/speech/dev.jsonl --clips 20

The reference text is aligned to the encoder's posteriors, so that only the alignment is measured.

    voice    flite (Debian's package `flite`) speaks sentences and prints where each segment ends; the segments of a
             word are counted by speaking it alone. Starts and ends of all words are compared, for sentences alone and
             joined without a gap in windows of at most 30 s.
    joined   English recordings joined without a gap in windows of at most 30 s. The last word of each must end, and the
             first begin, where its sound does: where the power of 50 ms is within 35 dB of the loudest and 10 dB above
             the quietest twentieth. Breath and noise count as sound.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, cycle
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from report import save_results

import lithophone
from lithophone.audio.features import FRAME_S, log_mel_frames
from lithophone.audio.reader import RATE_HZ, Samples, load_audio
from lithophone.ctc.characters import N_LABELS
from lithophone.ctc.word_alignment import REACH_S, LogProbs, timed_words
from lithophone.data.manifest import Entry, read_entries
from lithophone.hub import DEFAULT_MODEL
from lithophone.pipeline.transcriber import Transcriber
from lithophone.transcript import Word

DEMO = Path(lithophone.__file__).parent / "assets" / "demo" / "demo.jsonl"
VOICES = ("slt", "rms", "awb")
WINDOW_S = 30.0
CHUNK = RATE_HZ // 100
SMOOTHING = 5
BELOW_PEAK_DB, ABOVE_FLOOR_DB = 35.0, 10.0

# Harvard sentences, lists 1 and 2 (IEEE, 1969)
SENTENCES = (
    "The birch canoe slid on the smooth planks.",
    "Glue the sheet to the dark blue background.",
    "It's easy to tell the depth of a well.",
    "These days a chicken leg is a rare dish.",
    "Rice is often served in round bowls.",
    "The juice of lemons makes fine punch.",
    "The box was thrown beside the parked truck.",
    "The hogs were fed chopped corn and garbage.",
    "Four hours of steady work faced us.",
    "A large size in stockings is hard to sell.",
    "The boy was there when the sun rose.",
    "A rod is used to catch pink salmon.",
    "The source of the huge river is the clear spring.",
    "Kick the ball straight and follow through.",
    "Help the woman get back to her feet.",
    "A pot of tea helps to pass the evening.",
    "Smoky fires lack flame and heat.",
    "The soft cushion broke the man's fall.",
    "The salt breeze came across from the sea.",
    "The girl at the booth sold fifty bonds.",
)

Item = TypeVar("Item")
Times = list[tuple[float, float]]
"""Start and end in seconds."""


# --- a voice that knows its times


def flite(text: str, voice: str, *options: str) -> list[str]:
    """Words of flite's output."""
    command = ["flite", "-voice", voice, "-t", text, *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


@functools.cache
def segment_count(word: str, voice: str) -> int:
    return sum(segment != "pau" for segment in flite(word.strip(".,").lower(), voice, "-ps", "-o", "none"))


def synthesised(voice: str, text: str) -> tuple[Samples, Times] | None:
    """Samples and times of the words; None where words alone have other segments than the sentence."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.wav"
        printed = [entry.split(":") for entry in flite(text, voice, "-psdur", "-o", str(path))]
        samples = load_audio(path)
    ends = [float(end) for _, end in printed]
    spans = [(s, e) for (name, _), s, e in zip(printed, [0.0, *ends], ends, strict=False) if name != "pau"]
    last = list(accumulate(segment_count(word, voice) for word in text.split()))
    if last[-1] != len(spans):
        return None
    return samples, [(spans[i][0], spans[j - 1][1]) for i, j in zip([0, *last], last, strict=False)]


# --- concatenated recordings


def in_windows(items: Iterable[Item], length: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Items in order, as many as fit into a window; `length` in samples."""
    window: list[Item] = []
    for item in items:
        if window and sum(map(length, window)) + length(item) > WINDOW_S * RATE_HZ:
            yield window
            window = []
        window.append(item)
    if window:
        yield window


def sound_span(samples: Samples) -> tuple[float, float]:
    """Start and end of the sound in seconds."""
    chunks = samples[: len(samples) // CHUNK * CHUNK].reshape(-1, CHUNK)
    power = np.convolve((chunks.astype(np.float64) ** 2).mean(1), np.full(SMOOTHING, 1 / SMOOTHING), "same")
    level_db = 10 * np.log10(power + 1e-12)
    loud = np.flatnonzero(level_db > max(level_db.max() - BELOW_PEAK_DB, np.percentile(level_db, 5) + ABOVE_FLOOR_DB))
    return float(loud[0] * CHUNK / RATE_HZ), float((loud[-1] + 1) * CHUNK / RATE_HZ)


def edge_words(words: Sequence[Word], window: list[tuple[str, Samples]]) -> Iterator[tuple[Word, tuple[float, float]]]:
    """Every recording as one word, from its first start to its last end, with the span of its sound."""
    first, offset = 0, 0
    for text, samples in window:
        behind = first + len(text.split())
        start_s, end_s = sound_span(samples)
        offset_s = offset / RATE_HZ
        joined = Word(text, words[first].start_s, words[behind - 1].end_s)
        yield joined, (offset_s + start_s, offset_s + end_s)
        first, offset = behind, offset + len(samples)


# --- measuring


@torch.inference_mode()
def log_probs_of(transcriber: Transcriber, samples: Samples) -> LogProbs:
    """Character log posteriors (T, 348)."""
    frames = log_mel_frames(torch.from_numpy(samples))[None]
    logits = transcriber.checkpoint.model.encode(frames).logits[0]
    return logits.float().log_softmax(-1).numpy()


def aligned(transcriber: Transcriber, text: str, samples: Samples) -> tuple[Word, ...]:
    return timed_words(text, log_probs_of(transcriber, samples), len(samples) / RATE_HZ)


def summary(pairs: Sequence[tuple[Word, tuple[float, float]]]) -> dict[str, object]:
    """Errors of starts and ends in milliseconds; positive is late."""
    errors = np.array([(w.start_s - start_s, w.end_s - end_s) for w, (start_s, end_s) in pairs]) * 1000
    return {"words": len(pairs), "start": _statistics(errors[:, 0]), "end": _statistics(errors[:, 1])}


def _statistics(errors: NDArray[np.float64]) -> dict[str, float]:
    values = {
        "mean_absolute_ms": np.abs(errors).mean(),
        "median_absolute_ms": np.median(np.abs(errors)),
        "p95_absolute_ms": np.percentile(np.abs(errors), 95),
        "bias_ms": errors.mean(),
    }
    return {name: round(float(value), 1) for name, value in values.items()}


def measure_voice(transcriber: Transcriber, sentences: Sequence[str]) -> dict[str, object]:
    clips = [(text, synthesised(voice, text)) for text, voice in zip(sentences, cycle(VOICES), strict=False)]
    timed = [(text, *known) for text, known in clips if known is not None]
    alone = [pair for one in timed for pair in compared(transcriber, [one])]
    joined = [pair for some in in_windows(timed, lambda one: len(one[1])) for pair in compared(transcriber, some)]
    counts = {"voices": VOICES, "sentences": len(timed), "skipped": len(clips) - len(timed)}
    return {**counts, **summary(alone), "concatenated": summary(joined)}


def compared(
    transcriber: Transcriber, clips: Sequence[tuple[str, Samples, Times]]
) -> Iterator[tuple[Word, tuple[float, float]]]:
    """Words of joined sentences with their true times."""
    starts_s = accumulate((len(samples) / RATE_HZ for _, samples, _ in clips), initial=0.0)
    times = [(s + at, e + at) for at, (_, _, times) in zip(starts_s, clips, strict=False) for s, e in times]
    samples = np.concatenate([samples for _, samples, _ in clips])
    return zip(aligned(transcriber, " ".join(text for text, _, _ in clips), samples), times, strict=True)


def measure_joined(transcriber: Transcriber, entries: Sequence[Entry]) -> dict[str, object]:
    pairs: list[tuple[Word, tuple[float, float]]] = []
    recordings = ((entry.text, load_audio(entry.audio)) for entry in entries)
    for window in in_windows(recordings, lambda recording: len(recording[1])):
        samples = np.concatenate([samples for _, samples in window])
        pairs += edge_words(aligned(transcriber, " ".join(text for text, _ in window), samples), window)
    return summary(pairs)


def alignment_ms(characters: int, rounds: int = 7) -> float:
    """Median time to align so many characters to 30 s of random posteriors."""
    rng = np.random.default_rng(0)
    frames = round(WINDOW_S / FRAME_S)
    log_probs = np.log(rng.dirichlet(np.full(N_LABELS, 0.1), frames) + 1e-9).astype(np.float32)
    letters = rng.choice(list("abcdefghij "), characters)
    text = "".join(letters)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert timed_words(text, log_probs, WINDOW_S)
        times.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(times), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--manifests", type=Path, nargs="+", default=[DEMO])
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    transcriber = lithophone.load(args.model, device="cpu")
    results = {
        "reach_ms": round(1e3 * REACH_S),
        "voice": measure_voice(transcriber, SENTENCES),
        "joined": {m.name: measure_joined(transcriber, read_entries(m, "en", args.clips)) for m in args.manifests},
        "alignment_ms": {"30 s, 500 characters": alignment_ms(500)},
    }
    print(json.dumps(results, indent=1))
    if args.out:
        save_results(args.out, {"model": args.model, **results})


if __name__ == "__main__":
    main()
