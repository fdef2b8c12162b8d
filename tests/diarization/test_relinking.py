"""Parts that number their speakers each for itself: a voice keeps one number."""

from __future__ import annotations

import pytest

from lithophone.diarization.relinking import relinked
from lithophone.transcript import Segment, Word


def said(speaker: str | None, start_s: float, end_s: float) -> Segment:
    word = Word("word", start_s, end_s, speaker=speaker)
    return Segment("word", start_s - 5.0, end_s + 5.0, (word,), speaker)


def turn(voice: str, start_s: float, end_s: float) -> Segment:
    return Segment("", start_s, end_s, speaker=voice)


TURNS = [
    turn("b", 0.0, 4.0), turn("a", 4.0, 8.0), turn("b", 8.0, 9.0),
    turn("a", 10.0, 14.0), turn("c", 14.0, 17.0), turn("b", 17.0, 20.0),
]  # fmt: skip
FIRST = [said("1", 0.0, 3.8), said("2", 4.1, 7.9), said("1", 8.0, 9.0)]


def numbers(*parts: list[Segment]) -> list[list[str | None]]:
    found = relinked(parts, TURNS)
    for part in found:
        assert all(word.speaker == segment.speaker for segment in part for word in segment.words)
    return [[segment.speaker for segment in part] for part in found]


def test_the_first_part_keeps_its_numbers() -> None:
    assert relinked([FIRST], TURNS) == [FIRST]


def test_a_voice_of_an_earlier_part_has_its_number_again() -> None:
    second = [said("1", 10.0, 14.0), said("2", 17.2, 19.5)]
    assert numbers(FIRST, second) == [["1", "2", "1"], ["2", "1"]]


def test_a_new_voice_has_the_next_number() -> None:
    second = [said("1", 10.0, 14.0), said("2", 14.2, 17.0), said("3", 17.0, 20.0)]
    third = [said("1", 14.5, 16.0)]
    assert numbers(FIRST, second, third) == [["1", "2", "1"], ["2", "3", "1"], ["3"]]


def test_no_two_speakers_of_a_part_are_one_voice() -> None:
    second = [said("1", 10.0, 12.5), said("2", 12.5, 14.0)]
    assert numbers(FIRST, second) == [["1", "2", "1"], ["2", "3"]]


def test_what_no_voice_was_found_for_has_a_number_of_its_own() -> None:
    assert numbers(FIRST, [said("1", 30.0, 31.0), said("5", 32.0, 33.0)]) == [["1", "2", "1"], ["3", "5"]]


@pytest.mark.parametrize("speaker", [None, "1"])
def test_segments_without_words_or_speakers_stay(speaker: str | None) -> None:
    segment = Segment("text", 4.0, 8.0, speaker=speaker)
    assert relinked([[segment]], TURNS) == [[segment]]
    assert relinked([FIRST, [segment]], TURNS)[1][0].speaker == (None if speaker is None else "2")
    assert relinked([], TURNS) == []
