"""The transcript and its parts."""

from __future__ import annotations

import dataclasses

import pytest

from lithophone.transcript import Segment, Transcript, Word, join_text


def test_text_is_that_of_the_segments() -> None:
    segments = (Segment("Hello there.", 0, 1), Segment("", 1, 2), Segment("Goodbye.", 2, 3))
    assert Transcript(segments, 3.0).text == "Hello there. Goodbye."
    assert Transcript((), 0.0).text == ""


@pytest.mark.parametrize(("language", "text"), [("ja", "ab"), ("zh", "ab"), ("en", "a b"), (None, "a b")])
def test_joining_follows_the_language(language: str | None, text: str) -> None:
    assert join_text(["a", "", "b"], language) == text
    assert Transcript((Segment("a", 0, 1), Segment("b", 1, 2)), 2.0, language).text == text


def test_words_of_all_segments() -> None:
    one, two = Word("one", 0.0, 0.5), Word("two", 1.0, 1.5)
    assert Transcript((Segment("one", 0, 1, (one,)), Segment("two", 1, 2, (two,))), 2.0).words == (one, two)


def test_a_segment_is_as_sure_as_its_words_on_average() -> None:
    words = (Word("a", 0, 1, 0.5), Word("-", 1, 1), Word("b", 1, 2, 1.0))
    assert Segment("a - b", 0, 2, words).confidence == 0.75
    assert Segment("a - b", 0, 2, words[1:2]).confidence is None
    assert Segment("a - b", 0, 2).confidence is None


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Segment("a", 0, 1).text = "b"  # type: ignore[misc]
