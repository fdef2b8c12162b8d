"""People's speech as Spanish or Portuguese would write it down."""

from __future__ import annotations

import pytest

from lithophone.train.phonemes.to_romance import spelled_in_romance

WORDS = {
    "German: ich singe": ("ɪ_ç", "z_ɪ_ŋ_ə"), "English: cheese shop": ("tʃ_iː_z", "ʃ_ɒ_p"),
    "French: champagne": ("ʃ_ɑ̃_p_a_ɲ",), "French: guerre": ("ɡ_ɛ_ʁ",), "French: qui": ("k_i",),
    "English: house": ("h_aʊ_s",), "French: rosée": ("ʁ_o_z_e",), "French: Marie": ("m_a_ʁ_i",),
    "German: Masse": ("m_a_s_ə",), "English: yes": ("j_ɛ_s",), "French: paille": ("p_a_j_ə",),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "spanish", "portuguese"),
    [
        ("German: ich singe", "ij sine", "ir zine"),
        ("English: cheese shop", "chis chop", "tchiz chop"),
        ("French: champagne", "chanpañ", "chanpanh"),
        ("French: guerre", "guer", "guer"),
        ("French: qui", "qui", "qui"),
        ("English: house", "jaus", "raus"),
        ("French: rosée", "rose", "rose"),
        ("French: Marie", "mari", "marri"),
        ("German: Masse", "mase", "masse"),
        ("English: yes", "ies", "ies"),
        ("French: paille", "paye", "paie"),
    ],
)
def test_one_sound_one_spelling(name: str, spanish: str, portuguese: str) -> None:
    words = [word.split("_") for word in WORDS[name]]
    assert spelled_in_romance(words, "es") == spanish
    assert spelled_in_romance(words, "pt") == portuguese


def test_a_schwa_that_nobody_hears_is_not_spelled() -> None:
    words = [["p", "a", "j", "ə"], ["ə"]]
    assert spelled_in_romance(words, "es", muted_schwa=True) == "pai e"


def test_an_unknown_phone_is_named() -> None:
    with pytest.raises(ValueError, match="the phone 'ǃ' has no letters"):
        spelled_in_romance([["ǃ"]], "pt")
