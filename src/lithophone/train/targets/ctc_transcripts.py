"""Training transcripts of the CTC heads, and conditioning languages of the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from lithophone.ctc.characters import character_labels, foreign_labels, hiragana, raw_text
from lithophone.languages import base_language
from lithophone.text import japanese as kana

CONDITIONED_SHARE = 0.6
"""Share of rows whose language conditions the encoder."""

_RESPELLED = "-t-"
"""BCP 47's tag of a transformed text: `ja-t-fr` is French respelled as Japanese (`train/phonemes/to_kana.py`)."""

FOREIGN_PENALTY = 20.0
"""Logit penalty, in nats, on characters outside the language, in training and in the models trained here."""


def training_language(lang: str) -> str:
    """Code without region or case: `pt-BR` -> `pt`; `ja-t-fr` keeps both languages."""
    spelling, respelled, spoken = lang.lower().replace("_", "-").partition(_RESPELLED)
    return base_language(spelling) + respelled + base_language(spoken)


def ctc_transcript(text: str, lang: str) -> str:
    """Raw form of the text; Japanese as the Hiragana of its reading, without spaces.

    Raises OptionError for Japanese without an installed dictionary.
    """
    return _reading(text) if base_language(lang) == "ja" else raw_text(text)


@lru_cache(1 << 16)
def _reading(text: str) -> str:
    return "".join(raw_text(hiragana(kana.reading(text))).split())


def conditioning_languages(texts: Sequence[str], langs: Sequence[str], rng: np.random.Generator) -> list[str | None]:
    """Conditioning language per row, for a share of CONDITIONED_SHARE; None for the others.

    Never for a text with characters outside its language, always for a respelled one (`ja-t-fr`).
    """
    spellings = [base_language(lang) for lang in langs]
    return [
        spelling
        if (rng.random() < CONDITIONED_SHARE or _RESPELLED in lang) and not _foreign(spelling) & _labels(text, lang)
        else None
        for text, lang, spelling in zip(texts, langs, spellings, strict=True)
    ]


def _labels(text: str, lang: str) -> set[int]:
    return set(character_labels(ctc_transcript(text, lang)))


@lru_cache
def _foreign(lang: str) -> frozenset[int]:
    return frozenset(foreign_labels(lang))
