"""Settings of voice activity detection, and windows that a caller ends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from lithophone.audio.detection import EVERYTHING, RECORDINGS, Detection
from lithophone.audio.reader import RATE_HZ
from lithophone.audio.segmenter import Segmenter, Window
from lithophone.audio.vad import CHUNK
from lithophone.errors import OptionError
from tests.detectors import by_spans, by_table
from tests.sounds import noise, silence


def windows_of(segmenter: Segmenter, samples: NDArray[np.float32], size: int = 1_600) -> list[Window]:
    pushed = [w for first in range(0, len(samples), size) for w in segmenter.push(samples[first : first + size])]
    return pushed + segmenter.flush()


def edges(windows: list[Window]) -> list[tuple[float, float]]:
    return [(round(w.start_s, 2), round(w.end_s, 2)) for w in windows]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("threshold", -0.1), ("threshold", 1.5), ("threshold", float("nan")), ("threshold", "0.5"),
        ("threshold", True), ("prefix_padding_ms", -1), ("prefix_padding_ms", 0.3), ("silence_duration_ms", 10_001),
        ("silence_duration_ms", None), ("silence_duration_ms", True),
    ],
)  # fmt: skip
def test_settings_that_are_not_allowed_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(OptionError, match=f"{setting} is {value!r}"):
        Detection(**{setting: value})  # type: ignore[arg-type]


def test_thresholds_are_a_fixed_distance_apart() -> None:
    assert Detection().speech_ends == pytest.approx(0.35)
    assert Detection(0.9).speech_ends == pytest.approx(0.75)
    assert Detection(0.1).speech_ends == pytest.approx(0.01)
    assert Detection(0.0).speech_ends == 0.0


@pytest.mark.parametrize(("threshold", "found"), [(0.3, True), (0.6, True), (0.61, False)])
def test_speech_starts_at_the_threshold(threshold: float, found: bool) -> None:
    probabilities = np.zeros(100, np.float32)
    probabilities[40:50] = 0.6
    segmenter = Segmenter(30.0, by_table(probabilities), Detection(threshold))
    assert bool(windows_of(segmenter, silence(3.2))) is found


def test_prefix_and_silence_have_their_length() -> None:
    spans = by_spans((2.016, 4.0), (4.512, 6.016))  # a pause of half a second
    short = Segmenter(30.0, spans, Detection(prefix_padding_ms=300, silence_duration_ms=200))
    long = Segmenter(30.0, spans, Detection(prefix_padding_ms=700, silence_duration_ms=600))
    assert edges(windows_of(short, silence(8.0))) == [(1.72, 4.2), (4.21, 6.22)]
    assert edges(windows_of(long, silence(8.0))) == [(1.32, 6.42)]


def test_windows_do_not_overlap_where_the_prefix_is_longer_than_the_silence() -> None:
    spans = [(t, t + 1.0) for t in np.arange(1.0, 30.0, 1.4)]
    windows = windows_of(Segmenter(30.0, by_spans(*spans), Detection(0.5, 5_000, 100)), silence(30.0))
    assert len(windows) > 15
    assert all(a.end <= b.start for a, b in pairwise(windows))


def test_the_stretch_under_way_is_seen() -> None:
    segmenter, samples = Segmenter(30.0, by_spans((1.0, 3.0))), noise(5.0)
    assert segmenter.push(samples[:8_000]) == []
    assert (segmenter.open_start, segmenter.buffered, segmenter.end) == (None, 0, 8_000)
    segmenter.push(samples[8_000:32_000])
    start = segmenter.open_start
    assert start is not None
    assert start / RATE_HZ == pytest.approx(0.6, abs=0.04)
    assert segmenter.buffered == 32_000 - start
    np.testing.assert_array_equal(segmenter.open_samples(20_000), samples[20_000:32_000])


# --- windows that a caller ends


def test_a_commit_ends_the_window_at_the_last_sample_and_loses_none() -> None:
    samples = noise(4.0, peak=0.3)
    segmenter = Segmenter(30.0, by_spans((0.0, 9.0)), EVERYTHING)
    windows, first = [], 0
    for size in (700, 511, 1, 16_000, 33, 20_000):
        windows += segmenter.push(samples[first : first + size])
        first += size
        assert segmenter.buffered == size
        windows += segmenter.commit()
        assert segmenter.buffered == 0
    windows += segmenter.push(samples[first:]) + segmenter.flush()
    np.testing.assert_array_equal(np.concatenate([w.samples for w in windows]), samples)
    assert len(windows) == 7


def test_a_window_beyond_the_limit_is_cut_without_a_commit() -> None:
    samples = noise(40.0, peak=0.3)
    windows = windows_of(Segmenter(10.0, by_table(np.zeros(2_000, np.float32)), EVERYTHING), samples)
    assert all(w.end - w.start <= 10 * RATE_HZ for w in windows)
    np.testing.assert_array_equal(np.concatenate([w.samples for w in windows]), samples)


def test_a_commit_in_silence_changes_nothing() -> None:
    spans, samples = by_spans((1.0, 2.0)), silence(4.0)
    committed, plain = Segmenter(30.0, spans), Segmenter(30.0, spans)
    committed.push(samples[:15_900])
    assert committed.commit() == []
    committed.clear()
    assert windows_of(committed, samples[15_900:]) == windows_of(plain, samples)


def test_a_commit_within_speech_starts_the_next_window_there() -> None:
    segmenter, samples = Segmenter(30.0, by_spans((1.0, 3.0))), silence(5.0)
    segmenter.push(samples[:30_000])
    (first,) = segmenter.commit()
    (second,) = windows_of(segmenter, samples[30_000:])
    assert first.end == second.start == 30_000


def test_a_commit_of_all_there_is_leaves_no_empty_window() -> None:
    segmenter = Segmenter(30.0, by_spans((0.0, 3.0)))
    segmenter.push(silence(1.5)[:20_700])  # not a whole number of chunks
    assert len(segmenter.commit()) == 1
    assert segmenter.flush() == []


def test_what_is_cleared_is_in_no_window() -> None:
    segmenter, samples = Segmenter(30.0, by_spans((0.0, 9.0)), EVERYTHING), noise(2.0)
    segmenter.push(samples[:10_000])
    segmenter.clear()
    assert segmenter.buffered == 0
    (window,) = segmenter.push(samples[10_000:]) + segmenter.flush()
    assert (window.start, window.end) == (10_000, 32_000)


def test_recordings_keep_their_settings() -> None:
    assert Detection(0.5, 400, 1_000) == RECORDINGS
    assert RECORDINGS.silence // CHUNK == 31
