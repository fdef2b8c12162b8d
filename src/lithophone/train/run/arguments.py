"""What every recipe is asked on its command line, once: the data, the length of the run, where and how it computes."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader, IterableDataset

from lithophone.audio.features import FRAME_S
from lithophone.train.data.augment import Augment
from lithophone.train.data.batches import Batch, Mixture
from lithophone.train.data.corpora import ALPHA, CACHE, DATA_SYNTAX, Part, as_sources, data_report, read_parts
from lithophone.train.run.distributed import Ranks, join_ranks
from lithophone.train.run.loop import AnyBatch, LoopOptions
from lithophone.train.run.optim import LearningRate

ROW_FRAMES = (200, 400, 600, 800)
LONGEST_S = 30.0


def recipe_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a recipe's docstring as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_run_arguments(
    parser: argparse.ArgumentParser, *, steps: int, lr: float, seed: int, save_every: int = LoopOptions.save_every
) -> None:
    """How long, how fast, where and how: all but the shape of the schedule, which is the recipe's."""
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints, log and what is made")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--lr", type=float, default=lr, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--workers", type=int, default=1, help="processes that make batches; 0: made between steps")
    parser.add_argument("--accumulate", type=int, default=LoopOptions.accumulate, help="batches that make one step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--fp32", action="store_true", help="compute in float32 instead of bfloat16")
    parser.add_argument("--shard", action="store_true", help="every rank of torchrun holds a slice (FSDP2)")
    parser.add_argument(
        "--gradient-checkpointing", action="store_true", help="layers compute again what they would otherwise keep"
    )
    parser.add_argument("--tensorboard", action="store_true", help="write event files beside the log")
    parser.add_argument("--log-every", type=int, default=LoopOptions.log_every)
    parser.add_argument("--save-every", type=int, default=save_every)
    parser.add_argument("--evaluate-every", type=int, default=LoopOptions.evaluate_every)


def add_data_arguments(
    parser: argparse.ArgumentParser,
    *,
    batch_seconds: float,
    row_frames: Sequence[int] = ROW_FRAMES,
    alpha: float = ALPHA,
    longest_s: float = LONGEST_S,
) -> None:
    """Which clips are trained on and measured, and how they become batches."""
    parser.add_argument("--data", action="append", required=True, help=DATA_SYNTAX)
    parser.add_argument("--alpha", type=float, default=alpha, help="corpora are sampled with weight * hours ** alpha")
    parser.add_argument("--longest-s", type=float, default=longest_s, help="longer clips are dropped")
    parser.add_argument("--batch-seconds", type=float, default=batch_seconds, help="of audio in a batch")
    parser.add_argument("--row-frames", type=int, nargs="+", default=tuple(row_frames), help="row lengths, in 20 ms")
    parser.add_argument("--plain", action="store_true", help="no augmentation")
    parser.add_argument("--dev", type=Path, required=True, help="manifest of clips to measure by")
    parser.add_argument("--dev-langs", nargs="+", default=["en"])
    parser.add_argument("--dev-clips", type=int, default=60, help="of each corpus and language")
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of decoded samples")


def begin(args: argparse.Namespace) -> Ranks:
    """Join the other processes of the run; from here on what is drawn depends on `--seed` alone."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(args.seed)
    return join_ranks(args.device)


def loop_options(args: argparse.Namespace, schedule: LearningRate, ranks: Ranks) -> LoopOptions:
    return LoopOptions(
        schedule=schedule,
        folder=args.out,
        device=ranks.device,
        leads=ranks.leads,
        precision=torch.float32 if args.fp32 else torch.bfloat16,
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
    """The corpora of `--data`, and how rows are made of them."""

    parts: tuple[Part, ...]
    args: argparse.Namespace

    @classmethod
    def read(cls, args: argparse.Namespace, ranks: Ranks, longest_s: float | None = None) -> Data:
        """Decode what has not been decoded yet; the first rank writes `OUT/data.json`: what is used, what is dropped.

        `longest_s` is a limit of the model's own, beside that of `--longest-s`.
        """
        limit = min(args.longest_s, args.longest_s if longest_s is None else longest_s)
        parts = [part for text in args.data for part in read_parts(text, limit, args.cache)]
        report = data_report(parts, args.alpha, max(args.row_frames) * FRAME_S)
        if ranks.leads:
            print(*report, sep="\n", flush=True)
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / "data.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        return cls(tuple(parts), args)

    def batches(self, augment: Augment, start: int, ranks: Ranks) -> DataLoader[Batch]:
        """Endless batches from number `start` on; `augment` unless `--plain`."""
        mixture = Mixture(
            as_sources(self.parts, self.args.alpha),
            seconds=self.args.batch_seconds,
            row_frames=self.args.row_frames,
            augment=Augment.none() if self.args.plain else augment,
            seed=self.args.seed,
            start=start,
            rank=ranks.rank,
            world=ranks.world,
        )
        return loader(mixture, self.args.workers)


def loader(batches: IterableDataset[AnyBatch], workers: int) -> DataLoader[AnyBatch]:
    """Batches as they are, made by `workers` processes ahead of time."""
    return DataLoader(batches, batch_size=None, num_workers=workers, prefetch_factor=8 if workers else None)
