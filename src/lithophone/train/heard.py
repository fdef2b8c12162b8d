"""What an encoder hears of a written text: what both of its heads learn to spell."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from lithophone import kana
from lithophone.errors import OptionError
from lithophone.labels import N_LABELS, foreign_labels, hiragana, raw_text


def heard_text(text: str, lang: str) -> str:
    """The raw form; Japanese in Hiragana, as its words are read and without spaces, because nobody hears kanji.

    Raises OptionError for Japanese where the dictionary is not installed.
    """
    return _reading(text) if lang == "ja" else raw_text(text)


@lru_cache(1 << 16)
def _reading(text: str) -> str:
    if not kana.can_read():
        raise OptionError("Japanese text cannot be read aloud without SudachiPy: pip install 'lithophone[ja]'")
    return "".join(raw_text(hiragana(" ".join(sound for _, sound in kana.read(text)))).split())


def foreign_penalties(told: Sequence[str | None], nats: float) -> Tensor:
    """Languages of B rows -> (B, 1, labels): `nats` off the letters that each is not spelled with.

    Nothing is off where a language is None.
    """
    penalties = torch.zeros(len(told), 1, N_LABELS)
    for row, lang in zip(penalties, told, strict=True):
        if lang is not None:
            row[0, foreign_labels(lang)] = nats
    return penalties
