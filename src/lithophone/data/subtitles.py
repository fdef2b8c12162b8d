"""Subtitles, srt and vtt, of one recording -> its turns, with words where the file times them.

Words are timed in two ways, and `formats.py` writes both: in srt the cue is repeated with one word underlined while it
is said (whisper's `--highlight_words`), in vtt `<00:01.500>` stands before every word. Speakers are named by `<v Ann>`
or by `[Ann]: ` in front of the text. All other tags, `{\\an8}` of srt among them, are dropped.
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

TIME = r"(?:\d+:)?\d{1,2}:\d{2}[.,]\d{3}"
TIMES = re.compile(rf"({TIME})\s*-->\s*({TIME})(\s.*)?")
STAMP = re.compile(rf"<({TIME})>")
UNDERLINED = re.compile(r"<u>(.*?)</u>", re.DOTALL)
VOICE = re.compile(r"<v(?:\.[^\s>]+)*\s+([^>]+)>")
NAMED = re.compile(r"\[([^\]]+)\]: ")
TAG = re.compile(r"</?\w[^>]*>|\{\\[^}]*\}")
VTT_BLOCK = re.compile(r"(WEBVTT|NOTE|STYLE|REGION)(\s|$)")


@dataclass(frozen=True)
class Cue:
    """What is shown from `start_s` to `end_s`, with its tags."""

    start_s: float
    end_s: float
    text: str


def read_subtitles(path: Path) -> tuple[Segment, ...]:
    """Turns of an srt or vtt file, in its order; none of a file without cues.

    Raises ManifestError if the file cannot be read, or with the number of the line where times should be and are not.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    try:
        cues = list(_cues(text))
    except ManifestError as error:
        raise ManifestError(f"{path}, {error}") from error
    if any(UNDERLINED.search(cue.text) for cue in cues):
        return tuple(_underlined_turn(run) for run in _runs(cues))
    # A cue of one word needs no stamp: only the file as a whole tells whether words are timed.
    stamped = any(STAMP.search(cue.text) for cue in cues)
    return tuple(_stamped_turn(cue) if stamped else _plain_turn(cue) for cue in cues)


def _cues(text: str) -> Iterator[Cue]:
    """Blocks between empty lines; those of vtt that are no cues are passed over."""
    for number, block in _blocks(text.split("\n")):
        if VTT_BLOCK.match(block[0]):
            continue
        at = 0 if "-->" in block[0] else 1
        times = TIMES.fullmatch(block[at].strip()) if at < len(block) else None
        if times is None:
            seen = block[min(at, len(block) - 1)]
            raise ManifestError(f"line {number + at}: {seen!r} where the times of a cue must be, as {EXAMPLE}")
        yield Cue(_seconds(times[1]), _seconds(times[2]), "\n".join(block[at + 1 :]))


EXAMPLE = "00:00:01,000 --> 00:00:02,500"


def _blocks(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Runs of lines that are not empty, with the number of the first."""
    block: list[str] = []
    for number, line in enumerate([*lines, ""], start=1):
        if line.strip():
            block.append(line)
        elif block:
            yield number - len(block), block
            block = []


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
    *rest, seconds = time.replace(",", ".").split(":")
    hours, minutes = ([0] * (2 - len(rest))) + [int(part) for part in rest]
    return round(3600 * hours + 60 * minutes + float(seconds), 3)
