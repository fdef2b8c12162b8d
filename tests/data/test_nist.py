"""ctm, stm and rttm: meeteval reads the same, and the line that is to blame is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import meeteval
import pytest

from lithophone.data.nist import NOT_SCORED, ctm_words, rttm_turns, stm_turns
from lithophone.errors import ManifestError
from lithophone.transcript import Segment, Word

CTM = """\
;; a comment
talk1 1 1.50 0.25 stone 0.9
talk1 1 1.00 0.50 red 0.75

talk2 A 0.0 0.4 hello NA
talk2 B 0.2 0.4 good ;; and another
talk2 A 0.5 0.3 there
"""

STM = """\
;; CATEGORY "0" "" ""
talk1 1 ann 4.0 5.5 <o,f0,female> a red stone
talk1 1 bob 1.0 2.0 <unk> two words
talk2 1 ann 0 1 ignore_time_segment_in_scoring
talk2 1 ann 1 2
"""

RTTM = """\
SPKR-INFO talk1 1 <NA> <NA> <NA> unknown ann <NA> <NA>
SPEAKER talk1 1 2.50 1.50 <NA> <NA> bob <NA> <NA>
SPEAKER talk1 1 0.00 2.00 <NA> <NA> ann <NA> <NA>
SPEAKER talk2 1 0.25 0.50 <NA> <NA> ann <NA>
"""


def written(folder: Path, text: str, name: str = "file") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_ctm(tmp_path: Path) -> None:
    assert ctm_words(written(tmp_path, CTM)) == {
        "talk1": (Word("red", 1.0, 1.5, 0.75), Word("stone", 1.5, 1.75, 0.9)),
        "talk2": (
            Word("hello", 0.0, 0.4, speaker="A"),
            Word("good", 0.2, 0.2 + 0.4, speaker="B"),
            Word("there", 0.5, 0.8, speaker="A"),
        ),
    }


def test_stm(tmp_path: Path) -> None:
    assert stm_turns(written(tmp_path, STM)) == {
        "talk1": (
            Segment("<unk> two words", 1.0, 2.0, speaker="bob"),
            Segment("a red stone", 4.0, 5.5, speaker="ann"),
        ),
        "talk2": (
            Segment("ignore_time_segment_in_scoring", 0.0, 1.0, speaker="ann"),
            Segment("", 1.0, 2.0, speaker="ann"),
        ),
    }


def test_rttm(tmp_path: Path) -> None:
    assert rttm_turns(written(tmp_path, RTTM)) == {
        "talk1": (Segment("", 0.0, 2.0, speaker="ann"), Segment("", 2.5, 4.0, speaker="bob")),
        "talk2": (Segment("", 0.25, 0.75, speaker="ann"),),
    }


def test_meeteval_reads_the_same(tmp_path: Path) -> None:
    """Its readers take neither comments at the end of a line nor fields left out."""
    plain = CTM.replace(" ;; and another", "").replace(" NA", "").replace("\n\n", "\n")
    ctm = meeteval.io.CTM.parse(plain)
    ours = ctm_words(written(tmp_path, CTM))
    theirs = [(line.filename, line.word, float(line.begin_time), float(line.duration)) for line in ctm]
    assert len(theirs) == 5
    assert sorted(theirs) == sorted(
        (name, word.text, word.start_s, pytest.approx(word.end_s - word.start_s))
        for name, words in ours.items()
        for word in words
    )
    stm = meeteval.io.STM.parse(STM.replace("<o,f0,female> ", ""))
    turns = stm_turns(written(tmp_path, STM))
    assert len(stm) == 4
    assert sorted(
        (r.filename, r.speaker_id, float(r.begin_time), float(r.end_time), r.transcript) for r in stm
    ) == sorted((name, t.speaker, t.start_s, t.end_s, t.text) for name, found in turns.items() for t in found)
    rttm = meeteval.io.RTTM.parse("\n".join(line for line in RTTM.splitlines() if line.startswith("SPEAKER")))
    turns = rttm_turns(written(tmp_path, RTTM))
    assert len(rttm) == 3
    assert sorted((r.filename, r.speaker_id, float(r.begin_time), float(r.duration)) for r in rttm) == sorted(
        (name, t.speaker, t.start_s, t.end_s - t.start_s) for name, found in turns.items() for t in found
    )


@pytest.mark.parametrize(
    ("read", "line", "words"),
    [
        (ctm_words, "talk 1 0.0 0.5", "line 2: 4 fields .* recording channel start duration word"),
        (ctm_words, "talk 1 x 0.5 red", "line 2: the start is 'x'"),
        (ctm_words, "talk 1 0.0 -0.5 red", "line 2: the duration is '-0.5'"),
        (ctm_words, "talk 1 * * <ALT_BEGIN>", "line 2: <ALT_BEGIN> begins alternatives"),
        (stm_turns, "talk 1 ann 1.0", "line 2: 4 fields"),
        (stm_turns, "talk 1 ann 2.0 1.0 red", "line 2: the end 1.0 lies before the start 2.0"),
        (stm_turns, "talk 1 ann 2.0 nan red", "line 2: the end is 'nan'"),
        (rttm_turns, "TURN talk 1 0 1 <NA> <NA> ann", "line 2: 'TURN' is no type of rttm"),
        (rttm_turns, "SPEAKER talk 1 0 1", "line 2: 5 fields"),
        (rttm_turns, "SPEAKER talk 1 0 inf <NA> <NA> ann", "line 2: the duration is 'inf'"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, read: Callable[[Path], object], line: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read(written(tmp_path, f";; first\n{line}\n"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        ctm_words(tmp_path / "none.ctm")


@pytest.mark.parametrize(
    "mark", ["IGNORE_TIME_SEGMENT_IN_SCORING", "ignore_time_segment_in_scoring", "Ignore_Time_Segment_In_Scoring"]
)
def test_the_mark_of_a_turn_out_of_bounds_is_known_in_any_case(tmp_path: Path, mark: str) -> None:
    (tmp_path / "a.stm").write_text(f"rec 1 nobody 0.0 1.0 <o,,unknown> {mark}\nrec 1 a 1.0 2.0 <O,F0,Female> red\n")
    assert [turn.text for turn in stm_turns(tmp_path / "a.stm")["rec"]] == [NOT_SCORED, "red"]


def test_types_of_rttm_and_alternatives_of_ctm_are_known_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text(
        "speaker rec 1 0.0 1.0 <NA> <NA> ann <NA>\nspkr-info rec 1 <NA> <NA> <NA> unknown ann <NA>\n"
    )
    assert [turn.speaker for turn in rttm_turns(tmp_path / "a.rttm")["rec"]] == ["ann"]
    (tmp_path / "a.ctm").write_text("rec 1 * * <alt_begin>\n")
    with pytest.raises(ManifestError, match="<alt_begin> begins alternatives"):
        ctm_words(tmp_path / "a.ctm")
