"""Stage 2a: text-only training of the language model on simulated recogniser output.

    lithophone train language_model --text en=en.txt ja=ja.txt --pairs ja-en=ja-en.tsv --exclude dev.jsonl \\
        --tokenizer runs/tokenizer --out runs/language_model --steps 4000

Tasks: raw and punctuated transcripts, keywords, and known translations. A language is drawn by its number of sentences
** alpha.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from lithophone.checkpoint import load_checkpoint
from lithophone.ctc.characters import raw_text
from lithophone.data.manifest import read_entries
from lithophone.files import replacing
from lithophone.hub import resolve
from lithophone.model.config import TextConfig
from lithophone.model.granite import GraniteForCausalLM
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.augment import seeded
from lithophone.train.data.batches import Steps, join_texts
from lithophone.train.data.corpora import ALPHA
from lithophone.train.data.keyword_lists import KeywordLists
from lithophone.train.data.sentences import read_lines, read_pairs
from lithophone.train.data.text_noise import Corruption, misspell, spread
from lithophone.train.embedding_transfer import carry_over
from lithophone.train.run.arguments import add_run_arguments, begin, loader, loop_options, recipe_parser
from lithophone.train.run.distributed import Ranks
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.targets.ctc_transcripts import ctc_transcript
from lithophone.train.targets.losses import Loss
from lithophone.train.targets.prompt_reply import Example, SourceText, TaskMix, draw_target, make_example, reply_loss

NEIGHBOURS = 0.03
"""Sentences of a batch lie within this share of their language's list, sorted by length."""

JOINED = 0.33
"""Share of rows with two sentences."""


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
    """Examples, and the tokens in each prompt's audio slots."""

    examples: list[Example]
    slots: list[list[int]]
    step: int
    seconds: float = 0.0

    def to(self, device: torch.device | str) -> TextBatch:
        return self


class Sentences(Steps[TextBatch]):
    """Batches of about `tokens` positions: sentences of similar length, a share of JOINED rows with two of them.

    Curriculum: within `growing` steps the range of lengths grows from the shortest tenth to all.
    """

    def __init__(
        self, sources: Mapping[str, Sequence[SourceText]], tokenizer: Tokenizer, mix: TaskMix,
        keywords: Mapping[str, KeywordLists], *, alpha: float, tokens: int, growing: int, seed: int, start: int,
        ranks: Ranks,
    ) -> None:  # fmt: skip
        self.langs = sorted(sources)
        self.sources = {lang: sorted(sources[lang], key=lambda one: len(one.text)) for lang in self.langs}
        powers = np.array([len(self.sources[lang]) ** alpha for lang in self.langs])
        self.shares = powers / powers.sum()
        self.tokenizer = tokenizer
        self.mix = mix
        self.keywords = keywords
        self.tokens = tokens
        self.growing = growing
        self.seed = seed
        self.start = start
        self.ranks = ranks

    def batch(self, step: int) -> TextBatch:
        rng = seeded(self.seed, "text", step * self.ranks.world + self.ranks.rank)
        centre = rng.random() * min(1.0, 0.1 + step / max(1, self.growing))
        examples, slots, used = [], [], 0
        while used < self.tokens:
            example, row = self._row(centre, rng)
            examples.append(example)
            slots.append(row)
            used += len(example.prompt) + len(example.reply)
        return TextBatch(examples, slots, step)

    def _row(self, centre: float, rng: np.random.Generator) -> tuple[Example, list[int]]:
        source = self._draw(centre, rng)
        corruption = Corruption(word_p=float(rng.uniform(0.0, 0.45)))
        tokens = self.tokenizer.encode(misspell(ctc_transcript(source.text, source.lang), corruption, rng))
        row = spread(tokens, self.tokenizer.pad_id, corruption, rng)
        target = draw_target(source, self.mix, rng, self.keywords)
        return make_example(target, self.tokenizer, "granite_speech", len(row)), row

    def _draw(self, centre: float, rng: np.random.Generator) -> SourceText:
        lang = str(rng.choice(self.langs, p=self.shares))
        known = self.sources[lang]
        places = centre + rng.uniform(-NEIGHBOURS, NEIGHBOURS, size=2 if rng.random() < JOINED else 1)
        found = [known[i] for i in np.clip((places * len(known)).astype(int), 0, len(known) - 1)]
        common = set.intersection(*(set(one.translations) for one in found))
        translations = {to: join_texts([one.translations[to] for one in found], to) for to in sorted(common)}
        return SourceText(join_texts([one.text for one in found], lang), lang, translations)


