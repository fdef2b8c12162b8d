"""A tiny encoder and language model that share two losses, trained the same way by one process and by several."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lithophone.model.config import EncoderConfig, TextConfig
from lithophone.model.conformer import Conformer
from lithophone.model.granite import GraniteForCausalLM
from lithophone.train.run.distributed import Ranks, join_ranks
from lithophone.train.run.loop import LoopOptions, Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.targets.losses import Loss, ctc, next_token

ENCODER = EncoderConfig(
    input_dim=6, hidden_dim=16, num_layers=2, num_heads=2, dim_head=8, feedforward_mult=2, conv_kernel_size=3,
    context_size=8, max_pos_emb=16, output_dim=5, dropout=0.0,
)  # fmt: skip
TEXT = TextConfig(
    vocab_size=11, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, embedding_multiplier=1.0, attention_multiplier=0.3, residual_multiplier=0.5,
    logits_scaling=1.0, tie_word_embeddings=True, bos_token_id=1, eos_token_id=1, pad_token_id=0,
)  # fmt: skip
ROWS = 8
FRAMES = 12


@dataclass(frozen=True)
class Heard:
    """Frames (B, 12, 6) with their lengths (B,), character labels of every row, and a token (B, 12) for every frame."""

    frames: Tensor
    lengths: Tensor
    labels: list[list[int]]
    tokens: Tensor

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / 50

    def to(self, device: torch.device | str) -> Heard:
        return self

    def without_labels(self, rows: int) -> Heard:
        """Of the first so many rows."""
        return replace(self, labels=[[] for _ in range(rows)] + self.labels[rows:])

    def rows(self, start: int, end: int) -> Heard:
        return Heard(self.frames[start:end], self.lengths[start:end], self.labels[start:end], self.tokens[start:end])


class Listener(nn.Module):
    """Characters from the encoder's states, tokens from the language model that reads them.

    With `statistics` batch normalisation learns from its batch; without, rows do not know of each other. The encoder's
    first layer is held still.
    """

    def __init__(self, *, statistics: bool) -> None:
        super().__init__()
        self.statistics = statistics
        self.encoder = Conformer(ENCODER)
        self.language_model = GraniteForCausalLM(TEXT)
        self.encoder.input_linear.requires_grad_(False)
        self.encoder.layers[0].requires_grad_(False)

    def train(self, mode: bool = True) -> Listener:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm1d) and not self.statistics:
                module.eval()
        return self

    def losses(self, batch: Heard, step: int = 0) -> Mapping[str, Loss]:
        heard = self.encoder(batch.frames.to(self.encoder.out.weight.dtype), batch.lengths)
        read = self.language_model.logits(self.language_model(heard.states, lengths=batch.lengths))
        valid = torch.arange(FRAMES) < batch.lengths[:, None]
        losses = {"token": next_token(read[valid], batch.tokens[valid])}
        labelled = [i for i, row in enumerate(batch.labels) if row]
        if labelled:
            labels = [batch.labels[i] for i in labelled]
            losses["ctc"] = ctc(heard.logits[labelled], heard.lengths[labelled], labels)
        return losses


def counts(batch: Heard) -> Mapping[str, float]:
    return {"token": float(batch.lengths.sum()), "ctc": float(sum(len(row) for row in batch.labels))}


def heard(step: int) -> Heard:
    """The rows of a step: lengths and texts differ, so that a mean of means would be another mean."""
    generator = torch.Generator().manual_seed(step)
    lengths = torch.tensor([12, 7, 12, 9, 4, 12, 5, 10])
    labels = [[1 + (i + step) % 4, 1 + (i + step + 1) % 4][: 1 + i % 2] for i in range(ROWS)]
    tokens = torch.randint(0, TEXT.vocab_size, (ROWS, FRAMES), generator=generator)
    return Heard(torch.randn(ROWS, FRAMES, ENCODER.input_dim, generator=generator), lengths, labels, tokens)


def make_trainer(
    folder: Path, leads: bool = True, *, seed: int = 0, statistics: bool = False, told: bool = False, **options: Any
) -> Trainer[Heard]:
    """Weights that train start from `seed`, those held still are always the same."""
    torch.manual_seed(0)
    fixed = {n: p for n, p in Listener(statistics=statistics).named_parameters() if not p.requires_grad}
    torch.manual_seed(seed)
    model = Listener(statistics=statistics)
    model.load_state_dict(fixed, strict=False)
    chosen = replace(LoopOptions(Schedule(1e-3, 6, 1, 1), folder, leads=leads), **options)
    return Trainer(model, model.losses, {"token": 1.0, "ctc": 0.3}, chosen, counts if told else None)


def parts(batch: Heard, rank: int, world: int, accumulate: int) -> list[Heard]:
    """This rank's share in so many batches. Of two ranks the first has three rows, the second five."""
    start, end = (0, ROWS) if world == 1 else (0, 3) if rank == 0 else (3, ROWS)
    edges = torch.linspace(start, end, accumulate + 1).round().int().tolist()
    return [batch.rows(a, b) for a, b in itertools.pairwise(edges)]


