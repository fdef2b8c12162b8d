"""The Open ASR Leaderboard's pipeline for languages other than English, as of March 2026.

Lower case; brackets dropped with their content; symbols, punctuation and loose combining marks become spaces (NFKC
keeps diacritics of European letters); thousands joined (`10 000`); digits become num2words' words, hyphens included.
The Leaderboard also joins compounds written apart on one side of a pair: WER here is a little higher.
"""

from __future__ import annotations

import functools
import re

import num2words
from whisper_normalizer.basic import BasicTextNormalizer

from lithophone.errors import OptionError

MULTILINGUAL_PIPELINE = "Open ASR Leaderboard 2026-03"

NOT_A_LETTER = re.compile(r"[^\w\s]")
THOUSANDS = re.compile(r"(\d)\s+(\d{3})\b")
DIGITS = re.compile(r"\d+")


class Multilingual:
    """The pipeline of one language; caches number words."""

    def __init__(self, lang: str) -> None:
        if lang not in num2words.CONVERTER_CLASSES:
            known = ", ".join(sorted(code for code in num2words.CONVERTER_CLASSES if len(code) == 2))
            raise OptionError(f"normaliser multilingual: no numbers in {lang!r}, only in {known}; `basic` takes any")
        self.lang = lang
        self._clean = BasicTextNormalizer(remove_diacritics=False)
        self._words = functools.lru_cache(maxsize=1 << 12)(self._say)

    def __call__(self, text: str) -> str:
        text = " ".join(NOT_A_LETTER.sub("", self._clean(text)).split())
        return DIGITS.sub(lambda found: self._words(found[0]), THOUSANDS.sub(r"\1\2", text))

    def _say(self, digits: str) -> str:
        try:
            return str(num2words.num2words(int(digits), lang=self.lang))
        except (OverflowError, ValueError):  # the language has no word so large, or Python reads no int so long
            return digits
