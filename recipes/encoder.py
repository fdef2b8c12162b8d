"""Stage 1: the conformer encoder with both CTC heads, with an optional regression to a teacher's states.

    lithophone train encoder --data speech/train.jsonl:en:1:teacher/train-en --data speech/train.jsonl:fr+de \\
        --dev speech/dev.jsonl --dev-langs en fr de --tokenizer runs/tokenizer --out runs/encoder

Loss = 0.8 CTC(characters, last layer) + 0.2 CTC(characters, middle layer) (the paper's weights) + 0.3 CTC(BPE, pooled)
+ 5 distance to the teacher's states. Targets are raw text, Japanese as kana. A share of training rows, and all dev
clips, are conditioned on their language. A row's corpus is drawn by weight * hours ** alpha. `OUT/data.json` lists used
and dropped clips. A run resumes from its last checkpoint; `--steps` may have grown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lithophone.text.tokenizer import Tokenizer
from lithophone.train.ctc_dev_set import CTCDevSet
from lithophone.train.data.augment import Augment
from lithophone.train.data.batches import SpeechBatch
from lithophone.train.encoder_task import (
    CTC_WEIGHTS,
    TINY,
    EncoderTask,
    ctc_losses,
    save_weights,
    task_from,
    training_bias,
)
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
from lithophone.train.targets.losses import Loss, regression

WEIGHTS = CTC_WEIGHTS | {"teacher": 5.0}


def encoder_losses(task: EncoderTask, tokenizer: Tokenizer) -> Callable[[SpeechBatch, int], Mapping[str, Loss]]:
    def losses(batch: SpeechBatch, step: int) -> Mapping[str, Loss]:
        frames = batch.frames.to(task.to_teacher.weight.dtype)
        output = task.encoder(frames, batch.lengths, training_bias(batch, step))
        found = ctc_losses(task, tokenizer, output, batch)
        if batch.teacher is not None and batch.teacher_valid is not None:
            found["teacher"] = regression(task.to_teacher(output.last), batch.teacher, batch.teacher_valid)
        return found

    return losses


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    add_data_arguments(parser, batch_seconds=40.0, row_frames=(200, 400, 600))
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument(
        "--init", help="start from the encoder of a model, by name or folder, or of a run: lithophone-tiny"
    )
    add_run_arguments(parser, steps=6000, lr=1.5e-3, seed=1)
    parser.add_argument("--warmup", type=int, default=300, help="steps over which the learning rate rises")
    parser.add_argument("--cooldown", type=int, default=1500, help="last steps, over which the learning rate falls")
    args = parser.parse_args(argv)

    ranks = begin(args)
    data = Data.read(args, ranks)
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    teacher_size = next((part.teacher.size for part in data.parts if part.teacher), 0)
    if args.init:
        task = task_from(args.init, tokenizer, teacher_size)
    else:
        task = EncoderTask(TINY, len(tokenizer), teacher_size)
    options = loop_options(args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks)
    trainer = Trainer(task, encoder_losses(task, tokenizer), WEIGHTS, options)
    trainer.resume()
    dev = CTCDevSet(args.dev, args.dev_langs, args.dev_clips, tokenizer, args.cache)
    print(f"{sum(p.numel() for p in task.encoder.parameters()) / 1e6:.2f} M parameters in the encoder", flush=True)
    trainer.run(data.batches(Augment(), trainer.batches_seen, ranks), lambda: dev.evaluate(task))
    state = trainer.averaged_state()
    if ranks.leads:
        save_weights(state, task.encoder.config, args.out)


if __name__ == "__main__":
    main()
