"""Japanese through its reading; skipped, and said so, where the library is missing (`pip install lithophone[ja]`)."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest

from lithophone.ctc.characters import labels_text
from lithophone.ctc.forced_alignment import WILDCARD
from lithophone.ctc.pronunciation import spoken_text
from lithophone.ctc.word_alignment import timed_words
from lithophone.text import japanese as kana
from tests.pipeline.voices import posteriors

needs_library = pytest.mark.skipif(not kana.can_read(), reason="SudachiPy is not installed: pip install lithophone[ja]")


def test_kana_is_japanese_and_kanji_are_where_the_language_says_so() -> None:
    assert kana.is_japanese("今日は")
    assert kana.is_japanese("カタカナ", "en")
    assert kana.is_japanese("東京", "ja")
    assert not kana.is_japanese("東京")
    assert not kana.is_japanese("東京", "zh")
    assert not kana.is_japanese("hello", "ja")


@needs_library
def test_words_are_read_as_they_sound() -> None:
    assert list(kana.read("東京へ行きました。")) == [
        ("東京", "トウキョウ"), ("へ", "へ"), ("行き", "イキ"), ("まし", "まし"), ("た", "た"), ("。", "。"),
    ]  # fmt: skip
    assert dict(kana.read("ｶﾞﾗｽが 20枚")) == {"ｶﾞﾗｽ": "ガラス", "が": "が", "20": "20", "枚": "マイ"}


@needs_library
@pytest.mark.parametrize(
    ("text", "words", "labels"),
    [
        ("「はい」と言った。", ["「はい」", "と", "言っ", "た。"], "ハイトイッタ"),
        ("（笑）そう…ですか？", ["（笑）", "そう…", "です", "か？"], "ワライソウデスカ"),
        ("1999年に Zoom で", ["1999", "年", "に", "Zoom", "で"], None),
        ("猫、「犬", ["猫、", "「犬"], "ネコイヌ"),
    ],
)
def test_marks_join_the_words_they_belong_to(text: str, words: list[str], labels: str | None) -> None:
    spoken = spoken_text(text, "ja")
    assert [word for unit in spoken.units for word in unit.words] == words
    assert "".join(words) == re.sub(r"\s", "", text)
    if labels is not None:
        assert labels_text(spoken.labels) == labels


@needs_library
def test_numbers_are_wildcards() -> None:
    assert spoken_text("20枚の皿").labels[0] == WILDCARD


@needs_library
def test_words_stand_where_their_sounds_stand() -> None:
    log_probs = posteriors("キョウハガッコウヘイキマシタ", frames_each=5)
    words = timed_words("今日は学校へ行きました。", log_probs, len(log_probs) * 0.02)
    assert [word.text for word in words] == ["今日", "は", "学校", "へ", "行き", "まし", "た。"]
    starts = [0, 3, 4, 8, 9, 11, 13]
    assert [word.start_s for word in words] == pytest.approx([max(0.1 * i - 0.02, 0) for i in starts], abs=0.021)
    edges = [edge for word in words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert np.mean([word.confidence for word in words]) > 0.9


@needs_library
def test_the_library_is_quiet(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        list(kana.read("猫"))
    assert not caplog.records
