"""Windows: nothing that is speech is lost, nothing is longer than the limit, cuts lie where it is quiet."""

from __future__ import annotations

import itertools
import math
import threading
import tracemalloc
from importlib.resources import files
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from lithophone.audio.detection import JOINING_S, PADDING_S, SPEECH_STARTS
from lithophone.audio.reader import RATE_HZ, load_audio
from lithophone.audio.segmenter import Segmenter, Window, speech_windows
from lithophone.audio.vad import CHUNK, CHUNKS_PER_RUN, SileroVAD, _new_session
from lithophone.errors import OptionError
from tests.detectors import RuleDetector, by_spans, by_table, speech_stretches, whole_windows
from tests.sounds import noise, silence, tone

DEMO = files("lithophone") / "assets" / "demo"
DETECTOR = SileroVAD()


@pytest.fixture(scope="module")
def reading() -> NDArray[np.float32]:
    """25 s of one reader, sentence after sentence."""
    names = ("demo", "dashwood-0880", "dashwood-0890", "dashwood-0920", "dashwood-0930")
    return np.concatenate([load_audio(DEMO.joinpath(f"{name}.flac").read_bytes()) for name in names])


def slow_probabilities(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """One chunk per call: the obvious way, the judge of the fast one."""
    session, hidden, cell = _new_session(), np.zeros((1, 1, 128), np.float32), np.zeros((1, 1, 128), np.float32)
    filled = np.pad(samples, (64, -len(samples) % CHUNK))
    found = []
    for start in range(0, len(filled) - 64, CHUNK):
        inputs = {"input": filled[None, start : start + 64 + CHUNK], "h": hidden, "c": cell}
        probability, hidden, cell = session.run(None, inputs)
        found.append(probability[0])
    return np.array(found, np.float32)


# --- the detector


def test_detector_agrees_with_one_chunk_at_a_time(reading: NDArray[np.float32]) -> None:
    assert len(reading) > 2 * CHUNK * CHUNKS_PER_RUN
    np.testing.assert_allclose(DETECTOR.speech_probabilities(reading), slow_probabilities(reading), atol=1e-5)


@pytest.mark.parametrize("n", [0, 1, CHUNK, CHUNK + 1, CHUNK * CHUNKS_PER_RUN + 1])
def test_one_probability_per_chunk(n: int) -> None:
    assert DETECTOR.speech_probabilities(np.zeros(n, np.float32)).shape == (math.ceil(n / CHUNK),)


def test_detector_hears_speech_and_nothing_else(reading: NDArray[np.float32]) -> None:
    assert DETECTOR.speech_probabilities(reading).mean() > 0.8
    for other in (silence(2.0), noise(2.0), tone(2.0)):
        assert DETECTOR.speech_probabilities(other).max() < SPEECH_STARTS


def test_threads_share_a_detector(reading: NDArray[np.float32]) -> None:
    sources = [reading[:64_000], reading[64_000:128_000], reading[128_000:192_000]]
    found: dict[int, NDArray[np.float32]] = {}
    threads = [
        threading.Thread(target=lambda i=i, s=s: found.update({i: DETECTOR.speech_probabilities(s)}))
        for i, s in enumerate(sources)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, source in enumerate(sources):
        np.testing.assert_array_equal(found[i], DETECTOR.speech_probabilities(source))


# --- windows


def pushed(samples: NDArray[np.float32], sizes: list[int], segmenter: Segmenter) -> list[Window]:
    """Windows of a recording that comes in blocks of these sizes, repeated."""
    windows, start = [], 0
    for size in itertools.cycle(sizes):
        if start >= len(samples):
            return windows + segmenter.flush()
        windows += segmenter.push(samples[start : start + size])
        start += size
    raise AssertionError


def walk(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32], float]:
    """A recording, probabilities that wander slowly or quickly between 0 and 1, and a limit."""
    rng = np.random.default_rng(seed)
    samples = noise(rng.uniform(0, 90), peak=0.3, seed=seed) * np.float32(rng.uniform(0.1, 1))
    steps = rng.normal(0, rng.choice([0.02, 0.1, 0.5]), math.ceil(len(samples) / CHUNK))
    probabilities = 0.5 + 0.5 * np.sin(np.cumsum(steps) + rng.uniform(0, 6))
    return samples, probabilities.astype(np.float32), float(rng.choice([1.0, 1.7, 5.0, 8.0, 20.0, 30.0]))


@pytest.mark.parametrize("seed", range(40))
def test_windows_in_blocks_are_those_of_the_whole_recording(seed: int) -> None:
    samples, probabilities, limit_s = walk(seed)
    expected = whole_windows(samples, probabilities, limit_s)
    sizes = np.random.default_rng(seed).choice([1_000, 1, 511, 512, 513, 16_000, 70_000], 4).tolist()
    for windows in (
        speech_windows(samples, limit_s, detector=by_table(probabilities)),
        pushed(samples, [max(sizes), *sizes], Segmenter(limit_s, by_table(probabilities))),
    ):
        assert [(w.start, w.end) for w in windows] == expected
        for window in windows:
            np.testing.assert_array_equal(window.samples, samples[window.start : window.end])


@pytest.mark.parametrize("samples", [silence(0), silence(0.01), silence(5.0), noise(5.0)])
def test_no_speech_no_windows(samples: NDArray[np.float32]) -> None:
    assert speech_windows(samples) == []


def test_one_sentence_is_one_window(reading: NDArray[np.float32]) -> None:
    sentence = reading[: int(7.1 * RATE_HZ)]
    (window,) = speech_windows(np.concatenate([silence(5.0), sentence, silence(5.0)]))
    assert 4.5 < window.start_s < 5.5
    assert 11.5 < window.end_s < 12.6


def test_long_silences_lie_in_no_window(reading: NDArray[np.float32]) -> None:
    sentence = reading[: int(7.1 * RATE_HZ)]
    windows = speech_windows(np.concatenate([sentence, noise(20.0, peak=1e-3), sentence]))
    assert len(windows) == 2
    assert sum(w.end - w.start for w in windows) < 15.5 * RATE_HZ


@pytest.mark.parametrize("limit_s", [1.0, 3.3, 5.0, 10.0, 30.0])
def test_windows_of_speech(reading: NDArray[np.float32], limit_s: float) -> None:
    windows = speech_windows(reading, limit_s)
    assert all(0 <= w.start < w.end <= len(reading) for w in windows)
    assert all(w.end - w.start <= limit_s * RATE_HZ for w in windows)
    assert all(a.end <= b.start for a, b in pairwise(windows))
    covered = np.zeros(len(reading), bool)
    for w in windows:
        covered[w.start : w.end] = True
    speech = np.repeat(DETECTOR.speech_probabilities(reading) >= SPEECH_STARTS, CHUNK)[: len(reading)]
    assert covered[speech].all()


def test_cuts_are_quieter_than_speech(reading: NDArray[np.float32]) -> None:
    windows = speech_windows(reading, 5.0)
    cuts = [b.start for a, b in pairwise(windows) if a.end == b.start]
    assert cuts
    loudness = np.sqrt(np.mean(reading**2))
    for cut in cuts:
        assert np.sqrt(np.mean(reading[cut - 400 : cut + 400] ** 2)) < 0.4 * loudness


def test_speech_beyond_the_limit_is_cut_at_the_pause() -> None:
    samples = noise(50.0, peak=0.3)
    samples[int(21.0 * RATE_HZ) : int(21.6 * RATE_HZ)] = 0
    first, second = speech_windows(samples, 30.0, detector=by_spans((0.0, 50.0)))
    assert 21.0 < first.end_s < 21.6
    assert (first.start, first.end, second.end) == (0, second.start, len(samples))


def test_the_last_window_is_no_crumb() -> None:
    samples = noise(31.0, peak=0.3)
    samples[int(29.5 * RATE_HZ) :] *= 0.1
    first, second = speech_windows(samples, 30.0, detector=by_spans((0.0, 31.0)))
    assert first.end - first.start >= 15 * RATE_HZ
    assert second.end - second.start >= 7.5 * RATE_HZ


def test_short_silences_are_closed_and_long_ones_are_not() -> None:
    samples = silence(20.0)
    windows = speech_windows(samples, detector=by_spans((2.0, 4.0), (4.8, 6.0), (7.2, 7.3), (12.0, 15.0)))
    edges = [(round(w.start_s, 1), round(w.end_s, 1)) for w in windows]
    assert edges == [(1.6, 6.4), (6.8, 7.7), (11.6, 15.4)]


def test_padding_stays_inside_the_recording() -> None:
    assert [(w.start, w.end) for w in speech_windows(silence(2.01), detector=by_spans((0.0, 9.0)))] == [(0, 32_160)]


def test_a_single_loud_chunk_is_kept() -> None:
    probabilities = np.zeros(100, np.float32)
    probabilities[50] = 0.9
    padding = int(PADDING_S * RATE_HZ)
    assert speech_stretches(probabilities, 51_200) == [(50 * CHUNK - padding, 51 * CHUNK + padding)]


def test_speech_ends_later_than_it_starts() -> None:
    probabilities = np.array([0, 0.4, 0.6, 0.4, 0.3, 0] + [0] * 100 + [0.4, 0.4, 0], np.float32)
    ((start, end),) = speech_stretches(probabilities, len(probabilities) * CHUNK)
    assert (start, end) == (0, 4 * CHUNK + int(PADDING_S * RATE_HZ))


def with_quiet(length_s: float, *spans: tuple[float, float, float]) -> NDArray[np.float32]:
    """Loud noise with (start, end, level) spans of lower level."""
    samples = noise(length_s, peak=0.3)
    for start_s, end_s, level in spans:
        samples[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)] *= np.float32(level)
    return samples


