"""Formats, byte for byte."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import replace

import pytest

from lithophone.errors import OptionError
from lithophone.formats import FORMATS, CueOptions, encode, render
from lithophone.transcript import Segment, Transcript, TranscriptWarning, Word

WORDS = (Word("Hello", 0.0, 0.5, 0.5), Word("there.", 0.5, 1.2345, 1.0))
HELLO = Segment("Hello there.", 0.0, 1.2345)
TRANSCRIPT = Transcript(
    segments=(
        HELLO,
        Segment(" a --> b\tc ", 59.9996, 65.5),
        Segment("Größe 日本", 3600.0, 3606.25),
    ),
    duration_s=3662.00049,
    language="en",
    warnings=(TranscriptWarning("loop", "The text repeats itself.", 1.0, 2.0),),
)
TIMED = replace(TRANSCRIPT, segments=(replace(HELLO, words=WORDS), *TRANSCRIPT.segments[1:]))
EMPTY = Transcript((), 0.5)

EXPECTED = {
    "txt": "Hello there.\na --> b\tc\nGröße 日本\n",
    "srt": (
        "1\n00:00:00,000 --> 00:00:01,234\nHello there.\n\n"
        "2\n00:01:00,000 --> 00:01:05,500\na --＞ b c\n\n"
        "3\n01:00:00,000 --> 01:00:06,250\nGröße 日本\n\n"
    ),
    "vtt": (
        "WEBVTT\n\n"
        "00:00.000 --> 00:01.234\nHello there.\n\n"
        "01:00.000 --> 01:05.500\na --&gt; b c\n\n"
        "01:00:00.000 --> 01:00:06.250\nGröße 日本\n\n"
    ),
    "tsv": "start\tend\ttext\n0\t1234\tHello there.\n60000\t65500\ta --> b c\n3600000\t3606250\tGröße 日本\n",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_lines(name: str) -> None:
    assert FORMATS[name](TRANSCRIPT) == EXPECTED[name]


@pytest.mark.parametrize("name", ["txt", "tsv"])
def test_words_change_nothing_where_they_have_no_place(name: str) -> None:
    assert FORMATS[name](TIMED) == EXPECTED[name]


SAID_WORDS = (
    Word("Well", 1.2, 1.5),
    Word("-", 1.5, 1.5),
    Word("hello", 1.5, 1.9),
    Word("there,", 2.0, 2.4),
    Word("1.", 2.4, 3.0),
)
KARAOKE = CueOptions(highlight_words=True)
SAID = Segment("Well - hello there, 1.", 1.0, 3.0, SAID_WORDS, "1")


def test_srt_underlines_the_word_that_is_said() -> None:
    assert render("srt", Transcript((SAID,), 3.0), KARAOKE) == "".join(
        f"{number}\n00:00:0{start} --> 00:00:0{end}\n[Speaker 1]: {text}\n\n"
        for number, (start, end, text) in enumerate(
            [
                ("1,000", "1,200", "Well - hello there, 1."),
                ("1,200", "1,500", "<u>Well</u> - hello there, 1."),
                ("1,500", "1,900", "Well - <u>hello</u> there, 1."),
                ("1,900", "2,000", "Well - hello there, 1."),
                ("2,000", "2,400", "Well - hello <u>there,</u> 1."),
                ("2,400", "3,000", "Well - hello there, <u>1.</u>"),
            ],
            start=1,
        )
    )


def test_vtt_words_have_stamps_that_rise_inside_the_cue() -> None:
    line = "[Speaker 1]: <00:01.200>Well - <00:01.500>hello <00:02.000>there, <00:02.400>1."
    assert FORMATS["vtt"](Transcript((SAID,), 3.0)) == f"WEBVTT\n\n00:01.000 --> 00:03.000\n{line}\n\n"
    late = replace(SAID, start_s=1.2, end_s=2.4)
    assert "<00:01.200>" not in FORMATS["vtt"](Transcript((late,), 3.0))
    assert "<00:02.400>" not in FORMATS["vtt"](Transcript((late,), 3.0))


def test_srt_is_plain_unless_words_are_to_be_highlighted() -> None:
    assert FORMATS["srt"](Transcript((SAID,), 3.0)) == (
        "1\n00:00:01,000 --> 00:00:03,000\n[Speaker 1]: Well - hello there, 1.\n\n"
    )


def test_words_that_a_cue_does_not_show_are_left_out_and_the_text_stays() -> None:
    words = (Word("a", 0.0, 0.4), Word("lost", 0.4, 0.5), Word("-->", 0.4, 0.4), Word("b", 0.5, 1.0))
    srt = render("srt", Transcript((Segment("a --> b", 0.0, 1.0, words),), 1.0), KARAOKE)
    assert [cue.split("\n")[2] for cue in srt.split("\n\n")[:-1]] == ["<u>a</u> --＞ b", "a --＞ b", "a --＞ <u>b</u>"]


@pytest.mark.parametrize(
    ("name", "times"), [("srt", "00:00:01,000 --> 00:00:01,001"), ("vtt", "00:01.000 --> 00:01.001")]
)
def test_a_cue_ends_after_it_starts(name: str, times: str) -> None:
    """WebVTT 4.1: the end is greater than the start."""
    moment = Transcript((Segment("yes", 1.0, 1.0, (Word("yes", 1.0, 1.0),)),), 1.0)
    assert times in render(name, moment)
    assert times in render(name, moment, KARAOKE)


@pytest.mark.parametrize(
    ("name", "text"), [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n")]
)
def test_nothing_was_said(name: str, text: str) -> None:
    assert FORMATS[name](EMPTY) == text
    assert FORMATS[name](Transcript((Segment("  ", 0, 1),), 1.0)) == text


def test_blank_lines_would_end_a_cue() -> None:
    two_lines = Transcript((Segment("one\n\n two \n", 0, 1),), 1.0)
    assert FORMATS["srt"](two_lines) == "1\n00:00:00,000 --> 00:00:01,000\none two\n\n"
    assert FORMATS["tsv"](two_lines).endswith("one two\n")


@pytest.mark.parametrize(("speaker", "line"), [("1", "[Speaker 1]: Yes.\n"), ("Ann", "[Ann]: Yes.\n")])
def test_speakers_are_named(speaker: str, line: str) -> None:
    assert FORMATS["txt"](Transcript((Segment("Yes.", 0, 1, speaker=speaker),), 1.0)) == line


def test_json() -> None:
    values = json.loads(FORMATS["json"](TIMED))
    assert list(values) == ["text", "language", "task", "duration", "segments", "warnings"]
    assert values["text"] == TRANSCRIPT.text
    assert values["duration"] == 3662.0
    assert values["segments"][0] == {
        "id": 0,
        "start": 0.0,
        "end": 1.234,
        "text": "Hello there.",
        "probability": 0.75,
        "words": [
            {"word": "Hello", "start": 0.0, "end": 0.5, "probability": 0.5},
            {"word": "there.", "start": 0.5, "end": 1.234, "probability": 1.0},
        ],
    }
    assert values["segments"][2] == {"id": 2, "start": 3600.0, "end": 3606.25, "text": "Größe 日本"}
    assert values["warnings"] == [{"code": "loop", "message": "The text repeats itself.", "start": 1.0, "end": 2.0}]


def test_json_names_speakers() -> None:
    word = Word("Yes.", 0, 1, speaker="2")
    (segment,) = json.loads(FORMATS["json"](Transcript((Segment("Yes.", 0, 1, (word,), "2"),), 1.0)))["segments"]
    assert segment["speaker"] == segment["words"][0]["speaker"] == "2"


def test_verbose_json_has_the_fields_of_openais_api() -> None:
    values = json.loads(FORMATS["verbose_json"](TIMED))
    assert {k: values[k] for k in ("task", "language", "duration")} == {
        "task": "transcribe",
        "language": "english",
        "duration": 3662.0,
    }
    assert [word["word"] for word in values["words"]] == ["Hello", "there."]
    first = values["segments"][0]
    assert list(first) == [
        "id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio",
        "no_speech_prob",
    ]  # fmt: skip
    assert first["avg_logprob"] == pytest.approx(math.log(0.5) / 2, abs=1e-4)
    assert (first["id"], first["tokens"], first["temperature"], first["no_speech_prob"]) == (0, [], 0.0, 0.0)
    assert [segment["seek"] for segment in values["segments"]] == [0, 6000, 360_000]
    assert first["compression_ratio"] == round(12 / len(zlib.compress(b"Hello there.")), 4) == 0.6


def test_a_confidence_of_zero_is_the_smallest_logarithm_that_is_written() -> None:
    words = (Word("a", 0.0, 0.5, 0.0), Word("b", 0.5, 1.0, 1e-3), Word("c", 1.0, 1.5))
    (segment,) = json.loads(render("verbose_json", Transcript((Segment("a b c", 0.0, 1.5, words),), 2.0)))["segments"]
    assert segment["avg_logprob"] == round((math.log(1e-6) + math.log(1e-3)) / 2, 4) == -10.3616
    assert [word["probability"] for word in segment_words(words)] == [0.0, 0.001]


def segment_words(words: tuple[Word, ...]) -> list[dict[str, float]]:
    values = json.loads(render("json", Transcript((Segment("a b c", 0.0, 1.5, words),), 2.0)))
    return [word for word in values["segments"][0]["words"] if "probability" in word]


@pytest.mark.parametrize(
    ("language", "name"), [("pt-BR", "portuguese"), ("ja", "japanese"), ("xx", "xx"), (None, "unknown")]
)
def test_languages_have_the_names_of_openais_api(language: str | None, name: str) -> None:
    assert json.loads(render("verbose_json", Transcript((), 0.5, language)))["language"] == name


def test_verbose_json_of_nothing() -> None:
    assert json.loads(FORMATS["verbose_json"](EMPTY)) == {
        "task": "transcribe",
        "language": "unknown",
        "duration": 0.5,
        "text": "",
        "segments": [],
    }


def test_repeating_text_compresses_well() -> None:
    looping = json.loads(FORMATS["verbose_json"](Transcript((Segment("no " * 200, 0, 1),), 1.0)))
    assert looping["segments"][0]["compression_ratio"] > 2.4


def test_an_unknown_format_and_bytes_in_the_place_of_text_are_named() -> None:
    with pytest.raises(OptionError, match=r"unknown format 'doc'; allowed are txt, srt"):
        render("doc", EMPTY)
    with pytest.raises(OptionError, match=r"unknown format 'doc'"):
        encode("doc", EMPTY)
    with pytest.raises(OptionError, match=r"docx is no text: lithophone.formats.encode"):
        render("docx", EMPTY)


def test_json_is_read_again() -> None:
    speakers = (Segment("Yes.", 0.5, 1.25, (Word("Yes.", 0.5, 1.0, 0.25, "2"),), "2"), Segment("Non", 2.0, 3.5))
    warning = TranscriptWarning("loop", "The text repeats itself.", 1.0, 2.0)
    transcript = Transcript(speakers, 4.0, "fr", "translate", (warning,))
    assert Transcript.from_dict(json.loads(render("json", transcript))) == transcript
    assert Transcript.from_dict(TIMED.to_dict()) == TIMED
    assert Transcript.from_dict(json.loads(render("json", EMPTY))) == EMPTY
    with pytest.raises(KeyError):
        Transcript.from_dict({"segments": [{"text": "a", "start": 0.0}], "duration": 1.0})
