"""Character vocabulary of the encoder's CTC head, and raw text.

Label 0 is the blank, 1..255 the Unicode code point, 256 + n the Katakana letter chr(0x30A1 + n).
"""

from __future__ import annotations

import re
import unicodedata

from lithophone.languages import TABLE, base_language

N_LABELS = 348
KATAKANA_START = 0x30A1
_TO_KATAKANA = {code: code + 0x60 for code in (*range(0x3041, 0x3097), 0x309D, 0x309E)}
LIGATURES = str.maketrans({"œ": "oe", "ł": "l", "đ": "d", "ı": "i"})
"""Letters without a label even after removing diacritics."""

_TO_HIRAGANA = {katakana: hiragana for hiragana, katakana in _TO_KATAKANA.items()}
_QUOTES = str.maketrans({"’": "'", "‘": "'", "´": "'", "`": "'"})
_MARKS = re.compile(r"[^\w\s']|_")
_LOOSE_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_JAPANESE_GAP = re.compile(r"(?<=[\u3005-\u30ff\u3400-\u9fff]) (?=[\u3005-\u30ff\u3400-\u9fff])")


def raw_text(text: str) -> str:
    """Lower case, no punctuation but apostrophes inside words, single spaces; none between kana or kanji."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES).lower()
    text = _LOOSE_APOSTROPHE.sub(" ", _MARKS.sub(" ", text))
    return _JAPANESE_GAP.sub("", " ".join(text.split()))


def katakana(text: str) -> str:
    """Hiragana, which has no labels, as Katakana."""
    return text.translate(_TO_KATAKANA)


def hiragana(text: str) -> str:
    """Katakana as Hiragana where there is one."""
    return text.translate(_TO_HIRAGANA)


def character_labels(text: str) -> list[int]:
    """One label a character, Hiragana as Katakana; characters without one are dropped."""
    labels = (character_label(character) for character in katakana(text).translate(LIGATURES))
    return [label for label in labels if label is not None]


def foreign_labels(language: str) -> list[int]:
    """Labels outside the alphabet of a language (a code).

    Japanese: Latin letters, space, apostrophe. Others: kana, and foreign diacritics where the language is in the table.
    """
    language = base_language(language)
    if language == "ja":
        return [n for n in range(1, 256) if chr(n).isalpha() or chr(n) in " '"]
    kana = [n for n in range(256, N_LABELS) if labels_text([n]).isalpha()]
    letters = TABLE[language].letters if language in TABLE else None
    if letters is None:
        return kana
    return [n for n in range(128, 256) if chr(n).isalpha() and chr(n) not in letters] + kana


def labels_text(labels: list[int]) -> str:
    return "".join(chr(i) if i < 256 else chr(KATAKANA_START + i - 256) for i in labels)


def character_label(character: str) -> int | None:
    code = ord(character)
    if 0 < code < 256:
        return code
    kana = code - KATAKANA_START
    return 256 + kana if 0 <= kana < N_LABELS - 256 else None
