"""Parsing of replies: speaker turns, word times, transcription and translation.

Malformed tags are counted and removed, the words around them kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lithophone.transcript import Word

SILENCE = "_"
WRAP_S = 10.0
"""Time tags are centiseconds modulo 1000."""

TIME_TAG = re.compile(r"\[T:\s*(?P<value>\d{1,3})\s*\]|\[T(?![a-zA-Z])[^\[\]\s]*\]?")
SPEAKER_TAG = re.compile(
    r"\[Speaker\s*(?P<value>\d+)(?:\s+cluster\s+\d+)?\s*\]\s*:?"  # clusters matter in training only
    r"|\[Speaker\b(?:[^\[\]\n:]{0,12}(?:\]\s*:?|:)|\s*\d*)"
)
TRANSCRIPTION, TRANSLATION = "[Transcription]", "[Translation]"
CHAIN_TAG = re.compile(r"\[(?:Transcription|Translation)\]")
CUT_TAG = re.compile(r"\[T(?:r(?:a(?:n(?:s[a-z]*)?)?)?)?\Z")
"""A chain tag at the end of a cut reply."""


@dataclass(frozen=True)
class Turn:
    """Text of one speaker up to the next tag; `speaker` is None before the first tag."""

    speaker: str | None
    text: str


@dataclass(frozen=True)
class ParsedReply:
    """A reply without tags; fields besides `text` depend on the task."""

    text: str
    words: tuple[Word, ...] = ()
    turns: tuple[Turn, ...] = ()
    transcription: str | None = None
    """The source text of a translation."""
    malformed: int = 0
    """Malformed tags, and words without their own tag."""


def parse_text(text: str) -> ParsedReply:
    return ParsedReply(text.strip())


def parse_translation(text: str) -> ParsedReply:
    """A translation, or `[Transcription] source text [Translation] translation`.

    The text is what follows the first `[Translation]`, if any; tags in it are removed, misplaced and cut ones counted.
    """
    text, n_cut = CUT_TAG.subn("", text.rstrip())
    before, tag, after = text.partition(TRANSLATION)
    said = before.partition(TRANSCRIPTION)[2] if TRANSCRIPTION in before else None
    body = after if tag else before
    stray = CHAIN_TAG.findall(body)
    misplaced = len(stray) + bool(tag and not before.lstrip().startswith(TRANSCRIPTION) and before.strip())
    words = " ".join(part.strip() for part in CHAIN_TAG.split(body) if part.strip())
    return ParsedReply(words if stray else body.strip(), transcription=_said(said, tag), malformed=misplaced + n_cut)


def _said(said: str | None, tag: str) -> str | None:
    return CHAIN_TAG.sub("", said).strip() if said is not None and tag else None


def parse_turns(text: str) -> ParsedReply:
    """`[Speaker 1]: words [Speaker 2]: words`; speakers are "1", "2", ... as tagged."""
    turns: list[Turn] = []
    speaker, malformed = None, 0
    for words, tag in _pieces(SPEAKER_TAG, text):
        if words:
            turns = _with_turn(turns, Turn(speaker, words))
        if tag is not None:
            malformed += tag["value"] is None
            speaker = tag["value"] or speaker
    return ParsedReply(" ".join(turn.text for turn in turns), turns=tuple(turns), malformed=malformed)


def _with_turn(turns: list[Turn], turn: Turn) -> list[Turn]:
    """A repeated speaker tag starts no new turn."""
    if turns and turns[-1].speaker == turn.speaker:
        return [*turns[:-1], Turn(turn.speaker, f"{turns[-1].text} {turn.text}")]
    return [*turns, turn]


def parse_word_times(text: str, duration_s: float | None = None) -> ParsedReply:
    """`hello [T:45] world [T:82]` -> words with times in seconds; spaces around tags are optional.

    A word starts at the tag before it, also that of the pseudo-word `_` (silence). Words before one tag share its time
    by letters; words after the last tag end at `duration_s`, or have no length.
    """
    words: list[Word] = []
    waiting: list[str] = []
    last, malformed = 0.0, 0
    for chunk, tag in _pieces(TIME_TAG, text):
        waiting += chunk.split()
        if tag is None or tag["value"] is None:
            malformed += tag is not None
            continue
        end = unwrap(int(tag["value"]) / 100, last)
        words += _share(waiting, last, end)
        malformed += len(waiting) != 1
        waiting, last = [], end
    words += _share(waiting, last, max(last, duration_s or last))
    malformed += bool(_spoken(waiting))
    return ParsedReply(" ".join(word.text for word in words), words=tuple(words), malformed=malformed)


def unwrap(time_s: float, last_s: float) -> float:
    """The first of `time_s` + n * 10 s not before `last_s`."""
    turns = 0
    while time_s + turns * WRAP_S < last_s:
        turns += 1
    return round(time_s + turns * WRAP_S, 2)


def _pieces(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Text between tags, with the tag after it or None."""
    start = 0
    for tag in pattern.finditer(text):
        yield text[start : tag.start()].strip(), tag
        start = tag.end()
    yield text[start:].strip(), None


def _spoken(words: list[str]) -> list[str]:
    return [word for word in words if word != SILENCE]


def _share(words: list[str], start_s: float, end_s: float) -> Iterator[Word]:
    words = _spoken(words)
    letters = sum(map(len, words))
    done = 0
    for word in words:
        begin = start_s + (end_s - start_s) * done / letters
        done += len(word)
        yield Word(word, begin, start_s + (end_s - start_s) * done / letters)