def edges_of(samples: NDArray[np.float32], limit_s: float = 30.0) -> list[tuple[float, float]]:
    """Windows in seconds of a recording that is speech all over."""
    windows = speech_windows(samples, limit_s, detector=by_spans((0.0, 1e9)))
    return [(w.start_s, w.end_s) for w in windows]


@pytest.mark.parametrize(("too_early", "allowed"), [(14.0, 16.0), (14.5, 15.2), (5.0, 29.0)])
def test_the_first_half_of_a_window_is_not_cut(too_early: float, allowed: float) -> None:
    samples = with_quiet(60.0, (too_early, too_early + 0.4, 0.0), (allowed, allowed + 0.4, 0.1))
    assert allowed < edges_of(samples)[0][1] < allowed + 0.4


@pytest.mark.parametrize(("allowed", "too_late"), [(29.0, 30.1), (23.0, 31.0)])
def test_a_window_is_not_longer_than_the_limit(allowed: float, too_late: float) -> None:
    samples = with_quiet(60.0, (allowed, allowed + 0.4, 0.1), (too_late, too_late + 0.4, 0.0))
    assert allowed < edges_of(samples)[0][1] < allowed + 0.4


@pytest.mark.parametrize("length_s", [31.0, 34.0, 37.4])
def test_the_last_window_has_a_quarter_of_the_limit(length_s: float) -> None:
    allowed, too_late = length_s - 7.5 - 0.6, length_s - 7.5 + 0.2
    samples = with_quiet(length_s, (allowed, allowed + 0.4, 0.1), (too_late, too_late + 0.4, 0.0))
    first, last = edges_of(samples)
    assert allowed < first[1] < allowed + 0.4
    assert last == (first[1], length_s)


