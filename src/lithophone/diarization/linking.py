"""Words get speakers by time, and segments are cut where the speaker changes."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from lithophone.formats.turns import by_speaker
from lithophone.transcript import Segment


def with_speakers(segments: Iterable[Segment], turns: Sequence[Segment]) -> Iterator[Segment]:
    """Segments with the speakers of turns, both in order of time; without turns as they are.

    A word is of the turn that it shares the most time with, or of the nearest one. So is a segment without words.
    """
    if not turns:
        yield from segments
        return
    clock = TurnIndex(turns)
    for segment in segments:
        if not segment.words:
            yield replace(segment, speaker=clock.speaker(segment.start_s, segment.end_s))
            continue
        words = tuple(replace(word, speaker=clock.speaker(word.start_s, word.end_s)) for word in segment.words)
        for part in by_speaker(replace(segment, words=words)):
            yield replace(part, start_s=part.words[0].start_s, end_s=part.words[-1].end_s)


class TurnIndex:
    """Turns by time; they may overlap."""

    def __init__(self, turns: Sequence[Segment]) -> None:
        self._turns = sorted(turns, key=lambda turn: turn.start_s)
        self._starts = [turn.start_s for turn in self._turns]
        self._longest_s = max((turn.end_s - turn.start_s for turn in turns), default=0.0)

    def speaker(self, start_s: float, end_s: float) -> str | None:
        """Of the turn that shares the most time with the span, or the nearest."""
        best = max(self._near(start_s, end_s), key=lambda turn: min(turn.end_s, end_s) - max(turn.start_s, start_s))
        return best.speaker

    def shared(self, start_s: float, end_s: float) -> Iterator[tuple[str, float]]:
        """Speakers of turns, and seconds that each shares with the span."""
        for turn in self._near(start_s, end_s):
            seconds = min(turn.end_s, end_s) - max(turn.start_s, start_s)
            if turn.speaker is not None and seconds > 0:
                yield turn.speaker, seconds

    def _near(self, start_s: float, end_s: float) -> list[Segment]:
        """All that may overlap the span, and their neighbours."""
        first = bisect.bisect_left(self._starts, start_s - self._longest_s)
        last = bisect.bisect_right(self._starts, end_s)
        return self._turns[max(0, first - 1) : last + 1]
