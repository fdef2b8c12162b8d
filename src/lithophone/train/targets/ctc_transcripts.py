"""What an encoder hears of a written text: what both of its heads learn to spell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lithophone.ctc.characters import character_labels, foreign_labels, hiragana, raw_text
from lithophone.text import japanese as kana

TOLD = 0.6
"""Share of the rows whose language the encoder is told."""

_MADE_OF = "-t-"
"""BCP 47's mark of a transformed text: `ja-t-fr` is French spelled as Japanese would (`train/phonemes/to_kana.py`)."""

FOREIGN_PENALTY = 20.0
"""Nats off foreign letters; a model is told its language by it, and by a mark, in training and afterwards."""


def heard_text(text: str, lang: str) -> str:
    """The raw form; Japanese in Hiragana, as its words are read and without spaces, because nobody hears kanji.

    Raises OptionError for Japanese where the dictionary is not installed.
    """
    return _reading(text) if spelling_language(lang) == "ja" else raw_text(text)


def spelling_language(lang: str) -> str:
    """The language whose letters a text is in: `ja` of `ja-t-fr`."""
    return lang.partition(_MADE_OF)[0]


@lru_cache(1 << 16)
def _reading(text: str) -> str:
    return "".join(raw_text(hiragana(kana.reading(text))).split())


def encoder_biass(texts: Sequence[str], langs: Sequence[str], rng: np.random.Generator) -> list[str | None]:
    """The spelling languages of a TOLD share of the rows, None for the others.

    A text with foreign letters itself is never told, one that is spelled in another language than is spoken always.
    """
    spellings = [spelling_language(lang) for lang in langs]
    return [
        spelling if (rng.random() < TOLD or spelling != lang) and not _foreign(spelling) & _labels(text, lang) else None
        for text, lang, spelling in zip(texts, langs, spellings, strict=True)
    ]


def _labels(text: str, lang: str) -> set[int]:
    return set(character_labels(heard_text(text, lang)))


@lru_cache
def _foreign(lang: str) -> frozenset[int]:
    return frozenset(foreign_labels(lang))