def test_speech_of_the_limit_is_one_window_and_a_sample_more_is_two() -> None:
    limit = int(3.2 * RATE_HZ)
    samples = with_quiet(3.2, (2.0, 2.1, 0.0))
    assert len(edges_of(samples, 3.2)) == 1
    assert len(edges_of(np.append(samples, np.float32(0.1)), 3.2)) == 2
    assert len(samples) == limit


def test_a_pause_wins_over_a_shorter_and_deeper_one() -> None:
    samples = with_quiet(60.0, (18.0, 18.032, 0.0), (22.0, 22.5, 0.1))
    assert 22.0 < edges_of(samples)[0][1] < 22.5


def test_less_speech_wins_where_it_is_equally_loud() -> None:
    probabilities = np.ones(math.ceil(60 * RATE_HZ / CHUNK), np.float32)
    probabilities[700:710] = 0.4
    samples = np.full(60 * RATE_HZ, 0.1, np.float32)
    first = speech_windows(samples, detector=by_table(probabilities))[0]
    assert 700 * CHUNK < first.end < 710 * CHUNK


@pytest.mark.parametrize(("n_silent", "n_windows"), [(31, 1), (32, 2)])
def test_silence_of_a_second_parts_windows(n_silent: int, n_windows: int) -> None:
    """31 chunks are 0.992 s, 32 are 1.024 s."""
    probabilities = np.concatenate([np.ones(10), np.zeros(n_silent), np.ones(10)]).astype(np.float32)
    samples = silence(len(probabilities) * CHUNK / RATE_HZ)
    assert len(speech_windows(samples, detector=by_table(probabilities))) == n_windows


