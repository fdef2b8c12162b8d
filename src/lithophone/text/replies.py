"""Parsing of replies: speaker turns, word times, transcription and translation.

Malformed tags are counted and removed, the words around them kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lithophone.text.tags import (
    BEYOND_S,
    LONGEST_WORD_S,
    SPEAKER_TAG,
    TIME_TAG,
    TagFaults,
    is_well_formed,
    pieces,
    speaker_of,
    unwrap,
    without_tags,
)
from lithophone.transcript import Word

SILENCE = "_"
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
    faults: TagFaults = field(default_factory=TagFaults)
    last_tag_s: float | None = None
    """The last time tag, unwrapped; None without any."""

    @property
    def malformed(self) -> int:
        """Malformed tags, and words without their own tag."""
        return self.faults.total


def parse_text(text: str, *, tagged: bool = False) -> ParsedReply:
    """Plain text; tags of the `tagged` family of models, which are out of place here, are removed."""
    if not tagged:
        return ParsedReply(text.strip())
    text, stray = without_tags(text, TIME_TAG, SPEAKER_TAG)
    return ParsedReply(text.strip(), faults=TagFaults(stray=stray))


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
    faults = TagFaults(unreadable=n_cut, stray=misplaced)
    return ParsedReply(words if stray else body.strip(), transcription=_said(said, tag), faults=faults)


def _said(said: str | None, tag: str) -> str | None:
    return CHAIN_TAG.sub("", said).strip() if said is not None and tag else None


def tagged_text(turns: Iterable[Turn]) -> str:
    """Turns as a plus model writes them."""
    return " ".join(turn.text if turn.speaker is None else f"[Speaker {turn.speaker}]: {turn.text}" for turn in turns)


def parse_turns(text: str, speaker: str | None = None) -> ParsedReply:
    """`[Speaker 1]: words [Speaker 2]: words`; speakers are "1", "2", ... as tagged.

    Words behind a tag without a number are the last speaker's; those before the first tag are `speaker`'s.
    """
    text, stray = without_tags(text, TIME_TAG)
    turns: list[Turn] = []
    unreadable = 0
    for words, tag in pieces(SPEAKER_TAG, text):
        if words:
            turns = _with_turn(turns, Turn(speaker, words))
        if tag is not None:
            unreadable += not is_well_formed(tag)
            speaker = speaker_of(tag) or speaker
    faults = TagFaults(unreadable=unreadable, stray=stray)
    return ParsedReply(" ".join(turn.text for turn in turns), turns=tuple(turns), faults=faults)


def _with_turn(turns: list[Turn], turn: Turn) -> list[Turn]:
    """A repeated speaker tag starts no new turn."""
    if turns and turns[-1].speaker == turn.speaker:
        return [*turns[:-1], Turn(turn.speaker, f"{turns[-1].text} {turn.text}")]
    return [*turns, turn]


def parse_word_times(text: str, duration_s: float | None = None) -> ParsedReply:
    """`hello [T:45] world [T:82]` -> words with times in seconds; spaces around tags are optional.

    A word starts at the tag before it, also that of the pseudo-word `_` (silence). Words before one tag share its time
    by letters, and so do words whose tag goes back in time or beyond `duration_s` of the window. Words after the last
    tag end at `duration_s`, or have no length. Times rise, from 0 to `duration_s`.
    """
    text, stray = without_tags(text, SPEAKER_TAG)
    return _TimedWords(duration_s, stray).parsed(text)


class _TimedWords:
    """The state of parsing time tags."""

    def __init__(self, duration_s: float | None, stray: int) -> None:
        self.duration_s = duration_s
        self.words: list[Word] = []
        self.waiting: list[str] = []
        """Since the last tag."""
        self.last_s = 0.0
        self.last_tag_s: float | None = None
        self.counts = {"unreadable": 0, "stray": stray, "untagged": 0, "backward": 0, "beyond": 0}

    def parsed(self, text: str) -> ParsedReply:
        for chunk, tag in pieces(TIME_TAG, text):
            self.waiting += chunk.split()
            if tag is not None:
                self._take(tag)
        self.counts["untagged"] += len(_spoken(self.waiting))
        self._end_words(max(self.last_s, self.duration_s or 0.0))
        said = " ".join(word.text for word in self.words)
        return ParsedReply(said, words=tuple(self.words), faults=TagFaults(**self.counts), last_tag_s=self.last_tag_s)

    def _take(self, tag: re.Match[str]) -> None:
        fault = None if is_well_formed(tag) else "unreadable"
        end_s = unwrap(int(tag["value"]) / 100, self.last_s) if fault is None else 0.0
        fault = fault or self._fault(end_s)
        if fault:
            self.counts[fault] += 1
            return
        self.counts["stray"] += not self.waiting
        self.counts["untagged"] += max(0, len(self.waiting) - 1)
        self.last_tag_s = end_s
        self._end_words(end_s if self.duration_s is None else min(end_s, self.duration_s))

    def _fault(self, end_s: float) -> str | None:
        is_silence = bool(self.waiting) and not _spoken(self.waiting)
        if not is_silence and end_s - self.last_s > LONGEST_WORD_S:
            return "backward"
        return "beyond" if self.duration_s is not None and end_s > self.duration_s + BEYOND_S else None

    def _end_words(self, end_s: float) -> None:
        self.words += _share(self.waiting, self.last_s, end_s)
        self.waiting, self.last_s = [], end_s


def _spoken(words: list[str]) -> list[str]:
    return [word for word in words if word != SILENCE]


def _share(words: list[str], start_s: float, end_s: float) -> Iterator[Word]:
    words = _spoken(words)
    letters = sum(map(len, words))
    done, begin_s = 0, start_s
    for word in words:
        done += len(word)
        until_s = min(start_s + (end_s - start_s) * done / letters, end_s)
        yield Word(word, begin_s, until_s)
        begin_s = until_s
