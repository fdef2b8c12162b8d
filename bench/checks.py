"""How often the checks of `pipeline/quality.py` find what they look for, and how often they cry for nothing.

    python bench/checks.py --manifest ../shared/speech/dev.jsonl --out bench/results/checks.json

disagreement: the difference between what the encoder spells and the reply to the same clip, or to another one.
text_without_speech: stretches found in the right text, in the reply, and in the right text with words of another clip
in its middle or at its end. Clips are English, drawn with a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from report import save_results

import lithophone
from lithophone.audio.features import FRAME_S, log_mel_frames
from lithophone.audio.reader import load_audio
from lithophone.ctc.characters import raw_text
from lithophone.ctc.word_alignment import LogProbs, timed_words
from lithophone.data.manifest import Entry, read_entries
from lithophone.decode.ctc_greedy import character_posteriors
from lithophone.hub import DEFAULT_MODEL
from lithophone.pipeline.ctc_greedy import character_texts
from lithophone.pipeline.quality import DISAGREEMENT, UNHEARD, UNHEARD_WORDS, difference, unheard
from lithophone.pipeline.transcriber import Transcriber

FOREIGN_WORDS = (4, 6, 8, 12)


@dataclass(frozen=True)
class Clip:
    """The words that are said, the model's reply, and what its encoder heard."""

    words: list[str]
    reply: str
    spelled: str
    log_probs: LogProbs


@torch.inference_mode()
def clip_of(transcriber: Transcriber, entry: Entry) -> Clip:
    samples = load_audio(entry.audio)
    encoded = transcriber.checkpoint.model.encode(log_mel_frames(torch.from_numpy(samples))[None])
    log_probs = encoded.logits[0].float().log_softmax(-1).numpy()
    return Clip(
        raw_text(entry.text).split(),
        transcriber.transcribe(entry.audio).text,
        *character_texts(character_posteriors(encoded)),
        log_probs,
    )


def disagreement(clips: list[Clip]) -> dict[str, object]:
    """Differences between replies and spelled texts, and the share above the threshold."""
    others = clips[1:] + clips[:1]
    found = {
        "own reply": [difference(clip.spelled, clip.reply) for clip in clips],
        "reply to another clip": [
            difference(clip.spelled, other.reply) for clip, other in zip(clips, others, strict=True)
        ],
    }
    return {
        name: {**spread(values), "flagged": share(v > DISAGREEMENT for v in values)} for name, values in found.items()
    }


def without_speech(clips: list[Clip]) -> dict[str, float]:
    """Shares of the clips in which a stretch is found."""
    shares = {
        "right text": share(flagged(clip, clip.words) for clip in clips),
        "reply": share(flagged(clip, clip.reply.split()) for clip in clips),
    }
    others = clips[1:] + clips[:1]
    for n in FOREIGN_WORDS:
        pairs = [(clip, other.words[:n]) for clip, other in zip(clips, others, strict=True)]
        shares[f"{n} foreign words in the middle"] = share(
            flagged(clip, put_in(clip.words, words)) for clip, words in pairs
        )
        shares[f"{n} foreign words at the end"] = share(flagged(clip, clip.words + words) for clip, words in pairs)
    return shares


def put_in(words: list[str], foreign: list[str]) -> list[str]:
    half = len(words) // 2
    return words[:half] + foreign + words[half:]


def flagged(clip: Clip, words: list[str]) -> bool:
    """Whether words are found of which nothing was heard; not where the text is too long to be aligned at all."""
    return bool(unheard(timed_words(" ".join(words), clip.log_probs, len(clip.log_probs) * FRAME_S)))


def share(values: Iterable[bool]) -> float:
    return round(float(np.mean(list(values))), 3)


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = np.percentile(values, [0, 50, 100])
    return {"min": round(float(low), 2), "median": round(float(middle), 2), "max": round(float(high), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    transcriber = lithophone.load(args.model, device="cpu")
    entries = random.Random(0).sample(read_entries(args.manifest, "en"), args.clips)
    clips = [clip_of(transcriber, entry) for entry in entries]
    results = {
        "thresholds": {"disagreement": DISAGREEMENT, "unheard": UNHEARD, "unheard_words": UNHEARD_WORDS},
        "clips": len(clips),
        "disagreement": disagreement(clips),
        "text_without_speech": without_speech(clips),
    }
    print(json.dumps(results, indent=1))
    if args.out:
        save_results(args.out, {"model": args.model, **results})


if __name__ == "__main__":
    main()
