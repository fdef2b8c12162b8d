"""Japanese and Mandarin as characters that can be compared.

Compatibility forms become the usual ones (NFKC: full-width letters and digits, half-width kana, squared and circled
characters); letters become lower case; round, square and pointed brackets are dropped with the remark or reading they
hold (`（笑）`), quotation marks without what they quote; white space, symbols, punctuation and what is not seen are
dropped. Kana, kanji and hanzi stay as they are: a word in hiragana is not the same as in kanji, simplified characters
are not traditional ones, and a number in digits is not the number in words.
"""

from __future__ import annotations

import re
import unicodedata

CHARACTER_FORMS = f"lithophone 1, Unicode {unicodedata.unidata_version}"

BRACKETS = re.compile(r"[<\[][^>\]]*[>\]]|\([^)]+\)")
VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
DROPPED = "SPZC"
"""Initials of Unicode's categories of symbols, punctuation, separators, and controls and formats."""


def to_characters(text: str) -> str:
    """`Ｗｉｎｄｏｗｓの ｶﾞｲﾄﾞ、１２頁（笑）` -> `windowsのガイド12頁`."""
    text = BRACKETS.sub("", unicodedata.normalize("NFKC", text).lower())
    text = VARIATION_SELECTORS.sub("", text)
    # Once more: a sound mark that stood behind a space has reached its kana.
    return unicodedata.normalize("NFC", "".join(c for c in text if unicodedata.category(c)[0] not in DROPPED))
