"""Diarisation errors: as counted by hand, and moment by moment over all pairs of speakers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from lithophone.metrics.diarization import DiarizationCounts, der
from lithophone.transcript import Segment


def turns(*some: tuple[str, float, float]) -> list[Segment]:
    return [Segment("", start_s, end_s, speaker=speaker) for speaker, start_s, end_s in some]


REFERENCE = turns(("ann", 0.0, 4.0), ("bob", 5.0, 9.0))


@pytest.mark.parametrize(
    ("hypothesis", "missed", "false", "confusion"),
    [
        (turns(("1", 0.0, 4.0), ("2", 5.0, 9.0)), 0, 0, 0),
        (turns(("1", 0.0, 9.0)), 0, 1, 4),
        (turns(("1", 0.0, 3.0), ("2", 5.0, 9.0)), 1, 0, 0),
        (turns(("1", 0.0, 5.0), ("2", 5.0, 9.0)), 0, 1, 0),
        (turns(("1", 0.0, 4.0), ("2", 5.0, 7.0), ("3", 7.0, 9.0)), 0, 0, 2),
        (turns(("1", 0.0, 4.0), ("2", 3.0, 4.0), ("2", 5.0, 9.0)), 0, 1, 0),
        ([], 8, 0, 0),
    ],
)
def test_errors_are_those_counted_by_hand(
    hypothesis: list[Segment], missed: float, false: float, confusion: float
) -> None:
    assert der(REFERENCE, hypothesis) == DiarizationCounts(8.0, missed, false, confusion)


def test_collars_are_not_scored() -> None:
    found = der(REFERENCE, turns(("1", 0.2, 4.2), ("2", 4.8, 8.9)), collar_s=0.25)
    assert found == DiarizationCounts(pytest.approx(7.0), 0.0, 0.0, 0.0)
    assert der(REFERENCE, turns(("1", 0.5, 4.0), ("2", 5.0, 9.0)), collar_s=0.25).missed_s == pytest.approx(0.25)


def test_overlapping_speech_counts_for_each_speaker() -> None:
    reference = turns(("ann", 0.0, 4.0), ("bob", 2.0, 6.0))
    assert der(reference, reference).speech_s == 8.0
    assert der(reference, turns(("1", 0.0, 6.0))) == DiarizationCounts(8.0, 2.0, 0.0, 2.0)


def test_counts_add_and_an_empty_reference_has_no_rate() -> None:
    total = der(REFERENCE, []) + der(REFERENCE, REFERENCE)
    assert total.rate == 0.5
    assert math.isnan(der([], turns(("1", 0.0, 1.0))).rate)


def in_steps(reference: list[Segment], hypothesis: list[Segment], collar_s: float) -> float:
    """DER by steps of 10 ms, with the best of all pairings."""
    refs, hyps = (sorted({str(t.speaker) for t in some}) for some in (reference, hypothesis))
    edges = [edge for t in reference for edge in (t.start_s, t.end_s)]
    times = [t for t in np.arange(0.005, 30, 0.01) if all(abs(t - edge) > collar_s for edge in edges)]

    def active(some: list[Segment], t: float) -> set[str]:
        return {str(turn.speaker) for turn in some if turn.start_s <= t < turn.end_s}

    moments = [(active(reference, t), active(hypothesis, t)) for t in times]
    padded = [*hyps, *("" for _ in refs)]

    def errors(pairing: tuple[str, ...]) -> int:
        right = dict(zip(refs, pairing, strict=True))
        return sum(max(len(r), len(h)) - sum(right[name] in h for name in r) for r, h in moments)

    least = min(errors(pairing) for pairing in set(itertools.permutations(padded, len(refs))))
    return least / sum(len(r) for r, _ in moments)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("collar_s", [0.0, 0.25])
def test_errors_are_those_of_every_moment(seed: int, collar_s: float) -> None:
    rng = np.random.default_rng(seed)

    def random_turns(names: str) -> list[Segment]:
        starts = rng.integers(0, 2500, 8) / 100
        return [
            Segment("", float(s), float(s + rng.integers(20, 400) / 100), speaker=str(rng.choice(list(names))))
            for s in starts
        ]

    reference, hypothesis = random_turns("ab"), random_turns("xyz")
    assert der(reference, hypothesis, collar_s).rate == pytest.approx(
        in_steps(reference, hypothesis, collar_s), abs=0.02
    )