@pytest.mark.parametrize(
    ("values", "chunks"),
    [
        ([0.5], (40, 41)),
        ([0.49], None),
        ([0.35, 0.5, 0.35, 0.34], (40, 43)),
        ([0.4, 0.4, 0.4], None),
    ],
)
def test_thresholds(values: list[float], chunks: tuple[int, int] | None) -> None:
    probabilities = np.zeros(100, np.float32)
    probabilities[40 : 40 + len(values)] = values
    found = [(w.start, w.end) for w in speech_windows(silence(3.2), detector=by_table(probabilities))]
    padding = int(PADDING_S * RATE_HZ)
    assert found == ([(chunks[0] * CHUNK - padding, chunks[1] * CHUNK + padding)] if chunks else [])


# --- blocks


@pytest.mark.parametrize("limit_s", [5.0, 30.0])
@pytest.mark.parametrize("pauses", [False, True])
def test_a_window_comes_as_soon_as_nothing_can_change_it(limit_s: float, pauses: bool) -> None:
    """Held back: 1.25 limits, the silence that ends a stretch, and what the detector takes at once."""
    samples = with_quiet(150.0)
    spans = [(t, t + 7.0) for t in range(0, 150, 9)] if pauses else [(0.0, 150.0)]
    segmenter = Segmenter(limit_s, by_spans(*spans))
    n_windows = 0
    for end in range(1_600, len(samples) + 1, 1_600):
        for window in segmenter.push(samples[end - 1_600 : end]):
            n_windows += 1
            assert end - window.start <= (1.25 * limit_s + JOINING_S + 2 * PADDING_S + 0.2) * RATE_HZ
    assert n_windows >= 3


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_memory_does_not_grow_with_the_recording(probability: float) -> None:
    detector = RuleDetector(lambda chunks, _: np.full(len(chunks), probability))
    segmenter, block = Segmenter(30.0, detector), noise(8.0, peak=0.3)
    tracemalloc.start()
    for _ in range(75):
        segmenter.push(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 24 * 2**20  # the recording has 38 MB


def test_a_detector_that_stays_between_its_thresholds_is_decided_after_a_minute() -> None:
    detector = RuleDetector(lambda chunks, _: np.full(len(chunks), 0.4))
    windows = speech_windows(noise(90.0, peak=0.3), detector=detector)
    assert (windows[0].start, windows[-1].end) == (0, 90 * RATE_HZ)
    assert speech_windows(noise(59.0, peak=0.3), detector=detector) == []


def test_a_window_owns_its_samples() -> None:
    samples = with_quiet(5.0)
    (window,) = speech_windows(samples, detector=by_spans((1.0, 3.0)))
    expected = samples[window.start : window.end].copy()
    samples[:] = 0
    np.testing.assert_array_equal(window.samples, expected)
    assert not np.shares_memory(window.samples, samples)
    assert window.samples.base is None


@pytest.mark.parametrize("size", [1, 700, 50_000])
def test_the_detector_keeps_its_state_between_blocks(reading: NDArray[np.float32], size: int) -> None:
    part = reading[: 3 * RATE_HZ if size == 1 else 12 * RATE_HZ + 17]
    stream = DETECTOR.stream()
    found = [stream.push(part[i : i + size]) for i in range(0, len(part), size)]
    np.testing.assert_array_equal(np.concatenate([*found, stream.flush()]), DETECTOR.speech_probabilities(part))


def test_streams_of_a_detector_are_independent(reading: NDArray[np.float32]) -> None:
    first, second = DETECTOR.stream(), DETECTOR.stream()
    second.push(reading[:50_000])
    np.testing.assert_array_equal(first.push(reading[:CHUNK]), DETECTOR.stream().push(reading[:CHUNK]))


def test_the_shortest_limit() -> None:
    assert len(edges_of(with_quiet(4.0), 1.0)) >= 4


@pytest.mark.parametrize("limit_s", [0, -1, 0.5, math.nan, math.inf])
def test_impossible_limits(limit_s: float) -> None:
    with pytest.raises(OptionError, match="limit_s"):
        speech_windows(silence(1.0), limit_s)
