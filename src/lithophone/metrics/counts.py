"""Counts that add: a rate is computed once, from the sums over a corpus."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from rapidfuzz.distance import Levenshtein

from lithophone.metrics.alignment import Op, Step

C = TypeVar("C", bound="Counts")


@dataclass(frozen=True)
class Counts:
    """Base of all counts, added field by field."""

    def __add__(self: C, other: C) -> C:
        kind: Any = type(self)
        total: C = kind(*(getattr(self, name) + getattr(other, name) for name in _field_names(kind)))
        return total


@functools.cache
def _field_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@dataclass(frozen=True)
class ErrorCounts(Counts):
    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """N in (S + D + I) / N."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """(S + D + I) / N: may exceed 1; infinite for insertions into an empty reference."""
        if self.reference_length == 0:
            return math.inf if self.insertions else 0.0
        return self.errors / self.reference_length


@dataclass(frozen=True)
class F1Counts(Counts):
    """True positives, false positives, false negatives; 0 / 0 is nan."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def precision(self) -> float:
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        return _share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Errors of two token sequences at the smallest Levenshtein distance."""
    steps = [step.tag for step in Levenshtein.editops(reference, hypothesis)]
    substitutions, deletions, insertions = (steps.count(tag) for tag in ("replace", "delete", "insert"))
    return ErrorCounts(len(reference) - substitutions - deletions, substitutions, deletions, insertions)


def count_steps(steps: Iterable[Step]) -> ErrorCounts:
    """Errors of a given alignment."""
    count = Counter(step.op for step in steps)
    return ErrorCounts(count[Op.HIT], count[Op.SUBSTITUTE], count[Op.DELETE], count[Op.INSERT])
