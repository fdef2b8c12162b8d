"""Subtitle files of one recording, SubRip and WebVTT -> turns, with words where the file times them.

Timed words: in srt a cue is repeated with each word underlined (whisper's `--highlight_words`), in vtt `<00:01.500>`
precedes every word. Speakers: `<v Ann>`, or `[Ann]: ` before the text. All other tags are dropped, `{\\an8}` as well.

Cues are read here and not by pysubs2 or webvtt-py: the first drops voices and time stamps, the second refuses the SRT
that editors write. What the tests expect of odd files is what pysubs2 and FFmpeg read.
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
"""A line with an arrow that is no text."""

STAMP = re.compile(rf"<({TIME})>")
UNDERLINED = re.compile(r"<u>(.*?)</u>", re.DOTALL)
VOICE = re.compile(r"<v(?:\.[^\s>]+)*\s+([^>]+)>")
NAMED = re.compile(r"\[([^\]]+)\]: ")
TAG = re.compile(r"</?\w[^>]*>|\{\\[^}]*\}")
VTT_HEADER = re.compile(r"WEBVTT(\s|$)")
NUMBER = re.compile(r"\s*\d+\s*")
EXAMPLE = "00:00:01,000 --> 00:00:02,500"

TOUCHING_S = 0.1
"""The gap between two cues of rolling captions at most."""


@dataclass(frozen=True)
class Cue:
    """What is shown from `start_s` to `end_s`, with its tags."""

    start_s: float
    end_s: float
    text: str


def read_subtitles(path: Path) -> tuple[Segment, ...]:
    """Turns of an srt or vtt file, in its order; none of a file without cues.

    Rolling captions, in which every line is shown again while the next one is written, are read line by line once.
    Raises ManifestError if the file cannot be read, with the number of the line whose times cannot be, and for text
    without any times.
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
        # SubRip has no entities: texts that hold one are kept from the readers of tags below, which know WebVTT's.
        cues = [replace(cue, text=cue.text.replace("&", "&amp;")) for cue in _srt_cues(lines)]
    if any(UNDERLINED.search(cue.text) for cue in cues):
        return tuple(_underlined_turn(run) for run in _runs(cues))
    cues = _unrolled(cues)
    # A cue of one word needs no stamp: only the file as a whole tells whether words are timed.
    stamped = any(STAMP.search(cue.text) for cue in cues)
    return tuple(_stamped_turn(cue) if stamped else _plain_turn(cue) for cue in cues)


def _vtt_cues(lines: Sequence[str]) -> Iterator[Cue]:
    """Cues as WebVTT 4.1 parses them: blocks end at an empty line, one with a space in it is none, or before times.

    Blocks without times (header, comments, styles) are passed over.
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
    """Cues of SubRip: all lines from one with times to the next are text, but for the number of the next cue."""
    timed = [(number, found) for number, line in enumerate(lines, start=1) if (found := _times(line, number))]
    if not timed and (seen := next((line for line in lines if line.strip()), None)):
        raise ManifestError(f"line 1: no times of a cue, as {EXAMPLE}, in a file that begins with {seen!r}")
    ends = [*(number - 1 for number, _ in timed[1:]), len(lines)][: len(timed)]
    for (number, times), end in zip(timed, ends, strict=True):
        yield Cue(*times, "\n".join(_without_number(lines[number:end], end == len(lines))))


def _without_number(lines: Sequence[str], is_last: bool) -> list[str]:
    """Lines without blank ones and the number of the next cue, which follows a blank line or comes before times."""
    filled = [at for at, line in enumerate(lines) if line.strip()]
    if filled and NUMBER.fullmatch(lines[filled[-1]]):
        follows_blank = filled[-1] > 0 and not lines[filled[-1] - 1].strip()
        if follows_blank or (filled[-1] == len(lines) - 1 and not is_last):
            filled.pop()
    return [lines[at] for at in filled]


def _times(line: str, number: int) -> tuple[float, float] | None:
    """Start and end in seconds where a line has those of a cue. ManifestError for times that cannot be read."""
    if "-->" not in line:
        return None
    found = TIMES.fullmatch(line)
    if found is None and TIMES_MEANT.match(line):
        raise ManifestError(f"line {number}: {line!r} where the times of a cue must be, as {EXAMPLE}")
    return (_seconds(found[1]), _seconds(found[2])) if found else None


# --- rolling captions


def _unrolled(cues: Sequence[Cue]) -> list[Cue]:
    """Cues without the lines that the cue before them showed already, where the file is of rolling captions."""
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
    """How many of the lines at the start of a cue are those at the end of the cue before it."""
    if other.start_s - one.end_s > TOUCHING_S:
        return 0
    a, b = ([_plain(line) for line in lines] for lines in (before, after))
    return next((n for n in range(min(len(a), len(b)), 0, -1) if a[-n:] == b[:n]), 0)


# --- turns


def _runs(cues: Sequence[Cue]) -> Iterator[list[Cue]]:
    """Cues that show the same text, each with a later word underlined: one turn."""
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
    """What stands behind every stamp, until the next one or the end of the cue."""
    pieces = STAMP.split(cue.text)
    first = _speaker_and_text(pieces[0])[1]
    starts = [cue.start_s] * bool(first) + [_seconds(stamp) for stamp in pieces[1::2]]
    texts = [first] * bool(first) + [_plain(piece) for piece in pieces[2::2]]
    for text, (start_s, end_s) in zip(texts, pairwise([*starts, cue.end_s]), strict=True):
        yield Word(text, start_s, end_s)


def _are_the_words(words: Sequence[Word], text: str) -> bool:
    """Is every word of the text timed on its own? Half of them would be no transcript."""
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
    """Text without tags, entities and line ends."""
    return " ".join(html.unescape(TAG.sub("", text)).split())


def _seconds(time: str) -> float:
    *rest, seconds = "".join(time.replace(",", ".").split()).split(":")
    hours, minutes = ([0] * (2 - len(rest))) + [int(part) for part in rest]
    return round(3600 * hours + 60 * minutes + float(seconds), 3)
