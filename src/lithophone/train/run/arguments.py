"""Command-line options shared by recipes: data, starting weights, schedule, device, precision."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset

from lithophone.audio.features import FRAME_S
from lithophone.files import check_writable
from lithophone.runtime import PRECISIONS, training_dtype
from lithophone.train.data.augment import Augment
from lithophone.train.data.batches import MixtureOptions, SpeechBatch, SpeechMixture
from lithophone.train.data.corpora import ALPHA, CACHE, DATA_SYNTAX, CorpusPart, as_sources, data_report, read_parts
from lithophone.train.run.distributed import Ranks, join_ranks
from lithophone.train.run.loop import AnyBatch, LoopOptions
from lithophone.train.run.optim import LearningRate

ROW_FRAMES = (200, 400, 600, 1000, 1450)
"""Up to 29 s: behind longer audio than it was trained on a language model does not end its reply."""
LONGEST_S = 30.0


class RecipeHelp(argparse.RawDescriptionHelpFormatter):
    """The description as it is written, and the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        has_default = action.default not in (None, False, argparse.SUPPRESS)
        return (action.help or "") + " (default: %(default)s)" * has_default


def recipe_parser(description: str | None) -> argparse.ArgumentParser:
    """Parser whose help begins with the recipe's docstring, unformatted."""
    path = Path(sys.argv[0])
    name = f"lithophone train {path.stem}" if path.parent.name == "recipes" else None
    return argparse.ArgumentParser(name, description=description, formatter_class=RecipeHelp)


def add_run_arguments(
    parser: argparse.ArgumentParser, *, steps: int, lr: float, seed: int, save_every: int = LoopOptions.save_every
) -> None:
    """Options of the run, except the shape of the learning-rate schedule."""
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints, log and results")
    parser.add_argument("--steps", type=int, default=steps, help="optimiser steps")
    parser.add_argument("--lr", type=float, default=lr, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=seed, help="seed of the random numbers")
    parser.add_argument("--workers", type=int, default=1, help="loader processes; 0: batches are made between steps")
    parser.add_argument("--accumulate", type=int, default=LoopOptions.accumulate, help="batches per step")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", help="cpu, cuda, cuda:1, ..."
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="dtype of computation (default: bfloat16, but float32 on CPUs without AVX-512)",
    )
    parser.add_argument("--shard", action="store_true", help="shard weights and optimiser state over ranks (FSDP2)")
    parser.add_argument(
        "--gradient-checkpointing", action="store_true", help="recompute activations in the backward pass"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write TensorBoard event files")
    parser.add_argument("--log-every", type=int, default=LoopOptions.log_every, help="steps between lines of the log")
    parser.add_argument("--save-every", type=int, default=save_every, help="steps between checkpoints")
    parser.add_argument(
        "--evaluate-every", type=int, default=LoopOptions.evaluate_every, help="steps between evaluations"
    )


def add_data_arguments(
    parser: argparse.ArgumentParser,
    *,
    batch_seconds: float,
    row_frames: Sequence[int] = ROW_FRAMES,
    alpha: float = ALPHA,
    longest_s: float = LONGEST_S,
    dev: bool = True,
) -> None:
    """Options of `Data`; with `dev`, of development clips too."""
    parser.add_argument("--data", action="append", required=True, help=f"training data: {DATA_SYNTAX}")
    parser.add_argument("--alpha", type=float, default=alpha, help="corpora are sampled by weight * hours ** alpha")
    parser.add_argument("--longest-s", type=float, default=longest_s, help="longer clips are dropped")
    parser.add_argument("--batch-seconds", type=float, default=batch_seconds, help="seconds of audio per batch")
    parser.add_argument("--row-frames", type=int, nargs="+", default=tuple(row_frames), help="row lengths in 20 ms")
    parser.add_argument("--plain", action="store_true", help="no augmentation")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for decoded samples")
    if dev:
        parser.add_argument("--dev", type=Path, required=True, help="manifest of development clips")
        parser.add_argument("--dev-langs", nargs="+", default=["en"], help="languages of the development clips")
        parser.add_argument("--dev-clips", type=int, default=60, help="development clips per corpus and language")


def begin(args: argparse.Namespace) -> Ranks:
    """Join the process group, and seed PyTorch with `--seed`. Raises OptionError where `--out` cannot be written."""
    check_writable(args.out / "log.jsonl", "--out")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(args.seed)
    return join_ranks(args.device)


def loop_options(args: argparse.Namespace, schedule: LearningRate, ranks: Ranks) -> LoopOptions:
    return LoopOptions(
        schedule=schedule,
        folder=args.out,
        device=ranks.device,
        leads=ranks.leads,
        precision=training_dtype(args.precision, torch.device(ranks.device)),
        log_every=args.log_every,
        save_every=args.save_every,
        evaluate_every=args.evaluate_every,
        accumulate=args.accumulate,
        shard=args.shard,
        gradient_checkpointing=args.gradient_checkpointing,
        tensorboard=args.tensorboard,
    )


@dataclass(frozen=True)
class Data:
    """Corpora of `--data`, and how they are batched."""

    parts: tuple[CorpusPart, ...]
    alpha: float
    seconds: float
    row_frames: tuple[int, ...]
    plain: bool
    seed: int
    workers: int

    @classmethod
    def read(cls, args: argparse.Namespace, ranks: Ranks, longest_s: float | None = None) -> Data:
        """Decode new clips; the first rank writes `OUT/data.json`, the used and dropped clips.

        `longest_s`: the model's own limit on a clip, beside `--longest-s`.
        """
        limit = min(args.longest_s, args.longest_s if longest_s is None else longest_s)
        parts = [part for text in args.data for part in read_parts(text, limit, args.cache)]
        report = data_report(parts, args.alpha, max(args.row_frames) * FRAME_S)
        if ranks.leads:
            print(*report, sep="\n", flush=True)
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "data.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        frames = tuple(args.row_frames)
        return cls(tuple(parts), args.alpha, args.batch_seconds, frames, args.plain, args.seed, args.workers)

    def mixture_options(self, augment: Augment, start: int, ranks: Ranks) -> MixtureOptions:
        """Batches from number `start` on; `augment` unless `--plain`."""
        chosen = Augment.none() if self.plain else augment
        return MixtureOptions(self.seconds, self.row_frames, chosen, self.seed, start, ranks.rank, ranks.world)

    def batches(self, augment: Augment, start: int, ranks: Ranks) -> DataLoader[SpeechBatch]:
        """Endless speech batches from number `start` on."""
        sources = as_sources(self.parts, self.alpha)
        return loader(SpeechMixture(sources, self.mixture_options(augment, start, ranks)), self.workers)


def loader(batches: IterableDataset[AnyBatch], workers: int) -> DataLoader[AnyBatch]:
    """Batches made ahead by `workers` processes; 0: between steps."""
    return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None)


def add_init_arguments(parser: argparse.ArgumentParser) -> None:
    """Starting weights: a trained model, or the parts of stages 1 and 2a."""
    parser.add_argument("--init", help="start from a trained model, by name or folder: lithophone-tiny")
    parser.add_argument("--encoder", type=Path, help="or from parts: the folder of stage 1,")
    parser.add_argument("--language-model", type=Path, help="the folder of stage 2a,")
    parser.add_argument("--tokenizer", type=Path, help="and the tokenizer of both")


def check_init_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Exit with status 2 unless given either a model or all three parts."""
    parts = [args.encoder, args.language_model, args.tokenizer]
    if any(parts) if args.init else not all(parts):
        parser.error("give either --init, or all of --encoder, --language-model and --tokenizer")
