"""Words of a reply with times, confidence and speakers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from lithophone.audio.cuts import Cut, on_one_side
from lithophone.ctc.confidence import token_pieces, with_decoder_confidence
from lithophone.ctc.forced_alignment import Scores
from lithophone.ctc.word_alignment import timed_words
from lithophone.pipeline.utterance import WindowResult
from lithophone.text import japanese
from lithophone.text.replies import Turn
from lithophone.transcript import Word

TAG_TOLERANCE_S = 0.5
"""Largest difference between a time tag and the alignment; tags of a plus model are within 0.1 s on average."""


def with_words(
    result: WindowResult,
    log_probs: Scores,
    decode: Callable[[list[int]], str],
    language: str | None = None,
    *,
    timestamps: str = "tags",
) -> WindowResult:
    """The result with timed words, from the character log posteriors (T, V) of its window, 20 ms a frame.

    `decode`: token ids -> text; `language`: of the text. `timestamps`: times of a reply with time tags are those of the
    "tags", where the alignment agrees, or of the alignment ("aligned"). No word goes on through a silence left out.
    """
    parsed = result.parsed
    aligned = timed_words(parsed.text, log_probs, result.duration_s, language)
    checked = check_tags(parsed.words, aligned)
    words = aligned if timestamps == "aligned" and checked.comparable else checked.words or aligned
    words = with_decoder_confidence(words, token_pieces(result.reply.ids, decode), result.reply.logprobs)
    words = tuple(_on_one_side(_within(words, result.duration_s), result.cuts))
    words = tuple(_with_speakers(words, parsed.turns)) if parsed.turns else words
    result = replace(result, parsed=replace(parsed, words=words), aligned=aligned)
    if timestamps == "tags" and checked.retimed:
        result = replace(result, retimed=checked.retimed, largest_shift_s=checked.largest_s)
    if parsed.words and not checked.comparable:
        return replace(result, unchecked=_why_unchecked(aligned))
    return result if words else replace(result, untimed=_why_untimed(parsed.text, language))


@dataclass(frozen=True)
class TagCheck:
    """Words with the times of their tags, or of the alignment where both differ."""

    words: tuple[Word, ...]
    comparable: bool
    """Whether the alignment has the same words."""
    retimed: tuple[Word, ...] = ()
    largest_s: float = 0.0


def check_tags(tagged: tuple[Word, ...], aligned: tuple[Word, ...]) -> TagCheck:
    """Compare times; a word whose start or end differs by more than `TAG_TOLERANCE_S` has those of the alignment.

    So have its neighbours where the order would be lost. Words of equal text have the confidence of the aligned ones.
    """
    if [word.text for word in aligned] != [word.text for word in tagged]:
        return TagCheck(tagged, comparable=False)
    shifts = [max(abs(t.start_s - a.start_s), abs(t.end_s - a.end_s)) for t, a in zip(tagged, aligned, strict=True)]
    differ = _in_order([shift > TAG_TOLERANCE_S for shift in shifts], tagged, aligned)
    words = tuple(
        a if differs else replace(t, confidence=a.confidence)
        for t, a, differs in zip(tagged, aligned, differ, strict=True)
    )
    retimed = tuple(word for word, differs in zip(aligned, differ, strict=True) if differs)
    return TagCheck(words, True, retimed, max(shifts, default=0.0))


def _in_order(differ: list[bool], tagged: Sequence[Word], aligned: Sequence[Word]) -> list[bool]:
    """`differ`, and true for the neighbours of such words whose tags would overlap them."""
    differ = list(differ)
    for i in range(1, len(differ)):
        differ[i] = differ[i] or (differ[i - 1] and tagged[i].start_s < aligned[i - 1].end_s)
    for i in range(len(differ) - 2, -1, -1):
        differ[i] = differ[i] or (differ[i + 1] and tagged[i].end_s > aligned[i + 1].start_s)
    return differ


def _within(words: Iterable[Word], duration_s: float) -> Iterator[Word]:
    """Clip times to the window: frames are whole, and a model may state any time."""
    for word in words:
        yield replace(word, start_s=min(word.start_s, duration_s), end_s=min(word.end_s, duration_s))


def _on_one_side(words: Iterable[Word], cuts: Sequence[Cut]) -> Iterator[Word]:
    for word in words:
        start_s, end_s = on_one_side(word.start_s, word.end_s, cuts)
        yield replace(word, start_s=start_s, end_s=end_s)


def _with_speakers(words: Iterable[Word], turns: Iterable[Turn]) -> Iterator[Word]:
    """The speaker of the turn that holds a word's first character."""
    speakers = [turn.speaker for turn in turns for _ in "".join(turn.text.split())]
    at = 0
    for word in words:
        yield replace(word, speaker=speakers[at])
        at += len(word.text)


def _why_unchecked(aligned: tuple[Word, ...]) -> str:
    """Warning for time tags that the alignment could not be compared with."""
    why = "has other words" if aligned else "cannot align the text"
    return f"the word times are those of the tags alone: the character head {why}"


def _why_untimed(text: str, language: str | None) -> str:
    """Warning for words without times; "" where there are none."""
    if not text:
        return ""
    if japanese.is_japanese(text, language) and not japanese.can_read():
        return "the words have no times: Japanese needs its readings, pip install 'lithophone[ja]'"
    return "the words have no times: the character head cannot align the text"
