"""Filter of machine translations, by agreement of two systems or by round trip; both favour short, plain sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from lithophone.errors import OptionError
from lithophone.metrics.counts import count_errors
from lithophone.metrics.wer import measure_name, units

LIMITS = {"WER": 0.3, "CER": 0.4}
"""Highest error rates at which two texts agree (model card)."""


class Reason(str, Enum):
    EMPTY = "empty"
    UNTRANSLATED = "untranslated"
    DISAGREE = "disagree"


@dataclass(frozen=True)
class TranslationVerdict:
    """Error rates of a translation, and the reason it is dropped (None: kept).

    `rate`: nearest other translation; `back_rate`: nearest round trip against the source; infinite without any.
    """

    rate: float
    back_rate: float
    reason: Reason | None

    @property
    def kept(self) -> bool:
        return self.reason is None


def agreement_limit(lang: str) -> float:
    return LIMITS[measure_name(lang)]


def judge(
    source: str,
    translation: str,
    langs: tuple[str, str],
    *,
    others: Sequence[str] = (),
    back: Sequence[str] = (),
    limit: float | None = None,
) -> TranslationVerdict:
    """Whether a translation from the first to the second of `langs` is kept.

    Kept where one of `others` agrees with it, or one of `back` with the source; never if empty or equal to the source.
    `limit` replaces the languages' limits. Raises OptionError without `others` and `back`.
    """
    if not others and not back:
        raise OptionError(f"the translation of {source!r} needs another translation or a round trip to compare with")
    source_lang, lang = langs
    words = units(translation, lang)
    if not words:
        return TranslationVerdict(math.inf, math.inf, Reason.EMPTY)
    rate, back_rate = _nearest(translation, others, lang), _nearest(source, back, source_lang)
    if words == units(source, lang):
        return TranslationVerdict(rate, back_rate, Reason.UNTRANSLATED)
    limits = [agreement_limit(code) if limit is None else limit for code in (lang, source_lang)]
    agree = rate <= limits[0] or back_rate <= limits[1]
    return TranslationVerdict(rate, back_rate, None if agree else Reason.DISAGREE)


def _nearest(reference: str, texts: Sequence[str], lang: str) -> float:
    words = units(reference, lang)
    return min((count_errors(words, units(text, lang)).rate for text in texts), default=math.inf)


def tally(verdicts: Sequence[TranslationVerdict]) -> dict[str, int]:
    """Numbers of kept translations, and of dropped ones by reason."""
    count = Counter(verdict.reason for verdict in verdicts)
    return {"kept": count[None]} | {reason.value: count[reason] for reason in Reason}
