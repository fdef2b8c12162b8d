"""Subtitles: what our writers write is read again, other writers' habits are understood, bad times are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lithophone.data.subtitles import read_subtitles
from lithophone.errors import ManifestError
from lithophone.formats import CueOptions, to_srt, to_vtt
from lithophone.transcript import Segment, Transcript, Word

KARAOKE = CueOptions(highlight_words=True)

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
    assert read(tmp_path, to_srt(Transcript(TIMED, 4.0), KARAOKE)) == TIMED


def test_the_same_words_said_again_are_another_turn(tmp_path: Path) -> None:
    touching = (
        Segment("Red stone", 0.0, 1.0, (Word("Red", 0.0, 0.5), Word("stone", 0.5, 1.0))),
        Segment("Red stone", 1.0, 2.0, (Word("Red", 1.0, 1.5), Word("stone", 1.5, 2.0))),
    )
    assert read(tmp_path, to_srt(Transcript(touching, 2.0), KARAOKE)) == touching


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
        ("1\n00:00:01 --> 00:00:02\nRed\n", "line 2: '00:00:01 --> 00:00:02'"),
        ("1\n00:00:01,000 --> 00:00:02,000\nRed\n\n2\n00:00:03,000 --> end\n", "line 6: '00:00:03,000 --> end'"),
        ("WEBVTT\n\n00:01.000 --> 00:02\nRed\n", "line 3: '00:01.000 --> 00:02'"),
        ("Red stone\n", "no times of a cue, as 00:00:01,000 --> 00:00:02,500, in a file that begins with 'Red stone'"),
    ],
)
def test_bad_times_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read(tmp_path, text)


FIRST, SECOND = "00:00:01,000 --> 00:00:02,000", "00:00:03,000 --> 00:00:04,000"


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        (f"1\n{FIRST}\nHello\n\nthere\n\n2\n{SECOND}\nBye\n", ["Hello there", "Bye"]),
        (f"1\n{FIRST}\nHello\n2\n{SECOND}\nBye\n", ["Hello", "Bye"]),
        (f"1\n{FIRST}\nHello\n\n2\n", ["Hello"]),
        (f"{FIRST}\nHello\n{SECOND}\nBye", ["Hello", "Bye"]),
        (f"1\n{FIRST}\n\n2\n{SECOND}\nBye\n", ["", "Bye"]),
        (f"1\n{FIRST}\n2014\n\n2\n{SECOND}\nBye\n", ["2014", "Bye"]),
        (f"1\n{FIRST}\na --> b\n\n2\n\n{SECOND}\nBye\n", ["a --> b", "Bye"]),
        (f"1\r{FIRST}\rHello\r\r2\r{SECOND}  X1:1 X2:2\rBye\r", ["Hello", "Bye"]),
    ],
    ids=[
        "blank_line", "no_blank", "last_number", "no_numbers", "empty_cue", "number_as_text", "arrow_and_spaced_number",
        "carriage_returns_and_places",
    ],
)  # fmt: skip
def test_srt_as_editors_write_it(tmp_path: Path, text: str, turns: list[str]) -> None:
    """As pysubs2 1.8 and FFmpeg 7 read them."""
    found = read(tmp_path, text)
    assert [turn.text for turn in found] == turns
    assert [(turn.start_s, turn.end_s) for turn in found] == [(1.0, 2.0), (3.0, 4.0)][: len(turns)]


@pytest.mark.parametrize(
    ("times", "span"),
    [
        ("00:00:01,5 --> 00:00:02,25", (1.5, 2.25)),
        ("0:0:1.5-->0:0:2.250", (1.5, 2.25)),
        ("00:00:01, 500 --> 00:00:02, 250", (1.5, 2.25)),
    ],
)
def test_times_with_few_digits(tmp_path: Path, times: str, span: tuple[float, float]) -> None:
    (turn,) = read(tmp_path, f"1\n{times}\nHello\n")
    assert (turn.start_s, turn.end_s) == span


def test_srt_has_no_entities(tmp_path: Path) -> None:
    assert read(tmp_path, f"1\n{FIRST}\nAT&amp;T &lt;i&gt; <i>so</i>\n")[0].text == "AT&amp;T &lt;i&gt; so"


ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.800 --> 00:00:02.870 align:start position:0%
 
good<00:00:01.040><c> morning</c><00:00:01.920><c> to</c><00:00:02.240><c> you</c>

00:00:02.870 --> 00:00:02.880 align:start position:0%
good morning to you
 

00:00:02.880 --> 00:00:04.070 align:start position:0%
good morning to you
and<00:00:03.360><c> welcome</c><00:00:03.760><c> back</c>

00:00:04.070 --> 00:00:04.080 align:start position:0%
and welcome back
 
"""


