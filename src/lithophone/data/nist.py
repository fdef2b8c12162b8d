"""NIST's ctm, stm and rttm (sclite, md-eval): a word or turn per line, comments after `;;`.

Times are seconds from the start of the recording; results are by recording, in order of time. meeteval reads the same
(tests), but without line numbers in errors, and drops unknown fields.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from lithophone.data.manifest import parsed_lines
from lithophone.errors import ManifestError
from lithophone.transcript import Segment, Word

NOT_SCORED = "ignore_time_segment_in_scoring"
"""Text of an stm turn that is not scored; in NIST's files also in upper case."""

LABELS = re.compile(r"<[^<>]*,[^<>]*>")
"""`<o,f0,female>`: subsets of an stm turn."""

RTTM_TYPES = frozenset(
    {
        "A/P", "CB", "EDIT", "FILLER", "IP", "LEXEME", "NO_RT_METADATA", "NON-LEX", "NON-SPEECH", "NOSCORE", "SEGMENT",
        "SPEAKER", "SPKR-INFO", "SU",
    }
)  # fmt: skip

Row = TypeVar("Row")
Timed = TypeVar("Timed", Word, Segment)


def ctm_words(path: Path) -> dict[str, tuple[Word, ...]]:
    """`recording channel start duration word [confidence]` -> words by recording.

    With several channels, the channel is the speaker. Raises ManifestError with the line number for missing fields,
    invalid times, and alternatives, which are not supported.
    """
    found: dict[str, dict[str, list[Word]]] = defaultdict(lambda: defaultdict(list))
    for recording, channel, word in _rows(path, _ctm_word):
        found[recording][channel].append(word)
    return {recording: _in_order(_of_channels(channels)) for recording, channels in found.items()}


def stm_turns(path: Path) -> dict[str, tuple[Segment, ...]]:
    """`recording channel speaker start end [<labels>] text` -> turns by recording; NOT_SCORED is kept as text.

    Raises ManifestError with the line number for missing fields or invalid times.
    """
    return _by_recording(_rows(path, _stm_turn))


def rttm_turns(path: Path) -> dict[str, tuple[Segment, ...]]:
    """`SPEAKER recording channel start duration <NA> <NA> speaker ...` -> turns without text, by recording.

    Other rttm types are skipped. Raises ManifestError with the line number for unknown types, missing fields or invalid
    times.
    """
    return _by_recording(row for row in _rows(path, _rttm_turn) if row is not None)


def _rows(path: Path, parse: Callable[[list[str]], Row]) -> Iterator[Row]:
    """`parse(fields)` of every line but comments."""
    for _, row in parsed_lines(path, lambda line: parse(fields) if (fields := _fields(line)) else None):
        if row is not None:
            yield row


def _fields(line: str) -> list[str]:
    return line.split(";;", 1)[0].split()


def _ctm_word(fields: list[str]) -> tuple[str, str, Word]:
    recording, channel, start, duration, text = _first(fields, 5, "recording channel start duration word")
    if text.upper().startswith("<ALT"):
        raise ManifestError(f"{text} begins alternatives, which are not scored: keep one of them")
    start_s = _seconds(start, "start")
    return recording, channel, Word(text, start_s, start_s + _seconds(duration, "duration"), _confidence(fields))


def _stm_turn(fields: list[str]) -> tuple[str, Segment]:
    recording, _, speaker, start, end = _first(fields, 5, "recording channel speaker start end text")
    labelled = len(fields) > 5 and LABELS.fullmatch(fields[5])
    start_s, end_s = _seconds(start, "start"), _seconds(end, "end")
    if end_s < start_s:
        raise ManifestError(f"the end {end} lies before the start {start}")
    text = " ".join(fields[6 if labelled else 5 :])
    return recording, Segment(NOT_SCORED if text.lower() == NOT_SCORED else text, start_s, end_s, speaker=speaker)


def _rttm_turn(fields: list[str]) -> tuple[str, Segment] | None:
    kind = fields[0].upper()
    if kind not in RTTM_TYPES:
        raise ManifestError(f"{fields[0]!r} is no type of rttm: turns begin with SPEAKER")
    if kind != "SPEAKER":
        return None
    wanted = "SPEAKER recording channel start duration <NA> <NA> speaker"
    _, recording, _, start, duration, _, _, speaker = _first(fields, 8, wanted)
    start_s = _seconds(start, "start")
    return recording, Segment("", start_s, start_s + _seconds(duration, "duration"), speaker=speaker)


def _first(fields: list[str], count: int, wanted: str) -> list[str]:
    if len(fields) < count:
        raise ManifestError(f"{len(fields)} fields ({' '.join(fields)}) where there must be: {wanted}")
    return fields[:count]


def _seconds(field: str, what: str) -> float:
    value = _number(field)
    if value is None or value < 0:
        raise ManifestError(f"the {what} is {field!r}: it must be seconds, 0 or more")
    return value


def _confidence(fields: Sequence[str]) -> float | None:
    return _number(fields[5]) if len(fields) > 5 else None


def _number(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _of_channels(channels: Mapping[str, list[Word]]) -> Iterator[Word]:
    for channel, words in channels.items():
        yield from words if len(channels) == 1 else (replace(word, speaker=channel) for word in words)


def _by_recording(rows: Iterable[tuple[str, Segment]]) -> dict[str, tuple[Segment, ...]]:
    found: dict[str, list[Segment]] = defaultdict(list)
    for recording, turn in rows:
        found[recording].append(turn)
    return {recording: _in_order(turns) for recording, turns in found.items()}


def _in_order(timed: Iterable[Timed]) -> tuple[Timed, ...]:
    return tuple(sorted(timed, key=lambda item: item.start_s))
