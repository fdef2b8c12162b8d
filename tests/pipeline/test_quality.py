"""Replies -> segments and warnings with stable codes."""

from __future__ import annotations

from typing import Any

import pytest

from lithophone.decode.reply import Reply
from lithophone.hub import DEFAULT_MODEL, resolve
from lithophone.pipeline.quality import (
    LOW_CONFIDENCE_WORDS,
    difference,
    loops,
    low_acoustic_confidence,
    segments_of,
    warnings_of,
)
from lithophone.pipeline.utterance import WindowResult
from lithophone.text.replies import ParsedReply, Turn
from lithophone.text.tags import TagFaults
from lithophone.text.tokenizer import Tokenizer
from lithophone.transcript import Segment, Word


def codes(text: str = "word", ids: tuple[int, ...] = (1, 2, 3), finished: bool = True, **more: Any) -> list[str]:
    parsed = ParsedReply(text, faults=more.pop("faults", TagFaults()))
    values = {"has_speech": True} | more
    result = WindowResult(1.0, 2.0, Reply(ids, finished, (0.0,) * len(ids)), parsed, **values)
    return [warning.code for warning in warnings_of(result)]


def silent(n: int) -> tuple[Word, ...]:
    return tuple(Word(f"w{i}", float(i), i + 1.0, 1e-4) for i in range(n))


FRENCH = "le bac part à neuf heures"
SPELLED = {"text": "A stone that sings.", "ctc_text": "a stone that sings"}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, []),
        ({"finished": False}, ["cut"]),
        ({"ids": (7,) * 16}, ["loop"]),
        ({"has_speech": False}, ["text_without_speech"]),
        ({"text": "", "ids": ()}, ["speech_without_text"]),
        ({"text": "", "ids": (), "has_speech": False}, []),
        ({"faults": TagFaults(stray=2)}, ["malformed"]),
        ({"untimed": "for a reason"}, ["no_word_times"]),
        ({"text": "A stone that sings.", "ctc_text": "wholly other words"}, ["disagreement"]),
        ({"text": "A stone that sings.", "ctc_text": "a ston tat singz"}, []),
        ({"text": "A stone that sings.", "ctc_text": "", "has_speech": False}, ["text_without_speech"]),
        ({**SPELLED, "ctc_confidence": 0.7, "min_confidence": 0.75}, ["low_confidence"]),
        ({**SPELLED, "ctc_confidence": 0.8, "min_confidence": 0.75}, []),
        ({**SPELLED, "ctc_confidence": 0.1}, []),
        ({**SPELLED, "ctc_confidence": None, "min_confidence": 0.75}, []),
        ({"text": FRENCH, "language": "en"}, ["other_language"]),
        ({"text": FRENCH.upper(), "language": "en_GB"}, ["other_language"]),
        ({"text": "el barco sale a las nueve", "language": "de"}, ["other_language"]),
        ({"text": "潮が満ちると船は九時に出ます。", "language": "zh-CN"}, ["other_language"]),
        ({"text": FRENCH, "language": "fr"}, []),
        ({"text": FRENCH, "language": "fr-CA"}, []),
        ({"text": FRENCH, "language": None}, []),
        ({"text": "oui merci", "language": "en"}, []),
        ({"text": "Mister Jahn Dash would had then leasure.", "language": "en"}, []),
        ({"text": "Yes.", "ctc_text": "yes", "ctc_confidence": 0.7, "min_confidence": 0.75}, []),
        ({"aligned": silent(4)}, ["text_without_speech"]),
        ({"has_speech": False, "aligned": silent(4)}, ["text_without_speech"]),
    ],
)
def test_every_finding_has_a_code(values: dict[str, Any], expected: list[str]) -> None:
    assert codes(**values) == expected


def test_the_message_names_both_languages() -> None:
    result = WindowResult(1.0, 2.0, Reply((1,), True, (0.0,)), ParsedReply(FRENCH), has_speech=True, language="en")
    (warning,) = warnings_of(result)
    assert warning.message == "the text is French, not English"


def test_messages_have_numbers() -> None:
    parsed = ParsedReply("w", faults=TagFaults(unreadable=1, stray=2))
    result = WindowResult(1.0, 2.0, Reply((1, 2), False, (0.0, 0.0)), parsed, has_speech=True)
    cut, malformed = warnings_of(result)
    assert "after 2 tokens" in cut.message
    assert malformed.message == "tags of the reply: 1 unreadable, 2 out of place"
    assert {(w.start_s, w.end_s) for w in (cut, malformed)} == {(1.0, 2.0)}


