"""Fine-tuning: adapt a base or plus model to your domain; docs/finetune.md is the guide.

    lithophone train finetune --model lithophone-tiny --data train.jsonl --dev dev.jsonl --out runs/mine --merge

`--parts` are trained, all others frozen. Loss = cross-entropy of the reply. Dev clips are evaluated before the first
step and every `--evaluate-every` steps; the weights with the lowest error rate are kept, and the run stops after
`--patience` evaluations without a gain.

`OUT/adapter` has the adapters in the format of `peft`, and the other trained tensors; `OUT/model`, with `--merge`, the
complete model for `lithophone.load` and transformers; `OUT/report.json` the error rates before and after.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from lithophone.checkpoint import Checkpoint, save_checkpoint
from lithophone.data.manifest import read_entries
from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.wer import score
from lithophone.model.lora import LoraConfig
from lithophone.text.prompts import Transcribe
from lithophone.train.data.augment import STRONG
from lithophone.train.data.batches import SpeechBatch
from lithophone.train.data.clips import DecodedCorpus
from lithophone.train.data.keyword_lists import keyword_lists
from lithophone.train.dev_clips import dev_clips, in_batches
from lithophone.train.finetune import SYNTAX, Best, Patience, TrainableParts, make_trainable, merge_parts, write_parts
from lithophone.train.finetune_task import FineTuneTask, read_model, suited
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
from lithophone.train.targets.prompt_reply import TaskMix

ERROR = "error"


class DevSet:
    """One error rate over all clips of a manifest, from greedy replies: words or characters, by language."""

    def __init__(self, manifest: Path, cache: Path, punctuate: bool) -> None:
        self.clips = dev_clips(DecodedCorpus(read_entries(manifest), cache))
        self.task = Transcribe(punctuate=punctuate)

    def evaluate(self, task: FineTuneTask) -> dict[str, float]:
        total = ErrorCounts()
        for clips in in_batches(self.clips):
            for clip, reply in zip(clips, task.replies(clips, [self.task] * len(clips)), strict=True):
                total += score([(clip.text, reply)], clip.lang)
        return {ERROR: total.rate}


def trained_state(trainer: Trainer[SpeechBatch]) -> dict[str, Tensor]:
    """Averaged trained tensors by the checkpoint's names."""
    known = trainer.averaged_state()
    return {name.removeprefix("model."): known[name] for name in trainer.exact}


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--model", required=True, help="model to start from, by name or folder")
    add_data_arguments(parser, batch_seconds=60.0)
    parser.add_argument("--mix", nargs="*", default=[], help=TaskMix.SYNTAX)
    parser.add_argument("--parts", nargs="+", default=["projector", "lora"], help=SYNTAX)
    parser.add_argument("--lora-rank", type=int, default=LoraConfig.rank, help="rank of the LoRA matrices")
    parser.add_argument("--lora-alpha", type=float, default=LoraConfig.alpha, help="LoRA scale: alpha / rank")
    parser.add_argument("--lora-targets", nargs="+", default=LoraConfig.targets, help="names of linear layers")
    add_run_arguments(parser, steps=1000, lr=3e-4, seed=5)
    parser.add_argument("--warmup", type=int, default=50, help="steps over which the learning rate rises")
    parser.add_argument("--cooldown", type=int, default=300, help="last steps, over which the learning rate falls")
    parser.add_argument("--patience", type=int, default=5, help="evaluations without a gain before the run stops")
    parser.add_argument("--merge", action="store_true", help="write the whole model as well")
    args = parser.parse_args(argv)

    parts = TrainableParts.parse(args.parts)
    lora = LoraConfig(args.lora_rank, args.lora_alpha, targets=tuple(args.lora_targets))
    ranks = begin(args)
    checkpoint = read_model(args.model)
    lora = make_trainable(checkpoint.model, parts, lora)
    data = Data.read(args, ranks)
    mix = suited(TaskMix.parse(args.mix), checkpoint.model.config)
    task = FineTuneTask(checkpoint, mix, keyword_lists(data.parts))
    count = sum(p.numel() for p in task.parameters() if p.requires_grad)
    total = sum(p.numel() for p in task.parameters())
    print(f"{count / 1e6:.2f} of {total / 1e6:.2f} M parameters are trained", flush=True)
    trainer = Trainer(task, task.losses, {"reply": 1.0}, loop_options(
        args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks
    ))  # fmt: skip
    dev = DevSet(args.dev, args.cache, punctuate=mix.punctuated > mix.raw)
    best = Best(args.out)

    def evaluate() -> dict[str, float]:
        values = dev.evaluate(task)
        if ranks.leads:
            best.offer(values[ERROR], trainer.step, trained_state(trainer))
        return values

    if not trainer.resume():
        trainer.record(trainer.with_average(evaluate), "dev")
    batches = data.batches(STRONG, trainer.batches_seen, ranks)
    trainer.run(batches, evaluate, Patience(args.patience, ERROR))
    if ranks.leads:
        finish(args.out, read_model(args.model) if args.merge else None, lora)


def finish(folder: Path, source: Checkpoint | None, lora: LoraConfig) -> None:
    """Write the best weights as adapter, and merged into `source`; report error rates."""
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
