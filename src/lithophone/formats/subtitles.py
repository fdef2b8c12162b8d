"""Writes subtitles: SubRip (srt) and WebVTT (vtt).

Timed words: vtt has a time stamp before each, which other players skip; srt with `highlight_words` repeats a cue with
each word underlined, as openai/whisper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lithophone.formats.cues import DEFAULT_CUES, Cue, CueOptions, all_cues
from lithophone.formats.spans import milliseconds
from lithophone.formats.turns import written
from lithophone.transcript import Transcript

ARROW = re.compile(r"(--+)>")
TAG_START = re.compile(r"<(?=[^>]*>)")
OVERRIDE = re.compile(r"\{(?=\\)")
NAME_LIKE = re.compile(r"^\[(?=[^\]]+\]: .)")
"""Starts like a speaker label."""

VTT_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def to_srt(transcript: Transcript, cues: CueOptions = DEFAULT_CUES) -> str:
    """SubRip: numbered cues, `00:00:01,000 --> 00:00:02,500`.

    There are no escapes: arrows, and `<` or `{` of apparent tags, become full-width.
    """
    shown = all_cues(transcript, cues, _srt_guard)
    timed = (part for cue in shown for part in (_word_cues(cue) if cues.highlight_words else [_whole(cue)]))
    return "".join(
        f"{number}\n{_srt_time(start_s)} --> {_srt_time(end_s)}\n{text}\n\n"
        for number, (start_s, end_s, text) in enumerate(timed, start=1)
    )


def to_vtt(transcript: Transcript, cues: CueOptions = DEFAULT_CUES) -> str:
    """WebVTT: `00:01.000 --> 00:02.500`, hours if any; `&`, `<` and `>` escaped (4.2.2)."""
    return "WEBVTT\n\n" + "".join(
        f"{vtt_time(cue.start_s)} --> {vtt_time(cue.end_s)}\n{_stamped(cue)}\n\n"
        for cue in all_cues(transcript, cues, _guard)
    )


def _srt_guard(text: str) -> str:
    return TAG_START.sub("＜", ARROW.sub(r"\1＞", _guard(text)))


def _guard(text: str) -> str:
    """Replace control characters, and what readers take for a style override or a speaker label."""
    text = written(text)
    return OVERRIDE.sub("｛", text if text.endswith("]: ") else NAME_LIKE.sub("［", text))


def _whole(cue: Cue) -> tuple[float, float, str]:
    return cue.start_s, cue.end_s, cue.render()


def _word_cues(cue: Cue) -> Iterator[tuple[float, float, str]]:
    """Start, end, text: a cue per word, underlined, and per pause."""
    last_s = cue.start_s
    for placed in cue.words:
        start_s, end_s = max(placed.word.start_s, last_s), min(placed.word.end_s, cue.end_s)
        if lasts(start_s, end_s):
            if lasts(last_s, start_s):
                yield last_s, start_s, cue.render()
            yield start_s, end_s, cue.render({placed.start: "<u>"}, {placed.end - 1: "</u>"})
            last_s = end_s
    if lasts(last_s, cue.end_s):
        yield last_s, cue.end_s, cue.render()


def _stamped(cue: Cue) -> str:
    """The cue with a time stamp before every word; stamps rise, inside the cue."""
    stamps: dict[int, str] = {}
    last_s = cue.start_s
    for placed in cue.words:
        start_s = placed.word.start_s
        if lasts(last_s, start_s) and lasts(start_s, min(placed.word.end_s, cue.end_s)):
            stamps[placed.start] = f"<{vtt_time(start_s)}>"
            last_s = start_s
    return cue.render(stamps, escape=lambda text: "".join(VTT_ESCAPES.get(one, one) for one in text))


# --- times


def lasts(start_s: float, end_s: float) -> bool:
    """Whether the span has a duration in whole milliseconds."""
    return milliseconds(start_s) < milliseconds(end_s)


def vtt_time(time_s: float) -> str:
    """`MM:SS.mmm`, or `HH:MM:SS.mmm` from one hour on."""
    hours, *rest = _clock(time_s)
    return (f"{hours:02d}:" if hours else "") + "{:02d}:{:02d}.{:03d}".format(*rest)


def _srt_time(time_s: float) -> str:
    return "{:02d}:{:02d}:{:02d},{:03d}".format(*_clock(time_s))


def _clock(time_s: float) -> tuple[int, int, int, int]:
    seconds, thousandths = divmod(milliseconds(time_s), 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return hours, minutes, seconds, thousandths
