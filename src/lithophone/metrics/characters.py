"""Normaliser of Japanese and Mandarin.

NFKC, lower case; brackets dropped with their content; white space, symbols, punctuation and invisible characters
dropped. Hiragana and kanji, simplified and traditional characters, digits and number words stay different.
"""

from __future__ import annotations

import re
import unicodedata

CHARACTER_FORMS = f"lithophone 1, Unicode {unicodedata.unidata_version}"

BRACKETS = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+\)")
VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
DROPPED = "SPZC"
"""Initials of the Unicode categories dropped: symbols, punctuation, separators, controls and formats."""


def to_characters(text: str) -> str:
    """`Ｗｉｎｄｏｗｓの ｶﾞｲﾄﾞ、１２頁（笑）` -> `windowsのガイド12頁`."""
    text = BRACKETS.sub("", unicodedata.normalize("NFKC", text).lower())
    text = VARIATION_SELECTORS.sub("", text)
    # Once more: a sound mark behind a space now follows its kana.
    return unicodedata.normalize("NFC", "".join(c for c in text if unicodedata.category(c)[0] not in DROPPED))
