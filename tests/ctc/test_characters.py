"""Text to CTC labels."""

from __future__ import annotations

import pytest

from lithophone.ctc.characters import (
    KATAKANA_START,
    N_LABELS,
    character_label,
    character_labels,
    foreign_labels,
    katakana,
    labels_text,
    raw_text,
)
from lithophone.languages import TABLE
from lithophone.model.config import EncoderConfig


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("Hello, World!", "hello world"),
        ("Don’t -- 'quote' me.", "don't quote me"),
        ("Über Straße, déjà-vu", "über straße déjà vu"),
        ("snake_case", "snake case"),
        ("e\u0301", "é"),
        ("...", ""),
    ],
)
def test_raw_text(text: str, raw: str) -> None:
    assert raw_text(text) == raw


def test_labels_are_code_points_and_katakana() -> None:
    assert character_labels("aé") == [97, 233]
    assert character_labels("ァヶ") == [256, 256 + ord("ヶ") - 0x30A1]
    assert max(character_labels("ー")) < N_LABELS
    assert character_label("漢") is None
    assert character_label("\0") is None


def test_labels_spell_their_text() -> None:
    assert labels_text(character_labels("naïve カタ漢")) == "naïve カタ"


def test_the_vocabulary_is_as_large_as_the_familys_head() -> None:
    assert EncoderConfig().output_dim == N_LABELS
    assert character_label(chr(KATAKANA_START + N_LABELS - 257)) == N_LABELS - 1
    assert character_label(chr(KATAKANA_START + N_LABELS - 256)) is None
    assert character_label(chr(KATAKANA_START - 1)) is None
    assert [character_label(chr(code)) for code in (1, 255, 256)] == [1, 255, None]
    assert labels_text([1, 255, 256, N_LABELS - 1]) == "\x01ÿァー"


def test_hiragana_is_written_as_katakana() -> None:
    assert katakana("ひらがなぁゖゝゞ") == "ヒラガナァヶヽヾ"
    assert katakana("カナ 漢字 abc ー") == "カナ 漢字 abc ー"
    assert None not in [character_label(character) for character in katakana("ぁあんゔゖ")]


def test_what_a_language_is_spelled_with_is_not_foreign_to_it() -> None:
    japanese, french = set(foreign_labels("ja")), set(foreign_labels("fr"))
    assert japanese.isdisjoint(character_labels("ガーデンひろば3"))
    assert set(character_labels("l'été garçon")) <= japanese
    assert french.isdisjoint(character_labels("l'été à 3 heures"))
    assert set(character_labels("ガーデン")) <= french
    assert set(character_labels("ñß")) <= french
    assert 0 not in japanese | french
    assert set(foreign_labels("cs")) == set(character_labels("ァーン")) | {label for label in french if label > 255}


def test_ids_of_languages_are_labels_that_no_text_has() -> None:
    ids = [language.id for language in TABLE.values()]
    assert len({*ids}) == len(ids)
    assert min(ids) > 0
    assert not any(chr(i).isprintable() for i in ids)
