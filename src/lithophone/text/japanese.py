"""Japanese text -> its words with their readings in kana, by SudachiPy: optional, `pip install lithophone[ja]`.

The encoder's characters hold Katakana and no kanji, so a Japanese text is aligned through what it sounds like. Knows no
labels and no times.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from lithophone.errors import OptionError

KANA = re.compile(r"[ぁ-ゖァ-ヺー]+")
_HAN = re.compile(r"[々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_MARK, _SPACE = "補助記号", "空白"
"""Parts of speech of punctuation and of white space."""


def is_japanese(text: str, language: str | None = None) -> bool:
    """Whether there is kana in the text, or kanji alone in a text that is said to be Japanese (`language` "ja")."""
    return bool(KANA.search(text) or (language == "ja" and _HAN.search(text)))


def can_read() -> bool:
    """Whether the library and its dictionary are installed."""
    return all(importlib.util.find_spec(name) for name in ("sudachipy", "sudachidict_small"))


def read(text: str) -> Iterator[tuple[str, str]]:
    """Words as written, with what they sound like: kana as far as the dictionary knows, else the word itself.

    Words are the dictionary's (東京, は, 行き, まし, た). Numbers stay as they are written: the dictionary reads them
    digit by digit, people do not. Needs `can_read()`.
    """
    for morpheme in _dictionary().tokenizer().tokenize(text):
        kind = morpheme.part_of_speech()[0]
        if kind != _SPACE:
            yield morpheme.surface(), _sound(morpheme.surface(), morpheme.reading_form(), known=kind != _MARK)


def reading(text: str) -> str:
    """A text as it is said, a space between words: `東京へ、行く` -> `トウキョウ へ 、 イク`.

    Raises OptionError where the dictionary is not installed.
    """
    if not can_read():
        raise OptionError("Japanese text cannot be read aloud without SudachiPy: pip install 'lithophone[ja]'")
    return " ".join(sound for _, sound in read(text))


def _sound(surface: str, reading: str, known: bool) -> str:
    plain = unicodedata.normalize("NFKC", surface)
    written_as_said = KANA.fullmatch(plain) or any(character.isdigit() for character in plain)
    return reading if known and not written_as_said and KANA.fullmatch(reading) else plain


@functools.cache
def _dictionary() -> Any:
    from sudachipy import Dictionary

    return Dictionary(dict="small")
