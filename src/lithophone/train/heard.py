"""What an encoder hears of a written text: what both of its heads learn to spell."""

from __future__ import annotations

from functools import lru_cache

from lithophone import kana
from lithophone.errors import OptionError
from lithophone.labels import hiragana, raw_text


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
