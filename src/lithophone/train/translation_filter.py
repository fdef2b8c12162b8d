"""Which machine translations to train on: those that a second system confirms. Knows texts, not what wrote them.

Systems that were made apart rarely make the same mistake, so what two of them say is mostly right. They agree where the
error rate between them is low: WER of at most 0.3, CER of at most 0.4 for languages without spaces, as the card of
Granite Speech has it. Where there is no second system worth comparing with, one that translates back does: what returns
to the words it came from has lost little. Either way short and plain sentences are kept more often than long ones.
"""

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
"""Error rates up to which two translations agree."""


class Reason(str, Enum):
    """Why a translation is dropped."""

    EMPTY = "empty"
    UNTRANSLATED = "untranslated"
    DISAGREE = "disagree"


@dataclass(frozen=True)
class TranslationVerdict:
    """Error rates of a translation, and why it is dropped; None where it is kept.

    `rate` is that of the nearest other translation, `back_rate` that of the nearest translation back, compared with the
    source; both are infinite where there is none.
    """

    rate: float
    back_rate: float
    reason: Reason | None

    @property
    def kept(self) -> bool:
        return self.reason is None


def agreement_limit(lang: str) -> float:
    """The highest error rate at which two texts in the language agree."""
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
    """Whether a translation is kept, which was made from the first of two languages into the second one.

    It is where another translation agrees with it, of which it is the reference, or a translation back with the source.
    One without words, and one that says what the source says in the source's words, is dropped in any case. `limit`
    takes the place of those that go with the languages. Raises OptionError where there is nothing to agree with.
    """
    if not others and not back:
        raise OptionError(f"nothing to compare the translation of {source!r} with: give another one, or one back")
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
    """How many were kept, and how many dropped for each reason; every reason is there."""
    count = Counter(verdict.reason for verdict in verdicts)
    return {"kept": count[None]} | {reason.value: count[reason] for reason in Reason}
