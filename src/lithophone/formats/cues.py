"""Transcript -> cues of limited line width, line count, duration and reading speed, none overlapping.

Dynamic programming over each segment: few cues, ended at sentence ends, pauses (of timed words) or commas. Without
timed words, time is shared by characters.
"""

from __future__ import annotations

import bisect
import itertools
import math
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lithophone.errors import OptionError
from lithophone.formats.spans import Span, apart, milliseconds
from lithophone.formats.turns import PlacedWord, name_of, place, segments_of
from lithophone.transcript import Segment, Transcript

SENTENCE_END, CLAUSE_END = ".?!…。？！", ",;:—–、，；："
CLOSING = "\"'”’»)]}」』）】〉》"
STAND_INS = "＜＞｛［"
"""`subtitles.py` writes them for markup."""

NEVER_FIRST = STAND_INS + "、。，．？！：；）」』】〉》ー々ゝヽ・…～ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"
"""No line starts with these in Japanese (kinsoku) and Mandarin."""

NEVER_LAST = STAND_INS + "（「『【〈《"

PAUSE_S = 0.5
"""A pause as good as a sentence end."""

LONG_PAUSE_S = 1.0
"""Cues should not span longer pauses; shorter gaps between cues are closed."""

MOST_COLUMNS, MOST_LINES, LONGEST_S = 1000, 100, 600.0
"""Bounds of options: the work of a layout grows with them."""

SHORT_S = 1.0
TICK_S = 0.001
"""Minimum duration of a cue in WebVTT."""

USUAL_CPS = 20.0
"""Characters a second at which two cues of speakers that overlap share their time, without `max_cps`."""


