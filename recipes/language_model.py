"""Stage 2a: the language model learns from text to read speech-like slots, before the projector joins it.

    python recipes/language_model.py --text ../shared/text/en.txt --exclude ../shared/speech/dev.jsonl \\
        --tokenizer checkpoints/tokenizer --out checkpoints/language_model --steps 4000
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from lithophone.config import TextConfig
from lithophone.labels import raw_text
from lithophone.manifest import read_entries
from lithophone.model.granite import GraniteForCausalLM
from lithophone.tokenizer import Tokenizer
from lithophone.train.augment import seeded
from lithophone.train.loop import LoopOptions, Trainer
from lithophone.train.losses import Loss
from lithophone.train.optim import Schedule
from lithophone.train.pseudo import Disguise, misspell, spread
from lithophone.train.ranks import Ranks, join_ranks
from lithophone.train.replies import Pair, draw_task, make_pair, reply_loss

GROWING_STEPS = 800
"""Steps until sentences of all lengths are read."""


def tiny(tokenizer: Tokenizer) -> TextConfig:
    return TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        attention_multiplier=64**-0.5,
        residual_multiplier=0.5,
        logits_scaling=2.0,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
    )


@dataclass(frozen=True)
class TextBatch:
    """Prompts with their slots filled by tokens, and replies; holds no speech."""

    pairs: list[Pair]
    slots: list[list[int]]
    step: int
    seconds: float = 0.0

    def to(self, device: torch.device | str) -> TextBatch:
        return self


class Sentences(torch.utils.data.IterableDataset[TextBatch]):
    """Endless batches of about `tokens` positions; the batch of a step is a pure function of the seed and the step.

    Sentences of one batch are of like length, one row in three joins two sentences, and the first steps see the
    shortest sentences only: copying is learned sooner where there is little to search.
    """

    def __init__(
        self, lines: list[str], tokenizer: Tokenizer, tokens: int, seed: int, start: int, ranks: Ranks
    ) -> None:
        self.lines = sorted(lines, key=len)
        self.tokenizer = tokenizer
        self.tokens = tokens
        self.seed = seed
        self.start = start
        self.ranks = ranks

    def __iter__(self) -> Iterator[TextBatch]:
        step = self.start
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> TextBatch:
        rng = seeded(self.seed, "text", step * self.ranks.world + self.ranks.rank)
        known = min(1.0, 0.1 + step / GROWING_STEPS)
        centre = int(rng.integers(int(len(self.lines) * known)))
        pairs, slots, used = [], [], 0
        while used < self.tokens:
            pair, row = self._row(centre, rng)
            pairs.append(pair)
            slots.append(row)
            used += len(pair.prompt) + len(pair.reply)
        return TextBatch(pairs, slots, step)

    def _row(self, centre: int, rng: np.random.Generator) -> tuple[Pair, list[int]]:
        near = np.clip(centre + rng.integers(-1500, 1501, size=2 if rng.random() < 0.33 else 1), 0, len(self.lines) - 1)
        text = " ".join(self.lines[i] for i in near)
        disguise = Disguise(word_p=float(rng.uniform(0.0, 0.45)))
        heard = self.tokenizer.encode(misspell(raw_text(text), disguise, rng))
        row = spread(heard, self.tokenizer.pad_id, disguise, rng)
        task = draw_task(text, rng)
        return make_pair(task, text, self.tokenizer, "granite_speech", len(row)), row


class TextTask(nn.Module):
    def __init__(self, config: TextConfig, audio_id: int) -> None:
        super().__init__()
        self.language_model = GraniteForCausalLM(config)
        self.audio_id = audio_id

    def losses(self, batch: TextBatch) -> Mapping[str, Loss]:
        device = self.language_model.model.embed_tokens.weight.device
        rows = []
        for pair, slots in zip(batch.pairs, batch.slots, strict=True):
            ids = torch.tensor([*pair.prompt, *pair.reply[:-1]], device=device)
            ids[ids == self.audio_id] = torch.tensor(slots, device=device)
            rows.append(self.language_model.embed(ids))
        return {"reply": reply_loss(self.language_model, rows, batch.pairs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="manifests whose texts are not learned")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--cooldown", type=int, default=800)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--batch-tokens", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--fp32", action="store_true", help="compute in float32 instead of bfloat16")
    args = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(args.seed)
    ranks = join_ranks(args.device)
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    held_out = {raw_text(entry.text) for path in args.exclude for entry in read_entries(path)}
    lines = [line.strip() for path in args.text for line in path.read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if len(line) > 3 and raw_text(line) not in held_out]
    task = TextTask(tiny(tokenizer), tokenizer.audio_id)
    options = LoopOptions(
        schedule=Schedule(args.lr, args.steps, args.warmup, args.cooldown),
        folder=args.out,
        device=ranks.device,
        leads=ranks.leads,
        precision=torch.float32 if args.fp32 else torch.bfloat16,
        save_every=500,
    )
    trainer = Trainer(task, task.losses, {"reply": 1.0}, options)
    trainer.resume()
    sentences = Sentences(lines, tokenizer, args.batch_tokens, args.seed, trainer.step, ranks)
    trainer.run(torch.utils.data.DataLoader(sentences, batch_size=None, num_workers=1, prefetch_factor=8))
    if not ranks.leads:
        return
    state = {n: t.contiguous() for n, t in trainer.averaged_state().items()}
    save_file(state, args.out / "language_model.safetensors")
    (args.out / "language_model_config.json").write_text(json.dumps(task.language_model.config.to_dict()))


if __name__ == "__main__":
    main()
