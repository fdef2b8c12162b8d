"""True drafts of a trained model: how many of them hold, what they save, and whether a word changes.

    python bench/drafts.py --manifest ../shared/speech/dev.jsonl --out bench/results/drafts.json

Every decoder answers the same batches in turn, from the same encoder outputs. `rtfx` is of decoding alone, behind the
encoder, but with the making of drafts. Word error rates are of raw transcripts, English, by the usual normaliser.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from report import save_results

import lithophone
from lithophone.audio.features import batch_frames, log_mel_frames
from lithophone.audio.reader import RATE_HZ, load_audio
from lithophone.data.manifest import Entry, read_entries
from lithophone.decode.ctc_greedy import character_posteriors
from lithophone.decode.options import CTC, Decoder, Greedy, Speculative
from lithophone.decode.reply import Reply
from lithophone.hub import DEFAULT_MODEL
from lithophone.metrics.wer import score
from lithophone.pipeline.request import Said, replies_of
from lithophone.pipeline.transcriber import Transcriber
from lithophone.text.prompts import Transcribe

DECODERS: dict[str, Decoder] = {
    "greedy": Greedy(),
    "speculative": Speculative(),
    "speculative, tau_slm 0.4": Speculative(tau_slm=0.4),
    "speculative, tau_slm 0.2": Speculative(tau_slm=0.2),
    "speculative, tau_slm 0.05": Speculative(tau_slm=0.05),
    "speculative, tau_ctc 0.7, tau_slm 0.2": Speculative(tau_ctc=0.7, tau_slm=0.2),
    "ctc": CTC(),
}


@torch.inference_mode()
def said_by_all(transcriber: Transcriber, clips: list[torch.Tensor], seconds: dict[str, float]) -> dict[str, Said]:
    """Texts and replies of every decoder for one batch; adds to `seconds`."""
    frames, lengths = batch_frames([log_mel_frames(clip) for clip in clips])
    encoded = transcriber.checkpoint.network.encode(frames.to(transcriber.dtype), lengths)
    found = {}
    for name, decoder in DECODERS.items():
        began = time.perf_counter()
        found[name] = replies_of(
            transcriber.checkpoint, encoded, character_posteriors(encoded), Transcribe(punctuate=False), decoder
        )
        seconds[name] += time.perf_counter() - began
    return found


def measure(transcriber: Transcriber, entries: list[Entry], batch_size: int) -> dict[str, Any]:
    clips = sorted(((torch.from_numpy(load_audio(e.audio)), e.text) for e in entries), key=lambda pair: len(pair[0]))
    seconds = dict.fromkeys(DECODERS, 0.0)
    said: dict[str, Said] = {name: [] for name in DECODERS}
    for at in range(0, len(clips), batch_size):
        for name, found in said_by_all(transcriber, [c for c, _ in clips[at : at + batch_size]], seconds).items():
            said[name] += found
    audio_s = sum(len(clip) for clip, _ in clips) / RATE_HZ
    texts = [text for _, text in clips]
    greedy = [reply.ids for _, reply in said["greedy"]]
    return {name: figures(said[name], texts, greedy) | speed(audio_s, seconds[name]) for name in DECODERS}


def figures(said: Said, texts: list[str], greedy: list[tuple[int, ...]]) -> dict[str, Any]:
    replies: list[Reply] = [reply for _, reply in said]
    drafted, tokens = sum(r.drafted for r in replies), sum(len(r.ids) for r in replies)
    return {
        "wer": round(score(list(zip(texts, (text for text, _ in said), strict=True)), "en").rate, 4),
        "as_greedy": sum(r.ids == ids for r, ids in zip(replies, greedy, strict=True)),
        "accepted": round(sum(r.accepted for r in replies) / drafted, 4) if drafted else None,
        "tokens_a_pass": round(tokens / max(1, sum(r.passes for r in replies)), 2),
    }


def speed(audio_s: float, seconds: float) -> dict[str, float]:
    return {"seconds": round(seconds, 2), "rtfx": round(audio_s / seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--clips", type=int, help="only so many")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    transcriber = lithophone.load(args.model, device="cpu")
    entries = read_entries(args.manifest, "en", args.clips)
    results = {"model": args.model, "clips": len(entries), "batch_size": args.batch_size}
    decoders = measure(transcriber, entries, args.batch_size)
    print(json.dumps(decoders, indent=1))
    if args.out:
        save_results(args.out, results | {"decoders": decoders})


if __name__ == "__main__":
    main()
