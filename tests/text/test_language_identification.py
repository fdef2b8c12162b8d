"""The language of a text."""

from __future__ import annotations

import pytest

from lithophone.languages import LANGUAGES
from lithophone.text.language_identification import language_probabilities

SENTENCES = {
    "en": "The ferry leaves at nine when the tide is high.",
    "fr": "Le bac part à neuf heures quand la mer est haute.",
    "de": "Die Fähre legt um neun Uhr ab, wenn die Flut kommt.",
    "es": "El barco sale a las nueve cuando sube la marea.",
    "pt": "A balsa parte às nove quando a maré está alta.",
    "ja": "潮が満ちると船は九時に出ます。",
    "it": "Il traghetto parte alle nove quando c'è l'alta marea.",
    "zh": "涨潮的时候渡船九点出发。",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_the_language_of_a_sentence(code: str) -> None:
    probabilities = language_probabilities(SENTENCES[code])
    assert set(probabilities) == set(LANGUAGES)
    assert next(iter(probabilities)) == code
    assert sum(probabilities.values()) == pytest.approx(1.0)
    assert probabilities[code] > 0.9


def test_kana_are_japanese() -> None:
    assert language_probabilities("シオガミチルト フネハ クジニ デマス")["ja"] > 0.9


def test_case_and_punctuation_do_not_count() -> None:
    assert language_probabilities("QUAND LA MER EST HAUTE!") == language_probabilities("quand la mer est haute")


@pytest.mark.parametrize("text", ["", " ", "12:30", "?!", "e"])
def test_next_to_no_letters_are_no_evidence(text: str) -> None:
    assert max(language_probabilities(text).values()) < 0.5
