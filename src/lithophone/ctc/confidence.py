"""How sure a word is, 0..1: what the encoder heard where it stands, and what the decoder thought when it wrote it.

    heard     e ** mean over the word's characters of the best log posterior in the character's span
    written   e ** mean over the word's tokens of the log-probability they were chosen with (`Reply.logprobs`)
    both      the geometric mean of the two; where one is not known, the other; None where neither is

A number is not heard in characters, and what the encoder's characters spell has no tokens. Pure functions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from lithophone.text.replies import SPEAKER_TAG, TIME_TAG
from lithophone.transcript import Word

HALF_A_CHARACTER = "\ufffd"
"""What a tokenizer shows for bytes that are not a whole character."""


def confidence_of(log_probs: Iterable[float | None]) -> float | None:
    """The geometric mean of probabilities given as natural logs; None where none is known."""
    known = [log_prob for log_prob in log_probs if log_prob is not None]
    return min(1.0, math.exp(sum(known) / len(known))) if known else None


def with_written(words: Sequence[Word], pieces: Sequence[str], logprobs: Sequence[float]) -> tuple[Word, ...]:
    """`words`, whose confidence is what was heard of them, with what was written added to it.

    `pieces` and `logprobs` belong to the tokens of the reply; without log-probabilities the words stay as they are.
    """
    if len(logprobs) != len(pieces):
        return tuple(words)
    of_word: dict[int | None, list[float]] = defaultdict(list)
    for word, logprob in zip(token_words(pieces, [word.text for word in words]), logprobs, strict=True):
        of_word[word].append(logprob)
    written = [confidence_of(of_word[i]) for i in range(len(words))]
    return tuple(replace(w, confidence=both(w.confidence, c)) for w, c in zip(words, written, strict=True))


def both(heard: float | None, written: float | None) -> float | None:
    """The geometric mean of what is known."""
    if heard is None or written is None:
        return written if heard is None else heard
    return math.sqrt(heard * written)


def token_pieces(ids: Iterable[int], decode: Callable[[list[int]], str]) -> list[str]:
    """What every token adds to the text; "" for a token that ends inside a character, which the next ones complete."""
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
    """For every token the index of the word it writes, by the place of its first letter; None for spaces and tags.

    `words` occur in the text of the pieces in their order; other things may stand between them.
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
    """The text with its tags blanked out, as long as before: no word is looked for inside a tag."""
    for tag in (TIME_TAG, SPEAKER_TAG):
        text = tag.sub(lambda found: " " * len(found[0]), text)
    return text
