"""Word error rate, and character error rate for languages that are written without spaces."""

from __future__ import annotations

from collections.abc import Iterable

from lithophone.metrics.counts import ErrorCounts, count_errors
from lithophone.metrics.normalize import base_language, normalizer_for

CHARACTER_LANGUAGES = frozenset({"ja", "zh"})


def measure_name(lang: str | None) -> str:
    """`CER` for Japanese and Mandarin, `WER` for all others."""
    return "CER" if base_language(lang) in CHARACTER_LANGUAGES else "WER"


def units(text: str, lang: str | None) -> list[str]:
    """Normalised text as the tokens that are counted: characters without white space, or words."""
    words = normalizer_for(lang)(text).split()
    return list("".join(words)) if measure_name(lang) == "CER" else words


def score(pairs: Iterable[tuple[str, str]], lang: str | None) -> ErrorCounts:
    """Sum the errors over (reference, hypothesis) pairs, both normalised the same way."""
    counted = (count_errors(units(reference, lang), units(hypothesis, lang)) for reference, hypothesis in pairs)
    return sum(counted, ErrorCounts())
