"""Hypotheses assigned to the clips of a manifest by name; those of recordings are cut at the manifest's stretches."""

from __future__ import annotations

import logging
import math
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError
from lithophone.evaluation.hypotheses import Hypothesis, joined
from lithophone.transcript import Segment, Word

MAX_PARTS = 4
"""Trailing path parts that are compared where paths differ."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Matched:
    """Entries with hypotheses, in the manifest's order, and what did not match."""

    pairs: tuple[tuple[Entry, Hypothesis | None], ...]
    without_hypothesis: tuple[str, ...]
    """Names of entries."""
    without_reference: tuple[str, ...]
    """Names of hypotheses."""
    outside: int = 0
    """Words (or turns, where words are not timed) of recordings in no entry's stretch: not scored."""


def match(entries: Sequence[Entry], hypotheses: Mapping[str, Hypothesis]) -> Matched:
    """Assign every entry its hypothesis.

    By the exact name; else by the last four, three, two, one parts of the path, without suffix, in any Unicode form and
    with either separator, where they are unique on both sides. Stretches without a hypothesis of their own share the
    recording's, cut by the midpoints of its words, or turns.

    Raises ManifestError for duplicate entry names, and for a recording's hypothesis without times to cut it by.
    """
    by_name = _by_name(entries)
    assigned = _assigned(by_name, hypotheses)
    used = set(assigned.values())
    found = {name: hypotheses[key] for name, key in assigned.items()}
    recordings = _recordings(entry for name, entry in by_name.items() if name not in assigned)
    outside = 0
    left = {name: hypothesis for name, hypothesis in hypotheses.items() if name not in used}
    for recording, key in _assigned(map(str, recordings), left).items():
        used.add(key)
        cuts, rest = _cut(hypotheses[key], recordings[Path(recording)])
        found |= cuts
        outside += rest
    if outside:
        logger.warning("%d words or turns lie in no stretch of the manifest and are not scored", outside)
    return Matched(
        tuple((entry, found.get(name)) for name, entry in by_name.items()),
        tuple(name for name in by_name if name not in found),
        tuple(name for name in hypotheses if name not in used),
        outside,
    )


def with_speakers(hypotheses: Mapping[str, Hypothesis], turns: Mapping[str, Hypothesis]) -> dict[str, Hypothesis]:
    """Assign each word the speaker of `turns` (of an rttm) with the longest overlap, else of the nearest turn.

    Raises ManifestError for a hypothesis without turns of its name, or with words without times.
    """
    missing = [name for name in hypotheses if name not in turns or not turns[name].turns]
    if missing:
        raise ManifestError(f"{len(missing)} hypotheses have no turns of their name; the first is {missing[0]!r}")
    untimed = [name for name, hypothesis in hypotheses.items() if hypothesis.text and not hypothesis.words]
    if untimed:
        raise ManifestError(f"the words of {untimed[0]!r} have no times, and cannot be given to speakers")
    return {name: _with_turns(hypothesis, turns[name].turns) for name, hypothesis in hypotheses.items()}


def _by_name(entries: Sequence[Entry]) -> dict[str, Entry]:
    names = Counter(entry.id for entry in entries)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ManifestError(
            f"{len(twice)} names are there twice in the manifest; the first is {twice[0]!r}: give every line its own id"
        )
    return {entry.id: entry for entry in entries}


def _assigned(wanted: Iterable[str], hypotheses: Mapping[str, Hypothesis]) -> dict[str, str]:
    """Names of entries -> names of their hypotheses."""
    names = list(wanted)
    assigned = {name: name for name in names if name in hypotheses}
    for parts in range(MAX_PARTS, 0, -1):
        if len(assigned) == len(names):
            break
        ours, theirs = _unambiguous(names, parts), _unambiguous(hypotheses, parts)
        # The ending of an assigned hypothesis is that of its entry, so no other unambiguous name can take it.
        assigned |= {name: theirs[end] for end, name in ours.items() if end in theirs and name not in assigned}
    return assigned


def _unambiguous(names: Iterable[str], parts: int) -> dict[str, str]:
    """Unique endings -> names."""
    ends = {name: _end(name, parts) for name in names}
    counts = Counter(ends.values())
    return {end: name for name, end in ends.items() if counts[end] == 1}


def _end(name: str, parts: int) -> str:
    """Last parts of a path without the suffix, which contains a letter: digits behind a dot may be of a time."""
    name = unicodedata.normalize("NFC", name).replace("\\", "/")
    stem, suffix = posixpath.splitext(name)
    whole = stem if any(map(str.isalpha, suffix)) and "#t=" not in name else name
    return "/".join(whole.strip("/").split("/")[-parts:])


def _recordings(entries: Iterable[Entry]) -> dict[Path, list[Entry]]:
    found: dict[Path, list[Entry]] = {}
    for entry in entries:
        if entry.start_s is not None and entry.end_s is not None:
            found.setdefault(entry.audio, []).append(entry)
    return found


def _cut(hypothesis: Hypothesis, entries: Sequence[Entry]) -> tuple[dict[str, Hypothesis], int]:
    """The part of every stretch by its name, and the number of words or turns in none."""
    parts: Sequence[Word | Segment] = hypothesis.words or hypothesis.turns
    if hypothesis.text and not any(math.isfinite(part.start_s + part.end_s) for part in parts):
        raise ManifestError(
            f"{hypothesis.name!r} is of a whole recording of which the manifest has {len(entries)} stretches, and has "
            "no times to cut it by: give words or turns with times, or one hypothesis for every stretch"
        )
    cuts = {entry.id: _within(hypothesis, entry) for entry in entries}
    spans = [(entry.start_s or 0.0, entry.end_s or 0.0) for entry in entries]
    return cuts, sum(not any(_is_within(part, *span) for span in spans) for part in parts)


def _within(hypothesis: Hypothesis, entry: Entry) -> Hypothesis:
    start_s, end_s = entry.start_s or 0.0, entry.end_s or 0.0
    words = tuple(_moved_word(word, start_s) for word in hypothesis.words if _is_within(word, start_s, end_s))
    turns = tuple(_moved_turn(turn, start_s) for turn in hypothesis.turns if _is_within(turn, start_s, end_s))
    return Hypothesis(entry.id, joined(words if hypothesis.words else turns), words, turns)


def _is_within(part: Word | Segment, start_s: float, end_s: float) -> bool:
    return start_s <= (part.start_s + part.end_s) / 2 < end_s


def _moved_word(word: Word, start_s: float) -> Word:
    """Times in seconds from `start_s`, not below 0."""
    return replace(word, start_s=max(word.start_s - start_s, 0.0), end_s=word.end_s - start_s)


def _moved_turn(turn: Segment, start_s: float) -> Segment:
    words = tuple(_moved_word(word, start_s) for word in turn.words)
    return replace(turn, start_s=max(turn.start_s - start_s, 0.0), end_s=turn.end_s - start_s, words=words)


def _with_turns(hypothesis: Hypothesis, turns: tuple[Segment, ...]) -> Hypothesis:
    words = tuple(
        replace(word, speaker=max(turns, key=lambda turn: _shared_s(word, turn)).speaker) for word in hypothesis.words
    )
    return replace(hypothesis, words=words, turns=turns)


def _shared_s(word: Word, turn: Segment) -> float:
    """Seconds of overlap; negative: the distance."""
    return min(word.end_s, turn.end_s) - max(word.start_s, turn.start_s)


def some_of(names: Sequence[str], shown: int = 5) -> str:
    """`a, b, c, ...`: the first names, for a message."""
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
