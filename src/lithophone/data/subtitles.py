"""Reads subtitles of one recording, SubRip (srt) or WebVTT (vtt): turns, with word times if present.

Word times: srt repeats a cue with each word underlined (whisper's `--highlight_words`), vtt has `<00:01.500>` before
words. Speakers: `<v Ann>`, or `[Ann]: ` before the text. Other tags are dropped, also `{\\an8}`.

pysubs2 drops voices and time stamps, webvtt-py refuses SRT as editors write it. Odd files are read as by pysubs2 and
FFmpeg (tests).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from lithophone.errors import ManifestError
from lithophone.transcript import Segment, Word

TIME = r"(?:\d+:)?\d{1,2}:\d{1,2}[.,]\s?\d{1,3}"
TIMES = re.compile(rf"\s*({TIME})\s*-->\s*({TIME})(\s.*)?")
TIMES_MEANT = re.compile(r"\s*\d+:\d+\S*\s*-->|.*-->\s*\d+:\d+")
"""A line with an arrow that is not text."""

STAMP = re.compile(rf"<({TIME})>")
UNDERLINED = re.compile(r"<u>(.*?)</u>", re.DOTALL)
VOICE = re.compile(r"<v(?:\.[^\s>]+)*\s+([^>]+)>")
NAMED = re.compile(r"\[([^\]]+)\]: ")
TAG = re.compile(r"</?\w[^>]*>|\{\\[^}]*\}")
VTT_HEADER = re.compile(r"WEBVTT(\s|$)")
NUMBER = re.compile(r"\s*\d+\s*")
EXAMPLE = "00:00:01,000 --> 00:00:02,500"

TOUCHING_S = 0.1
"""Maximum gap between cues of rolling captions."""


@dataclass(frozen=True)
class Cue:
    start_s: float
    end_s: float
    text: str


def read_subtitles(path: Path) -> tuple[Segment, ...]:
    """Turns of an srt or vtt file, in file order; none without cues.

    Lines that rolling captions repeat are read once. Raises ManifestError for an unreadable file, invalid times (with
    the line number), and text without times.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    try:
        return _turns(text)
    except ManifestError as error:
        raise ManifestError(f"{path}, {error}") from error


def _turns(text: str) -> tuple[Segment, ...]:
    lines = text.split("\n")
    if VTT_HEADER.match(text):
        cues = list(_vtt_cues(lines))
    else:
        # SubRip has no entities: escape them for the WebVTT parsing below.
        cues = [replace(cue, text=cue.text.replace("&", "&amp;")) for cue in _srt_cues(lines)]
    if any(UNDERLINED.search(cue.text) for cue in cues):
        return tuple(_underlined_turn(run) for run in _runs(cues))
    cues = _unrolled(cues)
    # A cue of one word needs no stamp: decide for the file.
    stamped = any(STAMP.search(cue.text) for cue in cues)
    return tuple(_stamped_turn(cue) if stamped else _plain_turn(cue) for cue in cues)


def _vtt_cues(lines: Sequence[str]) -> Iterator[Cue]:
    """Cues by WebVTT 4.1: a block ends before an empty line (without spaces) or before times.

    Blocks without times (header, comments, styles) are skipped.
    """
    times: tuple[float, float] | None = None
    payload: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        found = _times(line, number)
        if times and (not line or found):
            yield Cue(*times, "\n".join(payload))
        if found or not line:
            times, payload = found, []
        else:
            payload.append(line)


def _srt_cues(lines: Sequence[str]) -> Iterator[Cue]:
    """SubRip cues: lines between times are text, except the next cue's number."""
    timed = [(number, found) for number, line in enumerate(lines, start=1) if (found := _times(line, number))]
    if not timed and (seen := next((line for line in lines if line.strip()), None)):
        raise ManifestError(f"line 1: no times of a cue, as {EXAMPLE}, in a file that begins with {seen!r}")
    ends = [*(number - 1 for number, _ in timed[1:]), len(lines)][: len(timed)]
    for (number, times), end in zip(timed, ends, strict=True):
        yield Cue(*times, "\n".join(_without_number(lines[number:end], end == len(lines))))


def _without_number(lines: Sequence[str], is_last: bool) -> list[str]:
    """Lines without blank ones and without the next cue's number, which follows a blank line or precedes times."""
    filled = [at for at, line in enumerate(lines) if line.strip()]
    if filled and NUMBER.fullmatch(lines[filled[-1]]):
        follows_blank = filled[-1] > 0 and not lines[filled[-1] - 1].strip()
        if follows_blank or (filled[-1] == len(lines) - 1 and not is_last):
            filled.pop()
    return [lines[at] for at in filled]


