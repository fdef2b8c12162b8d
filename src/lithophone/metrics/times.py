"""Word timestamps: AAS, the mean absolute shift of word ends, and the share of malformed outputs.

The time tags hold word ends, so the card's AAS is of ends. `both_ms` averages starts and ends, as Shi et al. 2023
(arXiv 2301.12343).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lithophone.metrics.alignment import Op, align
from lithophone.metrics.counts import Counts
from lithophone.metrics.normalize import basic
from lithophone.transcript import Word


@dataclass(frozen=True)
class TimeErrors(Counts):
    """Matched words, sums of |t_hyp - t_ref| over them in seconds, outputs, and malformed outputs."""

    words: int = 0
    sum_s: float = 0.0
    """Of the ends."""
    outputs: int = 0
    malformed: int = 0
    start_sum_s: float = 0.0

    @property
    def aas_ms(self) -> float:
        """Mean |t_hyp - t_ref| of word ends, in milliseconds; nan without matched words."""
        return self._mean_ms(self.sum_s)

    @property
    def start_aas_ms(self) -> float:
        """The same of word starts."""
        return self._mean_ms(self.start_sum_s)

    @property
    def both_ms(self) -> float:
        return (self.aas_ms + self.start_aas_ms) / 2

    @property
    def malformed_share(self) -> float:
        """Share of all outputs; nan without outputs."""
        return self.malformed / self.outputs if self.outputs else math.nan

    def _mean_ms(self, sum_s: float) -> float:
        return 1000 * sum_s / self.words if self.words else math.nan


def time_errors(reference: Sequence[Word], hypothesis: Sequence[Word], malformed: bool = False) -> TimeErrors:
    """Time errors of the words of one output that match without case and punctuation.

    The output is malformed if `malformed`, or if a word has a negative or missing time, or ends before it starts; its
    words are not measured.
    """
    if malformed or not all(map(_is_possible, hypothesis)):
        return TimeErrors(outputs=1, malformed=1)
    ref, hyp = _with_keys(reference), _with_keys(hypothesis)
    steps = align([key for key, _ in ref], [key for key, _ in hyp])
    pairs = [
        (ref[step.reference][1], hyp[step.hypothesis][1])
        for step in steps
        if step.op is Op.HIT and step.reference is not None and step.hypothesis is not None
    ]
    ends, starts = (abs(b.end_s - a.end_s) for a, b in pairs), (abs(b.start_s - a.start_s) for a, b in pairs)
    return TimeErrors(len(pairs), sum(ends), 1, 0, sum(starts))


def _is_possible(word: Word) -> bool:
    return 0 <= word.start_s <= word.end_s < math.inf


def _with_keys(words: Sequence[Word]) -> list[tuple[str, Word]]:
    """Words with their normalised form; punctuation alone is dropped."""
    return [(key, word) for word in words if (key := _key(word.text))]


@functools.lru_cache(maxsize=1 << 16)
def _key(text: str) -> str:
    return "".join(basic()(text).split())
