"""Files of every format, read by a library of their own field: the same times, speakers and texts."""

from __future__ import annotations

import io
import random
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from lithophone.data.nist import ctm_words, rttm_turns
from lithophone.formats import FILE_FORMATS, CueOptions, encode, render
from lithophone.transcript import Segment, Transcript, TranscriptWarning, Word
from tests.formats.cases import CASES, HOSTILE

TRANSCRIPTS = {name: case.transcript for name, case in CASES.items()}
FULL_WIDTH = str.maketrans("＜＞｛［", "<>{[")


def random_talk(seed: int) -> Transcript:
    """Segments that overlap, touch, have no length, no words or words of another time."""
    chance = random.Random(seed)
    segments = []
    for _ in range(chance.randint(1, 12)):
        start_s = chance.choice((0.0, chance.uniform(0, 30), 3600 + chance.uniform(0, 3)))
        end_s = start_s + chance.choice((0.0, 0.001, chance.uniform(0, 9)))
        texts = [chance.choice(["a", "Yes,", '"no"', "<b>", "R&D", "日本", "12", "well-known."]) for _ in range(9)]
        words = tuple(Word(t, *sorted(chance.uniform(start_s, end_s) for _ in "ab"), chance.random()) for t in texts)
        speaker = chance.choice((None, "1", "2", "Ann B"))
        segments.append(Segment(" ".join(texts), start_s, end_s, words if chance.random() < 0.6 else (), speaker))
    return Transcript(tuple(segments), max(segment.end_s for segment in segments))


TALKS = {**TRANSCRIPTS, "hostile": HOSTILE, **{f"random_{seed}": random_talk(seed) for seed in range(12)}}


@pytest.fixture(params=TALKS, scope="module")
def talk(request: pytest.FixtureRequest) -> Transcript:
    return TALKS[request.param]


def ms(time_s: float | Decimal) -> int:
    return round(time_s * 1000)


# --- subtitles


def srt_cues(text: str) -> list[tuple[int, int, str]]:
    pysubs2 = pytest.importorskip("pysubs2")
    events = pysubs2.SSAFile.from_string(text, format_="srt")
    return [(one.start, one.end, one.plaintext.replace("\n", " ").translate(FULL_WIDTH)) for one in events]


def vtt_cues(text: str) -> list[tuple[int, int, str]]:
    webvtt = pytest.importorskip("webvtt")
    captions = webvtt.from_buffer(io.StringIO(text))
    return [(*(ms(to_s(one)) for one in (c.start, c.end)), c.text.replace("\n", " ")) for c in captions]


def to_s(time: str) -> float:
    hours, minutes, seconds = ("0:" * (2 - time.count(":")) + time).split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


@pytest.mark.parametrize("name", CASES)
def test_pysubs2_and_webvtt_read_the_cues(name: str) -> None:
    case = CASES[name]
    assert srt_cues(render("srt", case.transcript)) == list(case.cues)
    assert vtt_cues(render("vtt", case.transcript)) == list(case.cues)


@pytest.mark.parametrize("cues", [CueOptions(), CueOptions(12, 1, 2.0, highlight_words=True), CueOptions(max_cps=12.0)])
@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_no_cue_overlaps_the_next_or_has_no_duration(talk: Transcript, format: str, cues: CueOptions) -> None:
    read = (srt_cues if format == "srt" else vtt_cues)(render(format, talk, cues))
    ends = [0, *(end for _, end, _ in read)]
    assert [cue for cue, end in zip(read, ends, strict=False) if cue[0] < end or cue[1] <= cue[0]] == []
    assert bool(read) == bool(talk.text.strip())


@pytest.mark.parametrize("format", ["srt", "vtt"])
def test_hostile_text_stays_in_its_cues(format: str) -> None:
    read = (srt_cues if format == "srt" else vtt_cues)(render(format, HOSTILE))
    said = " ".join(text for _, _, text in read)
    assert said.count("end") == 3
    assert "\x00" not in said
    assert (read[0][0], read[-1][1]) == (500, 4000)


