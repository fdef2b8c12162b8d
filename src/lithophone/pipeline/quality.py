"""Hallucination and truncation checks: a result -> segments, and warnings with stable codes.

    no_speech            no window of the recording has speech: the transcript is empty
    damaged              part of the recording is missing or unreadable
    cut                  the reply was cut at its token budget, or at the model's last position
    loop                 the reply ends in a repeated phrase
    text_without_speech  text, but only blanks on the character head's best path; or, with word times, consecutive
                         words with very low acoustic confidence (the times are theirs)
    disagreement         the reply differs from the character head's best path
    low_confidence       the mean posterior of that path is below the checkpoint's `min_confidence`
    other_language       the text is in another language of the family than the one given, or detected from the speech
    unsure_language      the language detected from the speech may be another one
    speech_without_text  labels on that path, but an empty reply
    malformed            tags of the reply could not be parsed, or are missing
    time_tags            time tags differ from the alignment, which decides, or could not be compared with it; or the
                         last one is far from the end of the window
    renumbered           speakers are numbered anew from this window on
    no_word_times        word times were requested, and the words have none
    speakers             an rttm goes on behind the recording, or fewer speakers were found than asked for

Warnings never remove text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from lithophone.ctc.characters import character_labels
from lithophone.ctc.forced_alignment import edit_distance
from lithophone.ctc.pronunciation import spoken_text
from lithophone.languages import LANGUAGES, base_language
from lithophone.pipeline.utterance import WindowResult
from lithophone.text.language_identification import language_probabilities
from lithophone.text.replies import ParsedReply
from lithophone.transcript import LanguageGuess, Segment, TranscriptWarning, Word

RENUMBERED = "renumbered"

LOOP_TOKENS = 16
LOOP_TIMES = 4
"""A loop: a phrase at the end of the reply, at least 4 times in a row, over at least 16 tokens."""

LOOP_REMAINDER = 3
"""Tokens that may follow the repetitions: a broken word, closing punctuation."""

DISAGREEMENT = 0.6
"""Share of characters that differ between the character head's best path and the reply, without numbers.

Measured (`docs/experiments.md`): texts of different clips 0.7 and more; right replies of the first bundled model 0.5 at
most.
"""

SHORTEST_TEXT = 12
"""Characters: in shorter texts one word can be most of them, and the mean posterior is unsteady."""

OTHER_LANGUAGE = 0.05
"""Probability of the language given below which a text of `SHORTEST_TEXT` characters or more is in another one."""

SURE_LANGUAGE = 0.8
"""Probability of the language detected from the speech below which there is a warning."""

LAST_TAG_S = 4.0
"""The last time tag is at most this far before the end of its window: longer silences are no part of one."""

LOW_CONFIDENCE = 0.01
LOW_CONFIDENCE_WORDS = 4
"""4 words or more with a geometric mean posterior below 1 %.

Measured (`docs/experiments.md`): in none of 60 right texts, in 55 of them with 4 foreign words at the end.
"""


def segments_of(parsed: ParsedReply, duration_s: float) -> tuple[Segment, ...]:
    """Segments of a window in its own time: one, or one a speaker turn.

    Turns have the times of their words if timed, else the window's.
    """
    if not parsed.turns:
        return (Segment(parsed.text, 0.0, duration_s, parsed.words),) if parsed.text else ()
    words = [tuple(group) for _, group in groupby(parsed.words, key=lambda word: word.speaker)]
    if len(words) != len(parsed.turns):
        return tuple(Segment(turn.text, 0.0, duration_s, speaker=turn.speaker) for turn in parsed.turns)
    return tuple(
        Segment(turn.text, own[0].start_s, own[-1].end_s, own, turn.speaker)
        for turn, own in zip(parsed.turns, words, strict=True)
    )


def warnings_of(result: WindowResult) -> tuple[TranscriptWarning, ...]:
    """Warnings of a window, in times of the recording."""
    whole = (TranscriptWarning(code, message, result.start_s, result.end_s) for code, message in _findings(result))
    return (*whole, *_tag_warnings(result), *(_confidence_warnings(result) if result.has_speech else ()))


def no_speech(duration_s: float) -> TranscriptWarning:
    return TranscriptWarning("no_speech", "no speech was found in the recording", 0.0, duration_s)


def unsure_language(guess: LanguageGuess, duration_s: float) -> tuple[TranscriptWarning, ...]:
    """The warning of a recording whose language may be another one than the likeliest."""
    if guess.language is None or guess.probability is None or guess.probability >= SURE_LANGUAGE:
        return ()
    name = LANGUAGES[guess.language]
    message = f"the speech is {name} with probability {guess.probability:.2f}: if it is not, name its language"
    return (TranscriptWarning("unsure_language", message, 0.0, duration_s),)


def _findings(result: WindowResult) -> Iterator[tuple[str, str]]:
    ids, text = result.reply.ids, result.parsed.text
    if not result.reply.finished:
        yield "cut", f"the reply was cut after {len(ids)} tokens; raise max_new_tokens or lower limit_s"
    if loops(ids):
        yield "loop", "the reply repeats itself at its end"
    if text and not result.has_speech:
        yield "text_without_speech", "there is text, but the character head has no label"
    if text and result.ctc_text and (differing := difference(result.ctc_text, text)) > DISAGREEMENT:
        yield "disagreement", f"the reply differs from the character head in {differing:.0%} of the characters"
    if text and result.ctc_text and len(result.ctc_text) >= SHORTEST_TEXT and _is_unsure(result):
        mean = f"the mean posterior of the character head is {result.ctc_confidence:.2f}"
        yield "low_confidence", f"{mean}: many words may be wrong, or the spoken language is not the one given"
    if found := _other_language(result):
        yield "other_language", f"the text is {LANGUAGES[found]}, not {LANGUAGES[base_language(result.language)]}"
    if result.has_speech and not text:
        yield "speech_without_text", "there is speech, but the reply is empty"
    if result.parsed.malformed:
        yield "malformed", f"tags of the reply: {result.parsed.faults}"
    if result.renumbered:
        why = "the window before could not be continued (diarize links speakers by voice)"
        yield RENUMBERED, f"speakers are numbered anew from here: {why}"
    if result.untimed:
        yield "no_word_times", result.untimed


def _is_unsure(result: WindowResult) -> bool:
    return result.ctc_confidence is not None and result.ctc_confidence < result.min_confidence


def _other_language(result: WindowResult) -> str | None:
    """Code of the text's language where it is not the one given."""
    given = base_language(result.language)
    if given not in LANGUAGES or len(result.parsed.text) < SHORTEST_TEXT:
        return None
    probabilities = language_probabilities(result.parsed.text)
    return next(iter(probabilities)) if probabilities[given] < OTHER_LANGUAGE else None


