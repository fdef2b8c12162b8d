"""A reply -> segments with times, and what the reader should be warned of. Pure functions.

Warnings never take text away. Their codes are stable:

    no_speech            nothing was heard in the whole recording: the transcript is empty
    cut                  the reply was cut at its budget of new tokens, or at the model's last position
    loop                 the reply ends in one phrase, over and over
    text_without_speech  there is text, but the encoder's characters are blank from end to end; or, with word times,
                         words in a row of which the encoder heard next to nothing (the times are theirs)
    disagreement         the reply is another text than the one the encoder's own characters spell
    speech_without_text  speech was heard, but the reply is empty
    malformed            tags of the reply could not be read
    no_word_times        word times were asked for, and the words have none
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from lithophone.ctc.characters import character_labels
from lithophone.ctc.forced_alignment import edit_distance
from lithophone.ctc.pronunciation import spoken_text
from lithophone.decode.reply import Reply
from lithophone.text.replies import ParsedReply
from lithophone.transcript import Segment, TranscriptWarning, Word

LOOP_TOKENS = 16
LOOP_TIMES = 4
"""A loop is a phrase that ends the reply at least 4 times in a row, over at least 16 tokens."""

DISAGREEMENT = 0.6
"""Share of characters that differ between what the encoder spells and what the reply says (numbers excepted).

Texts of different clips differ in 0.7 and more. A reply and its encoder, both misspelling, differ in less: in 0.5 with
the first bundled model, which had four of five words wrong (`bench/checks.py`).
"""

DISAGREEMENT_CHARACTERS = 12
"""Texts that are both shorter differ in most of their characters by one misheard word."""

UNHEARD = 0.01
UNHEARD_WORDS = 4
"""Unheard is a stretch of 4 words or more whose characters the encoder gives less than 1 % on (geometric) average.

Found in none of 60 right texts, in 55 of them with 4 foreign words at the end (`bench/checks.py`).
"""


@dataclass(frozen=True)
class Heard:
    """What the model made of one window: its reply, what the reply says, and what of it the encoder heard."""

    reply: Reply
    parsed: ParsedReply
    speech: bool
    """Whether the encoder heard any character."""
    spelled: str | None = None
    """What the encoder's characters spell, where the reply should say the same: not for a translation."""
    aligned: tuple[Word, ...] = ()
    """The words of the reply, where they are timed, with no other confidence than that of the encoder."""
    untimed: str = ""
    """Why words that should have times have none."""


def segments_of(parsed: ParsedReply, duration_s: float) -> tuple[Segment, ...]:
    """The text of a window as segments in the window's own time: one, or one per turn of a speaker.

    Turns have the times of their words where words are timed, else those of the window.
    """
    if not parsed.turns:
        return (Segment(parsed.text, 0.0, duration_s, parsed.words),) if parsed.text else ()
    words = [tuple(group) for _, group in groupby(parsed.words, key=lambda word: word.speaker)]
    if len(words) != len(parsed.turns):
        return tuple(Segment(turn.text, 0.0, duration_s, speaker=turn.speaker) for turn in parsed.turns)
    return tuple(
        Segment(turn.text, said[0].start_s, said[-1].end_s, said, turn.speaker)
        for turn, said in zip(parsed.turns, words, strict=True)
    )


def warnings_of(heard: Heard, start_s: float, end_s: float) -> tuple[TranscriptWarning, ...]:
    """Everything about a window, from `start_s` to `end_s` of the recording, that its text alone does not tell."""
    whole = (TranscriptWarning(code, message, start_s, end_s) for code, message in _findings(heard))
    return (*whole, *(_unheard_warnings(heard.aligned, start_s) if heard.speech else ()))


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
    if text and heard.spelled and (differing := difference(heard.spelled, text)) > DISAGREEMENT:
        yield "disagreement", f"the reply differs from what the encoder spells in {differing:.0%} of the characters"
    if heard.speech and not text:
        yield "speech_without_text", "speech was heard, but the reply is empty"
    if heard.parsed.malformed:
        yield "malformed", f"{heard.parsed.malformed} tags of the reply could not be read"
    if heard.untimed:
        yield "no_word_times", heard.untimed


def loops(ids: Sequence[int]) -> bool:
    """Whether the ids end in one phrase repeated `LOOP_TIMES` times or more, over `LOOP_TOKENS` ids or more."""
    return any(_repeats(ids, period) for period in range(1, len(ids) // LOOP_TIMES + 1))


def _repeats(ids: Sequence[int], period: int) -> bool:
    stretch = max(LOOP_TIMES * period, LOOP_TOKENS)
    tail = ids[-stretch:]
    return len(tail) == stretch and tail[period:] == tail[:-period]


def difference(spelled: str, text: str) -> float:
    """Share of the characters that differ, 0..1, between what the encoder spells and what is said of `text`.

    Characters and not words: an encoder alone misspells many words a little. 0 where it cannot be told, because the
    text has no labels or both are too short.
    """
    said, heard = spoken_text(text).labels, character_labels(" ".join(spelled.split()))
    longer = max(len(said), len(heard))
    return edit_distance(heard, said) / longer if said and longer >= DISAGREEMENT_CHARACTERS else 0.0


def unheard(words: Sequence[Word]) -> list[tuple[Word, ...]]:
    """The stretches of `UNHEARD_WORDS` words or more of which next to nothing was heard.

    A single word counts for no less than 0.1 %, so that one or two make no stretch of their neighbours.
    """
    known = [word for word in words if word.confidence is not None]
    logs = [math.log(max(word.confidence or 0.0, 0.001)) for word in known]
    inside = {i for start in range(len(logs) - UNHEARD_WORDS + 1) for i in _unheard_part(logs, start)}
    groups = (list(group) for _, group in groupby(range(len(logs)), key=lambda i: i in inside))
    return [tuple(known[i] for i in group) for group in groups if group[0] in inside and len(group) >= UNHEARD_WORDS]


def _unheard_part(logs: Sequence[float], start: int) -> range:
    """From the first to the last unheard word among `UNHEARD_WORDS`, where all of them together are unheard."""
    run = range(start, start + UNHEARD_WORDS)
    if sum(logs[i] for i in run) >= UNHEARD_WORDS * math.log(UNHEARD):
        return range(0)
    low = [i for i in run if logs[i] < math.log(UNHEARD)]
    return range(low[0], low[-1] + 1)


def _unheard_warnings(words: Sequence[Word], start_s: float) -> Iterator[TranscriptWarning]:
    for stretch in unheard(words):
        text = " ".join(word.text for word in stretch)
        message = f"the encoder heard next to nothing of {len(stretch)} words: {text}"
        first_s, last_s = start_s + stretch[0].start_s, start_s + stretch[-1].end_s
        yield TranscriptWarning("text_without_speech", message, first_s, last_s)
