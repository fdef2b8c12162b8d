"""What counts as the same words, per language."""

from __future__ import annotations

import pytest

from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.normalize import basic, english, normalizer_for
from lithophone.metrics.wer import measure_name, score, units


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Hello, World!", "hello world"),
        ("um, I think [noise] so (laughs)", "i think so"),
        ("I can't go", "i can not go"),
        ("Mr. Smith", "mister smith"),
        ("twenty one dollars", "$21"),
        ("The COLOUR of the centre", "the color of the center"),
    ],
)
def test_english_spellings_that_are_the_same_words(left: str, right: str) -> None:
    assert english()(left) == english()(right)


def test_other_languages_keep_their_diacritics() -> None:
    assert basic()("L’Été, ça va (rires) – ÜBER!") == "l été ça va über"
    assert basic()("e\u0301te\u0301") == "été"


@pytest.mark.parametrize(
    ("lang", "name", "measure"),
    [("en", "english", "WER"), ("en-US", "english", "WER"), ("fr", "basic", "WER"), ("ja", "basic", "CER"),
     ("zh-CN", "basic", "CER"), (None, "basic", "WER")],
)  # fmt: skip
def test_normaliser_and_measure_by_language(lang: str | None, name: str, measure: str) -> None:
    assert normalizer_for(lang).name == name
    assert measure_name(lang) == measure


def test_a_normaliser_is_printed_with_its_version() -> None:
    assert str(english()).startswith("english (whisper-normalizer ")


def test_characters_without_white_space_are_counted_for_japanese() -> None:
    assert units("今日 は、晴れ。", "ja") == list("今日は晴れ")
    assert score([("今日は晴れ", "今日晴れ")], "ja") == ErrorCounts(hits=4, deletions=1)


def test_score_adds_over_pairs() -> None:
    assert score([("a b", "a b"), ("c d", "c x")], "fr") == ErrorCounts(hits=3, substitutions=1)
    assert score([], "en") == ErrorCounts()
