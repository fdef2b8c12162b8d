"""Bootstrap: known cases, and how often an interval holds the truth and a test errs on simulated data."""

from __future__ import annotations

import numpy as np
import pytest

from lithophone.errors import OptionError
from lithophone.metrics import significance
from lithophone.metrics.significance import PairedTest, bootstrap_interval, fewest_clips, paired_test

TRUE_RATE = 0.1
TRIALS = 200


def simulated(draw: np.random.Generator, clips: int) -> tuple[list[int], list[int]]:
    lengths = draw.integers(5, 30, clips)
    return draw.binomial(lengths, TRUE_RATE).tolist(), lengths.tolist()


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw = np.random.default_rng(0)
    held = 0
    for trial in range(TRIALS):
        interval = bootstrap_interval(*simulated(draw, 60), level=0.9, resamples=300, seed=trial)
        assert interval.level == 0.9
        held += interval.low <= TRUE_RATE <= interval.high
    assert 0.84 <= held / TRIALS <= 0.96


def test_a_test_of_equals_errs_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    rejected = 0
    for trial in range(TRIALS):
        errors_a, lengths = simulated(draw, 60)
        errors_b = draw.binomial(lengths, TRUE_RATE).tolist()
        rejected += paired_test(errors_a, errors_b, lengths, resamples=300, seed=trial).p_value < 0.1
    assert 0.04 <= rejected / TRIALS <= 0.16


def test_a_difference_is_found_and_has_a_sign() -> None:
    errors_a, lengths = simulated(np.random.default_rng(2), 200)
    errors_b = [min(n, e + n // 20 + 1) for e, n in zip(errors_a, lengths, strict=True)]
    found = paired_test(errors_a, errors_b, lengths)
    assert found.difference == pytest.approx((sum(errors_a) - sum(errors_b)) / sum(lengths))
    assert found.interval.low < found.difference < found.interval.high < 0
    assert found.p_value == pytest.approx(2 / 1001)
    turned = paired_test(errors_b, errors_a, lengths)
    assert (turned.difference, turned.p_value) == (-found.difference, found.p_value)
    assert turned.interval.low == pytest.approx(-found.interval.high)


def test_pairs_show_what_two_intervals_cannot() -> None:
    """The same clips are hard for both systems: their intervals overlap, and their difference is sure."""
    draw = np.random.default_rng(3)
    lengths = [20] * 150
    errors_a = draw.choice([0, 0, 1, 12], 150).tolist()
    errors_b = [e + (n % 5 == 0) for n, e in enumerate(errors_a)]
    assert bootstrap_interval(errors_a, lengths).high > bootstrap_interval(errors_b, lengths).low
    assert paired_test(errors_a, errors_b, lengths).p_value < 0.01


def test_the_same_system_twice_is_no_difference() -> None:
    errors = [1, 0, 2] * 3
    found = paired_test(errors, errors, [10] * 9)
    assert found.interval is not None
    assert (found.difference, found.interval.low, found.interval.high, found.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize("clips", [1, 2, 5])
def test_few_clips_have_neither_an_interval_nor_a_p_value(clips: int) -> None:
    assert bootstrap_interval([4] * clips, [13] * clips) is None
    found = paired_test([9] * clips, [4] * clips, [10] * clips)
    assert found == PairedTest(0.5, None, None)


@pytest.mark.parametrize(("level", "fewest"), [(0.5, 2), (0.75, 3), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_the_fewest_clips_depend_on_the_level(level: float, fewest: int) -> None:
    assert fewest_clips(level) == fewest
    assert bootstrap_interval([1] * (fewest - 1), [9] * (fewest - 1), level=level) is None
    interval = bootstrap_interval([1] * fewest, [9] * fewest, level=level)
    assert interval is not None
    assert interval.level == level


def test_a_p_value_is_no_smaller_than_that_of_as_many_signs() -> None:
    """Draws of clips that all agree never show the other sign; 2 of the 64 sign patterns of six clips do so."""
    assert paired_test([2] * 6, [1] * 6, [10] * 6).p_value == 2 / 2**6
    alike = [1] * 40
    assert paired_test([*alike, 5, 5], [*alike, 0, 0], [10] * 42).p_value >= 0.5


def test_seeds_decide_and_memory_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = simulated(np.random.default_rng(4), 50)
    whole = bootstrap_interval(*clips, seed=7)
    assert whole == bootstrap_interval(*clips, seed=7)
    assert whole != bootstrap_interval(*clips, seed=8)
    monkeypatch.setattr(significance, "DRAWN_AT_ONCE", 120)
    assert bootstrap_interval(*clips, seed=7) == whole


def test_a_wider_level_is_a_wider_interval() -> None:
    clips = simulated(np.random.default_rng(5), 80)
    narrow, wide = bootstrap_interval(*clips, level=0.5), bootstrap_interval(*clips, level=0.99)
    assert wide.low < narrow.low < sum(clips[0]) / sum(clips[1]) < narrow.high < wide.high


def test_empty_references_are_drawn_as_any_other_clip() -> None:
    interval = bootstrap_interval([0, 0, 0, 1], [0, 0, 0, 10], level=0.8)
    assert interval is not None
    assert (interval.low, interval.high) == (0.0, 0.1)
    endless = bootstrap_interval([1, 1, 1, 0], [0, 0, 0, 10], level=0.8)
    assert endless is not None
    assert endless.high == np.inf


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (([1], [1, 2]), {}, "1, 2 clips"),
        (([], []), {}, "0 clips"),
        (([1, 2], [0, 0]), {}, "2 clips"),
        (([1], [2]), {"level": 1.0}, r"level 1\.0"),
        (([1], [2]), {"resamples": 0}, "0 resamples"),
    ],
)
def test_impossible_questions(arguments: tuple[list[int], list[int]], options: dict[str, float], message: str) -> None:
    errors, lengths = arguments
    with pytest.raises(OptionError, match=message):
        bootstrap_interval(errors, lengths, **options)
    with pytest.raises(OptionError, match=message.replace("1, 2", "1, 1, 2")):
        paired_test(errors, errors, lengths, **options)
