"""Phones (IPA as eSpeak writes it) -> kana, by the rules of Japanese loanwords.

For cross-lingual pseudo-labels: human speech for Japanese, whose other data are synthetic.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import takewhile

_SYLLABLES = {
    "": "あいうえお", "k": "かきくけこ", "g": "がぎぐげご", "s": "さしすせそ", "z": "ざじずぜぞ", "n": "なにぬねの",
    "h": "はひふへほ", "b": "ばびぶべぼ", "p": "ぱぴぷぺぽ", "m": "まみむめも", "r": "らりるれろ",
    "t": ("た", "てぃ", "とぅ", "て", "と"), "d": ("だ", "でぃ", "どぅ", "で", "ど"),
    "j": ("や", "い", "ゆ", "いぇ", "よ"), "w": ("わ", "うぃ", "う", "うぇ", "うぉ"),
    "f": ("ふぁ", "ふぃ", "ふ", "ふぇ", "ふぉ"), "ts": ("つぁ", "つぃ", "つ", "つぇ", "つぉ"),
    "ʃ": ("しゃ", "し", "しゅ", "しぇ", "しょ"), "tʃ": ("ちゃ", "ち", "ちゅ", "ちぇ", "ちょ"),
    "dʒ": ("じゃ", "じ", "じゅ", "じぇ", "じょ"), "ɲ": ("にゃ", "に", "にゅ", "にぇ", "にょ"),
}  # fmt: skip
"""Onset -> syllables with a, i, u, e, o."""

_ONSETS = {
    **{onset: onset for onset in _SYLLABLES if onset}, **dict.fromkeys(("x", "χ", "c\N{COMBINING CEDILLA}"), "h"),
    **dict.fromkeys("ɹɾʁʀlɫ", "r"), **dict.fromkeys("cq", "k"), **dict.fromkeys("vβ", "b"), **dict.fromkeys("ɡŋ", "g"),
    "θ": "s", "ð": "z", "ɸ": "f", "pf": "f", "ʒ": "dʒ", "ɥ": "j", "ʔ": "",
}  # fmt: skip

_CODAS = {"t": "と", "d": "ど", "tʃ": "ち", "dʒ": "じ", "n": "ん", "j": "い", "": ""}
"""Onsets without a following vowel; others take u."""

VOWELS = {
    **dict.fromkeys("aɑæɐʌɜə", "あ"), **dict.fromkeys("iɪ", "い"), **dict.fromkeys("uʊyʏøœ", "う"),
    **dict.fromkeys("eɛ", "え"), **dict.fromkeys("oɔɒ", "お"),
}  # fmt: skip
_LENGTHENED = {"あ": "ー", "い": "い", "う": "う", "え": "い", "お": "う"}
"""Second half of a long vowel."""

_SMALL = {"あ": "ゃ", "い": "ぃ", "う": "ゅ", "え": "ぇ", "お": "ょ"}
NASAL = "\N{COMBINING TILDE}"
_LOWERED = {"ɛ" + NASAL: "a" + NASAL, "œ" + NASAL: "a" + NASAL}
"""French: *vin* is borrowed as van."""


def spelled_in_kana(words: Sequence[Sequence[str]], muted_schwa: bool = False) -> str:
    """Words as lists of phones (IPA) -> Hiragana without spaces.

    `muted_schwa`: a schwa only ends its consonant, as in French; else it is an a. Raises ValueError for an unknown
    phone.
    """
    return "".join(_word([part for phone in word for part in parts(phone)], muted_schwa) for word in words)


def parts(phone: str) -> Iterator[str]:
    """A phone without stress, ties and diacritics, but with length and nasality; `əl` (*-le*) is two."""
    kept = "".join(c for c in unicodedata.normalize("NFD", phone) if c not in "ˈˌ͜͡ʲʰ̩̯")
    vowel = "".join(takewhile(lambda c: c in VOWELS or c in ("ː", NASAL), kept))
    rest = kept[len(vowel) :].replace("ː", "").replace(NASAL, "")
    yield from (part for part in (_LOWERED.get(vowel, vowel), rest) if part)


def _word(phones: Sequence[str], muted_schwa: bool) -> str:
    written, onset, glide = "", "", False
    for i, phone in enumerate(phones):
        if phone[0] in VOWELS:
            mute = muted_schwa and phone == "ə"
            written += _coda(onset) if mute and onset else _syllable(onset, phone, glide)
            onset, glide = "", False
        elif phone in _ONSETS:
            vowel_next = i + 1 < len(phones) and phones[i + 1][0] in VOWELS
            if onset and vowel_next and phone in ("j", "ɥ"):
                glide = True
                continue
            written += _coda(onset)
            onset = _ONSETS[phone]
            if phone == "ŋ" or (onset == "m" and i + 1 < len(phones) and _ONSETS.get(phones[i + 1]) in ("p", "b")):
                written, onset = written + "ん", onset if phone == "ŋ" and vowel_next else ""
        else:
            raise ValueError(f"the phone {phone!r} has no kana: known are {' '.join([*_ONSETS, *VOWELS])}")
    return written + _coda(onset)


def _coda(onset: str) -> str:
    return _CODAS[onset] if onset in _CODAS else _SYLLABLES[onset][2]


def _syllable(onset: str, vowel: str, glide: bool) -> str:
    """Consonant, optional glide (*new*, *pied*), and vowel or diphthong."""
    quality = VOWELS[vowel[0]]
    column = "あいうえお".index(quality)
    palatal = glide or (vowel[0] in "yʏ" and onset not in ("", "j"))
    kana = _SYLLABLES[onset][1] + _SMALL[quality] if palatal and quality != "い" else _SYLLABLES[onset][column]
    for mark in vowel[1:]:
        kana += "ん" if mark == NASAL else _LENGTHENED[quality] if mark == "ː" else VOWELS[mark]
    return kana
