"""The character vocabulary of the encoder's CTC head, and the raw text that both heads are trained on.

Label 0 is the blank, 1..255 the Unicode code point of that number, 256 + n the Katakana letter chr(0x30A1 + n).
"""

from __future__ import annotations

import re
import unicodedata

from lithophone.languages import TABLE, base_language

N_LABELS = 348
KATAKANA_START = 0x30A1
_TO_KATAKANA = {code: code + 0x60 for code in (*range(0x3041, 0x3097), 0x309D, 0x309E)}
LIGATURES = str.maketrans({"œ": "oe", "ł": "l", "đ": "d", "ı": "i"})
"""Lower-case letters without a label, also when their diacritics are taken off."""

_TO_HIRAGANA = {katakana: hiragana for hiragana, katakana in _TO_KATAKANA.items()}
_QUOTES = str.maketrans({"’": "'", "‘": "'", "´": "'", "`": "'"})
_MARKS = re.compile(r"[^\w\s']|_")
_LOOSE_APOSTROPHE = re.compile(r"(?<!\w)'|'(?!\w)")
_JAPANESE_GAP = re.compile(r"(?<=[\u3005-\u30ff\u3400-\u9fff]) (?=[\u3005-\u30ff\u3400-\u9fff])")


def raw_text(text: str) -> str:
    """Lower case, no punctuation but apostrophes inside words, single spaces: a raw transcript.

    Punctuation between kana or kanji becomes no space: Japanese and Mandarin write none.
    """
    text = unicodedata.normalize("NFC", text).translate(_QUOTES).lower()
    text = _LOOSE_APOSTROPHE.sub(" ", _MARKS.sub(" ", text))
    return _JAPANESE_GAP.sub("", " ".join(text.split()))


def katakana(text: str) -> str:
    """Hiragana as Katakana, which alone has labels; everything else as it is."""
    return text.translate(_TO_KATAKANA)


def hiragana(text: str) -> str:
    """Katakana as Hiragana, where there is one; everything else as it is."""
    return text.translate(_TO_HIRAGANA)


def character_labels(text: str) -> list[int]:
    """One label for each character, Hiragana as Katakana; characters outside the set are left out."""
    labels = (character_label(character) for character in katakana(text).translate(LIGATURES))
    return [label for label in labels if label is not None]


def foreign_labels(language: str) -> list[int]:
    """Labels outside the alphabet of a language (a code).

    Kana in all languages but Japanese, and letters with diacritics of other languages; in Japanese Latin letters, the
    space and the apostrophe. Kana alone for a language that is not in the table.
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
    """The text of collapsed labels."""
    return "".join(chr(i) if i < 256 else chr(KATAKANA_START + i - 256) for i in labels)


def character_label(character: str) -> int | None:
    """The label of one character; None where the set has none."""
    code = ord(character)
    if 0 < code < 256:
        return code
    kana = code - KATAKANA_START
    return 256 + kana if 0 <= kana < N_LABELS - 256 else None
