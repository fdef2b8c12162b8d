"""From windows back to the recording: shift times, and join what overlapping windows heard twice. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from lithophone.transcript import Segment, Word, join_text

MIN_COMMON_WORDS = 2
"""Shorter common runs prove nothing: any two sentences share a word."""

MIN_COMMON_CHARACTERS = 4
"""The same for languages written without spaces, where characters are compared."""


def shift(segment: Segment, offset_s: float) -> Segment:
    """The segment with all its times moved: from the start of its window to the start of the recording."""
    words = tuple(replace(w, start_s=w.start_s + offset_s, end_s=w.end_s + offset_s) for w in segment.words)
    return replace(segment, start_s=segment.start_s + offset_s, end_s=segment.end_s + offset_s, words=words)


def stitch(segments: Iterable[Segment], language: str | None = None) -> tuple[Segment, ...]:
    """Segments in recording time -> the same in order, with what neighbours heard twice said once.

    Overlapping neighbours are joined by the times of their words; where one of them has none, at the middle of the
    longest run of words common to the end of one and the beginning of the other. Without a common run both are kept
    whole: a repetition is better than a loss. A segment inside another one was heard whole there and goes. Segments
    that do not overlap are not touched, segments without text are left out.
    """
    joined: list[Segment] = []
    for segment in sorted((s for s in segments if s.text), key=lambda s: (s.start_s, s.end_s)):
        if joined and segment.start_s < joined[-1].end_s:
            joined.extend(s for s in join(joined.pop(), segment, language) if s.text)
        else:
            joined.append(segment)
    return tuple(joined)


def join(left: Segment, right: Segment, language: str | None = None) -> tuple[Segment, Segment]:
    """Two overlapping segments without the words they share; one of them may end up with an empty text."""
    if right.end_s <= left.end_s:
        return left, replace(right, text="", words=())
    if left.words and right.words:
        return _join_by_times(left, right, language)
    return _join_by_words(left, right, language)


# --- by the times of the words


def _join_by_times(left: Segment, right: Segment, language: str | None) -> tuple[Segment, Segment]:
    """The left one up to the middle of the overlap, the right one from where the left one's last word ends."""
    middle_s = (right.start_s + left.end_s) / 2
    before = tuple(word for word in left.words if _centre_s(word) < middle_s)
    heard_s = before[-1].end_s if before else left.start_s
    after = tuple(word for word in right.words if _centre_s(word) >= heard_s)
    return _with_words(left, before, language), _with_words(right, after, language)


def _centre_s(word: Word) -> float:
    return (word.start_s + word.end_s) / 2


def _with_words(segment: Segment, words: tuple[Word, ...], language: str | None) -> Segment:
    """The segment cut down to some of its words; its own text stays where none is missing."""
    if words == segment.words:
        return segment
    if not words:
        return replace(segment, text="", words=())
    text = join_text((word.text for word in words), language)
    start_s, end_s = words[0].start_s, words[-1].end_s
    if words[0] == segment.words[0]:
        start_s = segment.start_s
    if words[-1] == segment.words[-1]:
        end_s = segment.end_s
    return Segment(text, start_s, end_s, words, segment.speaker)


# --- by the words alone


def _join_by_words(left: Segment, right: Segment, language: str | None) -> tuple[Segment, Segment]:
    spaced = join_text(("a", "b"), language) == "a b"
    head, tail = _tokens(left.text, spaced), _tokens(right.text, spaced)
    overlap_s = left.end_s - right.start_s
    seam = _seam(head, tail, _reach(left, len(head), overlap_s), _reach(right, len(tail), overlap_s), spaced)
    if seam is None:
        return left, right
    middle_s = right.start_s + overlap_s / 2
    return (
        replace(left, text=join_text(head[: seam[0]], language), end_s=middle_s, words=()),
        replace(right, text=join_text(tail[seam[1] :], language), start_s=middle_s, words=()),
    )


def _tokens(text: str, spaced: bool) -> list[str]:
    return text.split() if spaced else list(text)


def _reach(segment: Segment, n_tokens: int, overlap_s: float) -> int:
    """How many tokens the overlap can hold: its share of the segment, half as much again, and two."""
    share = overlap_s / max(segment.end_s - segment.start_s, 1e-9)
    return min(n_tokens, math.ceil(1.5 * share * n_tokens) + 2)


def _seam(
    left: Sequence[str], right: Sequence[str], left_reach: int, right_reach: int, spaced: bool
) -> tuple[int, int] | None:
    """Where to end the left tokens and start the right ones: the middle of their longest common run."""
    first = len(left) - left_reach
    ending, beginning = [_plain(t) for t in left[first:]], [_plain(t) for t in right[:right_reach]]
    run = SequenceMatcher(None, ending, beginning, autojunk=False).find_longest_match()
    if run.size < (MIN_COMMON_WORDS if spaced else MIN_COMMON_CHARACTERS):
        return None
    half = (run.size + 1) // 2
    return first + run.a + half, run.b + half


def _plain(token: str) -> str:
    """A word as it sounds: windows disagree about capitals and punctuation at their edges."""
    return "".join(c for c in token.casefold() if c.isalnum()) or token
