"""Words of a reply with times, confidence and speakers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from lithophone.ctc.confidence import token_pieces, with_decoder_confidence
from lithophone.ctc.forced_alignment import Scores
from lithophone.ctc.word_alignment import timed_words
from lithophone.pipeline.utterance import WindowResult
from lithophone.text import japanese
from lithophone.text.replies import Turn
from lithophone.transcript import Word


def with_words(
    result: WindowResult, log_probs: Scores, decode: Callable[[list[int]], str], language: str | None = None
) -> WindowResult:
    """The result with timed words, from the character log posteriors (T, V) of its window, 20 ms a frame.

    Times that the reply states are kept within the window. `decode`: token ids -> text; `language`: of the text.
    """
    parsed = result.parsed
    aligned = timed_words(parsed.text, log_probs, result.duration_s, language)
    words = _with_confidence_of(aligned, parsed.words) if parsed.words else aligned
    words = with_decoder_confidence(words, token_pieces(result.reply.ids, decode), result.reply.logprobs)
    words = tuple(_within(words, result.duration_s))
    words = tuple(_with_speakers(words, parsed.turns)) if parsed.turns else words
    untimed = "" if words else _why_untimed(parsed.text, language)
    return replace(result, parsed=replace(parsed, words=words), aligned=aligned, untimed=untimed)


def _within(words: Iterable[Word], duration_s: float) -> Iterator[Word]:
    """Clip times to the window: frames are whole, and a model may state any time."""
    for word in words:
        yield replace(word, start_s=min(word.start_s, duration_s), end_s=min(word.end_s, duration_s))


def _with_confidence_of(aligned: tuple[Word, ...], words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Words with their own times take the confidence of the equal aligned words."""
    if [word.text for word in aligned] != [word.text for word in words]:
        return words
    return tuple(replace(word, confidence=same.confidence) for word, same in zip(words, aligned, strict=True))


def _with_speakers(words: Iterable[Word], turns: Iterable[Turn]) -> Iterator[Word]:
    """The speaker of the turn that holds a word's first character."""
    speakers = [turn.speaker for turn in turns for _ in "".join(turn.text.split())]
    at = 0
    for word in words:
        yield replace(word, speaker=speakers[at])
        at += len(word.text)


def _why_untimed(text: str, language: str | None) -> str:
    """Warning for words without times; "" where there are none."""
    if not text:
        return ""
    if japanese.is_japanese(text, language) and not japanese.can_read():
        return "the words have no times: Japanese needs its readings, pip install 'lithophone[ja]'"
    return "the words have no times: the character head cannot align the text"
