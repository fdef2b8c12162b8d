"""Diarisation error rate (DER): missed speech, false alarms and speaker confusion, by time.

NIST's md-eval: every moment counts as often as it has speakers, in the reference for misses, else in the hypothesis.
Speakers are paired one to one so that they share the most time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from lithophone.metrics.counts import Counts
from lithophone.transcript import Segment


@dataclass(frozen=True)
class DiarizationCounts(Counts):
    """Seconds of speakers in the reference, and of errors."""

    speech_s: float = 0.0
    missed_s: float = 0.0
    false_alarm_s: float = 0.0
    confusion_s: float = 0.0

    @property
    def rate(self) -> float:
        """DER, 0 or more; nan without speech in the reference."""
        errors_s = self.missed_s + self.false_alarm_s + self.confusion_s
        return errors_s / self.speech_s if self.speech_s else math.nan


def der(reference: Sequence[Segment], hypothesis: Sequence[Segment], collar_s: float = 0.0) -> DiarizationCounts:
    """Errors of turns with speakers, of one recording; `collar_s` at both sides of reference boundaries is not scored.

    md-eval's collar is 0.25 s. Overlapping speech is scored.
    """
    spans = list(_scored(reference, hypothesis, collar_s))
    pairs = _pairs(spans)
    total = DiarizationCounts()
    for seconds, ref, hyp in spans:
        right = len({(a, b) for a in ref for b in hyp} & pairs)
        total += DiarizationCounts(
            seconds * len(ref),
            seconds * max(len(ref) - len(hyp), 0),
            seconds * max(len(hyp) - len(ref), 0),
            seconds * (min(len(ref), len(hyp)) - right),
        )
    return total


Span = tuple[float, frozenset[str], frozenset[str]]
"""Seconds, and who speaks in reference and hypothesis."""


def _scored(reference: Sequence[Segment], hypothesis: Sequence[Segment], collar_s: float) -> Iterator[Span]:
    """Spans between all boundaries, without the collars."""
    edges = {edge for turn in reference for edge in (turn.start_s, turn.end_s)} if collar_s else set()
    collars = {bound for edge in edges for bound in (edge - collar_s, edge + collar_s)}
    bounds = sorted({edge for turn in (*reference, *hypothesis) for edge in (turn.start_s, turn.end_s)} | collars)
    free = _Active([Segment("", edge - collar_s, edge + collar_s, speaker="collar") for edge in edges])
    ref, hyp = _Active(reference), _Active(hypothesis)
    for start_s, end_s in pairwise(bounds):
        span = end_s - start_s, ref.at(start_s), hyp.at(start_s)
        if not free.at(start_s):
            yield span


class _Active:
    """Speakers at rising times."""

    def __init__(self, turns: Iterable[Segment]) -> None:
        self._waiting = sorted(turns, key=lambda turn: turn.start_s, reverse=True)
        self._active: list[Segment] = []

    def at(self, time_s: float) -> frozenset[str]:
        while self._waiting and self._waiting[-1].start_s <= time_s:
            self._active.append(self._waiting.pop())
        self._active = [turn for turn in self._active if turn.end_s > time_s]
        return frozenset(str(turn.speaker) for turn in self._active)


def _pairs(spans: Iterable[Span]) -> set[tuple[str, str]]:
    """Speakers of reference and hypothesis, paired."""
    shared: dict[tuple[str, str], float] = {}
    for seconds, ref, hyp in spans:
        for pair in ((a, b) for a in ref for b in hyp):
            shared[pair] = shared.get(pair, 0.0) + seconds
    refs, hyps = (sorted({pair[side] for pair in shared}) for side in (0, 1))
    together = np.array([[shared.get((a, b), 0.0) for b in hyps] for a in refs]).reshape(len(refs), len(hyps))
    rows, columns = linear_sum_assignment(-together)
    return {(refs[i], hyps[j]) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)}