@pytest.mark.parametrize(
    ("ids", "looped"),
    [
        ([], False),
        ([1] * 15, False),
        ([1] * 16, True),
        ([9, 8, *[1, 2, 3, 4] * 4], True),
        ([9, 8, *[1, 2, 3, 4] * 3], False),
        ([*[1, 2] * 8, 5], True),
        ([*[1, 2, 3, 4] * 4, 1, 2, 9], True),
        ([*[1, 2, 3, 4] * 4, 7, 8, 9], True),
        ([*[1, 2, 3, 4] * 4, 6, 7, 8, 9], False),
        ([*[1, 2, 3, 4] * 3, 1, 2, 3, 9], False),
        ([*[7] * 16, 9], True),
        ([*[7] * 16, 8, 9, 10, 11], False),
        ([9, *list(range(10)) * 4], True),
        (list(range(200)), False),
    ],
)
def test_a_loop_is_a_phrase_said_over_and_over_at_the_end(ids: list[int], looped: bool) -> None:
    assert loops(ids) is looped


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_folder(resolve(DEFAULT_MODEL))


@pytest.mark.parametrize(
    "text",
    [
        "Il est le, " + ", ".join(["de la via, national, ela, saba"] * 6) + ".",
        "Il est " + ", ".join(["de la via, national, ela, saba"] * 5) + ", de la via, nati.",
        "and then " + "I do not know, " * 8 + "I do not",
        "and then " + "I do not know, " * 8 + "I do.",
        "no " * 20 + "!",
    ],
)
def test_a_loop_may_end_in_an_incomplete_phrase_and_punctuation(tokenizer: Tokenizer, text: str) -> None:
    assert loops(tokenizer.encode(text))


@pytest.mark.parametrize(
    "text",
    [
        "no no no no",
        "No, no, no, no, that is not what I said.",
        "Never, never, never, never give up.",
        "He had then leisure to consider how much there might be prudently in his power to do for them.",
        "The number is 555 0100 0100, extension 00 00 11.",
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen",
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness.",
        "Row, row, row your boat, gently down the stream, merrily, merrily, merrily, merrily, life is but a dream.",
        "1999, 2000, 2001, 2002, 2003 and 2004",
        "Ja, ja, ja, ja, das weiß ich doch.",
    ],
)
def test_ordinary_sentences_are_no_loops(tokenizer: Tokenizer, text: str) -> None:
    assert not loops(tokenizer.encode(text))


def test_segments_of_plain_text_of_turns_and_of_nothing() -> None:
    words = (Word("a", 0.0, 0.5),)
    assert segments_of(ParsedReply("a", words), 2.0) == (Segment("a", 0.0, 2.0, words),)
    assert segments_of(ParsedReply(""), 2.0) == ()
    turns = (Turn("1", "hello"), Turn("2", "hi"))
    untimed = segments_of(ParsedReply("hello hi", turns=turns), 2.0)
    assert untimed == (Segment("hello", 0.0, 2.0, speaker="1"), Segment("hi", 0.0, 2.0, speaker="2"))


def test_turns_have_the_times_of_their_words() -> None:
    turns = (Turn("1", "hello you"), Turn("2", "hi"))
    hello, you = Word("hello", 0.2, 0.5, speaker="1"), Word("you", 0.6, 0.9, speaker="1")
    hi = Word("hi", 1.0, 1.3, speaker="2")
    timed = segments_of(ParsedReply("hello you hi", (hello, you, hi), turns), 2.0)
    assert timed == (Segment("hello you", 0.2, 0.9, (hello, you), "1"), Segment("hi", 1.0, 1.3, (hi,), "2"))


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


def test_a_stretch_of_low_confidence_is_found() -> None:
    good, odd = Word("good", 0.0, 0.1, 0.9), Word("1999", 0.0, 0.1)
    silence = silent(LOW_CONFIDENCE_WORDS)
    assert low_acoustic_confidence([good, *silence, good]) == [silence]
    assert low_acoustic_confidence([good, *silence[:2], odd, *silence[2:], good]) == [silence]
    assert low_acoustic_confidence([good, *silence[1:], good]) == []
    assert low_acoustic_confidence([*silence, *silence, good, good, *silence]) == [(*silence, *silence), silence]
    assert low_acoustic_confidence([silence[0], good, good, silence[3]]) == []
    assert low_acoustic_confidence([]) == []


def test_its_warning_has_the_times_of_the_recording() -> None:
    result = WindowResult(10.0, 30.0, Reply((), True, ()), ParsedReply("x"), has_speech=True, aligned=silent(5)[1:])
    [warning] = warnings_of(result)
    assert (warning.start_s, warning.end_s) == (11.0, 15.0)
    assert "w1 w2 w3 w4" in warning.message
