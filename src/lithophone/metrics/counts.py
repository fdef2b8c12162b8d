"""Counts that add: a corpus is the sum of its utterances, and a rate is computed once, from the sums."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from lithophone.metrics.alignment import Op, Step


@dataclass(frozen=True)
class ErrorCounts:
    """Hits, substitutions, deletions and insertions of an alignment at unit cost."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def reference_length(self) -> int:
        """Tokens of the reference: N in (S + D + I) / N."""
        return self.hits + self.substitutions + self.deletions

    @property
    def rate(self) -> float:
        """(S + D + I) / N: 0 is perfect, above 1 is possible; infinite for insertions into an empty reference."""
        if self.reference_length == 0:
            return math.inf if self.insertions else 0.0
        return self.errors / self.reference_length


@dataclass(frozen=True)
class F1Counts:
    """What was found rightly (tp), found wrongly (fp) and missed (fn). A share of nothing, 0 / 0, is nan."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: F1Counts) -> F1Counts:
        return F1Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Share of what was found that is right; nan where nothing was found."""
        return _share(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float:
        """Share of what was to be found that was found; nan where there was nothing to find."""
        return _share(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> float:
        """2 tp / (2 tp + fp + fn); nan where there was nothing to find and nothing was found."""
        return _share(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Align two token sequences at the smallest Levenshtein distance and count what happened."""
    steps = [step.tag for step in Levenshtein.editops(reference, hypothesis)]
    substitutions, deletions, insertions = (steps.count(tag) for tag in ("replace", "delete", "insert"))
    return ErrorCounts(len(reference) - substitutions - deletions, substitutions, deletions, insertions)


def count_steps(steps: Iterable[Step]) -> ErrorCounts:
    """Count the steps of an alignment that is there already; those of `align` give what `count_errors` gives."""
    count = Counter(step.op for step in steps)
    return ErrorCounts(count[Op.HIT], count[Op.SUBSTITUTE], count[Op.DELETE], count[Op.INSERT])
