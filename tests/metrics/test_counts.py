"""Counts against jiwer, and that they add."""

from __future__ import annotations

import math
import random

import jiwer
import pytest

from lithophone.metrics.counts import ErrorCounts, count_errors


@pytest.mark.parametrize("seed", range(20))
def test_counts_agree_with_jiwer(seed: int) -> None:
    draw = random.Random(seed)
    reference = draw.choices("abcd", k=draw.randint(1, 30))
    hypothesis = draw.choices("abcd", k=draw.randint(1, 30))
    judge = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    ours = count_errors(reference, hypothesis)
    assert ours.errors == judge.substitutions + judge.deletions + judge.insertions
    assert ours.rate == pytest.approx(judge.wer)
    assert ours.reference_length == len(reference)
    assert ours.hits + ours.substitutions + ours.insertions == len(hypothesis)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", ErrorCounts(hits=3)),
        ("a b c", "a x c", ErrorCounts(hits=2, substitutions=1)),
        ("a b c", "a c", ErrorCounts(hits=2, deletions=1)),
        ("a c", "a b c", ErrorCounts(hits=2, insertions=1)),
        ("a b", "", ErrorCounts(deletions=2)),
        ("", "a", ErrorCounts(insertions=1)),
    ],
)
def test_each_kind_of_error(reference: str, hypothesis: str, expected: ErrorCounts) -> None:
    assert count_errors(reference.split(), hypothesis.split()) == expected


def test_a_corpus_is_the_sum_and_not_the_mean() -> None:
    total = ErrorCounts(hits=1, substitutions=1) + ErrorCounts(hits=8)
    assert total == ErrorCounts(9, 1, 0, 0)
    assert total.rate == pytest.approx(0.1)


def test_empty_references() -> None:
    assert ErrorCounts().rate == 0.0
    assert ErrorCounts(insertions=1).rate == math.inf
