"""Word times by hand."""

from __future__ import annotations

import math

import pytest

from lithophone.metrics.times import TimeErrors, time_errors
from lithophone.transcript import Word


def words(*timed: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start, end) for text, start, end in timed]


REFERENCE = words(("hello", 0.1, 0.5), ("big", 0.5, 0.8), ("world", 0.8, 1.2))


def test_ends_make_aas_and_starts_are_kept() -> None:
    heard = words(("Hello,", 0.1, 0.53), ("pig", 0.53, 0.7), ("world.", 0.7, 1.1))
    found = time_errors(REFERENCE, heard)
    assert (found.words, found.outputs, found.malformed) == (2, 1, 0)
    assert found.aas_ms == pytest.approx((30 + 100) / 2)
    assert found.start_aas_ms == pytest.approx((0 + 100) / 2)
    assert found.both_ms == pytest.approx((30 + 100 + 0 + 100) / 4)


def test_words_that_were_inserted_or_are_no_words_move_nothing() -> None:
    heard = words(("oh", 0.0, 0.1), ("hello", 0.1, 0.5), ("—", 0.5, 0.5), ("big", 0.5, 0.8), ("world", 0.8, 1.2))
    assert time_errors(REFERENCE, heard) == TimeErrors(words=3, outputs=1)
    assert time_errors(REFERENCE, []) == TimeErrors(outputs=1)
    assert time_errors([], heard) == TimeErrors(outputs=1)


@pytest.mark.parametrize(
    ("start", "end"), [(0.5, 0.4), (-0.1, 0.4), (math.nan, 0.4), (0.1, math.nan), (0.1, math.inf), (math.inf, math.inf)]
)
def test_impossible_times_make_an_output_malformed(start: float, end: float) -> None:
    assert time_errors(REFERENCE, words(("hello", start, end))) == TimeErrors(outputs=1, malformed=1)


def test_the_caller_may_know_that_an_output_is_malformed() -> None:
    assert time_errors(REFERENCE, REFERENCE, malformed=True) == TimeErrors(outputs=1, malformed=1)


def test_shards_add_up() -> None:
    late = words(("hello", 0.2, 0.75), ("big", 0.75, 1.0))
    parts = [time_errors(REFERENCE, late), time_errors(REFERENCE, REFERENCE), time_errors(REFERENCE, late, True)]
    whole = parts[0] + parts[1] + parts[2]
    assert whole == sum(parts[1:], TimeErrors()) + parts[0]
    assert whole.aas_ms == pytest.approx((250 + 200) / 5)
    assert whole.start_aas_ms == pytest.approx((100 + 250) / 5)
    assert whole.malformed_share == pytest.approx(1 / 3)


def test_nothing_measured_is_no_number() -> None:
    assert math.isnan(TimeErrors(outputs=1, malformed=1).aas_ms)
    assert math.isnan(TimeErrors().malformed_share)
