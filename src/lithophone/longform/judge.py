"""A reply -> segments with times, and what the reader should be warned of. Pure functions.

Warnings never take text away. Their codes are stable:

    no_speech            nothing was heard in the whole recording: the transcript is empty
    cut                  the reply was cut at its budget of new tokens, or at the model's last position
    loop                 the reply ends in one phrase, over and over
    text_without_speech  there is text, but the encoder's characters are blank from end to end
    speech_without_text  speech was heard, but the reply is empty
    malformed            tags of the reply could not be read
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lithophone.decode import Reply
from lithophone.replies import ParsedReply
from lithophone.transcript import Segment, TranscriptWarning

LOOP_TOKENS = 16
LOOP_TIMES = 4
"""A loop is a phrase that ends the reply at least 4 times in a row, over at least 16 tokens."""


@dataclass(frozen=True)
class Heard:
    """What the model made of one window: its reply, what the reply says, and whether the encoder heard characters."""

    reply: Reply
    parsed: ParsedReply
    speech: bool


def segments_of(parsed: ParsedReply, duration_s: float) -> tuple[Segment, ...]:
    """The text of a window as segments in the window's own time: one, or one per turn of a speaker."""
    if parsed.turns:
        return tuple(Segment(turn.text, 0.0, duration_s, speaker=turn.speaker) for turn in parsed.turns)
    return (Segment(parsed.text, 0.0, duration_s, parsed.words),) if parsed.text else ()


def warnings_of(heard: Heard, start_s: float, end_s: float) -> tuple[TranscriptWarning, ...]:
    """Everything about a window that its text alone does not tell."""
    return tuple(TranscriptWarning(code, message, start_s, end_s) for code, message in _findings(heard))


def no_speech(duration_s: float) -> TranscriptWarning:
    return TranscriptWarning("no_speech", "no speech was found in the recording", 0.0, duration_s)


def _findings(heard: Heard) -> Iterator[tuple[str, str]]:
    ids, text = heard.reply.ids, heard.parsed.text
    if not heard.reply.finished:
        yield "cut", f"the reply was cut after {len(ids)} tokens; raise max_new_tokens or lower limit_s"
    if loops(ids):
        yield "loop", "the reply repeats itself at its end"
    if text and not heard.speech:
        yield "text_without_speech", "there is text, but the encoder heard no character"
    if heard.speech and not text:
        yield "speech_without_text", "speech was heard, but the reply is empty"
    if heard.parsed.malformed:
        yield "malformed", f"{heard.parsed.malformed} tags of the reply could not be read"


def loops(ids: Sequence[int]) -> bool:
    """Whether the ids end in one phrase repeated `LOOP_TIMES` times or more, over `LOOP_TOKENS` ids or more."""
    return any(_repeats(ids, period) for period in range(1, len(ids) // LOOP_TIMES + 1))


def _repeats(ids: Sequence[int], period: int) -> bool:
    stretch = max(LOOP_TIMES * period, LOOP_TOKENS)
    tail = ids[-stretch:]
    return len(tail) == stretch and tail[period:] == tail[:-period]