@dataclass(frozen=True)
class CueOptions:
    """Layout of srt and vtt. Widths in columns: wide characters (kana, hanzi) take two."""

    max_line_width: int = field(default=42, metadata={"help": "srt, vtt: columns of a line at most."})
    max_line_count: int = field(default=2, metadata={"help": "srt, vtt: lines of a cue at most."})
    max_cue_s: float = field(default=7.0, metadata={"help": "srt, vtt: seconds of a cue at most."})
    max_cps: float | None = field(
        default=None,
        metadata={
            "help": "srt, vtt: characters a second; faster cues stay on in the pause behind (default: no limit)."
        },
    )
    highlight_words: bool = field(
        default=False, metadata={"help": "srt: repeat a cue with every timed word underlined while it is said."}
    )

    def __post_init__(self) -> None:
        for name, most in (("max_line_width", MOST_COLUMNS), ("max_line_count", MOST_LINES)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise OptionError(f"{name} {value!r}: it must be a whole number from 1 to {most}")
        if not _is_positive(self.max_cue_s) or self.max_cue_s > LONGEST_S:
            raise OptionError(f"max_cue_s {self.max_cue_s!r}: it must be seconds above 0, at most {LONGEST_S:g}")
        if self.max_cps is not None and not _is_positive(self.max_cps):
            raise OptionError(f"max_cps {self.max_cps!r}: it must be characters a second above 0, or None")
        if not isinstance(self.highlight_words, bool):
            raise OptionError(f"highlight_words {self.highlight_words!r}: it must be True or False")


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


DEFAULT_CUES = CueOptions()


@dataclass(frozen=True)
class Cue:
    """Shown from `start_s` to `end_s`: spans of the segment's text, one per line."""

    start_s: float
    end_s: float
    text: str
    lines: tuple[tuple[int, int], ...]
    label: str = ""
    """`[Ann]: `, if the speaker is known."""
    words: tuple[PlacedWord, ...] = ()

    @property
    def length(self) -> int:
        """Characters of `render()` without markup."""
        return len(self.label) + sum(end - start for start, end in self.lines) + len(self.lines) - 1

    def render(
        self,
        before: Mapping[int, str] | None = None,
        behind: Mapping[int, str] | None = None,
        escape: Callable[[str], str] = str,
    ) -> str:
        """The lines; `before` and `behind` map positions in the text to markup."""
        before, behind = before or {}, behind or {}
        lines = (
            "".join(f"{before.get(i, '')}{escape(self.text[i])}{behind.get(i, '')}" for i in range(start, end))
            for start, end in self.lines
        )
        return escape(self.label) + "\n".join(lines)


def all_cues(transcript: Transcript, options: CueOptions, guard: Callable[[str], str] = str) -> list[Cue]:
    """Cues of all segments, by start, none overlapping, each of 1 ms or more; times are whole milliseconds.

    Where speakers overlap, a cue gives way to the next (`apart`).
    """
    found = [cue for segment in segments_of(transcript) for cue in cues_of(segment, options, guard)]
    found.sort(key=lambda cue: milliseconds(cue.start_s))
    spans = apart(_span(cue, options.max_cps or USUAL_CPS) for cue in found)
    if options.max_cps is not None:
        spans = _slowed(spans, options, milliseconds(transcript.duration_s))
    return [
        replace(cue, start_s=span.start / 1000, end_s=span.end / 1000) for cue, span in zip(found, spans, strict=True)
    ]


def _span(cue: Cue, cps: float) -> Span:
    """`need` is the time that the cue takes to read."""
    return Span(milliseconds(cue.start_s), milliseconds(cue.end_s), math.ceil(1000 * cue.length / cps))


def _slowed(spans: Sequence[Span], options: CueOptions, duration: int) -> list[Span]:
    """Spans that end late enough to be read, but before the next one, within `max_cue_s` and the recording."""
    nexts = [*(span.start for span in spans), duration][1:]
    longest = milliseconds(options.max_cue_s)
    latest = (min(span.start + min(span.need, longest), end) for span, end in zip(spans, nexts, strict=True))
    return [replace(span, end=max(span.end, end)) for span, end in zip(spans, latest, strict=True)]


def cues_of(segment: Segment, options: CueOptions, guard: Callable[[str], str] = str) -> list[Cue]:
    """Cues of a segment, in order; none without text.

    guard: replaces characters that the format takes for markup, one by one.
    """
    text = " ".join(segment.text.split())
    if not text:
        return []
    shown, label = guard(text), guard(label_of(segment.speaker))
    assert len(shown) == len(text), "a guard replaces characters one by one"
    words = list(place(segment.words, text))
    units = _timed(list(_units(shown, options.max_line_width)), segment, words, len(text))
    layout = _Layout(shown, label, options, units)
    cut = _cut(layout, bool(words))
    times = list(_times(units, cut, segment, options.max_cue_s))
    return [
        Cue(*span, shown, layout.lines(some), label, _inside(words, some))
        for span, some in zip(times, (units[start:end] for start, end in cut), strict=True)
    ]


def label_of(speaker: str | None) -> str:
    """`[Speaker 1]: ` or `[Ann]: `; brackets in a name become round."""
    name = name_of(speaker).translate({ord("["): "(", ord("]"): ")"})
    return f"[{name}]: " if name else ""


def columns(text: str) -> int:
    """Width of a text: 2 per wide character, 0 per combining mark."""
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


# --- units that no line breaks


@dataclass(frozen=True)
class _Unit:
    """An unbreakable span of the text."""

    start: int
    end: int
    start_s: float = 0.0
    end_s: float = 0.0


def _units(text: str, width: int) -> Iterator[_Unit]:
    """Words; characters of languages without spaces; pieces of words wider than a line.

    Digits stay with the word before: SubRip readers take a last line of digits for a cue number.
    """
    waiting: _Unit | None = None
    for unit in _pieces(text, width):
        glued = waiting is not None and text[unit.start : unit.end].isdecimal()
        if waiting is not None and glued and columns(text[waiting.start : unit.end]) <= width:
            waiting = _Unit(waiting.start, unit.end)
        else:
            if waiting is not None:
                yield waiting
            waiting = unit
    if waiting is not None:
        yield waiting


def _pieces(text: str, width: int) -> Iterator[_Unit]:
    start, taken = 0, 0
    for at, character in enumerate(text):
        if character == " ":
            if at > start:
                yield _Unit(start, at)
            start, taken = at + 1, 0
            continue
        size = _columns_of(character)
        if at > start and (taken + size > width or _may_break(text[at - 1], character)):
            yield _Unit(start, at)
            start, taken = at, 0
        taken += size
    if start < len(text):
        yield _Unit(start, len(text))


def _may_break(one: str, other: str) -> bool:
    """Line break between two characters: one is wide, and kinsoku allows it."""
    wide = _columns_of(one) == 2 or _columns_of(other) == 2
    return wide and other not in NEVER_FIRST + CLOSING and one not in NEVER_LAST and not unicodedata.combining(other)


def _timed(units: Sequence[_Unit], segment: Segment, words: Sequence[PlacedWord], length: int) -> list[_Unit]:
    """Units with times of their words, between known times shared by characters."""
    anchors = [(0, segment.start_s), *((p, s) for w in words for p, s in _ends(w)), (length, segment.end_s)]
    places = [place for place, _ in anchors]
    rising = itertools.accumulate((time_s for _, time_s in anchors), max)
    times = [min(time_s, max(segment.start_s, segment.end_s)) for time_s in rising]

    def at(place: int, anchor: int) -> float:
        before = max(anchor - 1, 0)
        share = (place - places[before]) / max(places[anchor] - places[before], 1)
        return times[before] + share * (times[anchor] - times[before])

    def start_s(place: int) -> float:
        behind = bisect.bisect_right(places, place)
        return times[behind - 1] if places[behind - 1] == place else at(place, behind)

    def end_s(place: int) -> float:
        anchor = bisect.bisect_left(places, place)
        return times[anchor] if places[anchor] == place else at(place, anchor)

    return [_Unit(unit.start, unit.end, start_s(unit.start), end_s(unit.end)) for unit in units]


def _ends(placed: PlacedWord) -> tuple[tuple[int, float], tuple[int, float]]:
    return (placed.start, placed.word.start_s), (placed.end, placed.word.end_s)


# --- lines and cuts


class _Layout:
    """Lines of a cue: at most `max_line_count`, of even widths."""

    def __init__(self, text: str, label: str, options: CueOptions, units: Sequence[_Unit]) -> None:
        self.text, self.label, self.options, self.units = text, label, options, units
        self.label_columns = columns(label)
        self._columns = [0, *itertools.accumulate(_columns_of(character) for character in text)]
        self._behind_first = self._line_ends(options.max_line_width - self.label_columns)
        self._behind_line = self._line_ends(options.max_line_width)

    def _line_ends(self, width: int) -> list[int]:
        """By number of a line's first unit, the number of the unit behind the line."""
        ends, end = [], 0
        for start, first in enumerate(self.units):
            end = max(end, start + 1)
            limit = self._columns[first.start] + width
            while end < len(self.units) and self._columns[self.units[end].end] <= limit:
                end += 1
            ends.append(end)
        return ends

    def fits(self, start: int, end: int) -> bool:
        """Whether units `start` to `end` are a cue; a single unit always is."""
        width, count = self.options.max_line_width, self.options.max_line_count
        taken = self.label_columns + self._columns[self.units[end - 1].end] - self._columns[self.units[start].start]
        if end - start == 1 or taken > width * count + count:
            return end - start == 1
        reached = self._behind_first[start]
        for _ in range(count - 1):
            if reached >= end:
                break
            reached = self._behind_line[reached]
        return reached >= end

    def lacking_s(self, first: _Unit, last: _Unit, until_s: float) -> float:
        """Seconds that a cue is too short to be read at `max_cps`."""
        cps, longest_s = self.options.max_cps, self.options.max_cue_s
        if cps is None:
            return 0.0
        needed_s = (len(self.label) + last.end - first.start) / cps
        return max(needed_s - min(until_s - first.start_s, longest_s), 0.0)

    def lines(self, units: Sequence[_Unit]) -> tuple[tuple[int, int], ...]:
        widest = self.options.max_line_width
        lines = self._wrapped(units, widest)
        if len(lines) == 1:
            return lines
        narrower = (self._wrapped(units, width) for width in range(widest // 2, widest))
        return next((even for even in narrower if len(even) == len(lines)), lines)

    def _wrapped(self, units: Sequence[_Unit], width: int) -> tuple[tuple[int, int], ...]:
        lines = [(units[0].start, units[0].end)]
        for unit in units[1:]:
            start, _ = lines[-1]
            room = width - (self.label_columns if len(lines) == 1 else 0)
            if self._columns[unit.end] - self._columns[start] <= room:
                lines[-1] = start, unit.end
            else:
                lines.append((unit.start, unit.end))
        return tuple(lines)


def _cut(layout: _Layout, is_timed: bool) -> list[tuple[int, int]]:
    """Ranges of units, one per cue, at minimum cost."""
    units = layout.units
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(units) + 1):
        found = ((best[start][0] + cost, start) for start, cost in _starts(end, layout, is_timed))
        best.append(min(found))
    cuts = [len(units)]
    while cuts[-1]:
        cuts.append(best[cuts[-1]][1])
    return list(itertools.pairwise(cuts[::-1]))


def _starts(end: int, layout: _Layout, is_timed: bool) -> Iterator[tuple[int, float]]:
    """Possible starts of a cue that ends before unit `end`, with costs."""
    units = layout.units
    at_end = _cost_of_end(units, end, layout.text, is_timed)
    last = units[end - 1]
    until_s = units[end].start_s if end < len(units) else last.end_s
    pauses = 0
    for start in range(end - 1, -1, -1):
        pauses += is_timed and start < end - 1 and units[start + 1].start_s - units[start].end_s >= LONG_PAUSE_S
        lasts_s = last.end_s - units[start].start_s
        if start < end - 1 and (lasts_s > layout.options.max_cue_s or not layout.fits(start, end)):
            return
        too_fast = 2 * layout.lacking_s(units[start], last, until_s)
        yield start, 1 + at_end + 2 * pauses + (0.5 if lasts_s < SHORT_S else 0.0) + too_fast


def _cost_of_end(units: Sequence[_Unit], end: int, text: str, is_timed: bool) -> float:
    if end == len(units):
        return 0.0
    if is_timed and units[end].start_s - units[end - 1].end_s >= PAUSE_S:
        return 0.0
    last = text[units[end - 1].start : units[end - 1].end].rstrip(CLOSING)[-1:]
    if last and last in SENTENCE_END:
        return 0.0
    return 0.3 if last and last in CLAUSE_END else 1.0


def _times(
    units: Sequence[_Unit], cut: Sequence[tuple[int, int]], segment: Segment, max_cue_s: float
) -> Iterator[tuple[float, float]]:
    """Start and end of every cue; gaps up to LONG_PAUSE_S are closed, within `max_cue_s`."""
    starts = [units[a].start_s for a, _ in cut]
    ends = [units[b - 1].end_s for _, b in cut]
    if starts[0] - segment.start_s <= min(LONG_PAUSE_S, max_cue_s - (ends[0] - starts[0])):
        starts[0] = segment.start_s
    for start_s, end_s, next_s in zip(starts, ends, [*starts[1:], segment.end_s], strict=True):
        closed_s = next_s if next_s - end_s <= LONG_PAUSE_S else end_s
        yield start_s, max(min(closed_s, start_s + max_cue_s), start_s + TICK_S)


def _inside(words: Sequence[PlacedWord], units: Sequence[_Unit]) -> tuple[PlacedWord, ...]:
    return tuple(word for word in words if units[0].start <= word.start and word.end <= units[-1].end)
