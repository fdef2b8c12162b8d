"""Error counts that add: a corpus is the sum of its utterances, and a rate is computed once, from the sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


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


def count_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorCounts:
    """Align two token sequences at the smallest Levenshtein distance and count what happened."""
    steps = [step.tag for step in Levenshtein.editops(reference, hypothesis)]
    substitutions, deletions, insertions = (steps.count(tag) for tag in ("replace", "delete", "insert"))
    return ErrorCounts(len(reference) - substitutions - deletions, substitutions, deletions, insertions)
