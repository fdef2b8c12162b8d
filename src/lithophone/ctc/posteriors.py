"""Frame posteriors of a CTC head for a batch, computed on first use and shared by all that read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import torch
from torch import Tensor

from lithophone.ctc.forced_alignment import BLANK, CTCPath, best_path


class CTCPosteriors(Sequence["Posteriors"]):
    """Logits (B, T, V) and lengths (B,) of a CTC head: a sequence of B `Posteriors`."""

    def __init__(self, logits: Tensor, lengths: Tensor, blank: int = BLANK) -> None:
        assert logits.dim() == 3, "logits (B, T, V)"
        assert len(logits) == len(lengths), "a length for every row"
        self.logits, self.lengths, self.blank = logits, lengths, blank

    def __len__(self) -> int:
        return len(self.logits)

    @overload
    def __getitem__(self, row: int) -> Posteriors: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Posteriors]: ...
    def __getitem__(self, row: int | slice) -> Posteriors | Sequence[Posteriors]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        return Posteriors(self, row % len(self))

    def __iter__(self) -> Iterator[Posteriors]:
        return (Posteriors(self, row) for row in range(len(self)))

    @cached_property
    def frames(self) -> list[int]:
        counts: list[int] = self.lengths.tolist()
        return counts

    @cached_property
    def paths(self) -> list[CTCPath]:
        """Collapsed best paths; row by row, to save memory."""
        return [best_path(row[:n], self.blank) for row, n in zip(self.logits, self.frames, strict=True)]

    @cached_property
    def log_probs(self) -> Tensor:
        """Log posteriors (B, T, V), float64 on the CPU: prefix scores are differences of sums."""
        return self.logits.detach().to("cpu", torch.float64).log_softmax(-1)


@dataclass(frozen=True, eq=False)
class Posteriors:
    """One utterance of a batch."""

    batch: CTCPosteriors
    row: int

    @property
    def frames(self) -> int:
        return self.batch.frames[self.row]

    @property
    def path(self) -> CTCPath:
        """Collapsed best path, with log probabilities."""
        return self.batch.paths[self.row]

    @property
    def labels(self) -> list[int]:
        return [label for label, _ in self.path]

    @property
    def log_probs(self) -> Tensor:
        """Log posteriors (T, V), float64 on the CPU, without padding."""
        return self.batch.log_probs[self.row, : self.frames]