def _times(line: str, number: int) -> tuple[float, float] | None:
    """Start and end in seconds, if the line has times. Raises ManifestError for invalid ones."""
    if "-->" not in line:
        return None
    found = TIMES.fullmatch(line)
    if found is None and TIMES_MEANT.match(line):
        raise ManifestError(f"line {number}: {line!r} where the times of a cue must be, as {EXAMPLE}")
    return (_seconds(found[1]), _seconds(found[2])) if found else None


# --- rolling captions


def _unrolled(cues: Sequence[Cue]) -> list[Cue]:
    """If the file has rolling captions, its cues without lines repeated from the cue before."""
    if len(cues) < 2:
        return list(cues)
    shown = [_filled_lines(cue) for cue in cues]
    links = zip(pairwise(cues), pairwise(shown), strict=True)
    repeated = [0, *(_repeated(*two, *lines) for two, lines in links)]
    rolling = sum(n > 0 for n in repeated)
    grows = any(0 < n < len(lines) for n, lines in zip(repeated, shown, strict=True))
    if not grows or 2 * rolling < len(cues) - 1:
        return list(cues)
    kept = (replace(cue, text="\n".join(lines[n:])) for cue, lines, n in zip(cues, shown, repeated, strict=True))
    return [cue for cue in kept if cue.text]


def _filled_lines(cue: Cue) -> list[str]:
    return [line for line in cue.text.split("\n") if _plain(line)]


def _repeated(one: Cue, other: Cue, before: Sequence[str], after: Sequence[str]) -> int:
    """Number of lines at the start of a cue repeated from the end of the one before."""
    if other.start_s - one.end_s > TOUCHING_S:
        return 0
    a, b = ([_plain(line) for line in lines] for lines in (before, after))
    return next((n for n in range(min(len(a), len(b)), 0, -1) if a[-n:] == b[:n]), 0)


# --- turns


def _runs(cues: Sequence[Cue]) -> Iterator[list[Cue]]:
    """Cues with the same text and ever later underlined words, as one turn."""
    run: list[Cue] = []
    for cue in cues:
        if run and not _goes_on(run[-1], cue):
            yield run
            run = []
        run.append(cue)
    if run:
        yield run


def _goes_on(one: Cue, other: Cue) -> bool:
    if _plain(one.text) != _plain(other.text) or other.start_s > one.end_s:
        return False
    before, after = (UNDERLINED.search(cue.text) for cue in (one, other))
    return before is None or after is None or after.start() > before.start()


def _underlined_turn(run: Sequence[Cue]) -> Segment:
    speaker, text = _speaker_and_text(run[0].text)
    words = tuple(
        Word(_plain(shown[1]), cue.start_s, cue.end_s, speaker=speaker)
        for cue in run
        if (shown := UNDERLINED.search(cue.text))
    )
    return Segment(text, run[0].start_s, run[-1].end_s, words if _are_the_words(words, text) else (), speaker)


def _plain_turn(cue: Cue) -> Segment:
    speaker, text = _speaker_and_text(cue.text)
    return Segment(text, cue.start_s, cue.end_s, speaker=speaker)


def _stamped_turn(cue: Cue) -> Segment:
    speaker, text = _speaker_and_text(cue.text)
    words = tuple(replace(word, speaker=speaker) for word in _stamped_words(cue))
    return Segment(text, cue.start_s, cue.end_s, words if _are_the_words(words, text) else (), speaker)


def _stamped_words(cue: Cue) -> Iterator[Word]:
    pieces = STAMP.split(cue.text)
    first = _speaker_and_text(pieces[0])[1]
    starts = [cue.start_s] * bool(first) + [_seconds(stamp) for stamp in pieces[1::2]]
    texts = [first] * bool(first) + [_plain(piece) for piece in pieces[2::2]]
    for text, (start_s, end_s) in zip(texts, pairwise([*starts, cue.end_s]), strict=True):
        yield Word(text, start_s, end_s)


def _are_the_words(words: Sequence[Word], text: str) -> bool:
    """Whether every word is timed; otherwise word times are dropped."""
    return [word.text for word in words] == text.split()


def _speaker_and_text(text: str) -> tuple[str | None, str]:
    voice = VOICE.search(text)
    plain = _plain(text)
    named = NAMED.match(f"{plain} ")
    if named:
        plain = plain[named.end() :]
    speaker = voice[1].strip() if voice else named[1] if named else None
    return speaker, plain


def _plain(text: str) -> str:
    return " ".join(html.unescape(TAG.sub("", text)).split())


def _seconds(time: str) -> float:
    *rest, seconds = "".join(time.replace(",", ".").split()).split(":")
    hours, minutes = ([0] * (2 - len(rest))) + [int(part) for part in rest]
    return round(3600 * hours + 60 * minutes + float(seconds), 3)
