"""Keywords by hand, and B-WER and U-WER against the plain count of errors."""

from __future__ import annotations

import random

import pytest

from lithophone.errors import OptionError
from lithophone.metrics.counts import ErrorCounts, F1Counts, count_errors
from lithophone.metrics.keywords import BiasedCounts, biased_counts, keyword_counts
from lithophone.metrics.wer import units


@pytest.mark.parametrize(
    ("reference", "hypothesis", "keywords", "expected"),
    [
        ("call Anna now", "call Anna now", ["Anna"], F1Counts(tp=1)),
        ("call Anna now", "call Hanna now", ["Anna"], F1Counts(fn=1)),
        ("call Hanna now", "call Anna now", ["Anna"], F1Counts(fp=1)),
        ("call Anna now", "call Anna now", ["Bob"], F1Counts()),
        ("call Anna now", "call Anna now", [], F1Counts()),
        # one keyword for another is a miss and a false alarm
        ("call Anna now", "call Bob now", ["Anna", "Bob"], F1Counts(fp=1, fn=1)),
        # several words are one keyword, found as a whole or not at all
        ("in New York today", "in New York today", ["new york"], F1Counts(tp=1)),
        ("in New York today", "in New Yolk today", ["new york"], F1Counts(fn=1)),
        ("in New York today", "in York today", ["new york"], F1Counts(fn=1)),
        # the first and longest is taken
        ("new york city hall", "new york city hall", ["new york", "york city", "new york city"], F1Counts(tp=1)),
        # every time it is said; in the wrong place it is no hit
        ("Anna met Anna", "Anna met her", ["Anna"], F1Counts(tp=1, fn=1)),
        ("Anna said so far away", "she said so far from Anna", ["Anna"], F1Counts(fp=1, fn=1)),
        # keywords go through the normaliser, and those that are the same after it are one
        ("Dr. Strange's colour", "doctor strange is color", ["DR STRANGE", "doctor strange", "colour"], F1Counts(tp=2)),
    ],
)
def test_keywords_by_hand(reference: str, hypothesis: str, keywords: list[str], expected: F1Counts) -> None:
    assert keyword_counts(reference, hypothesis, keywords, "en") == expected


def test_keywords_of_japanese_are_characters_in_a_row() -> None:
    assert keyword_counts("東京駅に、行く", "東京駅へ行く", ["東京", "行く"], "ja") == F1Counts(tp=2)
    assert keyword_counts("東京駅に行く", "東 駅に行く", ["東京"], "ja") == F1Counts(fn=1)


def test_a_keyword_that_is_nothing_is_refused() -> None:
    for count in (keyword_counts, biased_counts):
        with pytest.raises(OptionError, match=r"'\(hm\)'.*english \(whisper"):
            count("a", "b", ["Anna", "(hm)"], "en")


@pytest.mark.parametrize(
    ("reference", "hypothesis", "biased", "unbiased"),
    [
        ("call Anna now", "call Hanna now", ErrorCounts(substitutions=1), ErrorCounts(hits=2)),
        ("call Anna now", "call now", ErrorCounts(deletions=1), ErrorCounts(hits=2)),
        ("call now", "call Anna now", ErrorCounts(insertions=1), ErrorCounts(hits=2)),
        ("call now", "call her now", ErrorCounts(), ErrorCounts(hits=2, insertions=1)),
        ("in New York today", "in New Yolk", ErrorCounts(hits=1, substitutions=1), ErrorCounts(hits=1, deletions=1)),
        # part of a keyword alone is not on the list
        ("a new day", "a blue day", ErrorCounts(), ErrorCounts(hits=2, substitutions=1)),
    ],
)
def test_errors_on_the_list_and_beside_it(
    reference: str, hypothesis: str, biased: ErrorCounts, unbiased: ErrorCounts
) -> None:
    assert biased_counts(reference, hypothesis, ["Anna", "New York"], "en") == BiasedCounts(biased, unbiased)


def test_both_sides_of_the_list_and_all_shards_add_up() -> None:
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcdefg", k=draw.randint(0, 10))) for _ in range(300)]
    pairs = list(zip(texts, reversed(texts), strict=True))
    keywords = ["b", "c d", "f g a"]
    counts = [biased_counts(a, b, keywords, "fr") for a, b in pairs]
    for (a, b), count in zip(pairs, counts, strict=True):
        assert count.biased + count.unbiased == count_errors(units(a, "fr"), units(b, "fr"))
    whole = sum(counts, BiasedCounts())
    assert sum((sum(counts[start::4], BiasedCounts()) for start in range(4)), BiasedCounts()) == whole
    assert min(whole.biased.hits, whole.biased.insertions, whole.unbiased.deletions) > 40
    found = [keyword_counts(a, b, keywords, "fr") for a, b in pairs]
    assert sum(found[::2], F1Counts()) + sum(found[1::2], F1Counts()) == sum(found, F1Counts())
    assert sum(found, F1Counts()).tp > 20