def test_rolling_captions_are_read_once(tmp_path: Path) -> None:
    first, second = read(tmp_path, ROLLING)
    assert (first.text, second.text) == ("good morning to you", "and welcome back")
    assert [(word.text, word.start_s, word.end_s) for word in (*first.words, *second.words)] == [
        ("good", 0.8, 1.04), ("morning", 1.04, 1.92), ("to", 1.92, 2.24), ("you", 2.24, 2.87),
        ("and", 2.88, 3.36), ("welcome", 3.36, 3.76), ("back", 3.76, 4.07),
    ]  # fmt: skip


def test_rolling_captions_as_srt_without_stamps(tmp_path: Path) -> None:
    shown = [
        ("00:00:00,800 --> 00:00:02,870", "good morning to you"),
        ("00:00:02,870 --> 00:00:02,880", "good morning to you\n "),
        ("00:00:02,880 --> 00:00:04,070", "good morning to you\nand welcome back"),
        ("00:00:04,070 --> 00:00:05,000", "and welcome back\nback again"),
    ]
    text = "".join(f"{n}\n{times}\n{lines}\n\n" for n, (times, lines) in enumerate(shown, start=1))
    assert [turn.text for turn in read(tmp_path, text)] == ["good morning to you", "and welcome back", "back again"]


def test_three_lines_that_roll_by_one(tmp_path: Path) -> None:
    """Live captions of television, CEA-608 roll-up, as CCExtractor writes them."""
    lines = ["one", "two", "three", "four", "five"]
    text = "WEBVTT\n\n" + "".join(
        f"00:0{n}.000 --> 00:0{n + 1}.000\n" + "\n".join(lines[max(n - 2, 0) : n + 1]) + "\n\n" for n in range(5)
    )
    assert [turn.text for turn in read(tmp_path, text)] == lines


@pytest.mark.parametrize(
    "cues",
    [
        [("00:00:01,000", "00:00:02,000", "No."), ("00:00:02,000", "00:00:03,000", "No.")],
        [("00:00:01,000", "00:00:02,000", "No."), ("00:00:09,000", "00:00:10,000", "No.\nNever.")],
        [
            ("00:00:01,000", "00:00:02,000", "Yes."), ("00:00:02,000", "00:00:03,000", "Who?"),
            ("00:00:03,000", "00:00:04,000", "You."), ("00:00:04,000", "00:00:05,000", "No."),
            ("00:00:05,000", "00:00:06,000", "No.\nNever."),
        ],
    ],
)  # fmt: skip
def test_what_is_said_twice_is_counted_twice(tmp_path: Path, cues: list[tuple[str, str, str]]) -> None:
    text = "".join(f"{n}\n{start} --> {end}\n{said}\n\n" for n, (start, end, said) in enumerate(cues, start=1))
    assert [turn.text for turn in read(tmp_path, text)] == [" ".join(said.split()) for _, _, said in cues]


def test_a_line_with_a_space_ends_no_cue_of_webvtt(tmp_path: Path) -> None:
    text = (
        "WEBVTT\n\nNOTE a\nb\n\n00:01.000 --> 00:02.000\none\n \ntwo\n\nstray\n\nid\n00:03.000 --> 00:04.000\nthree\n"
    )
    assert [turn.text for turn in read(tmp_path, text)] == ["one two", "three"]
    touching = "WEBVTT\n\n00:01.000 --> 00:02.000\none\n00:03.000 --> 00:04.000\ntwo\n"
    assert [turn.text for turn in read(tmp_path, touching)] == ["one", "two"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_subtitles(tmp_path / "none.srt")
