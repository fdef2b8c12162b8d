"""Replies -> segments and warnings with stable codes."""

from __future__ import annotations

import pytest

from lithophone.decode import Reply
from lithophone.longform.judge import Heard, loops, segments_of, warnings_of
from lithophone.replies import ParsedReply, Turn
from lithophone.transcript import Segment, Word


def codes(text: str = "word", ids: tuple[int, ...] = (1, 2, 3), finished: bool = True, **more: object) -> list[str]:
    values = {"speech": True, "malformed": 0} | more
    parsed = ParsedReply(text, malformed=int(str(values["malformed"])))
    heard = Heard(Reply(ids, finished, (0.0,) * len(ids)), parsed, bool(values["speech"]))
    return [warning.code for warning in warnings_of(heard, 1.0, 2.0)]


def test_codes() -> None:
    assert codes() == []
    assert codes(finished=False) == ["cut"]
    assert codes(ids=(7,) * 16) == ["loop"]
    assert codes(speech=False) == ["text_without_speech"]
    assert codes(text="", ids=()) == ["speech_without_text"]
    assert codes(text="", ids=(), speech=False) == []
    assert codes(malformed=2) == ["malformed"]


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
