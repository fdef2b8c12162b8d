"""Tags of plus models: `[T:45]` behind words, `[Speaker 1]:` before turns.

Malformed tags are found as well, so that no part of one is left in a text: without a bracket, without a number, cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields

WRAP_S = 10.0
"""Time tags are centiseconds modulo 1000."""

LONGEST_WORD_S = 9.5
"""A time tag that makes a word longer goes back in time, by half a second or less, and is not one of the next 10 s."""

BEYOND_S = 0.5
"""A tag this far behind the end of its window is malformed; nearer ones are rounded."""

TIME_TAG = re.compile(
    r"\[\s*T\s*:\s*(?P<value>[0-9]{1,3})\s*\]"
    r"|\[\s*T(?![^\W\d_])(?:[^\[\]\s]*|[\s0-9.:;,-]*)\]"
    r"|\[\s*T(?![^\W\d_])(?:\s*:)?(?:\s*[0-9]+)?"
    r"|(?<![^\W\d_])T\s*:\s*[0-9]{1,4}\s*\]",
    re.IGNORECASE,
)
"""Well formed, with `value`; no number or too large a one; not closed; not opened."""

SPEAKER_TAG = re.compile(
    r"\[\s*Speaker[\s_]*(?P<value>[0-9]{1,3})(?:\s+cluster\s+[0-9]+)?\s*\]\s*:?"  # clusters matter in training only
    r"|\[\s*Speaker(?![^\W\d_])[^\[\]\n]{0,24}\]\s*:?"
    r"|\[\s*Speaker(?![^\W\d_])(?:[\s_]*(?P<unclosed>[0-9]{1,3})(?![0-9])\s*:?|\s*[^\s\[\]:]{0,12}\s*:)?"
    r"|(?<![^\W\d_])Speaker[\s_]*(?P<unopened>[0-9]{1,3})\s*\]\s*:?",
    re.IGNORECASE,
)
"""Well formed, with `value`; no number; not closed; not opened."""


@dataclass(frozen=True)
class TagFaults:
    """Counts of what is wrong with the tags of a reply."""

    unreadable: int = 0
    """Tags with a missing bracket or number."""
    stray: int = 0
    """Tags that are not of the task, or that no word precedes."""
    untagged: int = 0
    """Words without a tag of their own."""
    backward: int = 0
    """Time tags before the tag before them."""
    beyond: int = 0
    """Time tags behind the end of the window."""

    @property
    def total(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    def __str__(self) -> str:
        """`2 unreadable, 1 beyond the window`; "" without faults."""
        counts = ((getattr(self, name), text) for name, text in FAULTS.items())
        return ", ".join(f"{count} {text}" for count, text in counts if count)


FAULTS = {
    "unreadable": "unreadable",
    "stray": "out of place",
    "untagged": "missing",
    "backward": "back in time",
    "beyond": "beyond the window",
}
"""Faults by field, for people."""


def is_well_formed(tag: re.Match[str]) -> bool:
    return tag["value"] is not None


def speaker_of(tag: re.Match[str]) -> str | None:
    """Number of a speaker tag, also of one with a missing bracket; None without a number."""
    number = tag["value"] or tag["unclosed"] or tag["unopened"]
    return str(int(number)) if number else None


def pieces(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, re.Match[str] | None]]:
    """Text between tags, with the tag after it or None."""
    start = 0
    for tag in pattern.finditer(text):
        yield text[start : tag.start()].strip(), tag
        start = tag.end()
    yield text[start:].strip(), None


def without_tags(text: str, *patterns: re.Pattern[str]) -> tuple[str, int]:
    """The text, tags replaced by spaces, and their number."""
    count = 0
    for pattern in patterns:
        text, found = pattern.subn(" ", text)
        count += found
    return (" ".join(text.split()) if count else text), count


def unwrap(time_s: float, last_s: float) -> float:
    """The first of `time_s` + n * 10 s not before `last_s`."""
    turns = 0
    while time_s + turns * WRAP_S < last_s:
        turns += 1
    return round(time_s + turns * WRAP_S, 2)
