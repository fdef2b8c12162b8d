"""Speakers by voice: how well embeddings tell voices apart, and diarisation of synthetic talks.

    python bench/diarization.py embeddings --manifest dev.jsonl
    python bench/diarization.py talks --manifest dev.jsonl --speakers 2 3 4 6 --minutes 20

`embeddings`: equal error rate (EER) of the cosine of parts of 1.5 s, over all pairs of clips: CAM++, layer 3 of the
model's encoder (mean over time), and log-mel statistics (mean and deviation of every band).

`talks`: DER with a collar of 0.25 s and without, WDER and cpWER of talks by `bench/talks.py`. The words are those of
the model. Beside the built-in diarisation, with the number of speakers estimated and given: one speaker throughout, and
the true turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import save_results
from talks import Talk, clips_of, talk

import lithophone
from lithophone.audio.features import log_mel_frames
from lithophone.audio.reader import RATE_HZ, load_audio
from lithophone.audio.vad import CHUNK, bundled_detector
from lithophone.diarization.clustering import SpeakerCount
from lithophone.diarization.diarizer import EmbeddingDiarizer
from lithophone.diarization.embeddings import PART, Embedder, neural_embedder
from lithophone.diarization.linking import with_speakers
from lithophone.diarization.weights import load_speaker_model
from lithophone.metrics.diarization import der
from lithophone.metrics.normalize import english
from lithophone.metrics.speakers import cpwer, wder
from lithophone.pipeline.sources import AudioSource, Reading
from lithophone.transcript import Segment

CLIPS = 12
"""Clips of a speaker at most, for `embeddings`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("embeddings", "talks"))
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--corpus", default="librispeech_devclean_mp3")
    parser.add_argument("--speakers", type=int, nargs="+", default=[2, 3, 4, 6])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="lithophone-tiny")
    parser.add_argument("--decode", default="ctc")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    measured = embeddings(args) if args.what == "embeddings" else talks(args)
    found = {"corpus": args.corpus, **measured}
    print(json.dumps(found, indent=1))
    if args.out:
        save_results(args.out, found)


# --- embeddings


def embeddings(args: argparse.Namespace) -> dict[str, Any]:
    """EER of each embedder, in percent."""
    parts, speakers = parts_of_clips(args.manifest, args.corpus)
    rates = {}
    for name, embed in embedders(args.model).items():
        began = time.process_time()
        vectors = np.concatenate([embed(part[None]) for part in parts])
        cpu_s = (time.process_time() - began) / len(parts)
        centred = vectors - vectors.mean(0)
        rates[name] = {
            "eer": equal_error_rate(vectors, speakers),
            "eer_without_mean": equal_error_rate(centred, speakers),
            "ms_a_part": round(1000 * cpu_s, 1),
        }
    return {"clips": len(parts), "speakers": len(set(speakers)), "embeddings": rates}


def parts_of_clips(manifest: Path, corpus: str) -> tuple[list[np.ndarray], list[str]]:
    """The middle 1.5 s of speech of clips, and their speakers."""
    by_speaker: dict[str, list[Path]] = defaultdict(list)
    for speaker, clips in sorted(clips_of(manifest, corpus).items()):
        by_speaker[speaker] = [clip.path for clip in clips[:CLIPS]]
    parts, speakers = [], []
    for speaker, paths in by_speaker.items():
        for path in paths if len(paths) > 1 else ():
            samples = load_audio(path)
            speech = np.flatnonzero(bundled_detector().speech_probabilities(samples) > 0.5)
            first = (speech[0] + speech[-1]) * CHUNK // 2 - PART // 2 if len(speech) else 0
            part = samples[max(0, first) :][:PART]
            if len(part) == PART:
                parts.append(part)
                speakers.append(speaker)
    return parts, speakers


