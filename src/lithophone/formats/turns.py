"""Who speaks when: segments of one speaker each, and what all formats write of their texts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lithophone.transcript import Segment, Transcript, Word

UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Control characters, lone surrogates and noncharacters, which XML forbids and players drop."""


@dataclass(frozen=True)
class PlacedWord:
    """A timed word and its span in the segment's text."""

    word: Word
    start: int
    end: int


@dataclass(frozen=True)
class Turn:
    """Segments of one speaker in a row; `speaker` is "" if unknown."""

    speaker: str
    segments: tuple[Segment, ...]

    @property
    def start_s(self) -> float:
        return self.segments[0].start_s


def turns_of(transcript: Transcript) -> list[Turn]:
    """Turns in order of time, of segments with text."""
    runs = itertools.groupby(segments_of(transcript), key=lambda segment: name_of(segment.speaker))
    return [Turn(speaker, tuple(run)) for speaker, run in runs]


def segments_of(transcript: Transcript) -> list[Segment]:
    """Segments with text, by start, each of one speaker: cut where the speaker of the words changes."""
    spoken = (segment for segment in transcript.segments if segment.text.strip())
    parts = (part for segment in spoken for part in by_speaker(segment))
    return sorted(parts, key=lambda segment: segment.start_s)


def by_speaker(segment: Segment) -> Iterator[Segment]:
    """Parts of a segment, of one speaker each: cut where the speaker of the words changes."""
    placed = list(place(segment.words, segment.text))
    runs = [list(run) for _, run in itertools.groupby(placed, key=lambda one: one.word.speaker or segment.speaker)]
    if len(runs) < 2:
        yield replace(segment, speaker=(runs[0][0].word.speaker if runs else None) or segment.speaker)
        return
    starts = [0, *(run[0].start for run in runs[1:]), len(segment.text)]
    times = [segment.start_s, *(run[0].word.start_s for run in runs[1:])]
    ends = [*(run[-1].word.end_s for run in runs[:-1]), segment.end_s]
    for run, (start, end), start_s, end_s in zip(runs, itertools.pairwise(starts), times, ends, strict=True):
        words = tuple(one.word for one in run)
        text = segment.text[start:end].strip()
        yield Segment(text, start_s, max(start_s, end_s), words, words[0].speaker or segment.speaker)


def place(words: Sequence[Word], text: str) -> Iterator[PlacedWord]:
    """Words found in the text, in order."""
    at = 0
    for word in words:
        start = text.find(word.text, at) if word.text else -1
        if start >= 0:
            at = start + len(word.text)
            yield PlacedWord(word, start, at)


def name_of(speaker: str | None) -> str:
    """`Speaker 1` or `Ann`; "" if unknown."""
    name = "" if speaker is None else one_line(speaker)
    return f"Speaker {name}" if name.isdigit() else name


def one_line(text: str) -> str:
    return " ".join(text.split())


def written(text: str) -> str:
    """The text, with U+FFFD for each character that no text file should have."""
    return UNWRITABLE.sub("\ufffd", text)


def clock(time_s: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, seconds = divmod(int(time_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
