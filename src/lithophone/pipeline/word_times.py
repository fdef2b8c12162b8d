"""Words of a reply with their times, confidence and speakers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from lithophone.audio.features import FRAME_S
from lithophone.ctc.confidence import token_pieces, with_decoder_confidence
from lithophone.ctc.word_alignment import LogProbs, timed_words
from lithophone.pipeline.quality import Heard
from lithophone.text import japanese
from lithophone.text.replies import Turn
from lithophone.transcript import Word


def with_words(
    heard: Heard, log_probs: LogProbs, decode: Callable[[list[int]], str], language: str | None = None
) -> Heard:
    """The same reply with its words timed and weighed, from its character log posteriors (T, V), 20 ms a frame.

    Times that the reply brings itself are kept. `decode` turns token ids into text, `language` is that of the text.
    """
    parsed = heard.parsed
    aligned = timed_words(parsed.text, log_probs, len(log_probs) * FRAME_S, language)
    words = _with_confidence_of(aligned, parsed.words) if parsed.words else aligned
    words = with_decoder_confidence(words, token_pieces(heard.reply.ids, decode), heard.reply.logprobs)
    words = tuple(_with_speakers(words, parsed.turns)) if parsed.turns else words
    untimed = "" if words else _why_untimed(parsed.text, language)
    return replace(heard, parsed=replace(parsed, words=words), aligned=aligned, untimed=untimed)


def _with_confidence_of(aligned: tuple[Word, ...], words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Words with times of their own take over what was heard of the same words."""
    if [word.text for word in aligned] != [word.text for word in words]:
        return words
    return tuple(replace(word, confidence=same.confidence) for word, same in zip(words, aligned, strict=True))


def _with_speakers(words: Iterable[Word], turns: Iterable[Turn]) -> Iterator[Word]:
    """Every word with the speaker of the turn its first character stands in."""
    speakers = [turn.speaker for turn in turns for _ in "".join(turn.text.split())]
    at = 0
    for word in words:
        yield replace(word, speaker=speakers[at])
        at += len(word.text)


def _why_untimed(text: str, language: str | None) -> str:
    """What to tell somebody who asked for the times of words that have none; "" where there are no words."""
    if not text:
        return ""
    if japanese.is_japanese(text, language) and not japanese.can_read():
        return "the words have no times: Japanese needs its readings, pip install 'lithophone[ja]'"
    return "the words have no times: the text does not fit the characters that were heard"
