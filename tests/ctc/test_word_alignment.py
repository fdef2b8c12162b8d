"""Words with times and confidence from character posteriors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lithophone.ctc.characters import N_LABELS
from lithophone.ctc.word_alignment import REACH_S, timed_words
from lithophone.transcript import Word
from tests.pipeline.voices import path_posteriors, posteriors

FRAME_S = 0.02


def times(words: Sequence[Word]) -> list[tuple[float, float]]:
    return [(round(word.start_s, 3), round(word.end_s, 3)) for word in words]


def test_words_reach_half_way_to_the_space_and_back_to_the_word_before() -> None:
    log_probs = posteriors("ab cde")
    words = timed_words("Ab, cde!", log_probs, len(log_probs) * FRAME_S)
    assert [w.text for w in words] == ["Ab,", "cde!"]
    assert times(words) == [(0.0, 0.11), (0.12, 0.36)]


def test_a_word_beside_silence_reaches_as_far_as_it_may() -> None:
    path = [0] * 10 + [97, 0, 98] + [0] * 10 + [32] + [0] * 10 + [99] + [0] * 10
    words = timed_words("ab c", path_posteriors(path), len(path) * FRAME_S)
    expected = [(10 * FRAME_S - REACH_S, 13 * FRAME_S + REACH_S), (34 * FRAME_S - REACH_S, 35 * FRAME_S + REACH_S)]
    assert times(words) == [pytest.approx(pair) for pair in expected]


@pytest.mark.parametrize("text", ["ab cde", "ab 12 cde", "ab, - cde.", "日本 カナ"])
@pytest.mark.parametrize("cut_s", [0.0, 0.01, 0.0199, 0.07, 0.3, 10.0])
def test_no_word_is_behind_the_end_of_the_samples(text: str, cut_s: float) -> None:
    """48,160 samples are 3.010 s and 151 frames, 3.020 s."""
    log_probs = posteriors("ニホンカナ" if "日" in text else "ab cde")
    duration_s = max(len(log_probs) * FRAME_S - cut_s, 0.001)
    words = timed_words(text, log_probs, duration_s, "ja" if "日" in text else None)
    edges = [edge for word in words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= duration_s for edge in edges)
    assert words or "日" in text


def test_marks_alone_take_no_time() -> None:
    words = timed_words("- ab - cd", posteriors("ab cd"), 1.0)
    assert [w.text for w in words] == ["-", "ab", "-", "cd"]
    assert words[0].start_s == words[0].end_s == 0.0
    assert words[2].start_s == words[2].end_s == words[1].end_s
    assert words[0].confidence is words[2].confidence is None


def test_a_number_takes_the_time_of_the_words_it_is_read_with() -> None:
    log_probs = posteriors("in nineteen ninety nine we")
    spelled = timed_words("in nineteen ninety nine we", log_probs, 10.0)
    [before, number, after] = timed_words("in 1999 we", log_probs, 10.0)
    assert times([before, after]) == times([spelled[0], spelled[4]])
    assert number.start_s == pytest.approx(spelled[1].start_s, abs=FRAME_S)
    assert number.end_s == pytest.approx(spelled[3].end_s, abs=FRAME_S)
    assert number.confidence is None
    assert before.confidence == pytest.approx(0.99, abs=0.01)


def test_numbers_in_a_row_share_their_time_by_their_length() -> None:
    log_probs = posteriors("at six fourteen now")
    words = timed_words("at 6 1400 now", log_probs, 10.0)
    assert [w.text for w in words] == ["at", "6", "1400", "now"]
    shares = [words[1].end_s - words[1].start_s, words[2].end_s - words[2].start_s]
    assert words[1].end_s == words[2].start_s
    assert shares[1] == pytest.approx(4 * shares[0])


def test_numbers_alone_take_all_that_is_heard() -> None:
    path = [0] * 20 + [97, 0, 98, 0, 99] + [0] * 20
    [word] = timed_words("1999", path_posteriors(path), 0.9)
    assert (word.start_s, word.end_s) == (pytest.approx(0.4 - REACH_S), pytest.approx(0.5 + REACH_S))


def test_confidence_is_what_was_heard_of_the_characters() -> None:
    log_probs = posteriors("good xxx")
    good, bad = timed_words("good bad", log_probs, 1.0)
    assert good.confidence == pytest.approx(0.99, abs=0.01)
    assert bad.confidence is not None
    assert bad.confidence < 1e-3


def test_what_cannot_be_aligned_has_no_words() -> None:
    log_probs = posteriors("ab")
    assert timed_words("a text that is far too long for it", log_probs, 0.1) == ()
    assert timed_words("...", log_probs, 0.1) == ()
    assert timed_words("", log_probs, 0.1) == ()
    assert timed_words("漢字 仮名", log_probs, 0.1) == ()
    assert timed_words("ab", log_probs[:, :42], 0.1) == ()
    assert timed_words("ab", log_probs[:0], 0.1) == ()


TEXTS = ("a", "aa", "aaa bbb", "1999", "In 1999, 50 of them - all - left!", "- - x", "Dvořák's œuvre", "漢 abc de")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_heard_times_rise_and_stay_inside(text: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = int(rng.integers(1, 90))
    log_probs = np.log(rng.dirichlet(np.full(N_LABELS, 0.02), frames) + 1e-12).astype(np.float32)
    duration_s = frames * FRAME_S - 0.013
    words = timed_words(text, log_probs, duration_s)
    edges = [edge for word in words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= duration_s for edge in edges)
    assert [word.text for word in words] in ([], text.split())
    assert all(word.confidence is None or 0 <= word.confidence <= 1 for word in words)
    assert words or frames < 2 * len(text)


def test_one_frame_holds_one_character() -> None:
    [word] = timed_words("a", path_posteriors([97]), FRAME_S)
    assert (word.start_s, word.end_s) == (0.0, FRAME_S)
