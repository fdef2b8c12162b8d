"""Word confidence, 0 to 1, from CTC posteriors and decoder log probabilities.

    acoustic  e ** mean over the word's characters of the best log posterior in the character's span
    decoder   e ** mean over the word's tokens of their log probability (`Reply.logprobs`)
    combined  the geometric mean of the two; where one is missing, the other; None where both are

Numbers have no acoustic confidence, replies of the character head no decoder confidence.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from lithophone.text.tags import SPEAKER_TAG, TIME_TAG
from lithophone.transcript import Word

HALF_A_CHARACTER = "\ufffd"
"""Decoded text of incomplete UTF-8 bytes."""


def confidence_of(log_probs: Iterable[float | None]) -> float | None:
    """Geometric mean of probabilities (natural logs or None); None where none is known."""
    known = [log_prob for log_prob in log_probs if log_prob is not None]
    return min(1.0, math.exp(sum(known) / len(known))) if known else None


def with_decoder_confidence(
    words: Sequence[Word], pieces: Sequence[str], logprobs: Sequence[float]
) -> tuple[Word, ...]:
    """Words with acoustic confidence -> words with combined confidence.

    Unchanged where the reply's `pieces` and `logprobs` differ in length.
    """
    if len(logprobs) != len(pieces):
        return tuple(words)
    of_word: dict[int | None, list[float]] = defaultdict(list)
    for word, logprob in zip(token_words(pieces, [word.text for word in words]), logprobs, strict=True):
        of_word[word].append(logprob)
    decoder = [confidence_of(of_word[i]) for i in range(len(words))]
    return tuple(replace(w, confidence=combined(w.confidence, c)) for w, c in zip(words, decoder, strict=True))


def combined(acoustic: float | None, decoder: float | None) -> float | None:
    if acoustic is None or decoder is None:
        return decoder if acoustic is None else acoustic
    return math.sqrt(acoustic * decoder)


def token_pieces(ids: Iterable[int], decode: Callable[[list[int]], str]) -> list[str]:
    """Text of each token; "" where a later token completes the character."""
    pieces: list[str] = []
    waiting: list[int] = []
    for token in ids:
        waiting.append(token)
        piece = decode(waiting)
        whole = not piece.endswith(HALF_A_CHARACTER)
        pieces.append(piece if whole else "")
        waiting = [] if whole else waiting
    return pieces


def token_words(pieces: Sequence[str], words: Sequence[str]) -> list[int | None]:
    """Index of each token's word, by its first letter; None for spaces and tags.

    `words` occur in order in the joined pieces.
    """
    text = "".join(pieces)
    of_character = _word_of_every_character(text, words)
    found: list[int | None] = []
    end = len(text)
    for piece in reversed(pieces):
        if piece:
            start = end - len(piece)
            first = next((at for at in range(start, end) if not text[at].isspace()), start)
            found.append(of_character[first])
            end = start
        else:  # part of a character: as the token that completes it
            found.append(found[-1] if found else None)
    return found[::-1]


def _word_of_every_character(text: str, words: Sequence[str]) -> list[int | None]:
    places: list[int | None] = [None] * len(text)
    plain = _without_tags(text)
    at = 0
    for number, word in enumerate(words):
        start = plain.find(word, at)
        if start >= 0:
            at = start + len(word)
            places[start:at] = [number] * len(word)
    return places


def _without_tags(text: str) -> str:
    """Tags as spaces: they contain no words."""
    for tag in (TIME_TAG, SPEAKER_TAG):
        text = tag.sub(lambda found: " " * len(found[0]), text)
    return text
