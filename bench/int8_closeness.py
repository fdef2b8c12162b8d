"""How close int8 is to float32 on a checkpoint folder: cosines of what the language model hears of 30 s of audio.

    python bench/real_checkpoint.py /tmp/real-shape
    python bench/int8_closeness.py /tmp/real-shape --out bench/results/int8_closeness.json

Audio embeddings of the same recording, one by one; the model is loaded twice, one after the other.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from real_shape import AUDIO_S, recording
from report import save_results
from torch import Tensor
from torch.nn import functional as F

from lithophone.checkpoint import load_checkpoint


@torch.inference_mode()
def audio_embeddings(folder: Path, dtype: torch.dtype) -> Tensor:
    """(N, H) in float32."""
    return load_checkpoint(folder, dtype=dtype).model.audio_embeddings(recording())[0][0].float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found, wanted = (audio_embeddings(args.folder, dtype) for dtype in (torch.int8, torch.float32))
    cosines = F.cosine_similarity(found, wanted, dim=-1)
    results = {"audio_s": AUDIO_S, "embeddings": len(cosines), "least": cosines.min(), "mean": cosines.mean()}
    results |= {name: round(float(value), 6) for name, value in results.items() if isinstance(value, Tensor)}
    print(json.dumps(results))
    if args.out:
        save_results(args.out, results)


if __name__ == "__main__":
    main()
