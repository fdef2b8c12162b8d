"""Counts against jiwer, and that they add."""

from __future__ import annotations

import math
import random
from collections import Counter

import jiwer
import pytest

from lithophone.metrics.counts import ErrorCounts, F1Counts, count_errors

WORDS = ["a", "an", "the", "no", "not", "know", "knot", "ear", "hear", "here", "there", "their", "Ä", "日本"]


def texts(seed: int) -> tuple[str, str]:
    """A reference and a hypothesis of its words, some of them changed, lost or new."""
    draw = random.Random(seed)
    said = draw.choices(WORDS, k=draw.randint(1, 12))
    heard = [word if draw.random() < 0.7 else draw.choice(WORDS) for word in said if draw.random() < 0.9]
    return " ".join(said), " ".join(heard + draw.choices(WORDS, k=draw.randint(0, 2)))


def judged(judge: jiwer.WordOutput | jiwer.CharacterOutput) -> tuple[ErrorCounts, list[ErrorCounts]]:
    """jiwer's counts of all pairs, and of every pair by itself."""
    of_pairs = [Counter[str]() for _ in judge.alignments]
    for count, chunks in zip(of_pairs, judge.alignments, strict=True):
        for chunk in chunks:
            size = max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            count[chunk.type] += size
    kinds = ("equal", "substitute", "delete", "insert")
    whole = ErrorCounts(judge.hits, judge.substitutions, judge.deletions, judge.insertions)
    return whole, [ErrorCounts(*(count[kind] for kind in kinds)) for count in of_pairs]


def test_wer_and_cer_are_those_of_jiwer_on_ten_thousand_pairs() -> None:
    references, hypotheses = map(list, zip(*map(texts, range(10_000)), strict=True))
    assert len(set(hypotheses)) > 5_000
    by_words = jiwer.process_words(references, hypotheses)
    by_characters = jiwer.process_characters(references, hypotheses)
    words = [count_errors(a.split(), b.split()) for a, b in zip(references, hypotheses, strict=True)]
    characters = [count_errors(a, b) for a, b in zip(references, hypotheses, strict=True)]
    for judge, rate, counts in ((by_words, by_words.wer, words), (by_characters, by_characters.cer, characters)):
        whole = sum(counts, ErrorCounts())
        assert (whole, counts) == judged(judge)
        assert whole.rate == pytest.approx(rate)
        assert sum((sum(counts[start::7], ErrorCounts()) for start in range(7)), ErrorCounts()) == whole


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


def test_found_and_missed() -> None:
    counts = F1Counts(tp=3, fp=1) + F1Counts(tp=3, fp=2, fn=4)
    assert counts == F1Counts(6, 3, 4)
    assert counts.precision == pytest.approx(6 / 9)
    assert counts.recall == pytest.approx(6 / 10)
    assert counts.f1 == pytest.approx(12 / 19)


def test_a_share_of_nothing_is_no_number() -> None:
    assert all(math.isnan(share) for share in (F1Counts().precision, F1Counts().recall, F1Counts().f1))
    assert math.isnan(F1Counts(fn=1).precision)
    assert (F1Counts(fn=1).recall, F1Counts(fn=1).f1) == (0.0, 0.0)
