"""What an encoder is told of the language that is spoken, though no prompt of the family reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lithophone.labels import LANGUAGE_MARKS, N_LABELS, foreign_labels


@dataclass(frozen=True)
class Told:
    """For all rows of a batch, (labels,), or for each, (B, 1, labels)."""

    penalty: Tensor
    """Nats off the character logits of both blocks that spell."""
    mark: Tensor | None = None
    """Added to the probabilities that the middle block feeds back: a label that no text has, one for each language."""


def told(languages: Sequence[str | None], nats: float, marked: bool) -> Told | None:
    """The languages of B rows, None where it is not told: `nats` off foreign letters, and a mark where models know it.

    None where nothing is told at all.
    """
    if not any(languages) or not (nats or marked):
        return None
    penalty, mark = torch.zeros(2, len(languages), 1, N_LABELS)
    for row, lang in enumerate(languages):
        if lang is not None:
            penalty[row, 0, foreign_labels(lang)] = nats
        if lang in LANGUAGE_MARKS:
            mark[row, 0, LANGUAGE_MARKS[lang]] = 1.0
    return Told(penalty, mark if marked else None)
