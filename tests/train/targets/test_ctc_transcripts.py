"""What an encoder hears of a text: Japanese by its reading, every other language as it is written raw."""

from __future__ import annotations

import numpy as np
import pytest

from lithophone.ctc.characters import character_labels, labels_text
from lithophone.errors import OptionError
from lithophone.text import japanese as kana
from lithophone.train.targets.ctc_transcripts import CONDITIONED_SHARE, conditioning_languages, ctc_transcript

needs_readings = pytest.mark.skipif(not kana.can_read(), reason="no SudachiPy: pip install lithophone[ja]")


def test_other_languages_are_heard_as_they_are_written() -> None:
    assert ctc_transcript("Où est l'Œuvre ?", "fr") == "où est l'œuvre"
    assert labels_text(character_labels(ctc_transcript("Cœur", "fr"))) == "coeur"


def test_some_rows_are_told_but_none_that_would_pay_for_its_own_text() -> None:
    langs = ["de", "fr"] * 500
    told = conditioning_languages(["eins"] * 1000, langs, np.random.default_rng(0))
    assert set(zip(told, langs, strict=True)) == {("de", "de"), ("fr", "fr"), (None, "de"), (None, "fr")}
    assert sum(lang is not None for lang in told) == pytest.approx(1000 * CONDITIONED_SHARE, abs=60)
    assert conditioning_languages(["ein カナ"] * 50, ["de"] * 50, np.random.default_rng(0)) == [None] * 50


@needs_readings
def test_speech_spelled_in_another_language_is_always_told_that_one() -> None:
    assert conditioning_languages(["さるう"] * 50, ["ja-t-fr"] * 50, np.random.default_rng(0)) == ["ja"] * 50
    assert ctc_transcript("サルウ", "ja-t-fr") == "さるう"


@needs_readings
def test_japanese_is_heard_in_kana() -> None:
    assert ctc_transcript("東京へ、行きました。", "ja") == "とうきょうへいきました"
    assert ctc_transcript("ガラスが 20枚", "ja") == "がらすが20まい"
    assert labels_text(character_labels("とうきょうへ")) == "トウキョウヘ"


def test_without_a_dictionary_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kana, "can_read", lambda: False)
    with pytest.raises(OptionError, match="pip install"):
        ctc_transcript("これはまだ読んでいない文です", "ja")