# --- ctm and rttm


def expected_words(transcript: Transcript) -> list[tuple[int, int, str]]:
    """Without regard to channels; words of segments without times share those of the segment."""
    return sorted((ms(w.start_s), max(ms(w.end_s), ms(w.start_s)), w.text) for w in transcript.words if w.text)


@pytest.mark.parametrize("name", [n for n, t in TRANSCRIPTS.items() if all(s.words for s in t.segments)])
def test_meeteval_reads_the_words(name: str) -> None:
    io_ = pytest.importorskip("meeteval").io
    lines = io_.CTM.parse(render("ctm", TRANSCRIPTS[name], recording="a talk")).lines
    read = [(ms(one.begin_time), ms(one.begin_time + one.duration), one.word) for one in lines]
    assert sorted(read) == expected_words(TRANSCRIPTS[name])
    assert {one.filename for one in lines} <= {"a_talk"}


def test_words_without_times_share_the_time_of_their_segment() -> None:
    assert render("ctm", TRANSCRIPTS["no_words"], recording="x") == (
        "x 1 0.000 0.333 It\nx 1 0.333 1.167 rained.\nx 1 2.000 0.286 We\nx 1 2.286 0.714 left.\n"
    )


def test_a_ctm_is_sorted_by_channel_and_start_and_has_confidence(talk: Transcript) -> None:
    rows = [line.split() for line in render("ctm", talk).splitlines()]
    assert {len(row) for row in rows} <= {5, 6}
    assert rows == sorted(rows, key=lambda row: (row[0], row[1], float(row[2])))
    assert all(0 <= float(row[5]) <= 1 for row in rows if len(row) == 6)


def test_our_reader_reads_words_of_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_text(render("ctm", TRANSCRIPTS["speakers"], recording="a"), encoding="utf-8")
    (words,) = ctm_words(path).values()
    assert [(w.text, w.start_s, w.confidence, w.speaker) for w in words] == [
        ("How", 0.5, 0.9, "1"), ("are", 0.8, 0.4, "1"), ("you?", 1.0, 0.7, "1"), ("Fine.", 1.6, 1.0, "Ann_B."),
        ("Good.", 2.25, 0.0, "1"),
    ]  # fmt: skip


def test_hostile_words_are_single_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.ctm"
    path.write_bytes(encode("ctm", HOSTILE, recording=" ;; a\tb\n"))
    (name,) = ctm_words(path)
    assert name == ";_a_b"
    words = ctm_words(path)[name]
    assert {"＜ALT_BEGIN>", ";", '"a', 'b"', "He"} <= {word.text for word in words}
    assert {word.speaker for word in words} == {'"Ann_<i>&_Bob"_[x]_;_\ufffd', "Ann_B", "Ann_B_2"}


OTHER_TURNS = {"short": [(1000, 1004), (2000, 2500)], "words_change_speaker": [(1000, 1400), (2000, 3000)]}
"""Turns that are not segments: one of no length is part of the next, and one of two speakers is two."""


@pytest.mark.parametrize("name", [*TRANSCRIPTS, "hostile"])
def test_meeteval_reads_the_turns(name: str) -> None:
    io_ = pytest.importorskip("meeteval").io
    lines = io_.RTTM.parse(render("rttm", TALKS[name], recording="a")).lines
    read = [(ms(one.begin_time), ms(one.begin_time + one.duration)) for one in lines]
    wanted = [(ms(s.start_s), ms(s.end_s)) for s in TALKS[name].segments if s.text.strip()]
    assert read == OTHER_TURNS.get(name, sorted(wanted))


