"""A trained model as it ships: matrices in 8 bits, those of the encoder, the BPE head and the language model's MLPs in
4, the rest in bfloat16, with the warnings and languages of its card.

python runs/release.py checkpoints/speech/model checkpoints/release
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from lithophone.checkpoint import load_checkpoint, save_checkpoint
from lithophone.decode.options import BeamSearch

BEAMS = BeamSearch(num_beams=4, ctc_weight=0.2, keyword_boost=0.5, future_cost=0.8)
MIN_CONFIDENCE = 0.75
RAW_LANGUAGES = ("ja",)


def main() -> None:
    source, out = sys.argv[1:]
    checkpoint = load_checkpoint(source, dtype=torch.int8)
    released = replace(checkpoint, beams=BEAMS, min_confidence=MIN_CONFIDENCE, raw_languages=RAW_LANGUAGES)
    save_checkpoint(released, out, dtype=torch.bfloat16, four_bits=in_four_bits)


def in_four_bits(name: str) -> bool:
    """The marks in attention and embeddings of the language model share groups with other weights, and need 8."""
    return name.startswith(("encoder.", "bpe_head.")) or ".mlp." in name


if __name__ == "__main__":
    main()
