"""Precision, recall and F1 of a keyword list, and WER inside and outside of it (B-WER, U-WER).

Texts and keywords are normalised. A keyword of several words counts once; of overlapping ones the first and longest
counts. Every keyword of the list is counted, common words too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lithophone.errors import OptionError
from lithophone.metrics.alignment import Op, Step, align
from lithophone.metrics.counts import Counts, ErrorCounts, F1Counts, count_steps
from lithophone.metrics.normalize import normalizer_for
from lithophone.metrics.wer import units

Span = tuple[int, int]
"""First unit of a keyword in a text, and the unit after it."""


@dataclass(frozen=True)
class BiasedCounts(Counts):
    """Errors on the words of the list (B-WER) and on all others (U-WER); their sum is the count of WER."""

    biased: ErrorCounts = field(default_factory=ErrorCounts)
    unbiased: ErrorCounts = field(default_factory=ErrorCounts)


def keyword_counts(reference: str, hypothesis: str, keywords: Sequence[str], lang: str | None) -> F1Counts:
    """Hits in an alignment whose units are whole keywords and other words: a keyword in the wrong place is no hit.

    Raises OptionError for a keyword that normalises to nothing.
    """
    phrases = keyword_units(keywords, lang)
    ref, hyp = (_merged(units(text, lang), phrases) for text in (reference, hypothesis))
    hits = sum(step.op is Op.HIT and _is_keyword(ref, step.reference) for step in align(*map(_joined, (ref, hyp))))
    return F1Counts(hits, sum(is_key for _, is_key in hyp) - hits, sum(is_key for _, is_key in ref) - hits)


def biased_counts(reference: str, hypothesis: str, keywords: Sequence[str], lang: str | None) -> BiasedCounts:
    """Errors inside and outside the list, from one alignment (Le et al. 2021, arXiv 2104.02194).

    A word of the reference is biased if part of a keyword there, an inserted word if part of one in the hypothesis.
    Raises OptionError as `keyword_counts`.
    """
    phrases = keyword_units(keywords, lang)
    ref, hyp = units(reference, lang), units(hypothesis, lang)
    on_list = _covered(ref, phrases), _covered(hyp, phrases)
    biased: list[Step] = []
    unbiased: list[Step] = []
    for step in align(ref, hyp):
        inside = step.reference in on_list[0] if step.reference is not None else step.hypothesis in on_list[1]
        (biased if inside else unbiased).append(step)
    return BiasedCounts(count_steps(biased), count_steps(unbiased))


def keyword_units(keywords: Sequence[str], lang: str | None) -> frozenset[tuple[str, ...]]:
    """Distinct keywords, normalised, as words or characters."""
    return frozenset(_keyword_units(keyword, lang) for keyword in keywords)


@functools.lru_cache(maxsize=1 << 16)
def _keyword_units(keyword: str, lang: str | None) -> tuple[str, ...]:
    found = tuple(units(keyword, lang))
    if not found:
        raise OptionError(
            f"the keyword {keyword!r} is empty after the normaliser {normalizer_for(lang)}: take it off the list"
        )
    return found


def _spans(tokens: Sequence[str], phrases: frozenset[tuple[str, ...]]) -> Iterator[Span]:
    """Keywords in a text from left to right, longest first, without overlaps."""
    lengths = sorted({len(phrase) for phrase in phrases}, reverse=True)
    start = 0
    while start < len(tokens):
        length = next((n for n in lengths if tuple(tokens[start : start + n]) in phrases), 0)
        if length:
            yield start, start + length
        start += length or 1


def _covered(tokens: Sequence[str], phrases: frozenset[tuple[str, ...]]) -> frozenset[int]:
    return frozenset(n for start, end in _spans(tokens, phrases) for n in range(start, end))


def _merged(tokens: Sequence[str], phrases: frozenset[tuple[str, ...]]) -> list[tuple[str, bool]]:
    """Units of the text, each keyword one unit, and whether each is a keyword."""
    merged: list[tuple[str, bool]] = []
    done = 0
    for start, end in _spans(tokens, phrases):
        merged += [(token, False) for token in tokens[done:start]]
        merged.append((" ".join(tokens[start:end]), True))
        done = end
    return merged + [(token, False) for token in tokens[done:]]


def _joined(merged: Sequence[tuple[str, bool]]) -> list[str]:
    return [token for token, _ in merged]


def _is_keyword(merged: Sequence[tuple[str, bool]], index: int | None) -> bool:
    return index is not None and merged[index][1]
