"""Formats of annotation tools: NIST's ctm and rttm, Praat's TextGrid. Times are whole milliseconds.

ctm: `recording channel start duration word [confidence]`, by channel, then start (sclite). rttm: ten fields, type
SPEAKER (RT-09, appendix A). TextGrid: the long text format of Praat's manual, in UTF-8.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

from lithophone.formats.cues import DEFAULT_CUES, CueOptions
from lithophone.formats.spans import Span, apart, milliseconds
from lithophone.formats.turns import name_of, one_line, segments_of, written
from lithophone.transcript import Segment, Transcript, Word

RECORDING = "recording"
"""Name of a recording without one."""

CHANNEL = "1"
UNKNOWN = "unknown"
"""Speaker without a name, in files that name speakers."""

COMMENT = re.compile(";{2,}")
ALTERNATIVES = re.compile("^<(?=alt)", re.IGNORECASE)
"""In a ctm `<ALT_BEGIN>` and the like are no words."""

Interval: TypeAlias = tuple[Span, str]


# --- NIST


def to_ctm(transcript: Transcript, _: CueOptions = DEFAULT_CUES, recording: str = RECORDING) -> str:
    """A line per word. Where speakers are known, they are the channel.

    White space cuts a word in two. Text without word times shares the time of its segment by characters, and has no
    confidence.
    """
    words = [word for segment in transcript.segments for word in _words(segment)]
    speakers = list(dict.fromkeys(word.speaker for word in words))
    channels = _fields(speakers, UNKNOWN if any(speakers) else CHANNEL)
    lines = [(channels[word.speaker], milliseconds(word.start_s), milliseconds(word.end_s), word) for word in words]
    lines.sort(key=lambda line: line[:2])
    name = _field(recording) or RECORDING
    return "".join(
        f"{name} {channel} {_seconds(start)} {_seconds(max(end - start, 0))} {_ctm_word(word)}\n"
        for channel, start, end, word in lines
    )


def _words(segment: Segment) -> Iterator[Word]:
    """Words without white space, with the speaker of the segment where they have none."""
    timed = [word for word in segment.words if word.text.strip()]
    for word in timed or [Word(segment.text, segment.start_s, segment.end_s)]:
        yield from _parts(replace(word, speaker=word.speaker or segment.speaker))


def _parts(word: Word) -> Iterator[Word]:
    """The parts of a word with white space share its time by characters."""
    parts = word.text.split()
    ends = list(itertools.accumulate((len(part) for part in parts), initial=0))
    times = [word.start_s + (word.end_s - word.start_s) * end / max(ends[-1], 1) for end in ends]
    for part, start_s, end_s in zip(parts, times, times[1:], strict=False):
        yield replace(word, text=part, start_s=start_s, end_s=end_s)


def _ctm_word(word: Word) -> str:
    text = ALTERNATIVES.sub("＜", _field(word.text))
    return text if word.confidence is None else f"{text} {word.confidence:.4f}"


def to_rttm(transcript: Transcript, _: CueOptions = DEFAULT_CUES, recording: str = RECORDING) -> str:
    """A SPEAKER line per turn, by start. Turns of one speaker do not overlap. Unknown speakers are `unknown`."""
    segments = segments_of(transcript)
    speakers = _fields((segment.speaker for segment in segments), UNKNOWN)
    turns = [(span, speakers[name]) for name in speakers for span in _joined(s for s in segments if s.speaker == name)]
    turns.sort(key=lambda turn: (turn[0].start, turn[0].end))
    name = _field(recording) or RECORDING
    return "".join(
        f"SPEAKER {name} 1 {_seconds(span.start)} {_seconds(span.end - span.start)} <NA> <NA> {speaker} <NA> <NA>\n"
        for span, speaker in turns
    )


def _joined(segments: Iterable[Segment]) -> list[Span]:
    """Spans of segments by start, of 1 ms or more, those that overlap as one."""
    joined: list[Span] = []
    for span in map(_span, segments):
        longer = replace(span, end=max(span.end, span.start + 1))
        if joined and longer.start < joined[-1].end:
            joined[-1] = replace(joined[-1], end=max(joined[-1].end, longer.end))
        else:
            joined.append(longer)
    return joined


def _field(text: str) -> str:
    """Without white space, and without the start of a comment."""
    return COMMENT.sub(";", "_".join(written(text).split()))


def _fields(names: Iterable[str | None], unknown: str) -> dict[str | None, str]:
    """Names -> fields that differ where the names do."""
    fields: dict[str | None, str] = {}
    for name in dict.fromkeys(names):
        fields[name] = _free(_field(name or "") or unknown, fields.values(), "_{}")
    return fields


def _free(wanted: str, taken: Iterable[str], ending: str) -> str:
    """The name, or with the first number that makes it another than those taken."""
    others = (wanted + ending.format(number) for number in itertools.count(2))
    return next(one for one in itertools.chain([wanted], others) if one not in taken)


def _seconds(time_ms: int) -> str:
    return f"{time_ms // 1000}.{time_ms % 1000:03d}"


# --- Praat


def to_textgrid(transcript: Transcript, _: CueOptions = DEFAULT_CUES) -> str:
    """Interval tiers `segments` and `words`, for known speakers `Ann` and `Ann - words`; pauses are empty intervals.

    Intervals of a tier do not overlap, and have 1 ms or more (`apart`). The tier of words is there if any have times.
    """
    tiers = _tiers(segments_of(transcript)) or {"segments": []}
    end = max(milliseconds(transcript.duration_s), 1, *(span.end for items in tiers.values() for span, _ in items[-1:]))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", *_bounds(0, end)]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, items) in enumerate(tiers.items(), start=1):
        lines += [f"    item [{number}]:", *_tier(name, list(_gapless(items, end)), end)]
    return "".join(f"{line}\n" for line in lines)


def _tiers(segments: Sequence[Segment]) -> dict[str, list[Interval]]:
    """Intervals by name of the tier, for each speaker in order."""
    tiers: dict[str, list[Interval]] = {}
    for speaker in dict.fromkeys(segment.speaker for segment in segments):
        own = [segment for segment in segments if segment.speaker == speaker]
        words = sorted((w for s in own for w in s.words if w.text.strip()), key=lambda word: word.start_s)
        name = one_line(written(name_of(speaker)))
        tiers[_free(name or "segments", tiers, " ({})")] = _intervals(own)
        if words:
            tiers[_free(f"{name} - words" if name else "words", tiers, " ({})")] = _intervals(words)
    return tiers


def _intervals(items: Sequence[Segment] | Sequence[Word]) -> list[Interval]:
    return list(zip(apart(map(_span, items)), (one_line(written(item.text)) for item in items), strict=True))


def _span(item: Segment | Word) -> Span:
    return Span(milliseconds(item.start_s), milliseconds(item.end_s))


def _gapless(items: Iterable[Interval], end: int) -> Iterator[Interval]:
    """The intervals, with empty ones between them and at both ends."""
    at = 0
    for span, text in items:
        if at < span.start:
            yield Span(at, span.start), ""
        yield span, text
        at = span.end
    if at < end:
        yield Span(at, end), ""


def _tier(name: str, items: Sequence[Interval], end: int) -> Iterator[str]:
    indent = 8 * " "
    bounds = [f"{indent}{line}" for line in _bounds(0, end)]
    yield from [f'{indent}class = "IntervalTier"', f"{indent}name = {_quoted(name)}", *bounds]
    yield f"{indent}intervals: size = {len(items)}"
    for number, (span, text) in enumerate(items, start=1):
        yield f"{indent}intervals [{number}]:"
        yield from (f"{indent}    {line}" for line in (*_bounds(span.start, span.end), f"text = {_quoted(text)}"))


def _bounds(start: int, end: int) -> tuple[str, str]:
    return f"xmin = {_seconds(start)}", f"xmax = {_seconds(end)}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