def take_steps(trainer: Trainer[Heard], ranks: Ranks, steps: int, without_labels: int = 0) -> list[dict[str, float]]:
    """The losses of so many steps, and each gradient's norm. So many rows have no labels."""
    told = []
    for _ in range(steps):
        batch = heard(trainer.step).without_labels(without_labels)
        norm, means = trainer.train_step(*parts(batch, ranks.rank, ranks.world, trainer.options.accumulate))
        told.append({**means, "norm": norm})
    return told


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate": 2, "told": True},
    "sharded": {"shard": True, "accumulate": 2},
    "statistics": {"statistics": True},
    "sharded_statistics": {"statistics": True, "shard": True, "gradient_checkpointing": True},
    "bfloat16": {"precision": torch.bfloat16, "statistics": True},
    "sharded_bfloat16": {"precision": torch.bfloat16, "statistics": True, "shard": True},
}

WITHOUT_LABELS = {"first_rank": 3, "both_ranks": ROWS}
"""Rows without labels, so that a rank or both have no CTC loss."""


def run_all_cases(folder: Path) -> None:
    """Every case for three steps by this rank, with losses, averages and checkpoint in a folder of its own.

    FOLDER/from_one has to hold what one rank wrote in slices.
    """
    torch.set_num_threads(1)
    ranks = join_ranks("cpu")
    for name, options in CASES.items():
        # Unequal starts: rank 0's has to win.
        trainer = make_trainer(folder / name, ranks.leads, seed=ranks.rank, **options)
        told = take_steps(trainer, ranks, 3)
        values = trainer.with_average(lambda trainer=trainer: evaluate(trainer))  # type: ignore[misc]
        told += take_steps(trainer, ranks, 1)
        trainer.save()
        state = trainer.averaged_state()
        if ranks.leads:
            result = {"told": told, "values": values, "average": state, "seconds": trainer.seconds_seen}
            torch.save(result, folder / name / "result.pt")
    for name, rows in WITHOUT_LABELS.items():
        trainer = make_trainer(folder / name, ranks.leads, seed=ranks.rank)
        told = take_steps(trainer, ranks, 4, rows)
        state = trainer.averaged_state()
        if ranks.leads:
            result = {"told": told, "average": state, "seconds": trainer.seconds_seen}
            torch.save(result, folder / name / "result.pt")
    resumed = make_trainer(folder / "from_one", ranks.leads, seed=5, shard=True)
    assert resumed.resume()
    told = take_steps(resumed, ranks, 2)
    state = resumed.averaged_state()
    early = make_trainer(folder / "stopped", ranks.leads, evaluate_every=2)
    early.run(
        (parts(heard(step), ranks.rank, ranks.world, 1)[0] for step in range(100)),
        lambda: {"rank": float(ranks.rank)},
        lambda values: values["rank"] == 1.0 or early.step == 4,
    )
    torch.save(early.step, folder / f"stopped_{ranks.rank}.pt")
    if ranks.leads:
        torch.save({"told": told, "average": state, "step": resumed.step}, folder / "from_one" / "result.pt")


def evaluate(trainer: Trainer[Heard]) -> dict[str, float]:
    """Two passes, as a decoder makes them."""
    assert isinstance(trainer.model, Listener)
    for _ in range(2):
        losses = trainer.model.losses(heard(99))
    return {name: loss.mean for name, loss in losses.items()}
