"""Fine-tuning: any base or plus model learns your domain from your recordings; docs/finetune.md is the guide.

    python recipes/finetune.py --model lithophone-tiny --data train.jsonl --dev dev.jsonl --out runs/mine --merge

`--parts` says what learns, everything else is held still. Loss = cross-entropy of the reply. The model is measured on
all dev clips before the first step and every `--evaluate-every` steps; the weights with the lowest error rate are kept,
and the run stops where `--patience` looks in a row were no better.

`OUT/adapter` has the adapters as `peft` reads them, and what else was trained; `OUT/model`, with `--merge`, the whole
model with all of it inside, for `lithophone.load` and transformers; `OUT/report.json` the error before and after.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from speech import HARDER, DevClip, keyword_lists
from torch import Tensor, nn

from lithophone.audio.features import batch_frames, log_mel_frames
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.ctc.language_bias import language_bias
from lithophone.data.manifest import read_entries
from lithophone.decode.options import Greedy
from lithophone.decode.scheduler import decode_batch
from lithophone.errors import OptionError
from lithophone.hub import resolve
from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.wer import score
from lithophone.model.config import ModelConfig
from lithophone.model.lora import LoraConfig
from lithophone.text.prompts import Transcribe, build_prompt
from lithophone.train.data.augment import seeded
from lithophone.train.data.batches import Batch, Corpus
from lithophone.train.data.keyword_lists import KeywordLists
from lithophone.train.finetune import SYNTAX, Best, Parts, Patience, learns, merge_parts, open_parts, write_parts
from lithophone.train.run.arguments import (
    Data,
    add_data_arguments,
    add_run_arguments,
    begin,
    loop_options,
    recipe_parser,
)
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.targets.ctc_transcripts import encoder_biass
from lithophone.train.targets.losses import Loss
from lithophone.train.targets.prompt_reply import Said, TaskMix, draw_request, make_pair, reply_loss

ERROR = "error"


class FineTuneTask(nn.Module):
    """The whole model; a part that is held still stays in evaluation mode."""

    def __init__(self, checkpoint: Checkpoint, mix: TaskMix, keywords: Mapping[str, KeywordLists]) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer
        self.config: ModelConfig = self.model.config
        self.foreign_penalty, self.language_ids = checkpoint.foreign_penalty, checkpoint.language_ids
        self.mix = mix
        self.keywords = keywords

    def train(self, mode: bool = True) -> FineTuneTask:
        super().train(mode)
        for part in self.model.children():
            part.train(mode and learns(part))
        return self

    def hear(self, frames: Tensor, lengths: Tensor, languages: Sequence[str | None]) -> tuple[Tensor, Tensor]:
        """Frames (B, T, 160), lengths (B,) and languages that the encoder is told -> audio embeddings, their counts."""
        weight = self.model.projector.linear.weight
        language = language_bias(languages, self.foreign_penalty, self.language_ids)
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns(self.model.encoder)):
            encoded = self.model.encode(frames.to(weight.device, weight.dtype), lengths.to(weight.device), language)
        return self.model.project(encoded)

    def languages_told(self, batch: Batch, rng: np.random.Generator) -> list[str | None]:
        """The languages that the encoder is told in training; none where it would not heed them."""
        if not (self.foreign_penalty or self.language_ids):
            return [None] * len(batch.langs)
        return encoder_biass(batch.texts, batch.langs, rng)

    def losses(self, batch: Batch) -> Mapping[str, Loss]:
        rng = seeded(0, "tasks", int(torch.initial_seed()) % 2**31)
        audio, counts = self.hear(batch.frames, batch.lengths, self.languages_told(batch, rng))
        said = [Said(*known) for known in zip(batch.texts, batch.langs, batch.translations, strict=True)]
        pairs = [
            make_pair(draw_request(one, self.mix, rng, self.keywords), self.tokenizer, self.config.variant, count)
            for one, count in zip(said, counts.tolist(), strict=True)
        ]
        rows = self.model.embed([pair.prompt + pair.reply[:-1] for pair in pairs], audio, counts)
        return {"reply": reply_loss(self.model.language_model, rows, pairs)}


class DevClips:
    """All clips of a manifest, through the whole model, greedily: one error rate, words and characters by language."""

    def __init__(self, manifest: Path, cache: Path, punctuate: bool) -> None:
        corpus = Corpus(read_entries(manifest), cache)
        clips = [
            DevClip(log_mel_frames(torch.from_numpy(corpus.samples(clip))), clip.text, clip.lang)
            for clip in corpus.clips
        ]
        self.clips = sorted(clips, key=lambda clip: len(clip.frames))
        self.task = Transcribe(punctuate=punctuate)

    def evaluate(self, task: FineTuneTask) -> dict[str, float]:
        total = ErrorCounts()
        for start in range(0, len(self.clips), 8):
            some = self.clips[start : start + 8]
            for clip, reply in zip(some, self._replies(task, some), strict=True):
                total += score([(clip.text, reply)], clip.lang)
        return {ERROR: total.rate}

    def _replies(self, task: FineTuneTask, clips: Sequence[DevClip]) -> list[str]:
        audio, counts = task.hear(*batch_frames([clip.frames for clip in clips]), [clip.lang for clip in clips])
        sizes = counts.tolist()
        prompts = [build_prompt(self.task, task.tokenizer, task.config.variant, n) for n in sizes]
        replies = decode_batch(task.model, task.model.embed(prompts, audio, counts), Greedy(), sizes)
        return [task.tokenizer.decode(reply.ids) for reply in replies]


def read_model(name: str) -> Checkpoint:
    """Raises OptionError for a model that edits: it has no prompts and learns otherwise."""
    checkpoint = load_checkpoint(resolve(name))
    if checkpoint.config.model_type == "granite_speech_nar":
        raise OptionError(f"{name} is a nar model: it goes on training with `recipes/nar.py --init {name}`")
    return checkpoint


def suited(mix: TaskMix, config: ModelConfig) -> TaskMix:
    """Plus models neither punctuate nor translate."""
    plus = config.model_type == "granite_speech_plus"
    return dataclasses.replace(mix, punctuated=0.0, translate=0.0) if plus else mix


def trained_state(trainer: Trainer[Batch]) -> dict[str, Tensor]:
    """What the run changes, averaged, by the checkpoint's names."""
    known = trainer.averaged_state()
    return {name.removeprefix("model."): known[name] for name in trainer.exact}


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--model", required=True, help="the model to begin with, by name or folder")
    add_data_arguments(parser, batch_seconds=60.0)
    parser.add_argument("--mix", nargs="*", default=[], help=TaskMix.SYNTAX)
    parser.add_argument("--parts", nargs="+", default=["projector", "lora"], help=SYNTAX)
    parser.add_argument("--lora-rank", type=int, default=LoraConfig.rank)
    parser.add_argument("--lora-alpha", type=float, default=LoraConfig.alpha)
    parser.add_argument("--lora-targets", nargs="+", default=LoraConfig.targets, help="names of linear layers")
    add_run_arguments(parser, steps=1000, lr=3e-4, seed=5)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--cooldown", type=int, default=300)
    parser.add_argument("--patience", type=int, default=5, help="looks at the dev clips without a gain, then it stops")
    parser.add_argument("--merge", action="store_true", help="write the whole model too")
    args = parser.parse_args(argv)

    parts = Parts.parse(args.parts)
    lora = LoraConfig(args.lora_rank, args.lora_alpha, targets=tuple(args.lora_targets))
    ranks = begin(args)
    checkpoint = read_model(args.model)
    lora = open_parts(checkpoint.model, parts, lora)
    data = Data.read(args, ranks)
    mix = suited(TaskMix.parse(args.mix), checkpoint.model.config)
    task = FineTuneTask(checkpoint, mix, keyword_lists(data.parts))
    count = sum(p.numel() for p in task.parameters() if p.requires_grad)
    print(f"{count / 1e6:.2f} of {sum(p.numel() for p in task.parameters()) / 1e6:.2f} M parameters learn", flush=True)
    trainer = Trainer(task, task.losses, {"reply": 1.0}, loop_options(
        args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks
    ))  # fmt: skip
    dev = DevClips(args.dev, args.cache, punctuate=mix.punctuated > mix.raw)
    best = Best(args.out)

    def evaluate() -> dict[str, float]:
        values = dev.evaluate(task)
        if ranks.leads:
            best.offer(values[ERROR], trainer.step, trained_state(trainer))
        return values

    if not trainer.resume():
        trainer.record(trainer.with_average(evaluate), "dev")
    batches = data.batches(HARDER, trainer.batches_seen, ranks)
    trainer.run(batches, evaluate, Patience(args.patience, ERROR))
    if ranks.leads:
        finish(args.out, read_model(args.model) if args.merge else None, lora)


def finish(folder: Path, source: Checkpoint | None, lora: LoraConfig) -> None:
    """Write the best weights as an adapter, and merged into `source`; say what was won."""
    error, step, state = Best(folder).read()
    write_parts(state, lora, folder / "adapter")
    if source is not None:
        save_checkpoint(merge_parts(source, state, lora), folder / "model", dtype=torch.bfloat16)
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    before = next(row[ERROR] for row in rows if ERROR in row)
    report = {"before": before, "after": error, "step": step}
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"error on the dev clips: {100 * before:.1f} % before, {100 * error:.1f} % after {step} steps", flush=True)


if __name__ == "__main__":
    main()
