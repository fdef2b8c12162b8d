"""Subtitles: what our writers write is read again, other writers' habits are understood, bad times are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lithophone.data.subtitles import read_subtitles
from lithophone.errors import ManifestError
from lithophone.formats import to_srt, to_vtt
from lithophone.transcript import Segment, Transcript, Word

PLAIN = (Segment("Red stone & sand.", 0.5, 2.25), Segment("Then a pause.", 3661.0, 3662.5, speaker="Ann"))

TIMED = (
    Segment("A red stone", 0.5, 2.0, (Word("A", 0.5, 0.625), Word("red", 0.75, 1.0), Word("stone", 1.0, 1.75))),
    Segment(
        "A red stone",
        2.0,
        3.5,
        (
            Word("A", 2.0, 2.5, speaker="Ann"),
            Word("red", 2.5, 3.0, speaker="Ann"),
            Word("stone", 3.0, 3.5, speaker="Ann"),
        ),
        "Ann",
    ),
)


def read(folder: Path, text: str) -> tuple[Segment, ...]:
    path = folder / "file.srt"
    path.write_text(text, encoding="utf-8")
    return read_subtitles(path)


@pytest.mark.parametrize("write", [to_srt, to_vtt])
def test_plain_cues(tmp_path: Path, write: Callable[[Transcript], str]) -> None:
    assert read(tmp_path, write(Transcript(PLAIN, 4000.0))) == PLAIN


def test_underlined_words(tmp_path: Path) -> None:
    assert read(tmp_path, to_srt(Transcript(TIMED, 4.0))) == TIMED


def test_the_same_words_said_again_are_another_turn(tmp_path: Path) -> None:
    touching = (
        Segment("Red stone", 0.0, 1.0, (Word("Red", 0.0, 0.5), Word("stone", 0.5, 1.0))),
        Segment("Red stone", 1.0, 2.0, (Word("Red", 1.0, 1.5), Word("stone", 1.5, 2.0))),
    )
    assert read(tmp_path, to_srt(Transcript(touching, 2.0))) == touching


def test_stamped_words(tmp_path: Path) -> None:
    """A word of vtt ends where the next one begins."""
    found = read(tmp_path, to_vtt(Transcript(TIMED, 4.0)))
    assert [(turn.text, turn.start_s, turn.end_s, turn.speaker) for turn in found] == [
        (turn.text, turn.start_s, turn.end_s, turn.speaker) for turn in TIMED
    ]
    assert found[0].words == (Word("A", 0.5, 0.75), Word("red", 0.75, 1.0), Word("stone", 1.0, 2.0))
    assert found[1].words == TIMED[1].words


def test_the_habits_of_others(tmp_path: Path) -> None:
    text = (
        "\ufeffWEBVTT - a title\nKind: captions\n\nNOTE\nnot said\n\nSTYLE\n::cue { color: red }\n\n"
        "intro\n00:01.000 --> 00:02.500 align:start position:0%\n<v.loud Ann B.>Red <i>stone</i>,\n&amp; sand</v>\n\n"
        "00:00:03.000 --> 00:00:04.000\n{\\an8}- Yes, 1 < 2 > 0.\r\n\n\n"
        "00:00:05.000 --> 00:00:06.000\n"
    )
    assert read(tmp_path, text) == (
        Segment("Red stone, & sand", 1.0, 2.5, speaker="Ann B."),
        Segment("- Yes, 1 < 2 > 0.", 3.0, 4.0),
        Segment("", 5.0, 6.0),
    )


def test_words_are_timed_all_or_not_at_all(tmp_path: Path) -> None:
    text = (
        "1\n00:00:00,000 --> 00:00:01,000\nA <u>red</u> stone\n\n2\n00:00:01,000 --> 00:00:02,000\nA red <u>stone</u>\n"
    )
    assert read(tmp_path, text) == (Segment("A red stone", 0.0, 2.0),)
    assert read(tmp_path, "00:00.000 --> 00:01.000\n<00:00.200>A red<00:00.500> stone\n")[0].words == ()


def test_an_empty_file_has_no_turns(tmp_path: Path) -> None:
    assert read(tmp_path, "") == read(tmp_path, "WEBVTT\n\n") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1\n00:00:01,000 --> 00:00:02,000\nRed\n\n2\nstone\n", "line 6: 'stone' where the times of a cue must be"),
        ("1\n00:00:01 --> 00:00:02\nRed\n", "line 2: '00:00:01 --> 00:00:02'"),
        ("Red stone\n", "line 2: 'Red stone'"),
    ],
)
def test_bad_times_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_subtitles(tmp_path / "none.srt")
