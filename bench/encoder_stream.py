"""The encoder over a growing utterance: difference to the encoder on the whole one, and cost, for each look-ahead.

python bench/encoder_stream.py --out bench/results/encoder_stream.json
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import save_results
from torch import Tensor

import lithophone
from lithophone.audio.features import log_mel_frames
from lithophone.audio.reader import load_audio
from lithophone.hub import DEFAULT_MODEL
from lithophone.model.conformer import Conformer
from lithophone.model.encoder_stream import EncoderStream

DEMO = Path(lithophone.__file__).parent / "assets" / "demo"
CLIPS = ("dashwood-0880", "dashwood-0890", "dashwood-0920", "dashwood-0930", "demo")
LOOK_AHEADS = (0, 25, 50, 100, 200, None)


def compared(encoder: Conformer, frames: Tensor, whole: Tensor, look_ahead: int | None, step: int) -> dict[str, Any]:
    """`whole`: logits (T, V) of the encoder on all frames."""
    stream = EncoderStream(encoder, look_ahead=look_ahead)
    ends = [*range(step, len(frames), step), len(frames)]
    began = time.process_time()
    for end in ends:
        logits = stream.encode(frames[:end]).logits[0]
    cpu_s = time.process_time() - began
    return {
        "look_ahead": look_ahead,
        "other_labels": int((logits.argmax(-1) != whole.argmax(-1)).sum()),
        "largest_difference": float(f"{(logits - whole).abs().max():.2g}"),
        "computed": round(stream.computed / len(stream.encoder.layers) / len(frames), 1),
        "without": round(sum(ends) / len(frames), 1),
        "cpu_ms_per_pass": round(1000 * cpu_s / len(ends), 1),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--step", type=int, default=40, help="frames between passes")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    encoder = lithophone.load(given.model, device="cpu", dtype="float32").checkpoint.network.encoder
    samples = np.concatenate([load_audio(DEMO / f"{name}.flac") for name in CLIPS])
    frames = log_mel_frames(torch.from_numpy(samples))
    whole = encoder(frames[None]).logits[0]
    rows = [compared(encoder, frames, whole, look_ahead, given.step) for look_ahead in LOOK_AHEADS]
    for row in itertools.chain([dict(zip(rows[0], rows[0], strict=True))], rows):
        print(*(f"{value!s:>18}" for value in row.values()))
    if given.out:
        save_results(given.out, {"model": given.model, "frames": len(frames), "step": given.step, "rows": rows})


if __name__ == "__main__":
    main()
