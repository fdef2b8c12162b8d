"""Windows joined without the silences between them, and those silences put back."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from lithophone.audio.cuts import Cut, cut_s, on_one_side, restored, stretch_of
from lithophone.audio.detection import DIALOGUES, LONG_SILENCE_S, PADDING_S
from lithophone.audio.joining import joined_windows
from lithophone.audio.samples import RATE_HZ
from lithophone.audio.segmenter import Segmenter, Window
from tests.detectors import by_loudness
from tests.sounds import silence, tone

CUTS = (Cut(16_000, 80_000), Cut(24_000, 8_000))
"""5 s after the first second, and half a second half a second later."""


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((0.0, 0.5), (0.0, 0.5)),
        ((0.5, 1.0), (0.5, 1.0)),
        ((1.0, 1.5), (6.0, 6.5)),
        ((1.0, 1.0), (6.0, 6.0)),
        ((0.5, 1.2), (0.5, 6.2)),
        ((1.5, 2.0), (7.0, 7.5)),
        ((0.0, 2.0), (0.0, 7.5)),
    ],
)
def test_silences_are_put_back(span: tuple[float, float], expected: tuple[float, float]) -> None:
    assert restored(*span, CUTS) == expected
    assert restored(*span, ()) == span


@pytest.mark.parametrize(
    ("span", "expected"),
    [((0.5, 1.2), (0.5, 1.0)), ((0.9, 1.2), (1.0, 1.2)), ((0.8, 2.6), (1.5, 2.6)), ((0.2, 1.0), (0.2, 1.0))],
)
def test_a_word_through_silences_keeps_its_longest_part(
    span: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert on_one_side(*span, CUTS) == expected


def test_stretches_are_numbered_by_the_silences_before_them() -> None:
    assert [stretch_of(time_s, CUTS) for time_s in (0.0, 0.99, 1.0, 1.49, 1.5, 9.0)] == [0, 0, 1, 1, 2, 2]
    assert cut_s(CUTS) == 5.5


@pytest.mark.parametrize("seed", range(20))
def test_restored_words_stay_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    at = np.sort(rng.choice(np.arange(1, 300), 5, replace=False)) * 1600
    cuts = tuple(Cut(int(place), int(rng.integers(1, 500_000))) for place in at)
    # Edges of words, some of them at a cut.
    edges = np.sort(np.concatenate([rng.uniform(0, 30, 40), at / RATE_HZ, at / RATE_HZ])).tolist()
    words = [restored(*on_one_side(*span, cuts), cuts) for span in pairwise(edges)]
    flat = [edge for word in words for edge in word]
    assert flat == sorted(flat)
    assert flat[-1] <= 30 + cut_s(cuts)


def window(start: int, end: int) -> Window:
    return Window(start, end, np.arange(start, end, dtype=np.float32))


def test_windows_are_joined_up_to_the_limit() -> None:
    second = RATE_HZ
    stretches = [window(second * a, second * b) for a, b in ((1, 3), (3, 4), (20, 22), (30, 35), (90, 91))]
    first, last = joined_windows(stretches, 9.0), joined_windows(stretches, 10.0)
    assert [(w.start_s, w.end_s, w.cuts) for w in first] == [
        (1.0, 22.0, (Cut(3 * second, 16 * second),)), (30.0, 91.0, (Cut(5 * second, 55 * second),)),
    ]  # fmt: skip
    assert [(w.start_s, w.end_s, len(w.samples) / second) for w in last] == [(1.0, 35.0, 10.0), (90.0, 91.0, 1.0)]
    assert list(joined_windows([], 10.0)) == []


@pytest.mark.parametrize("seed", range(10))
def test_every_sample_of_a_joined_window_lies_where_its_time_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    edges = np.sort(rng.choice(200_000, 20, replace=False)).reshape(-1, 2)
    windows = list(joined_windows([window(int(a), int(b)) for a, b in edges], float(rng.uniform(1, 8))))
    for one in windows:
        assert one.end - one.start == len(one.samples) + sum(cut.length for cut in one.cuts)
        places = rng.integers(0, len(one.samples), 30)
        starts = [restored(place / RATE_HZ, place / RATE_HZ, one.cuts)[0] for place in places]
        assert np.allclose([one.start + start * RATE_HZ for start in starts], one.samples[places], atol=1e-3)
    assert sum(len(one.samples) for one in windows) == sum(edges[:, 1] - edges[:, 0])


def test_only_long_silences_are_left_out() -> None:
    samples = np.concatenate([tone(1.0), silence(LONG_SILENCE_S - 0.2), tone(1.0), silence(20.0), tone(1.0)])
    segmenter = Segmenter(30.0, by_loudness(), DIALOGUES)
    [joined] = joined_windows([*segmenter.push(samples), *segmenter.flush()], 30.0)
    [cut] = joined.cuts
    assert cut.length / RATE_HZ == pytest.approx(20.0 - 2 * PADDING_S, abs=0.1)
    kept = np.delete(samples, np.s_[joined.start + cut.at : joined.start + cut.at + cut.length])
    assert np.array_equal(joined.samples, kept[joined.start : joined.start + len(joined.samples)])
