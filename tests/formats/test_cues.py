"""Layout of cues: width, lines, seconds, where they are cut, and what players would take for markup."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from lithophone.data.subtitles import read_subtitles
from lithophone.errors import OptionError
from lithophone.formats import CueOptions, to_srt, to_vtt
from lithophone.formats.cues import Cue, all_cues, columns, cues_of
from lithophone.transcript import Segment, Transcript, Word

SPEECH = (
    "Good morning to you and welcome back to the show, where we talk about everything that matters. Today we have a "
    "guest from far away, who has written eleven books on the subject, and whose twelfth, which is about the year "
    "2014, comes out tomorrow. Let us hear what she has to say, and then we will take your questions. "
)
JAPANESE = (
    "あらゆる現実をすべて自分のほうへねじ曲げたのだ。一週間ばかりニューヨークを取材した、「テレビゲームやパソコンで"
    "ゲームをして遊ぶ。」物価の変動を考慮して給付水準を決める必要がある。"
)
HOSTILE = "AT&T said: if x < y then stop"


def timed(text: str, start_s: float = 0.0, each_s: float = 0.3, pauses: dict[int, float] | None = None) -> Segment:
    """Words that last `each_s` with a tenth of it between them; pauses in front of some, by number."""
    words, at_s = [], start_s
    for number, word in enumerate(text.split()):
        at_s += (pauses or {}).get(number, 0.0)
        words.append(Word(word, at_s, at_s + 0.9 * each_s))
        at_s += each_s
    return Segment(text, start_s, at_s, tuple(words))


def shown(cue: Cue) -> list[str]:
    return cue.render().split("\n")


@pytest.mark.parametrize(
    "segment",
    [
        timed(4 * SPEECH),
        timed(SPEECH, 12.5, each_s=0.8),
        Segment(4 * SPEECH, 3.0, 105.0),
        Segment(2 * JAPANESE, 0.0, 51.0),
        Segment(SPEECH, 0.0, 27.0, speaker="Ann"),
        Segment("x" * 400 + " " + "漢" * 90, 0.0, 60.0),
        Segment("word " * 5, 0.0, 100.0),
    ],
    ids=["timed", "slow", "untimed", "japanese", "speaker", "long_words", "few_words"],
)
@pytest.mark.parametrize("options", [CueOptions(), CueOptions(20, 3, 4.0), CueOptions(60, 1, 2.5)])
def test_no_cue_is_wider_higher_or_longer_than_allowed(segment: Segment, options: CueOptions) -> None:
    cues = cues_of(segment, options)
    assert {columns(line) <= options.max_line_width for cue in cues for line in shown(cue)} == {True}
    assert {len(cue.lines) <= options.max_line_count for cue in cues} == {True}
    assert {0 < cue.end_s - cue.start_s <= options.max_cue_s + 1e-9 for cue in cues} == {True}
    assert {a.end_s <= b.start_s + 1e-9 for a, b in itertools.pairwise(cues)} == {True}
    assert cues[0].start_s >= segment.start_s
    assert cues[-1].end_s <= segment.end_s + 1e-9
    spans = [span for cue in cues for span in cue.lines]
    assert "".join(cues[0].text[a:b] for a, b in spans).replace(" ", "") == segment.text.replace(" ", "")


def test_102_seconds_of_speech_are_about_20_cues() -> None:
    """Faults, M1: there were 5 cues of 25 to 27 s with 367 to 376 characters in one line."""
    segment = timed(4 * SPEECH, each_s=102 / len((4 * SPEECH).split()))
    for write in (to_srt, to_vtt):
        blocks = write(Transcript((segment,), segment.end_s)).strip().split("\n\n")
        cues = [block.split("\n") for block in blocks if "-->" in block]
        assert 17 <= len(cues) <= 30
        for *_, times, first, second in (
            cue if len(cue) > (3 if write is to_srt else 2) else [*cue, ""] for cue in cues
        ):
            start_s, end_s = (seconds(time) for time in times.split(" --> "))
            assert 0 < end_s - start_s <= 7.0
            assert max(columns(TAG.sub("", line)) for line in (first, second)) <= 42


TAG = re.compile("<[^>]*>")


def seconds(time: str) -> float:
    minutes, rest = time.replace(",", ".").split(":")[-2:]
    return 60 * int(minutes) + float(rest)


def test_time_bounds_the_cues_of_slow_speech_as_width_does_those_of_fast_speech() -> None:
    slow = timed(SPEECH[:100], each_s=3.0)
    cues = cues_of(slow, CueOptions())
    assert max(cue.end_s - cue.start_s for cue in cues) <= 7.0
    assert len(cues) >= slow.end_s / 7.0
    fast = cues_of(timed(SPEECH, each_s=0.05), CueOptions())
    assert max(len(" ".join(shown(cue))) for cue in fast) <= 2 * 42 + 1


def test_cues_end_where_sentences_and_clauses_end() -> None:
    text = "It rained all day. We stayed at home, and read the book that she had given us for the new year."
    assert [shown(cue) for cue in cues_of(timed(text), CueOptions())] == [
        ["It rained all day."],
        ["We stayed at home, and read the book", "that she had given us for the new year."],
    ]


def test_cues_end_at_pauses_of_timed_words() -> None:
    text = "one two three four five six seven eight"
    (whole,) = cues_of(timed(text), CueOptions())
    assert shown(whole) == [text]
    first, second = cues_of(timed(text, pauses={3: 2.0}), CueOptions())
    assert (shown(first), shown(second)) == (["one two three"], ["four five six seven eight"])
    assert (first.start_s, first.end_s) == pytest.approx((0.0, 0.87))
    assert (second.start_s, second.end_s) == pytest.approx((2.9, 4.4))


def test_a_short_gap_is_closed_and_a_long_one_is_not() -> None:
    words = (Word("Yes.", 1.4, 1.8), Word("No.", 2.4, 2.8), Word("Never.", 9.0, 9.5))
    segment = Segment("Yes. No. Never.", 1.0, 10.0, words)
    assert [(cue.start_s, cue.end_s) for cue in cues_of(segment, CueOptions(max_line_width=7, max_line_count=1))] == [
        (1.0, 2.4), (2.4, 2.8), (9.0, 10.0),
    ]  # fmt: skip
    late = cues_of(Segment("Yes.", 0.0, 20.0, (Word("Yes.", 9.0, 9.4),)), CueOptions())
    assert [(cue.start_s, cue.end_s) for cue in late] == [(9.0, 9.4)]


def test_time_without_words_is_shared_out_by_characters() -> None:
    first, second = cues_of(Segment("abcdefghi jklmnopqr", 2.0, 6.0), CueOptions(10, 1))
    assert (first.start_s, first.end_s) == pytest.approx((2.0, 2.0 + 4 * 10 / 19))
    assert (second.start_s, second.end_s) == pytest.approx((first.end_s, 6.0))


def test_lines_of_japanese_begin_with_no_full_stop_and_end_with_no_opening_bracket() -> None:
    lines = [line for cue in cues_of(Segment(JAPANESE, 0.0, 20.0), CueOptions(16, 2)) for line in shown(cue)]
    assert "".join(lines) == JAPANESE
    assert not [line for line in lines if line[0] in "、。」ー" or line[-1] in "「"]


def test_no_line_but_the_first_is_a_number_alone() -> None:
    """Pysubs2 takes a last line of digits for the number of the next cue, and drops it."""
    for width in range(8, 43):
        cues = cues_of(Segment("That happened in the spring of 2014 or of 2015", 0, 6), CueOptions(width))
        assert not [line for cue in cues for line in shown(cue)[1:] if line.isdecimal()], width


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_line_width": 0}, {"max_line_width": 4.5}, {"max_line_count": -1}, {"max_line_count": True},
        {"max_cue_s": 0}, {"max_cue_s": float("nan")}, {"max_cue_s": "7"}, {"max_cue_s": None}, {"highlight_words": 1},
        {"max_line_width": 1001}, {"max_line_count": 101}, {"max_cue_s": 601}, {"max_cue_s": float("inf")},
        {"max_cps": 0}, {"max_cps": -17.0}, {"max_cps": float("inf")}, {"max_cps": "17"}, {"max_cps": True},
    ],
)  # fmt: skip
def test_impossible_layouts_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=rf"{next(iter(wrong))} .*: it must be"):
        CueOptions(**wrong)


def test_the_widest_layout_of_an_hour_takes_seconds() -> None:
    """A width without a bound was a loop over its columns for every cue."""
    segment = timed(SPEECH * 12, each_s=0.2)
    (cue, *_) = cues_of(segment, CueOptions(1000, 100, 600.0))
    assert len(cue.lines) > 1
    began = time.process_time()
    cues_of(Segment(JAPANESE * 9, 0.0, 300.0), CueOptions(1000, 1, 600.0))
    assert time.process_time() - began < 10


# --- reading speed, and cues of several speakers


def speed(cue: Cue) -> float:
    assert cue.length == len(cue.render())
    return len(cue.render()) / (cue.end_s - cue.start_s)


FAST = "It rained all day, and we stayed at home. Then we read."


def test_a_cue_that_is_too_fast_stays_on_in_the_pause_behind_it() -> None:
    talk = Transcript((timed(FAST[:41], 1.0, 0.1), timed(FAST[42:], 6.0, 0.5)), 9.0)
    fast, slow = all_cues(talk, CueOptions())
    assert (fast.start_s, fast.end_s, slow.start_s) == pytest.approx((1.0, 1.9, 6.0))
    assert speed(fast) > 40
    longer, same = all_cues(talk, CueOptions(max_cps=15.0))
    assert longer.end_s == pytest.approx(1.0 + 41 / 15, abs=0.001)
    assert same == slow


@pytest.mark.parametrize(
    ("next_s", "duration_s", "max_cue_s", "end_s"),
    [(2.5, 9.0, 7.0, 2.5), (6.0, 9.0, 2.0, 3.0), (None, 2.2, 7.0, 2.2)],
    ids=["next cue", "max_cue_s", "end of the recording"],
)
def test_it_stays_on_no_longer_than_it_may(
    next_s: float | None, duration_s: float, max_cue_s: float, end_s: float
) -> None:
    behind = () if next_s is None else (timed("Then we read.", next_s),)
    talk = Transcript((timed(FAST[:41], 1.0, 0.1), *behind), duration_s)
    assert all_cues(talk, CueOptions(max_cps=15.0, max_cue_s=max_cue_s))[0].end_s == end_s


def test_fast_speech_is_joined_with_slow_speech_where_both_can_be_read_then() -> None:
    text = "We came home late. And slept."
    words = (
        Word("We", 0.0, 0.1), Word("came", 0.1, 0.2), Word("home", 0.2, 0.3), Word("late.", 0.3, 0.4),
        Word("And", 1.0, 1.5), Word("slept.", 1.5, 3.0),
    )  # fmt: skip
    talk = Transcript((Segment(text, 0.0, 3.0, words),), 3.0)
    assert [shown(cue) for cue in all_cues(talk, CueOptions(max_line_count=1))] == [[text]]
    cut = CueOptions(max_line_width=18, max_line_count=1)
    assert [speed(cue) > 15 for cue in all_cues(talk, cut)] == [True, False]
    (whole,) = all_cues(talk, CueOptions(max_cps=15.0))
    assert speed(whole) < 15


@pytest.mark.parametrize("cps", [None, 5.0, 15.0])
def test_no_text_is_lost_and_times_stay_in_order_at_any_speed(cps: float | None) -> None:
    talk = Transcript((timed(2 * SPEECH, 0.0, 0.2), Segment(JAPANESE, 30.0, 45.0), timed(SPEECH, 44.0)), 100.0)
    cues = all_cues(talk, CueOptions(max_cps=cps))
    assert {a.start_s < a.end_s <= b.start_s for a, b in itertools.pairwise(cues)} == {True}
    said = "".join("".join(shown(cue)) for cue in cues).replace(" ", "")
    assert sorted(said) == sorted("".join(segment.text for segment in talk.segments).replace(" ", ""))


def test_who_speaks_in_between_is_shown_in_order_of_time() -> None:
    long = timed(SPEECH[:80], 0.0, 0.5)
    talk = Transcript((replace(long, speaker="A"), Segment("Yes.", 4.0, 4.4, speaker="B")), 10.0)
    cues = all_cues(talk, CueOptions())
    assert [cue.label for cue in cues] == ["[A]: ", "[B]: ", "[A]: "]
    assert cues[1].start_s == 4.0
    assert cues[0].end_s == 4.0


def test_words_of_several_speakers_in_a_segment_are_cues_of_their_own() -> None:
    words = (Word("Yes.", 0.0, 0.5, speaker="1"), Word("No.", 0.6, 1.0, speaker="2"))
    talk = Transcript((Segment("Yes. No.", 0.0, 1.0, words, "1"),), 1.0)
    assert [cue.render() for cue in all_cues(talk, CueOptions())] == ["[Speaker 1]: Yes.", "[Speaker 2]: No."]


@pytest.mark.parametrize("write", [to_srt, to_vtt])
@pytest.mark.parametrize("code", [0, 7, 0x1B, 0x85, 0x9F, 0xD800, 0xFFFE])
def test_characters_that_files_should_not_have_are_replaced(write: Any, code: int) -> None:
    text = write(Transcript((Segment(f"a{chr(code)}b", 0, 1, speaker=f"A{chr(code)}"),), 1.0))
    assert chr(code) not in text
    assert "a\ufffdb" in text or "a b" in text


# --- markup


def vtt_payload(segment: Segment) -> str:
    return to_vtt(Transcript((segment,), 9.0)).split("\n\n", 1)[1].split("\n", 1)[1].strip()


@pytest.mark.parametrize(
    ("segment", "payload"),
    [
        (Segment(HOSTILE, 0, 2), "AT&amp;T said: if x &lt; y then stop"),
        (Segment("Yes.", 0, 2, speaker="Ann & <Bob>"), "[Ann &amp; &lt;Bob&gt;]: Yes."),
        (
            Segment("R&B <b> 1", 0, 2, (Word("R&B", 0, 0.5), Word("<b>", 0.5, 1), Word("1", 1, 2))),
            "R&amp;B <00:00.500>&lt;b&gt; <00:01.000>1",
        ),
        (Segment("a --> b &amp; c &lt;d&gt;", 0, 2), "a --&gt; b &amp;amp; c &amp;lt;d&amp;gt;"),
        (Segment("</v><c.red>x", 0, 2), "&lt;/v&gt;&lt;c.red&gt;x"),
    ],
    ids=["text", "speaker", "stamped_words", "arrow_and_entities", "tags"],
)
def test_webvtt_escapes_text_speakers_and_stamped_words(segment: Segment, payload: str) -> None:
    """WebVTT 4.2.2: a cue text span holds no `&`, `<` or line terminator."""
    assert vtt_payload(segment) == payload


@pytest.mark.parametrize(
    "text",
    [
        HOSTILE,
        "a --> b ---> c",
        "<i>not a tag</i> <3",
        "&amp; &lt;b&gt;",
        "{\\an8} up",
        "[Music]: and",
        "12 < 13 > 2",
        "1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("write", [to_vtt, to_srt])
def test_what_is_written_is_read_again(tmp_path: Path, write: Any, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(write(Transcript((Segment(text, 0, 2), Segment("Bye.", 2, 3, speaker="1]: [2")), 9.0)))
    first, second = read_subtitles(path)
    full_width = str.maketrans("＜＞｛［", "<>{[")
    assert first.text.translate(full_width) == text
    assert (first.speaker, second.speaker, second.text) == (None, "1): (2", "Bye.")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("if x < y & <i>so</i>", "if x ＜ y & ＜i>so＜/i>"),
        ("x < y", "x < y"),
        ("a ---> b", "a ---＞ b"),
        ("{\\an8} {x}", "｛\\an8} {x}"),
        ("[Ann]: said", "［Ann]: said"),
    ],
)
def test_srt_has_no_escapes_so_markup_is_full_width(text: str, written: str) -> None:
    (line,) = to_srt(Transcript((Segment(text, 0, 2),), 2.0)).split("\n")[2:-2]
    assert line == written


def test_ffmpeg_reads_every_character_of_our_srt(tmp_path: Path) -> None:
    text = f"{HOSTILE} <b>now</b> and {{\\an8}} then, a --> b."
    (tmp_path / "a.srt").write_text(to_srt(Transcript((Segment(text, 0, 5),), 5.0)))
    with av.open(str(tmp_path / "a.srt")) as file:
        lines = [sub.ass.decode() for packet in file.demux() for sub in packet.decode()]
    read = " ".join(line.split(",,")[-1].replace("\\N", " ") for line in lines)
    assert read == "AT&T said: if x ＜ y then stop ＜b>now＜/b> and ｛\\an8} then, a --＞ b."
