"""Simulated recogniser output for text-only training: misspelt sentences, whose tokens are spread over slots of 100 ms
with blanks.
"""

from __future__ import annotations

import itertools
import unicodedata
from dataclasses import dataclass

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyz'"
ALIKE = {
    "a": "eou", "b": "pdv", "c": "sk", "d": "tb", "e": "iay", "f": "vth", "g": "kj", "i": "ey", "j": "g", "k": "cg",
    "m": "n", "n": "m", "o": "ua", "p": "b", "s": "zc", "t": "d", "u": "oa", "v": "fb", "w": "u", "y": "i", "z": "s",
}  # fmt: skip
KANA = "".join(map(chr, range(0x3041, 0x3094))) + "ー"
KANA_ALIKE = (
    "かが", "きぎ", "くぐ", "けげ", "こご", "さざ", "しじちぢ", "すずつづ", "せぜ", "そぞ", "ただ", "てで",
    "とど", "はばぱ", "ひびぴ", "ふぶぷ", "へべぺ", "ほぼぽ", "つっ", "やゃ", "ゆゅ", "よょ", "いえぃ",
    "うおぅ", "んむぬ", "らだ", "りに", "るう", "わは", "をお",
)  # fmt: skip
ALIKE |= {kana: others.replace(kana, "") for others in reversed(KANA_ALIKE) for kana in others}


@dataclass(frozen=True)
class Corruption:
    """Shares of changed words and letters, blanks and repeats per token, shuffling within the projector's windows."""

    word_p: float = 0.25
    letter_p: float = 0.35
    drop_word_p: float = 0.02
    blanks_per_token: float = 0.8
    repeat_p: float = 0.15
    window: int = 3
    shuffle_p: float = 0.3


def misspell(text: str, corruption: Corruption, rng: np.random.Generator) -> str:
    """Delete, insert and substitute letters (by similar sounds) in some words, and delete a few words.

    In kana, runs of 2 to 5 characters count as words.
    """
    if not text.isascii() and any(c in KANA for c in text):
        return "".join(_misspelt(_runs(text, rng), corruption, rng))
    return " ".join(_misspelt(text.split(), corruption, rng))


def _runs(text: str, rng: np.random.Generator) -> list[str]:
    ends = [0, *(e for e in np.cumsum(rng.integers(2, 6, size=len(text))).tolist() if e < len(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(ends)]


def _misspelt(words: list[str], corruption: Corruption, rng: np.random.Generator) -> list[str]:
    changed = (_misspell_word(word, corruption, rng) for word in words if rng.random() >= corruption.drop_word_p)
    return [word for word in changed if word]


def _misspell_word(word: str, corruption: Corruption, rng: np.random.Generator) -> str:
    if rng.random() >= corruption.word_p:
        return word
    return "".join(_misspell_letter(c, rng) if rng.random() < corruption.letter_p else c for c in word)


def _misspell_letter(letter: str, rng: np.random.Generator) -> str:
    kind = rng.random()
    if kind < 0.3:
        return ""
    letters = KANA if letter in KANA else LETTERS
    if kind < 0.45:
        return letter + str(rng.choice(list(letters)))
    near = ALIKE.get(letter) or _without_marks(letter) or letters
    return str(rng.choice(list(near)))


def _without_marks(letter: str) -> str:
    """`e` for `é`; empty for a letter without diacritics."""
    base = unicodedata.normalize("NFD", letter)[0]
    return "" if base == letter else base


def spread(tokens: list[int], blank: int, corruption: Corruption, rng: np.random.Generator) -> list[int]:
    """Tokens -> slots: each token once or twice, then blanks; some windows are shuffled."""
    slots = [blank] * int(rng.integers(1, 4))
    for token in tokens:
        slots += [token] * (1 + int(rng.random() < corruption.repeat_p))
        slots += [blank] * int(rng.poisson(corruption.blanks_per_token))
    slots += [blank] * (-len(slots) % corruption.window)
    windows = [slots[i : i + corruption.window] for i in range(0, len(slots), corruption.window)]
    mixed = [list(rng.permutation(w)) if rng.random() < corruption.shuffle_p else w for w in windows]
    return [int(slot) for window in mixed for slot in window]
