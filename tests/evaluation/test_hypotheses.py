"""Hypotheses of any system: all kinds of files, the names that match, what is left over, and what is refused."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError, OptionError
from lithophone.evaluation.hypotheses import EstimatedWord, Hypothesis, read_hypotheses
from lithophone.evaluation.matching import match, with_speakers
from lithophone.evaluation.tally import count_clip
from lithophone.formats import to_json
from lithophone.transcript import Segment, Transcript, Word

CTM = "a 1 0.5 0.25 stone\na 1 0 0.5 red\nb 1 0 1 hello\n"
STM = "a 1 ann 1 2 there\na 1 bob 0 1 <o,f0,male> hello\nb 1 ann 0 1 ignore_time_segment_in_scoring\n"
RTTM = "SPEAKER a 1 0 0.55 <NA> <NA> bob <NA> <NA>\nSPEAKER a 1 0.55 1 <NA> <NA> ann <NA> <NA>\n"
SRT = "1\n00:00:00,000 --> 00:00:01,500\nRed stone.\n\n2\n00:00:01,500 --> 00:00:02,000\n[Ann]: Yes.\n"
VTT = "WEBVTT\n\n00:00.000 --> 00:01.500\nRed stone.\n"


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def jsonl(folder: Path, *lines: object) -> Path:
    return written(folder, "hyp.jsonl", "\n".join(json.dumps(line) for line in lines))


def heard(*names: str) -> dict[str, Hypothesis]:
    return {name: Hypothesis(name, f"text of {name}") for name in names}


def said(*names: str) -> list[Entry]:
    return [Entry(Path("/set") / name, "words", "en", name=name) for name in names]


# --- reading


def test_jsonl(tmp_path: Path) -> None:
    words = [{"text": "Red", "start": 0, "end": 0.5, "speaker": "A"}]
    segments = [{"text": "Red", "start": 0, "end": 0.5}, {"text": "", "start": 1, "end": 2, "speaker": 1}]
    path = jsonl(
        tmp_path,
        {"audio": "x/a.wav", "hyp": "Red", "text": "the reference", "words": words, "segments": segments},
        {"id": "b", "audio": "x/a.wav", "text": ""},
        {"audio_filepath": "c.wav", "text": "the reference", "pred_text": "as NeMo writes"},
    )
    found = read_hypotheses(path)
    assert list(found) == ["x/a.wav", "b", "c.wav"]
    assert found["x/a.wav"] == Hypothesis(
        "x/a.wav",
        "Red",
        (Word("Red", 0.0, 0.5, speaker="A"),),
        (Segment("Red", 0.0, 0.5), Segment("", 1.0, 2.0, speaker="1")),
    )
    assert found["b"] == Hypothesis("b", "")
    assert found["c.wav"].text == "as NeMo writes"


def test_json_of_one_clip(tmp_path: Path) -> None:
    """As whisper writes it, and as we do."""
    words = [{"word": " Red", "start": 0.0, "end": 0.5, "probability": 0.9}, {"word": " stone.", "start": 1, "end": 2}]
    segment = {"id": 0, "seek": 0, "start": 0.0, "end": 2.0, "text": " Red stone.", "tokens": [1], "words": words}
    path = written(tmp_path, "a.json", json.dumps({"text": " Red stone.", "segments": [segment]}, indent=2))
    found = read_hypotheses(path)["a"]
    assert found.words == (Word("Red", 0.0, 0.5), Word("stone.", 1.0, 2.0))
    assert [(turn.text, turn.start_s, turn.end_s) for turn in found.turns] == [("Red stone.", 0.0, 2.0)]
    turns = (Segment("Red stone.", 0.0, 2.0, found.words, "Ann"), Segment("Yes.", 2.0, 2.5, (Word("Yes.", 2.0, 2.5),)))
    found = read_hypotheses(written(tmp_path, "b.json", to_json(Transcript(turns, 3.0, "en"))))["b"]
    assert found == Hypothesis("b", "Red stone. Yes.", (*turns[0].words, *turns[1].words), turns)
    lines = '{"audio_filepath": "c", "pred_text": "red"}\n{"audio_filepath": "d", "pred_text": "stone"}\n'
    assert list(read_hypotheses(written(tmp_path, "lines.json", lines))) == ["c", "d"]
    assert list(read_hypotheses(written(tmp_path, "line.json", lines.split("\n")[0]))) == ["c"]
    with pytest.raises(ManifestError, match="line 1: not JSON"):
        read_hypotheses(written(tmp_path, "broken.json", '{"text":'))


SAID = [
    {"word": "We", "start": 0.4, "end": 0.6, "score": 0.9},
    {"word": "met", "start": 0.7, "end": 1.0, "score": 0.8},
    {"word": "in", "start": 1.1, "end": 1.2, "score": 0.8},
    {"word": "2014."},
]
LEFT = [{"word": "He", "start": 2.5, "end": 2.6, "score": 0.8}, {"word": "left.", "start": 2.7, "end": 3.0}]
SEGMENTS = [
    {"start": 0.4, "end": 1.9, "text": " We met in 2014.", "words": SAID},
    {"start": 2.5, "end": 3.0, "text": " He left.", "words": LEFT},
]


@pytest.mark.parametrize(
    "top", [{"word_segments": SAID + LEFT, "language": "en"}, {"text": "We met in 2014. He left."}]
)
def test_whisperx_gives_numbers_no_times_and_has_no_text_at_the_top(tmp_path: Path, top: dict[str, object]) -> None:
    """Faults, F11: the text is that of the segments, times are those of the words that have some."""
    written(tmp_path, "x/talk.json", json.dumps({"segments": SEGMENTS, **top}))
    for path in (tmp_path / "x" / "talk.json", tmp_path / "x"):
        found = read_hypotheses(path)["talk"]
        assert found.text == "We met in 2014. He left."
        assert [word.text for word in found.timed_words] == ["We", "met", "in", "He", "left."]
        assert found.words[3] == EstimatedWord("2014.", 1.2, 1.2)
        assert [turn.text for turn in found.turns] == ["We met in 2014.", "He left."]


def test_a_word_without_times_is_cut_with_its_neighbours(tmp_path: Path) -> None:
    path = written(tmp_path, "talk.json", json.dumps({"segments": SEGMENTS}))
    entries = [
        Entry(Path("talk.wav"), "x", "en", name=f"t{n}", start_s=a, end_s=b) for n, a, b in ((0, 0, 2), (1, 2, 4))
    ]
    pairs = match(entries, read_hypotheses(path)).pairs
    assert [hypothesis.text for _, hypothesis in pairs if hypothesis] == ["We met in 2014.", "He left."]


@pytest.mark.parametrize(
    ("values", "text", "timed"),
    [
        ({"words": [{"word": "red"}, {"word": "stone", "start": 1, "end": 2}]}, "red stone", ["stone"]),
        ({"words": [{"word": "red", "start": None, "end": None}, {"word": "stone"}]}, "red stone", []),
        ({"segments": [{"text": "red"}, {"text": "stone", "start": 1, "end": 2}]}, "red stone", []),
        ({"segments": []}, "", []),
        ({"hyp": "blue", "segments": SEGMENTS[:1]}, "blue", ["We", "met", "in"]),
    ],
    ids=["no_segments", "null_times", "segments_without_times", "nothing_said", "a_text_of_its_own"],
)
def test_a_missing_detail_refuses_no_text(
    tmp_path: Path, values: dict[str, object], text: str, timed: list[str]
) -> None:
    found = read_hypotheses(jsonl(tmp_path, {"id": "a", **values}))["a"]
    assert (found.text, [word.text for word in found.timed_words]) == (text, timed)


@pytest.mark.parametrize(
    "times", [{"start": 2, "end": 1}, {"start": -1, "end": 1}, {"start": "1", "end": "2"}, {"start": 1}]
)
def test_impossible_times_are_malformed_and_the_text_is_scored(tmp_path: Path, times: dict[str, object]) -> None:
    values = {
        "id": "a",
        "hyp": "red stone",
        "words": [{"text": "red", "start": 0, "end": 1}, {"text": "stone", **times}],
    }
    found = read_hypotheses(jsonl(tmp_path, values))["a"]
    entry = Entry(Path("a.wav"), "red stone", "en", words=(Word("red", 0, 1), Word("stone", 1, 2)))
    tally = count_clip(entry, found, timed=True)
    assert tally.counts.errors == 0
    assert (tally.times.malformed, tally.times.outputs) == (1, 1)


def test_ctm_stm_and_rttm(tmp_path: Path) -> None:
    ctm = read_hypotheses(written(tmp_path, "file.ctm", CTM))
    assert ctm["a"] == Hypothesis("a", "red stone", (Word("red", 0.0, 0.5), Word("stone", 0.5, 0.75)))
    assert ctm["b"].text == "hello"
    stm = read_hypotheses(written(tmp_path, "file.stm", STM))
    assert stm["a"].text == "hello there"
    assert stm["a"].turns == (Segment("hello", 0.0, 1.0, speaker="bob"), Segment("there", 1.0, 2.0, speaker="ann"))
    assert (stm["b"].text, len(stm["b"].turns)) == ("", 1)
    rttm = read_hypotheses(written(tmp_path, "file.rttm", RTTM))
    assert (rttm["a"].text, [turn.speaker for turn in rttm["a"].turns]) == ("", ["bob", "ann"])
    assert read_hypotheses(written(tmp_path, "file.out", CTM), "ctm") == ctm


@pytest.mark.parametrize("spelled", [str.upper, str.title])
def test_a_turn_out_of_bounds_is_no_text_in_any_case(tmp_path: Path, spelled: Callable[[str], str]) -> None:
    """Faults, F23: NIST writes the mark in capitals."""
    mark = "ignore_time_segment_in_scoring"
    stm = f"a 1 nobody 0 1 {spelled(mark)}\na 1 ann 1 2 hello\na 1 nobody 2 3 <o,,unknown> {spelled(mark)}\n"
    assert read_hypotheses(written(tmp_path, "file.stm", stm))["a"].text == "hello"


def test_subtitles_and_text(tmp_path: Path) -> None:
    found = read_hypotheses(written(tmp_path, "a.srt", SRT))
    assert found["a"].text == "Red stone. Yes."
    assert found["a"].turns == (Segment("Red stone.", 0.0, 1.5), Segment("Yes.", 1.5, 2.0, speaker="Ann"))
    assert found["a"].words == ()
    assert read_hypotheses(written(tmp_path, "a.vtt", VTT))["a"].text == "Red stone."
    timed = read_hypotheses(written(tmp_path, "b.vtt", VTT.replace("stone", "<00:00.500>stone")))["b"]
    assert timed.words == (Word("Red", 0.0, 0.5), Word("stone.", 0.5, 1.5))
    assert read_hypotheses(written(tmp_path, "a.txt", "Red stone.\n\n Yes. \n"))["a"].text == "Red stone. Yes."


def test_a_folder(tmp_path: Path) -> None:
    written(tmp_path, "en/a.srt", SRT)
    written(tmp_path, "fr/a.srt", SRT)
    written(tmp_path, "fr/silent.srt", "")
    written(tmp_path, "fr/a.log", "not read")
    found = read_hypotheses(tmp_path)
    assert {name: hypothesis.text for name, hypothesis in found.items()} == {
        "en/a": "Red stone. Yes.", "fr/a": "Red stone. Yes.", "fr/silent": "",
    }  # fmt: skip
    written(tmp_path, "en/a.vtt", VTT)
    with pytest.raises(OptionError, match=r"several kinds \(3 srt, 1 vtt\)|several kinds \(1 vtt, 3 srt\)"):
        read_hypotheses(tmp_path)
    assert list(read_hypotheses(tmp_path, "vtt")) == ["en/a"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: a list, not an object with id or audio"),
        ('{"hyp": "red"}', "line 2: id or audio or audio_filepath must be there, as text; the keys are hyp"),
        ('{"id": 3, "hyp": "red"}', "line 2: id or audio"),
        ('{"id": "b"}', "line 2: hyp or pred_text or text must be there"),
        ('{"id": "b", "hyp": null}', "line 2: hyp or pred_text or text must be there"),
        ('{"id": "b", "hyp": "red", "words": [{"start": 1, "end": 2}]}', "line 2: words has .* must be an object"),
        ('{"id": "b", "hyp": "red", "segments": 3}', "line 2: segments is a int"),
        ('{"id": "b", "hyp": "red", "segments": ["red"]}', "line 2: segments has 'red'"),
        (
            '{"id": "b", "hyp": "red", "segments": [{"start": 1, "end": 2}]}',
            "line 2: segments has .* must be an object",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_hypotheses(written(tmp_path, "hyp.jsonl", f'{{"id": "a", "hyp": ""}}\n{line}\n'))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"'a' is there twice: in .*line 1 and .*line 3"):
        read_hypotheses(jsonl(tmp_path, {"id": "a", "hyp": ""}, {"id": "b", "hyp": ""}, {"audio": "a", "hyp": ""}))
    with pytest.raises(ManifestError, match="there is no file or folder"):
        read_hypotheses(tmp_path / "none.jsonl")
    for name in ("empty.jsonl", "empty.srt", "empty.ctm"):
        with pytest.raises(ManifestError, match="has no hypotheses"):
            read_hypotheses(written(tmp_path, name, ""))
    with pytest.raises(ManifestError, match="has no hypotheses"):
        read_hypotheses(written(tmp_path, "comment.ctm", ";; nothing\n"))
    with pytest.raises(OptionError, match="is that of no kind"):
        read_hypotheses(written(tmp_path, "file.out", CTM))
    with pytest.raises(OptionError, match="of kind 'csv': choose one of jsonl, json, ctm"):
        read_hypotheses(tmp_path / "file.out", "csv")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ManifestError, match="has no hypotheses"):
        read_hypotheses(tmp_path / "folder")
    for name in ("one.ctm", "two.ctm"):
        written(tmp_path, f"folder/{name}", CTM)
    with pytest.raises(ManifestError, match=r"'a' is there twice: in .*one.ctm and .*two.ctm"):
        read_hypotheses(tmp_path / "folder")


# --- matching


def test_names_as_written_come_first(tmp_path: Path) -> None:
    entries = said("x/a.wav", "y/a.wav", "x/b.wav", "c.1", "d.wav", "e.wav")
    hypotheses = heard("y/a.wav", "x/a", "somewhere/b.mp3", "c.1", "f.wav", "e")
    matched = match(entries, hypotheses)
    assert [(entry.name, hypothesis and hypothesis.name) for entry, hypothesis in matched.pairs] == [
        ("x/a.wav", "x/a"),
        ("y/a.wav", "y/a.wav"),
        ("x/b.wav", "somewhere/b.mp3"),
        ("c.1", "c.1"),
        ("d.wav", None),
        ("e.wav", "e"),
    ]
    assert matched.without_hypothesis == ("d.wav",)
    assert matched.without_reference == ("f.wav",)
    assert matched.outside == 0


def test_what_two_could_mean_is_left_over() -> None:
    matched = match(said("x/a.wav", "y/a.wav"), heard("a"))
    assert matched.without_hypothesis == ("x/a.wav", "y/a.wav")
    assert matched.without_reference == ("a",)
    matched = match(said("a.wav"), heard("x/a.wav", "y/a.wav"))
    assert matched.without_reference == ("x/a.wav", "y/a.wav")
    # That one has gone already does not tell what the other one is.
    matched = match(said("x/a.wav", "y/a.wav"), heard("z/a.wav", "y/a.wav"))
    assert [hypothesis and hypothesis.name for _, hypothesis in matched.pairs] == [None, "y/a.wav"]


def test_paths_that_begin_differently() -> None:
    """The same file name in the folders of two languages, and a system that was given absolute paths."""
    matched = match(said("en/a.wav", "fr/a.wav", "fr/b.wav"), heard("/data/fr/a.flac", "/data/en/a.flac", "b"))
    names = [hypothesis and hypothesis.name for _, hypothesis in matched.pairs]
    assert names == ["/data/en/a.flac", "/data/fr/a.flac", "b"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("s.wav", "C:\\talks\\s.wav"),
        ("clips\\s.wav", "/home/me/clips/s.flac"),
        (unicodedata.normalize("NFC", "café/Ångström.wav"), unicodedata.normalize("NFD", "café/Ångström.wav")),
        (unicodedata.normalize("NFD", "café.wav"), "D:\\" + unicodedata.normalize("NFC", "café.wav")),
    ],
)
def test_names_match_in_any_unicode_form_and_with_backslashes(ours: str, theirs: str) -> None:
    """Faults, M3."""
    ((_, hypothesis),) = match([Entry(Path(ours), "x", "en", name=ours)], {theirs: Hypothesis(theirs, "y")}).pairs
    assert hypothesis == Hypothesis(theirs, "y")


def test_numbers_behind_a_dot_are_no_suffix() -> None:
    matched = match(said("utt.1", "utt.2"), heard("x/utt.2", "x/utt.1"))
    assert [hypothesis and hypothesis.name for _, hypothesis in matched.pairs] == ["x/utt.1", "x/utt.2"]


def test_entries_without_a_name_go_by_their_file() -> None:
    entry = Entry(Path("/set/a.wav"), "words", "en")
    assert match([entry], heard("a")).pairs == ((entry, Hypothesis("a", "text of a")),)


def test_two_entries_with_one_name() -> None:
    with pytest.raises(ManifestError, match=r"1 names are there twice in the manifest; the first is 'a.wav'"):
        match([*said("a.wav", "b.wav"), *said("a.wav")], heard("a.wav"))


STRETCHES = [
    Entry(Path("/set/talk.wav"), "a", "en", 1.0, name="talk-0", start_s=1.0, end_s=2.0),
    Entry(Path("/set/talk.wav"), "b c", "en", 2.0, name="talk-1", start_s=2.0, end_s=4.0),
    Entry(Path("/set/talk.wav"), "", "en", 1.0, name="talk-2", start_s=8.0, end_s=9.0),
]


def test_a_whole_recording_is_cut_by_its_words() -> None:
    words = (Word("zero", 0.0, 0.9), Word("a", 0.9, 1.5), Word("b", 1.5, 2.5), Word("c", 3.5, 4.4), Word("d", 4.4, 5.0))
    matched = match(STRETCHES, {"talk": Hypothesis("talk", "zero a b c d", words)})
    assert [hypothesis for _, hypothesis in matched.pairs] == [
        Hypothesis("talk-0", "a", (Word("a", 0.0, 0.5),)),
        Hypothesis("talk-1", "b c", (Word("b", 0.0, 0.5), Word("c", 1.5, pytest.approx(2.4)))),
        Hypothesis("talk-2", ""),
    ]
    assert matched.outside == 2
    assert matched.without_hypothesis == matched.without_reference == ()


def test_a_whole_recording_is_cut_by_its_turns() -> None:
    turns = (Segment("a", 1.0, 2.0, (Word("a", 1.5, 2.0),), "ann"), Segment("b c", 2.0, 4.0, speaker="bob"))
    matched = match(STRETCHES, {"x/talk.wav": Hypothesis("x/talk.wav", "a b c", turns=turns)})
    assert [hypothesis for _, hypothesis in matched.pairs] == [
        Hypothesis("talk-0", "a", turns=(Segment("a", 0.0, 1.0, (Word("a", 0.5, 1.0),), "ann"),)),
        Hypothesis("talk-1", "b c", turns=(Segment("b c", 0.0, 2.0, speaker="bob"),)),
        Hypothesis("talk-2", ""),
    ]


def test_stretches_may_have_their_own_hypotheses() -> None:
    matched = match(STRETCHES, heard("talk-1", "talk-0"))
    assert [hypothesis and hypothesis.name for _, hypothesis in matched.pairs] == ["talk-0", "talk-1", None]
    assert matched.without_hypothesis == ("talk-2",)


def test_a_whole_recording_without_times_cannot_be_cut() -> None:
    with pytest.raises(ManifestError, match="'talk' is of a whole recording of which the manifest has 3 stretches"):
        match(STRETCHES, heard("talk"))
    matched = match(STRETCHES, {"talk": Hypothesis("talk", "")})
    assert [hypothesis and hypothesis.text for _, hypothesis in matched.pairs] == ["", "", ""]


def test_words_get_the_speakers_of_turns(tmp_path: Path) -> None:
    words = read_hypotheses(written(tmp_path, "file.ctm", CTM.replace("b 1 0 1 hello\n", "a 1 9 1 late\n")))
    turns = read_hypotheses(written(tmp_path, "file.rttm", RTTM))
    found = with_speakers(words, turns)
    assert [(word.text, word.speaker) for word in found["a"].words] == [
        ("red", "bob"), ("stone", "ann"), ("late", "ann"),
    ]  # fmt: skip
    assert found["a"].text == "red stone late"
    with pytest.raises(ManifestError, match="1 hypotheses have no turns of their name; the first is 'b'"):
        with_speakers(heard("b"), turns)
    with pytest.raises(ManifestError, match="the words of 'a' have no times"):
        with_speakers(heard("a"), turns)
