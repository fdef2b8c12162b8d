"""Word error rate; character error rate for languages written without spaces."""

from __future__ import annotations

from collections.abc import Iterable

from lithophone.languages import UNSPACED_LANGUAGES, base_language
from lithophone.metrics.counts import ErrorCounts, count_errors
from lithophone.metrics.normalize import Normalizer, normalizer_for


def measure_name(lang: str | None) -> str:
    """`CER` for Japanese and Mandarin, else `WER`."""
    return "CER" if base_language(lang) in UNSPACED_LANGUAGES else "WER"


def units(text: str, lang: str | None, normalizer: Normalizer | None = None) -> list[str]:
    """Normalised text as the tokens that are counted: characters without white space, or words."""
    words = (normalizer or normalizer_for(lang))(text).split()
    return list("".join(words)) if measure_name(lang) == "CER" else words


def score(pairs: Iterable[tuple[str, str]], lang: str | None, normalizer: Normalizer | None = None) -> ErrorCounts:
    """Sum of errors over (reference, hypothesis) pairs, both normalised."""
    chosen = normalizer or normalizer_for(lang)
    total = ErrorCounts()
    for reference, hypothesis in pairs:
        total += count_errors(units(reference, lang, chosen), units(hypothesis, lang, chosen))
    return total


def score_characters(pairs: Iterable[tuple[str, str]], lang: str | None) -> ErrorCounts:
    """The same by characters, with one space between words where the language writes spaces."""
    space = "" if measure_name(lang) == "CER" else " "
    total = ErrorCounts()
    for pair in pairs:
        reference, hypothesis = (space.join(units(text, lang)) for text in pair)
        total += count_errors(reference, hypothesis)
    return total
