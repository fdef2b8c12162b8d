"""Word times: how far they lie from the reference's, and how many outputs had none that can be used.

The family's tags say where a word ends, and AAS of the card is the mean distance of these ends. Where papers average
starts and ends (Shi et al. 2023, arXiv 2301.12343), `both_ms` is their number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from lithophone.metrics.alignment import Op, align
from lithophone.metrics.normalize import basic
from lithophone.transcript import Word


@dataclass(frozen=True)
class TimeErrors:
    """Matched words, sums over them of |t_hyp - t_ref| in seconds, outputs, and those of them without usable times."""

    words: int = 0
    sum_s: float = 0.0
    """Of the ends."""
    outputs: int = 0
    malformed: int = 0
    start_sum_s: float = 0.0

    def __add__(self, other: TimeErrors) -> TimeErrors:
        return TimeErrors(
            self.words + other.words,
            self.sum_s + other.sum_s,
            self.outputs + other.outputs,
            self.malformed + other.malformed,
            self.start_sum_s + other.start_sum_s,
        )

    @property
    def aas_ms(self) -> float:
        """Mean |t_hyp - t_ref| of the ends, in milliseconds; nan where no word matched."""
        return self._mean_ms(self.sum_s)

    @property
    def start_aas_ms(self) -> float:
        """The same of the starts."""
        return self._mean_ms(self.start_sum_s)

    @property
    def both_ms(self) -> float:
        """The mean over starts and ends."""
        return (self.aas_ms + self.start_aas_ms) / 2

    @property
    def malformed_share(self) -> float:
        """Outputs that could not be used, of all; nan where there was none."""
        return self.malformed / self.outputs if self.outputs else math.nan

    def _mean_ms(self, sum_s: float) -> float:
        return 1000 * sum_s / self.words if self.words else math.nan


def time_errors(reference: Sequence[Word], hypothesis: Sequence[Word], malformed: bool = False) -> TimeErrors:
    """Align the words of one output, without case and punctuation, and compare the times of those that match.

    An output is malformed if the caller says so (tags that cannot be read), or if a word has a time that is negative or
    not a number, or ends before it starts. None of its words is measured, since which time belongs to which word is a
    guess; the share of such outputs belongs beside every AAS.
    """
    if malformed or not all(map(_is_possible, hypothesis)):
        return TimeErrors(outputs=1, malformed=1)
    said, heard = _with_keys(reference), _with_keys(hypothesis)
    steps = align([key for key, _ in said], [key for key, _ in heard])
    pairs = [
        (said[step.reference][1], heard[step.hypothesis][1])
        for step in steps
        if step.op is Op.HIT and step.reference is not None and step.hypothesis is not None
    ]
    ends, starts = (abs(b.end_s - a.end_s) for a, b in pairs), (abs(b.start_s - a.start_s) for a, b in pairs)
    return TimeErrors(len(pairs), sum(ends), 1, 0, sum(starts))


def _is_possible(word: Word) -> bool:
    return 0 <= word.start_s <= word.end_s < math.inf


def _with_keys(words: Sequence[Word]) -> list[tuple[str, Word]]:
    """Words with what they are compared by; what is punctuation alone is no word."""
    return [(key, word) for word in words if (key := _key(word.text))]


@functools.lru_cache(maxsize=1 << 16)
def _key(text: str) -> str:
    return "".join(basic()(text).split())
