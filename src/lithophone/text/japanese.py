"""Japanese text -> words with kana readings, by SudachiPy (`pip install lithophone[ja]`).

The encoder's characters have Katakana but no kanji: Japanese is aligned by its reading.
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
"""Parts of speech: punctuation, white space."""


def is_japanese(text: str, language: str | None = None) -> bool:
    """Whether the text has kana, or has kanji and `language` is "ja"."""
    return bool(KANA.search(text) or (language == "ja" and _HAN.search(text)))


def is_mostly_kana(text: str) -> bool:
    """Whether more than half of the text is kana, without spaces."""
    return 2 * sum(map(len, KANA.findall(text))) > len("".join(text.split()))


def can_read() -> bool:
    """Whether library and dictionary are installed."""
    return all(importlib.util.find_spec(name) for name in ("sudachipy", "sudachidict_small"))


def read(text: str) -> Iterator[tuple[str, str]]:
    """The dictionary's words (東京, は, 行き, まし, た) with readings: kana if known, else the word.

    Numbers stay as written: the dictionary reads them digit by digit. Needs `can_read()`.
    """
    for morpheme in _dictionary().tokenizer().tokenize(text):
        kind = morpheme.part_of_speech()[0]
        if kind != _SPACE:
            yield morpheme.surface(), _sound(morpheme.surface(), morpheme.reading_form(), known=kind != _MARK)


def reading(text: str) -> str:
    """Readings joined by spaces: `東京へ、行く` -> `トウキョウ へ 、 イク`.

    Raises OptionError without the dictionary.
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