def loops(ids: Sequence[int]) -> bool:
    """Whether the ids end in one phrase repeated `LOOP_TIMES` times or more, over `LOOP_TOKENS` ids or more.

    The last repetition may be incomplete, and `LOOP_REMAINDER` other ids may follow it.
    """
    periods = range(1, len(ids) // LOOP_TIMES + 1)
    ends = [len(ids) - rest for rest in range(min(LOOP_REMAINDER, len(ids)) + 1)]
    return any(_repeats(ids[:end], period) for end in ends for period in periods)


def _repeats(ids: Sequence[int], period: int) -> bool:
    stretch = max(LOOP_TIMES * period, LOOP_TOKENS)
    tail = ids[-stretch:]
    return len(tail) == stretch and tail[period:] == tail[:-period]


def difference(ctc_text: str, text: str) -> float:
    """Share of differing characters, 0..1, between the character head's best path and `text`.

    Characters, since an encoder alone misspells many words slightly. 0 for text without labels, or both too short.
    """
    spoken, spelled = spoken_text(text).labels, character_labels(" ".join(ctc_text.split()))
    longer = max(len(spoken), len(spelled))
    return edit_distance(spelled, spoken) / longer if spoken and longer >= SHORTEST_TEXT else 0.0


def low_acoustic_confidence(words: Sequence[Word]) -> list[tuple[Word, ...]]:
    """Runs of `LOW_CONFIDENCE_WORDS` or more with a mean confidence below `LOW_CONFIDENCE`.

    A word counts at least 0.1 %, so that one or two do not pull in their neighbours.
    """
    known = [word for word in words if word.confidence is not None]
    logs = [math.log(max(word.confidence or 0.0, 0.001)) for word in known]
    starts = range(len(logs) - LOW_CONFIDENCE_WORDS + 1)
    inside = {i for start in starts for i in _low_part(logs, start)}
    groups = (list(group) for _, group in groupby(range(len(logs)), key=lambda i: i in inside))
    return [tuple(known[i] for i in g) for g in groups if g[0] in inside and len(g) >= LOW_CONFIDENCE_WORDS]


def _low_part(logs: Sequence[float], start: int) -> range:
    """From the first to the last low word of `LOW_CONFIDENCE_WORDS` whose mean is low."""
    run = range(start, start + LOW_CONFIDENCE_WORDS)
    if sum(logs[i] for i in run) >= LOW_CONFIDENCE_WORDS * math.log(LOW_CONFIDENCE):
        return range(0)
    low = [i for i in run if logs[i] < math.log(LOW_CONFIDENCE)]
    return range(low[0], low[-1] + 1)


def _tag_warnings(result: WindowResult) -> Iterator[TranscriptWarning]:
    """Time tags that differ from the alignment, and a last tag far before the window's end, where speech ends."""
    if result.retimed:
        message = (
            f"{len(result.retimed)} of {len(result.parsed.words)} words have the times of the alignment: their time "
            f"tags differ from it, by up to {result.largest_shift_s:.1f} s"
        )
        yield _warning_at(result, "time_tags", message, result.retimed[0].start_s, result.retimed[-1].end_s)
    if result.unchecked:
        yield _warning_at(result, "time_tags", result.unchecked, 0.0, result.duration_s)
    last_s = result.parsed.last_tag_s
    if result.reply.finished and last_s is not None and result.duration_s - last_s > LAST_TAG_S:
        message = f"the last time tag is {result.duration_s - last_s:.1f} s before the end of the window"
        yield _warning_at(result, "time_tags", message, last_s, result.duration_s)


def _warning_at(result: WindowResult, code: str, message: str, start_s: float, end_s: float) -> TranscriptWarning:
    return TranscriptWarning(code, message, *result.in_recording(start_s, end_s))


def _confidence_warnings(result: WindowResult) -> Iterator[TranscriptWarning]:
    for stretch in low_acoustic_confidence(result.aligned):
        text = " ".join(word.text for word in stretch)
        message = f"the character head has next to nothing of {len(stretch)} words: {text}"
        yield _warning_at(result, "text_without_speech", message, stretch[0].start_s, stretch[-1].end_s)
