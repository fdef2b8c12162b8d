"""Words and characters that are counted, and their sums."""

from __future__ import annotations

import pytest

from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.normalize import basic
from lithophone.metrics.wer import measure_name, score, score_characters, units


@pytest.mark.parametrize(
    ("lang", "measure"),
    [("en", "WER"), ("en-US", "WER"), ("fr", "WER"), ("ja", "CER"), ("zh-CN", "CER"), (None, "WER")],
)
def test_measure_by_language(lang: str | None, measure: str) -> None:
    assert measure_name(lang) == measure


def test_characters_without_white_space_are_counted_for_japanese() -> None:
    assert units("今日 は、晴れ。", "ja") == list("今日は晴れ")
    assert score([("今日は晴れ", "今日晴れ")], "ja") == ErrorCounts(hits=4, deletions=1)


def test_the_normaliser_may_be_another_one() -> None:
    assert units("Mr. D'Arcy", "en") == ["mister", "d", "arcy"]
    assert units("Mr. D'Arcy", "en", basic()) == ["mr", "d", "arcy"]
    assert score([("mr x", "mister x")], "en") == ErrorCounts(hits=2)
    assert score([("mr x", "mister x")], "en", basic()) == ErrorCounts(hits=1, substitutions=1)


def test_score_adds_over_pairs() -> None:
    assert score([("a b", "a b"), ("c d", "c x")], "fr") == ErrorCounts(hits=3, substitutions=1)
    assert score([], "en") == ErrorCounts()


def test_empty_references_and_hypotheses_count() -> None:
    assert score([("", "oh no"), ("oh no", "")], "fr") == ErrorCounts(deletions=2, insertions=2)


def test_spaces_are_characters_where_a_language_writes_them() -> None:
    assert score_characters([("Ein Haus!", "ein aus"), ("ab", "a b")], "de") == ErrorCounts(
        hits=9, deletions=1, insertions=1
    )
    pairs = [("今日は 晴れ", "今日晴れ")]
    assert score_characters(pairs, "ja") == score(pairs, "ja") == ErrorCounts(hits=4, deletions=1)
