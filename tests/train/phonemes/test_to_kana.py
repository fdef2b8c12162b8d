"""Phones -> kana: as dictionaries write the loanwords that Japanese has, read as they are said."""

from __future__ import annotations

import pytest

from lithophone.train.phonemes.to_kana import spelled_in_kana


@pytest.mark.parametrize(
    ("phones", "kana"),
    [
        ("l_ɛ_m_ə_n", "れまん"),
        ("ɡ_ɹ_uː_p", "ぐるうぷ"),
        ("m_ɪ_l_k", "みるく"),
        ("l_a_m_p", "らんぷ"),
        ("n_j_uː_z", "にゅうず"),
        ("tʃ_eɪ_n", "ちぇいん"),
        ("s_ɪ_ŋ_ə", "しんが"),
        ("b_ʊ_k", "ぶく"),
        ("p_aː_t_i", "ぱーてぃ"),
        ("ʃ_ɔ_k_o_l_aː_d_ə", "しょこらーだ"),
        ("m_ɪ_l_ç", "みるふ"),
        ("t_j_u_b", "てぃゅぶ"),
    ],
)
def test_a_word_is_borrowed(phones: str, kana: str) -> None:
    assert spelled_in_kana([phones.split("_")]) == kana


def test_french_has_vowels_of_its_own() -> None:
    words = ["v_ɛ̃", "b_ɔ̃", "ʁ_ɛ_s_t_o_ʁ_ɑ̃", "n_ɥ_i", "l_ə", "p_j_e", "l_y_n"]
    heard = [spelled_in_kana([word.split("_")], muted_schwa=True) for word in words]
    assert heard == ["ばん", "ぼん", "れすとらん", "に", "る", "ぴぇ", "りゅん"]


def test_words_are_written_together_and_marks_of_stress_do_not_matter() -> None:
    assert spelled_in_kana([["ˈb", "ɛ", "t"], ["əl"], []]) == "べと" + "ある"


def test_a_phone_without_kana_is_named() -> None:
    with pytest.raises(ValueError, match="'ǃ' has no kana"):
        spelled_in_kana([["k", "ǃ", "a"]])
