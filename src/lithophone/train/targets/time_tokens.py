"""Time tokens of plus models: perturbed histories, and a similarity loss of their embeddings.

A tag `[T:45]` is ordinary text. Granite's vocabulary has tokens for 0..999; small vocabularies write digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.errors import OptionError
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.targets.losses import Loss

NUMBERS = 1000
"""Times are centiseconds modulo this number."""

SPREAD_CS = 10.0
"""Standard deviation of the Gaussians of similarity and perturbation."""

_DIGITS = re.compile(r"(?<=\[T:)\d{1,3}(?=\])")

Number = tuple[int, ...]


@dataclass(frozen=True)
class TokenScale:
    """Tokens `ids` of the numbers `values`, whose target similarity is a Gaussian of deviation `spread`."""

    ids: tuple[int, ...]
    values: tuple[int, ...]
    spread: float


@dataclass(frozen=True)
class TimeTokens:
    """Token ids of numbers in tags: `numbers[n]` are the ids of n."""

    numbers: tuple[Number, ...]
    pieces: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TimeTokens:
        """Raises OptionError for a tokenizer that merges a tag's digits with its brackets."""
        tags = [tokenizer.encode(f" [T:{number}]") for number in range(NUMBERS)]
        found = [[tag[i:j] for i, j in _spans(tag, tokenizer.pieces)] for tag in tags]
        joined = next((number for number, spans in enumerate(found) if not spans), None)
        if joined is not None:
            raise OptionError(
                f"the tokenizer merges {joined} with the brackets of its tag: word times need another tokenizer"
            )
        return cls(tuple(tuple(spans[0]) for spans in found), tokenizer.pieces)

    @cached_property
    def values(self) -> Mapping[Number, int]:
        return {ids: number for number, ids in enumerate(self.numbers)}

    @cached_property
    def siblings(self) -> Mapping[Number, tuple[int, ...]]:
        """All but the last token of a number -> numbers with that prefix and one more token."""
        found: dict[Number, list[int]] = {}
        for number, ids in enumerate(self.numbers):
            found.setdefault(ids[:-1], []).append(number)
        return {start: tuple(numbers) for start, numbers in found.items()}

    @cached_property
    def scales(self) -> tuple[TokenScale, ...]:
        """Groups of comparable tokens: all numbers of one token each, else tokens of equally many digits."""
        if all(len(ids) == 1 for ids in self.numbers):
            return (TokenScale(tuple(ids[0] for ids in self.numbers), tuple(range(NUMBERS)), SPREAD_CS),)
        used = sorted({token for ids in self.numbers for token in ids})
        widths = sorted({len(self.pieces[token]) for token in used})
        return tuple(self._scale([t for t in used if len(self.pieces[t]) == width], width) for width in widths)

    def _scale(self, ids: list[int], width: int) -> TokenScale:
        """Single digits have a deviation of 1: SPREAD_CS would make all ten alike."""
        values = tuple(int(self.pieces[token]) for token in ids)
        return TokenScale(tuple(ids), values, SPREAD_CS if width > 1 else 1.0)

    def places(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """(start, end) of every number in a reply's ids."""
        return [(i, j) for i, j in _spans(ids, self.pieces) if tuple(ids[i:j]) in self.values]


def _spans(ids: Sequence[int], pieces: Sequence[str]) -> list[tuple[int, int]]:
    """(start, end) of tokens that hold exactly the digits of a tag; a character of a piece is a byte."""
    edges = np.cumsum([0, *(len(pieces[i]) for i in ids)])
    token_at = {int(edge): place for place, edge in enumerate(edges)}
    found = (match.span() for match in _DIGITS.finditer("".join(pieces[i] for i in ids)))
    return [(token_at[i], token_at[j]) for i, j in found if i in token_at and j in token_at]


@dataclass(frozen=True)
class Perturbation:
    """Share of perturbed times in a history (reduced teacher forcing), and deviation in centiseconds."""

    share: float = 0.3
    spread_cs: float = SPREAD_CS

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0 or self.spread_cs <= 0.0:
            raise OptionError(f"{self}: the share must be 0 to 1, the spread above 0")


def perturb_history(
    reply: Sequence[int], times: TimeTokens, perturbation: Perturbation, rng: np.random.Generator
) -> list[int]:
    """Reply as input tokens with some times replaced by near ones, of equal length; never a target.

    Only the last token of a number changes, so that every target continues a true prefix. Distances are modulo 1000.
    """
    perturbed = list(reply)
    for start, end in times.places(reply):
        if rng.random() < perturbation.share:
            perturbed[end - 1] = _near(tuple(reply[start:end]), times, perturbation.spread_cs, rng)
    return perturbed


def _near(number: Number, times: TimeTokens, spread_cs: float, rng: np.random.Generator) -> int:
    """Last token of another number, drawn by a Gaussian of the distance; unchanged if there is none."""
    value = times.values[number]
    others = np.array([n for n in times.siblings[number[:-1]] if n != value])
    if not len(others):
        return number[-1]
    distances = np.abs(others - value)
    distances = np.minimum(distances, NUMBERS - distances)
    exponents = -((distances / spread_cs) ** 2) / 2
    weights = np.exp(exponents - exponents.max())
    return times.numbers[int(rng.choice(others, p=weights / weights.sum()))][-1]


def similarity_loss(table: Tensor, scales: Sequence[TokenScale]) -> Loss:
    """Squared error of cosine similarity against exp(-(i - j)^2 / (2 spread^2)), per pair i < j of tokens.

    `table` (V, H): the language model's embeddings.
    """
    losses = [_scale_loss(table, scale) for scale in scales if len(scale.ids) > 1]
    return Loss(
        torch.stack([table.sum() * 0.0, *(loss.total for loss in losses)]).sum(), sum(loss.count for loss in losses)
    )


def _scale_loss(table: Tensor, scale: TokenScale) -> Loss:
    vectors = F.normalize(table[torch.tensor(scale.ids, device=table.device)].float(), dim=-1)
    values = torch.tensor(scale.values, device=table.device, dtype=torch.float32)
    wanted = torch.exp(-((values[:, None] - values) ** 2) / (2 * scale.spread**2))
    above = torch.ones_like(wanted, dtype=torch.bool).triu(1)
    return Loss((vectors @ vectors.T - wanted)[above].square().sum(), float(above.sum()))
