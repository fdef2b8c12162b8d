"""Speakers of parts of a recording that number them each for itself: linked by voice, so that they keep a number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lithophone.diarization.linking import TurnIndex
from lithophone.transcript import Segment


def relinked(parts: Sequence[Sequence[Segment]], turns: Sequence[Segment]) -> list[list[Segment]]:
    """Segments of the parts with one number for each voice; those of the first part keep theirs.

    A speaker of a part is the voice, a speaker of `turns`, that shares the most time with it; no two of a part are one
    voice. A speaker without a voice in common with earlier parts has the next free number.
    """
    clock, by_voice, taken = TurnIndex(turns), dict[str, str](), set[str]()
    found = []
    for part in parts:
        voices = _voices(part, clock)
        names: dict[str | None, str | None] = {None: None}
        for speaker in dict.fromkeys(segment.speaker for segment in part if segment.speaker is not None):
            voice = voices.get(speaker, "")
            names[speaker] = by_voice[voice] if voice in by_voice else _free(speaker, taken)
            taken.add(str(names[speaker]))
            if voice:
                by_voice[voice] = str(names[speaker])
        found.append([_named(segment, names[segment.speaker]) for segment in part])
    return found


def _voices(part: Sequence[Segment], clock: TurnIndex) -> dict[str, str]:
    """Speaker -> voice, one to one, the pairs that share the most time first."""
    shared: dict[tuple[str, str], float] = defaultdict(float)
    for segment in part:
        for voice, seconds in _times(segment, clock):
            if segment.speaker is not None:
                shared[segment.speaker, voice] += seconds
    voices: dict[str, str] = {}
    for speaker, voice in sorted(shared, key=lambda pair: -shared[pair]):
        if speaker not in voices and voice not in voices.values():
            voices[speaker] = voice
    return voices


def _times(segment: Segment, clock: TurnIndex) -> Iterator[tuple[str, float]]:
    """Seconds that words, or a segment without any, share with each voice."""
    for item in segment.words or (segment,):
        yield from clock.shared(item.start_s, item.end_s)


def _free(wanted: str, taken: set[str]) -> str:
    """The number, or the smallest that is free."""
    return next(name for name in (wanted, *map(str, range(1, len(taken) + 2))) if name not in taken)


def _named(segment: Segment, speaker: str | None) -> Segment:
    return replace(segment, speaker=speaker, words=tuple(replace(word, speaker=speaker) for word in segment.words))