class TextTask(nn.Module):
    def __init__(self, config: TextConfig, audio_id: int) -> None:
        super().__init__()
        self.language_model = GraniteForCausalLM(config)
        self.audio_id = audio_id

    def losses(self, batch: TextBatch, step: int) -> Mapping[str, Loss]:
        device = self.language_model.model.embed_tokens.weight.device
        rows = []
        for example, slots in zip(batch.examples, batch.slots, strict=True):
            ids = torch.tensor([*example.prompt, *example.reply[:-1]], device=device)
            ids[ids == self.audio_id] = torch.tensor(slots, device=device)
            rows.append(self.language_model.embed(ids))
        return {"reply": reply_loss(self.language_model, rows, batch.examples)}


def start_from(task: TextTask, name: str, tokenizer: Tokenizer) -> None:
    """Copy the language model of a model of the same sizes, whose tokenizer may differ."""
    trained = load_checkpoint(resolve(name))
    state = trained.model.language_model.state_dict()
    tables = {n for n in state if n in ("model.embed_tokens.weight", "lm_head.weight")}
    new = {n: carry_over(t, trained.tokenizer, tokenizer) if n in tables else t for n, t in state.items()}
    task.language_model.load_state_dict(new)


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--text", nargs="+", required=True, help="LANG=PATH, one sentence a line")
    parser.add_argument("--pairs", nargs="*", default=[], help="FROM-TO=PATH, sentence, tab, translation")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="manifests whose texts are left out")
    parser.add_argument("--mix", nargs="*", default=[], help=TaskMix.SYNTAX)
    parser.add_argument("--alpha", type=float, default=ALPHA, help="languages are sampled by sentences ** alpha")
    parser.add_argument("--batch-tokens", type=int, default=3000, help="tokens per batch")
    parser.add_argument(
        "--growing-steps",
        type=int,
        default=800,
        help="steps until all sentences are drawn; 0 for a trained model",
    )
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--init", help="start from the language model of a model, by name or folder: lithophone-tiny")
    add_run_arguments(parser, steps=4000, lr=2e-3, seed=1, save_every=500)
    parser.add_argument("--warmup", type=int, default=200, help="steps over which the learning rate rises")
    parser.add_argument("--cooldown", type=int, default=800, help="last steps, over which the learning rate falls")
    args = parser.parse_args(argv)

    ranks = begin(args)
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    held_out = {raw_text(entry.text) for path in args.exclude for entry in read_entries(path)}
    sources = read_pairs(args.pairs, held_out)
    for lang, lines in read_lines(args.text, held_out).items():
        sources.setdefault(lang, []).extend(SourceText(line, lang) for line in lines)
    print({lang: len(known) for lang, known in sources.items()}, flush=True)
    task = TextTask(tiny(tokenizer), tokenizer.audio_id)
    if args.init:
        start_from(task, args.init, tokenizer)
    options = loop_options(args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks)
    trainer = Trainer(task, task.losses, {"reply": 1.0}, options)
    trainer.resume()
    keywords = {lang: KeywordLists([one.text for one in known], lang) for lang, known in sources.items()}
    sentences = Sentences(
        sources, tokenizer, TaskMix.parse(args.mix), keywords, alpha=args.alpha, tokens=args.batch_tokens,
        growing=args.growing_steps, seed=args.seed, start=trainer.batches_seen, ranks=ranks,
    )  # fmt: skip
    trainer.run(loader(sentences, args.workers))
    state = {n: t.contiguous() for n, t in trainer.averaged_state().items()}
    if not ranks.leads:
        return
    with replacing(args.out / "language_model.safetensors", one_writer=True) as part:
        save_file(state, part)
    (args.out / "language_model_config.json").write_text(json.dumps(task.language_model.config.to_dict()))


if __name__ == "__main__":
    main()
