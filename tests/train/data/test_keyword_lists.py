"""Keyword lists: sizes, rare words of the text, distractors that are not in it."""

from __future__ import annotations

import numpy as np
import pytest

from lithophone.ctc.characters import raw_text
from lithophone.text import japanese as kana
from lithophone.train.data.keyword_lists import NONE_SHARE, KeywordLists

COMMON = ["the cat and the dog"] * 400
TEXTS = [*COMMON, *(f"the Dashwood{chr(97 + i)} and the house{chr(97 + i)}." for i in range(26))]


def test_common_words_are_never_listed() -> None:
    lists = KeywordLists(TEXTS, "en")
    assert {"the", "cat", "and"} <= lists.common
    assert lists.rare('The cat and "Dashwooda", the Dashwooda') == ["Dashwooda"]
    assert not {raw_text(word) for word in lists.pool} & lists.common


def test_lists_hold_what_they_promise() -> None:
    lists = KeywordLists(TEXTS, "en", largest=20)
    text, sizes, kept, none = "The Dashwoodc, and the housec", [], 0, 0
    for seed in range(600):
        words = lists.draw(text, np.random.default_rng(seed))
        assert len(set(map(raw_text, words))) == len(words) <= 20
        own = [word for word in words if raw_text(word) in raw_text(text).split()]
        assert set(own) <= {"Dashwoodc", "housec"}
        assert set(words) <= set(lists.pool)
        sizes.append(len(words))
        kept += len(own)
        none += not own
    assert max(sizes) == 20
    assert np.median(sizes) < 8
    assert kept / 1200 == pytest.approx(0.85 * 0.8, abs=0.05)
    assert NONE_SHARE < none / 600 < NONE_SHARE + 0.1


def test_a_list_is_a_function_of_the_generator() -> None:
    lists = KeywordLists(TEXTS, "en")
    first, again = (lists.draw("the Dashwooda", np.random.default_rng(3)) for _ in range(2))
    assert first == again
    assert len({lists.draw("the Dashwooda", np.random.default_rng(seed)) for seed in range(20)}) > 10


def test_without_rare_words_there_is_no_list() -> None:
    lists = KeywordLists(["the cat"] * 5, "en")
    assert all(lists.draw("the cat", np.random.default_rng(seed)) == () for seed in range(20))


@pytest.mark.skipif(not kana.can_read(), reason="SudachiPy is not installed: pip install lithophone[ja]")
def test_japanese_words_are_those_of_the_dictionary_without_hiragana() -> None:
    lists = KeywordLists(["東京へ行きました。"] * 20 + ["パスカルの真理"], "ja")
    assert lists.rare("パスカルは東京へ行った") == ["パスカル"]
