"""Whisper's embeddings, put back into a language model whose embeddings were trained, and of more tokens.

    python runs/embeddings.py checkpoints/speech/language_model data/whisper-base --old TOKENIZER --new TOKENIZER \\
        --texts ../shared/speech/train.jsonl data/synth5/pico-en.jsonl --out checkpoints/language_model

The folder has `language_model.safetensors` and its configuration (`runs/parts.py`). Tokens are grouped by how often the
transcripts have them, as written and in lower case. A row becomes Whisper's, plus what training has added to the rows
of its group on average; those of the most frequent tokens stay as trained. `docs/experiments.md` has what it gained.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from lithophone.data.manifest import read_entries
from lithophone.files import write_json
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.transplant.whisper_decoder import TextTeacher

sys.path.insert(0, "recipes")
from transplant_decoder import token_embeddings

BOUNDS = (0, 1, 3, 10, 50, 300)
"""Least counts of the groups; rows of the last group that were trained stay."""
EMBEDDINGS = "language_model.model.embed_tokens.weight"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language_model", type=Path)
    parser.add_argument("whisper", type=Path)
    parser.add_argument("--old", type=Path, required=True)
    parser.add_argument("--new", type=Path, required=True)
    parser.add_argument("--texts", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()

    old, new = Tokenizer.from_folder(args.old), Tokenizer.from_folder(args.new)
    text = TextTeacher.from_folder(args.whisper)
    whisper = torch.stack(token_embeddings(text, new))
    whisper -= whisper.mean(1, keepdim=True)
    size = whisper.shape[1]
    weights = load_file(args.language_model / "language_model.safetensors")
    where = {piece: number for number, piece in enumerate(old.pieces)}
    known = torch.tensor([piece in where for piece in new.pieces])
    trained = weights[EMBEDDINGS][[where.get(piece, 0) for piece in new.pieces]]
    groups = torch.bucketize(token_counts(args.texts, new), torch.tensor(BOUNDS), right=True) - 1
    groups[~known] = groups[~known].clamp(max=len(BOUNDS) - 2)
    plain = torch.tensor([piece not in set(new.special_tokens) for piece in new.pieces])

    rows = trained.clone()
    for group in range(len(BOUNDS) - 1):
        chosen = (groups == group) & plain
        before = trained[chosen & known]
        rows[chosen] = before.mean(0)
        rows[chosen, :size] += whisper[chosen] - whisper[chosen & known].mean(0)
        rows[chosen & known, size:] = before[:, size:]
    weights[EMBEDDINGS] = rows
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(weights, args.out / "language_model.safetensors")
    config = json.loads((args.language_model / "language_model_config.json").read_text(encoding="utf-8"))
    ends = {"bos_token_id": new.bos_id, "eos_token_id": new.eos_id, "pad_token_id": new.pad_id}
    write_json(args.out / "language_model_config.json", config | ends | {"vocab_size": len(new)})


def token_counts(manifests: list[Path], tokenizer: Tokenizer) -> torch.Tensor:
    """(tokens,), of transcripts as written and in lower case."""
    counts: Counter[int] = Counter()
    for path in manifests:
        for entry in read_entries(path):
            for text in (entry.text, entry.text.lower()):
                counts.update(tokenizer.encode(f" {text}"))
    return torch.tensor([counts[number] for number in range(len(tokenizer))])


if __name__ == "__main__":
    main()
