"""Stitching: what two windows heard twice is said once, and nothing is lost."""

from __future__ import annotations

import pytest

from lithophone.pipeline.assembly import join, shift, stitch
from lithophone.transcript import Segment, Word

SENTENCE = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def timed(words: list[str], start_s: float, jitter_s: float = 0.0) -> Segment:
    """A word per second, each 0.8 s long."""
    found = tuple(Word(w, start_s + i + jitter_s, start_s + i + 0.8 + jitter_s) for i, w in enumerate(words))
    return Segment(" ".join(words), start_s, start_s + len(words), found)


def text_of(segments: tuple[Segment, ...]) -> str:
    return " ".join(s.text for s in segments)


def test_shift_moves_everything() -> None:
    word = Word("one", 0.0, 0.5, 0.9, "1")
    moved = shift(Segment("one", 0.0, 1.0, (word,), "1"), 30.0)
    assert moved == Segment("one", 30.0, 31.0, (Word("one", 30.0, 30.5, 0.9, "1"),), "1")


def test_segments_that_do_not_overlap_are_only_sorted() -> None:
    one, two = Segment("the same", 0, 1), Segment("the same", 1, 2)
    assert stitch([two, one]) == (one, two)
    assert stitch([]) == ()


@pytest.mark.parametrize("jitter_s", [-0.3, -0.1, 0.0, 0.1, 0.3])
@pytest.mark.parametrize("cut", [4.0, 4.4, 4.9])
def test_words_with_times(jitter_s: float, cut: float) -> None:
    left = timed(SENTENCE[:7], 0.0)
    right = timed(SENTENCE[int(cut) :], float(int(cut)), jitter_s)
    joined = stitch([left, Segment(right.text, cut, right.end_s, right.words)])
    assert text_of(joined) == " ".join(SENTENCE)
    assert [w.text for s in joined for w in s.words] == SENTENCE
    assert joined[0].end_s <= joined[1].start_s + 0.5


def test_three_windows_in_a_row() -> None:
    parts = [timed(SENTENCE[:5], 0.0), timed(SENTENCE[3:8], 3.0), timed(SENTENCE[6:], 6.0)]
    assert text_of(stitch(parts)) == " ".join(SENTENCE)


def test_a_window_inside_another_one() -> None:
    joined = stitch([timed(SENTENCE, 0.0), timed(SENTENCE[3:5], 3.0)])
    assert joined == (timed(SENTENCE, 0.0),)


def test_a_window_without_text_takes_nothing_away() -> None:
    heard = timed(SENTENCE[3:5], 3.0)
    assert stitch([Segment("", 0.0, 10.0), heard]) == (heard,)


def test_words_without_times_join_at_the_common_run() -> None:
    left = Segment("We went down to the river and the", 0.0, 10.0)
    right = Segment("to the River, and the water was cold.", 6.0, 16.0)
    joined = stitch([left, right])
    assert text_of(joined) == "We went down to the river and the water was cold."
    assert joined[0].end_s == joined[1].start_s == 8.0


def test_words_cut_at_the_edges_give_way() -> None:
    left = Segment("and so the meeting was adjourned until Mon", 0.0, 10.0)
    right = Segment("earned until Monday morning at nine", 8.0, 18.0)
    assert text_of(stitch([left, right])) == text_of((left, right))  # one common word proves nothing
    right = Segment("thing was adjourned until Monday morning at nine", 5.0, 15.0)
    assert text_of(stitch([left, right])) == "and so the meeting was adjourned until Monday morning at nine"


def test_a_repetition_outside_the_overlap_is_none() -> None:
    left = Segment("no no we said " + "something else entirely " * 5, 0.0, 20.0)
    right = Segment("yes it was time to go and then " * 2 + "no no we said", 19.0, 40.0)
    assert stitch([left, right]) == (left, right)


def test_nothing_in_common_keeps_both() -> None:
    left, right = Segment("alpha beta", 0.0, 5.0), Segment("gamma delta", 4.0, 9.0)
    assert join(left, right) == (left, right)


def test_languages_without_spaces_compare_characters() -> None:
    left, right = Segment("今日はとても良い天気で", 0.0, 6.0), Segment("良い天気ですね", 4.0, 9.0)
    joined = stitch([left, right], "ja")
    assert "".join(s.text for s in joined) == "今日はとても良い天気ですね"


def test_a_segment_that_was_heard_whole_before_disappears() -> None:
    joined = stitch([Segment("one two three", 0.0, 3.0), Segment("two three", 1.0, 3.0)])
    assert text_of(joined) == "one two three"