def test_turns_of_a_speaker_do_not_overlap(talk: Transcript, tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_bytes(encode("rttm", talk))
    turns = rttm_turns(path).get("recording", ())
    ends: dict[str | None, float] = defaultdict(float)
    for turn in turns:
        assert ends[turn.speaker] <= turn.start_s + 1e-6 < turn.end_s
        ends[turn.speaker] = turn.end_s
    assert bool(turns) == bool(talk.text.strip())


def test_unknown_speakers_have_a_name() -> None:
    line = "SPEAKER recording 1 0.000 1.500 <NA> <NA> unknown <NA> <NA>"
    assert render("rttm", TRANSCRIPTS["no_words"]).splitlines()[0] == line


# --- TextGrid


def tiers(transcript: Transcript, folder: Path) -> dict[str, list[tuple[int, int, str]]]:
    """All intervals by tier, as praatio reads them; it refuses gaps in time and overlaps."""
    textgrid = pytest.importorskip("praatio.textgrid")
    path = folder / "a.TextGrid"
    path.write_bytes(encode("TextGrid", transcript))
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    return {tier.name: [(ms(a), ms(b), text) for a, b, text in tier.entries] for tier in grid.tiers}


def filled(intervals: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    return [one for one in intervals if one[2]]


def test_a_textgrid_has_no_gap_and_no_overlap(talk: Transcript, tmp_path: Path) -> None:
    found = tiers(talk, tmp_path)
    length = {intervals[-1][1] for intervals in found.values()}
    assert len(length) == 1
    assert length.pop() >= max(ms(talk.duration_s), 1)
    for intervals in found.values():
        assert [start for start, _, _ in intervals] == [0, *(end for _, end, _ in intervals[:-1])]
        assert all(start < end for start, end, _ in intervals)


@pytest.mark.parametrize("name", ["one_word", "no_words", "japanese", "hours"])
def test_praatio_reads_segments_and_words(name: str, tmp_path: Path) -> None:
    talk = TRANSCRIPTS[name]
    found = tiers(talk, tmp_path)
    assert filled(found["segments"]) == [(ms(s.start_s), ms(s.end_s), s.text) for s in talk.segments]
    assert filled(found.get("words", [])) == [(ms(w.start_s), ms(w.end_s), w.text) for w in talk.words]


def test_every_speaker_has_a_tier(tmp_path: Path) -> None:
    found = tiers(TRANSCRIPTS["speakers"], tmp_path)
    assert list(found) == ["Speaker 1", "Speaker 1 - words", "Ann B.", "Ann B. - words"]
    assert filled(found["Speaker 1"]) == [(500, 1500, "How are you?"), (2250, 2750, "Good.")]
    assert filled(found["Ann B. - words"]) == [(1600, 2000, "Fine.")]
    overlapping = tiers(TRANSCRIPTS["overlap"], tmp_path)
    assert [filled(one)[0][:2] for one in overlapping.values()] == [(0, 4000), (3000, 3800), (3000, 3500)]


def test_words_without_length_have_a_millisecond(tmp_path: Path) -> None:
    found = tiers(TRANSCRIPTS["short"], tmp_path)
    assert filled(found["words"]) == [
        (1000, 1001, "a"), (1001, 1002, "b"), (1002, 1004, "c"), (2000, 2001, "d"), (2100, 2500, "e"),
    ]  # fmt: skip


def test_hostile_text_stays_in_its_interval(tmp_path: Path) -> None:
    found = tiers(HOSTILE, tmp_path)
    assert list(found) == [
        '"Ann <i>& Bob" [x] ;; \ufffd', '"Ann <i>& Bob" [x] ;; \ufffd - words', "Ann_B", "Ann_B - words", "Ann B",
    ]  # fmt: skip
    (said,) = filled(found["Ann B"])
    assert said[:2] == (3000, 4000)
    assert said[2].startswith('He said "a b" & <b>c</b> 1 00:00:09,000 --> ')


# --- for people


def page_of(transcript: Transcript, recording: str = "recording") -> Any:
    """The page's tree; html5lib in strict mode refuses what HTML 5 calls a parse error."""
    html5lib = pytest.importorskip("html5lib")
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(encode("html", transcript, recording=recording).decode())


def test_a_page_shows_turns_times_and_words(talk: Transcript) -> None:
    page = page_of(talk)
    shown = ["".join(p.itertext()) for p in page.findall(".//main//p")]
    assert len(shown) >= len([s for s in talk.segments if s.text.strip()])
    times = [t.attrib["datetime"] for t in page.findall(".//main//time")]
    assert times == sorted(times, key=lambda time: float(time[2:-1]))


def test_a_page_names_speakers_and_shades_doubtful_words() -> None:
    page = page_of(TRANSCRIPTS["speakers"], "a <talk> & more")
    assert page.find(".//title").text == page.find(".//h1").text == "a <talk> & more"
    assert [h.text for h in page.findall(".//h2")] == ["Speaker 1", "Ann B.", "Speaker 1"]
    words = {span.text: (span.get("class"), span.get("title")) for span in page.findall(".//main//span")}
    assert words == {
        "How": (None, "0.50 s, 90%"), "are": ("c3", "0.80 s, 40%"), "you?": ("c2", "1.00 s, 70%"),
        "Fine.": (None, "1.60 s, 100%"), "Good.": ("c3", "2.25 s, 0%"),
    }  # fmt: skip
    assert page.find(".//p[@class='facts']").text == "0:04 · English · 2 speakers"


def test_a_page_asks_for_nothing_and_runs_nothing() -> None:
    page = page_of(HOSTILE, '"><script>alert(1)</script>')
    tags = {element.tag for element in page.iter()}
    assert tags & {"script", "link", "img", "iframe", "b", "i"} == set()
    assert not [e for e in page.iter() if set(e.keys()) & {"src", "href", "onclick", "style"}]
    policy = page.find(".//meta[@http-equiv]").get("content")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    style = page.find(".//style").text
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_a_page_lists_warnings() -> None:
    talk = Transcript((), 90.0, warnings=(TranscriptWarning("loop", "It repeats <itself>.", 61.0, 62.0),))
    page = page_of(talk)
    assert "".join(page.find(".//li").itertext()) == "1:01It repeats <itself>."


def paragraphs(transcript: Transcript, recording: str = "recording") -> list[tuple[str, str]]:
    docx = pytest.importorskip("docx")
    document = docx.Document(io.BytesIO(encode("docx", transcript, recording=recording)))
    assert document.core_properties.title == recording.replace("\x00", "\ufffd")
    return [(p.style.name, p.text) for p in document.paragraphs]


def test_python_docx_reads_speakers_times_and_texts() -> None:
    assert paragraphs(TRANSCRIPTS["speakers"], "talk & <more>\x00") == [
        ("Title", "talk & <more>\ufffd"), ("Subtitle", "0:04 · English · 2 speakers"), ("Heading 2", "Speaker 1"),
        ("Normal", "0:00 How are you?"), ("Heading 2", "Ann B."), ("Normal", "0:01 Fine."), ("Heading 2", "Speaker 1"),
        ("Normal", "0:02 Good."),
    ]  # fmt: skip
    assert paragraphs(TRANSCRIPTS["hours"])[-1] == ("Normal", "2:59:59 End.")


@pytest.mark.parametrize("language", ["de", "pt-BR", None])
def test_a_document_names_its_language(language: str | None) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document(io.BytesIO(encode("docx", Transcript((), 1.0, language))))
    named = document.styles.element.xpath("//w:lang/@w:val")
    assert named == ([] if language is None else [language])


def test_every_talk_is_a_document(talk: Transcript) -> None:
    said = [text for style, text in paragraphs(talk) if style == "Normal"]
    assert len(said) >= len([s for s in talk.segments if s.text.strip()])


@pytest.mark.parametrize("format", FILE_FORMATS)
def test_equal_transcripts_are_equal_bytes(format: str) -> None:
    assert encode(format, HOSTILE) == encode(format, HOSTILE)
