"""Replies -> segments and warnings with stable codes."""

from __future__ import annotations

import pytest

from lithophone.decode.reply import Reply
from lithophone.pipeline.quality import UNHEARD_WORDS, Heard, difference, loops, segments_of, unheard, warnings_of
from lithophone.text.replies import ParsedReply, Turn
from lithophone.transcript import Segment, Word


def codes(text: str = "word", ids: tuple[int, ...] = (1, 2, 3), finished: bool = True, **more: object) -> list[str]:
    values = {"speech": True, "malformed": 0} | more
    parsed = ParsedReply(text, malformed=int(str(values.pop("malformed"))))
    heard = Heard(Reply(ids, finished, (0.0,) * len(ids)), parsed, **values)  # type: ignore[arg-type]
    return [warning.code for warning in warnings_of(heard, 1.0, 2.0)]


def silent(n: int) -> tuple[Word, ...]:
    return tuple(Word(f"w{i}", float(i), i + 1.0, 1e-4) for i in range(n))


def test_codes() -> None:
    assert codes() == []
    assert codes(finished=False) == ["cut"]
    assert codes(ids=(7,) * 16) == ["loop"]
    assert codes(speech=False) == ["text_without_speech"]
    assert codes(text="", ids=()) == ["speech_without_text"]
    assert codes(text="", ids=(), speech=False) == []
    assert codes(malformed=2) == ["malformed"]
    assert codes(untimed="for a reason") == ["no_word_times"]
    assert codes("A stone that sings.", spelled="wholly other words") == ["disagreement"]
    assert codes("A stone that sings.", spelled="a ston tat singz") == []
    assert codes("A stone that sings.", spelled="", speech=False) == ["text_without_speech"]
    assert codes(aligned=silent(4)) == ["text_without_speech"]
    assert codes(speech=False, aligned=silent(4)) == ["text_without_speech"]


@pytest.mark.parametrize(
    ("ids", "looped"),
    [
        ([], False),
        ([1] * 15, False),
        ([1] * 16, True),
        ([9, 8, *[1, 2, 3, 4] * 4], True),
        ([9, 8, *[1, 2, 3, 4] * 3], False),
        ([*[1, 2] * 8, 5], False),
        ([9, *list(range(10)) * 4], True),
        (list(range(200)), False),
    ],
)
def test_a_loop_is_a_phrase_said_over_and_over_at_the_end(ids: list[int], looped: bool) -> None:
    assert loops(ids) is looped


def test_segments_of_plain_text_of_turns_and_of_nothing() -> None:
    words = (Word("a", 0.0, 0.5),)
    assert segments_of(ParsedReply("a", words), 2.0) == (Segment("a", 0.0, 2.0, words),)
    assert segments_of(ParsedReply(""), 2.0) == ()
    turns = (Turn("1", "hello"), Turn("2", "hi"))
    assert [s.speaker for s in segments_of(ParsedReply("hello hi", turns=turns), 2.0)] == ["1", "2"]


@pytest.mark.parametrize(
    ("spelled", "text", "share"),
    [
        ("a stone that sings", "A stone that sings!", 0.0),
        (" a  stone that sings ", "a stone that sings", 0.0),
        ("a stone", "A stone that sings", 11 / 18),
        ("in nineteen ninety nine it sang", "In 1999 it sang", 0.0),
        ("yes", "No.", 0.0),
        ("we are not at home today", "我们今天不在家", 0.0),
        ("ab cd ef gh", "12", 0.0),
    ],
)
def test_difference_is_counted_in_what_is_said(spelled: str, text: str, share: float) -> None:
    assert difference(spelled, text) == pytest.approx(share)


def test_a_stretch_without_speech_is_found_and_named() -> None:
    good, odd = Word("good", 0.0, 0.1, 0.9), Word("1999", 0.0, 0.1)
    silence = silent(UNHEARD_WORDS)
    assert unheard([good, *silence, good]) == [silence]
    assert unheard([good, *silence[:2], odd, *silence[2:], good]) == [silence]
    assert unheard([good, *silence[1:], good]) == []
    assert unheard([*silence, *silence, good, good, *silence]) == [(*silence, *silence), silence]
    assert unheard([silence[0], good, good, silence[3]]) == []
    assert unheard([]) == []


def test_its_warning_has_the_times_of_the_recording() -> None:
    heard = Heard(Reply((), True, ()), ParsedReply("x"), speech=True, aligned=silent(5)[1:])
    [warning] = warnings_of(heard, 10.0, 30.0)
    assert (warning.start_s, warning.end_s) == (11.0, 15.0)
    assert "w1 w2 w3 w4" in warning.message