def embedders(model: str) -> dict[str, Embedder]:
    encoder = lithophone.load(model, device="cpu", dtype="float32").checkpoint.network.encoder
    layer: list[torch.Tensor] = []
    encoder.layers[2].register_forward_hook(lambda block, given, output: layer.append(output))

    @torch.inference_mode()
    def layer_3(parts: np.ndarray) -> np.ndarray:
        layer.clear()
        encoder(torch.stack([log_mel_frames(torch.from_numpy(part)) for part in parts]))
        return layer[0].mean(1).numpy()

    def log_mel(parts: np.ndarray) -> np.ndarray:
        mel = np.stack([log_mel_frames(torch.from_numpy(part)).reshape(-1, 80).numpy() for part in parts])
        mel -= mel.mean((1, 2), keepdims=True)
        return np.concatenate([mel.mean(1), mel.std(1)], axis=1)

    return {"cam++": neural_embedder(load_speaker_model()), "encoder_layer_3": layer_3, "log_mel": log_mel}


def equal_error_rate(vectors: np.ndarray, speakers: Sequence[str]) -> float:
    """Percent of pairs, where as many of one speaker are told apart as pairs of two are not."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    names = np.array(speakers)
    pairs = np.triu_indices(len(names), 1)
    same = (names[:, None] == names)[pairs][np.argsort(-(unit @ unit.T)[pairs])]
    accepted, rejected = np.cumsum(~same) / (~same).sum(), 1 - np.cumsum(same) / same.sum()
    at = int(np.abs(accepted - rejected).argmin())
    return round(50 * float(accepted[at] + rejected[at]), 1)


# --- talks


def talks(args: argparse.Namespace) -> dict[str, Any]:
    clips = clips_of(args.manifest, args.corpus)
    transcriber = lithophone.load(args.model, device="cpu")
    rows = []
    for n in args.speakers:
        made = talk(clips, n, 60 * args.minutes, args.seed + n)
        rows.append({"speakers": n, **measured_talk(transcriber, made, n, args.decode)})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return {"minutes": args.minutes, "model": args.model, "decode": args.decode, "seed": args.seed, "talks": rows}


def measured_talk(transcriber: lithophone.Transcriber, made: Talk, n: int, decode: str) -> dict[str, Any]:
    duration_s = len(made.samples) / RATE_HZ
    words = transcriber.transcribe(made.samples, RATE_HZ, decode=decode, word_timestamps=True).segments
    diarizer = EmbeddingDiarizer(remembering(neural_embedder(load_speaker_model())))
    row: dict[str, Any] = {"duration_s": round(duration_s, 1)}
    for name, count in (("estimated", SpeakerCount()), ("given", SpeakerCount(n, n))):
        began = time.process_time()
        diarization = diarizer.start(None, 0.0, count)
        for window in Reading(AudioSource(made.samples, RATE_HZ), 30.0).windows():
            diarization.push(window.start, window.samples)
        turns, _ = diarization.turns(duration_s)
        row.setdefault("cpu_s", round(time.process_time() - began, 1))
        row[name] = {"found": len({t.speaker for t in turns}), **errors(made, turns, words)}
    one = [Segment("", turn.start_s, turn.end_s, speaker="1") for turn in turns]
    return {**row, "one_speaker": errors(made, one, words), "true_turns": errors(made, made.turns, words)}


def remembering(embedder: Embedder) -> Embedder:
    """The same, without computing a batch of parts twice."""
    known: dict[bytes, np.ndarray] = {}

    def embed(parts: np.ndarray) -> np.ndarray:
        key = parts[:, ::97].tobytes()
        if key not in known:
            known[key] = embedder(parts)
        return known[key]

    return embed


def errors(made: Talk, turns: Sequence[Segment], segments: Sequence[Segment]) -> dict[str, float]:
    """Percent."""
    normalise = english()
    reference = [(word, str(clip.speaker)) for clip in made.clips for word in normalise(clip.text).split()]
    hypothesis = [
        (word, str(segment.speaker))
        for segment in with_speakers(segments, turns)
        for word in normalise(segment.text).split()
    ]
    return {
        "der": percent(der(made.turns, turns, 0.25).rate),
        "der_without_collar": percent(der(made.turns, turns).rate),
        "wder": percent(wder(reference, hypothesis).rate),
        "cpwer": percent(cpwer(by_speaker(reference), by_speaker(hypothesis)).rate),
    }


def by_speaker(words: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for word, speaker in words:
        found[speaker].append(word)
    return dict(found)


def percent(rate: float) -> float:
    return round(100 * rate, 1)


if __name__ == "__main__":
    main()
