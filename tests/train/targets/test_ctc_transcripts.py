"""What an encoder hears of a text: Japanese by its reading, every other language as it is written raw."""

from __future__ import annotations

import numpy as np
import pytest

from lithophone.ctc.characters import character_labels, labels_text
from lithophone.errors import OptionError
from lithophone.text import japanese as kana
from lithophone.train.targets.ctc_transcripts import TOLD, encoder_biass, heard_text

needs_readings = pytest.mark.skipif(not kana.can_read(), reason="no SudachiPy: pip install lithophone[ja]")


def test_other_languages_are_heard_as_they_are_written() -> None:
    assert heard_text("Où est l'Œuvre ?", "fr") == "où est l'œuvre"
    assert labels_text(character_labels(heard_text("Cœur", "fr"))) == "coeur"


def test_some_rows_are_told_but_none_that_would_pay_for_its_own_text() -> None:
    langs = ["de", "fr"] * 500
    told = encoder_biass(["eins"] * 1000, langs, np.random.default_rng(0))
    assert set(zip(told, langs, strict=True)) == {("de", "de"), ("fr", "fr"), (None, "de"), (None, "fr")}
    assert sum(lang is not None for lang in told) == pytest.approx(1000 * TOLD, abs=60)
    assert encoder_biass(["ein カナ"] * 50, ["de"] * 50, np.random.default_rng(0)) == [None] * 50


@needs_readings
def test_speech_spelled_in_another_language_is_always_told_that_one() -> None:
    assert encoder_biass(["さるう"] * 50, ["ja-t-fr"] * 50, np.random.default_rng(0)) == ["ja"] * 50
    assert heard_text("サルウ", "ja-t-fr") == "さるう"


@needs_readings
def test_japanese_is_heard_in_kana() -> None:
    assert heard_text("東京へ、行きました。", "ja") == "とうきょうへいきました"
    assert heard_text("ガラスが 20枚", "ja") == "がらすが20まい"
    assert labels_text(character_labels("とうきょうへ")) == "トウキョウヘ"


def test_without_a_dictionary_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kana, "can_read", lambda: False)
    with pytest.raises(OptionError, match="pip install"):
        heard_text("これはまだ読んでいない文です", "ja")
