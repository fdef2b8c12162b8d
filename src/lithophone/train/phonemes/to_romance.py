"""Phones (IPA) -> Spanish or Portuguese orthography without accents, for cross-lingual pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lithophone.train.phonemes.to_kana import NASAL, VOWELS, parts

_LETTERS = {
    **dict.fromkeys("aɑæɐʌ", "a"), **dict.fromkeys("iɪ", "i"), **dict.fromkeys("uʊyʏ", "u"),
    **dict.fromkeys("oɔɒ", "o"), **dict.fromkeys("eɛɜəøœ", "e"),
}  # fmt: skip
_COMMON = {
    **{letter: letter for letter in "bdflmnptv"}, **dict.fromkeys("ɹɾʁʀr", "r"), **dict.fromkeys("kcq", "k"),
    **dict.fromkeys("ɡg", "g"), "ɫ": "l", "β": "b", "ɸ": "f", "ð": "d", "ŋ": "n", "ts": "ts", "pf": "f", "ʔ": "",
    "s": "s", "ɥ": "i", "j": "i", "w": "u",
}  # fmt: skip


@dataclass(frozen=True)
class Orthography:
    """Consonant -> letters; `between` for consonants between two vowels."""

    consonants: dict[str, str]
    between: dict[str, str]


ORTHOGRAPHIES = {
    "es": Orthography(
        _COMMON | dict.fromkeys(("x", "χ", "c\N{COMBINING CEDILLA}", "h"), "j")
        | {"θ": "z", "z": "s", "ʃ": "ch", "tʃ": "ch", "ʒ": "y", "dʒ": "y", "ɲ": "ñ", "ʎ": "ll"},
        {"j": "y"},
    ),
    "pt": Orthography(
        _COMMON | dict.fromkeys(("x", "χ", "c\N{COMBINING CEDILLA}", "h"), "r")
        | {"θ": "s", "z": "z", "ʃ": "ch", "tʃ": "tch", "ʒ": "j", "dʒ": "dj", "ɲ": "nh", "ʎ": "lh"},
        {"s": "ss", "z": "s", "ʁ": "rr", "ʀ": "rr", "h": "rr", "x": "rr", "χ": "rr"},
    ),
}  # fmt: skip
"""By language; one spelling per sound."""


def spelled_in_romance(words: Sequence[Sequence[str]], language: str, muted_schwa: bool = False) -> str:
    """Words as lists of phones (IPA) -> letters of `language` (a key of ORTHOGRAPHIES), separated by spaces.

    `muted_schwa`: a final schwa is silent, as in French. Raises ValueError for an unknown phone.
    """
    rules = ORTHOGRAPHIES[language]
    spelled = (_word([part for phone in word for part in parts(phone)], rules, muted_schwa) for word in words)
    return " ".join(word for word in spelled if word)


def _word(phones: Sequence[str], rules: Orthography, muted_schwa: bool) -> str:
    if muted_schwa and phones and phones[-1] == "ə" and len(phones) > 1:
        phones = phones[:-1]
    written = ""
    for i, phone in enumerate(phones):
        following = phones[i + 1][0] if i + 1 < len(phones) else ""
        if phone[0] in VOWELS:
            nasal = NASAL in phone
            written += "".join(_LETTERS[mark] for mark in phone if mark in _LETTERS) + "n" * nasal
        elif phone in rules.consonants:
            inside = i > 0 and phones[i - 1][0] in VOWELS and following in VOWELS
            letters = rules.between.get(phone, rules.consonants[phone]) if inside else rules.consonants[phone]
            soft = following in VOWELS and _LETTERS.get(following) in ("e", "i")
            written += {"k": "qu" if soft else "c", "g": "gu" if soft else "g"}.get(letters, letters)
        else:
            raise ValueError(f"the phone {phone!r} has no letters: known are {' '.join([*rules.consonants, *VOWELS])}")
    return written
