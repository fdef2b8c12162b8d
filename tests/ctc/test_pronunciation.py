"""Text -> what is said of it, as labels and wildcards."""

from __future__ import annotations

import random

import pytest

from lithophone.ctc.characters import labels_text
from lithophone.ctc.forced_alignment import WILDCARD
from lithophone.ctc.pronunciation import SpokenText, labels_and_unscored, spoken_labels, spoken_text, unscored_letters
from lithophone.text import japanese as kana


def said(text: str, language: str | None = None) -> str:
    """Labels written out, a wildcard as *."""
    return "".join("*" if i == WILDCARD else labels_text([i]) for i in spoken_text(text, language).labels)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("Ab, cde!", "ab cde"),
        ("Don’t - no.", "don't no"),
        ("ill-disposed", "ill disposed"),
        ("Müller déjà", "müller déjà"),
        ("Dvořák Łódź cœur e\u0301", "dvorák lódz coeur é"),
        ("In 1999, we", "in * we"),
        ("3,141.59 12:30 1/2", "*"),
        ("the 12th", "the *th"),
        ("½ of m²", "* of m*"),
        ("50% of R&D", "* of r * d"),
        ("naïve 漢 so", "naïve * so"),
        ("１２ ＡＢ", "* ab"),
        ("...", ""),
        ("", ""),
    ],
)
def test_letters_are_labels_and_the_rest_is_a_wildcard(text: str, labels: str) -> None:
    assert said(text) == labels


@pytest.mark.parametrize("text", ["漢字", "我们去 OK", "Привет мир", "안녕하세요"])
def test_what_mostly_has_no_labels_is_not_spoken(text: str) -> None:
    assert spoken_text(text) == SpokenText()


def test_numbers_in_a_row_are_one_stretch() -> None:
    units = spoken_text("at 1999 2000 - 12 o'clock").units
    assert [unit.words for unit in units] == [("at",), ("1999", "2000"), ("-",), ("12",), ("o'clock",)]
    assert units[2].labels == ()


def test_letters_behind_wildcards_are_counted() -> None:
    assert unscored_letters("at 1999 2000 - 12 o'clock, naïve") == 10
    assert unscored_letters("привет, world") == 6
    assert unscored_letters("") == 0


def test_marks_that_go_on_and_on_are_not_heard_either() -> None:
    assert unscored_letters('"Yes," he said. "No."') == 0
    assert unscored_letters("Well... no?!") == 1
    assert unscored_letters("quintal ¡ ¡ ¡ ¡ ¡ ¡") == 4


def test_japanese_without_its_library_is_not_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kana, "can_read", lambda: False)
    assert spoken_text("今日は") == SpokenText()
    assert said("hello", "ja") == "hello"


TEXTS = (
    "", " ", "Hello, world", "at 1999 2000 - 12 o'clock, naïve", "привет, world", "привет привет a", "7 — 8", "7 8 9",
    "!!! ?", "l'", "l'a dit", "100% & 5 €", "Łódź œuvre", "東京へ、行く", "東京", "a 東京 b", "ﬁn\u2028so", "...",
    "3,5 4.", "quintal ¡ ¡ ¡ ¡",
)  # fmt: skip


@pytest.mark.parametrize("language", [None, "en", "ja"])
def test_labels_and_unscored_letters_are_those_of_their_definitions(language: str | None) -> None:
    pieces = random.Random(0).choices(" ".join(TEXTS), k=3000)
    for text in (*TEXTS, *("".join(pieces[at : at + 30]) for at in range(0, 3000, 30))):
        expected = spoken_labels(text, language), unscored_letters(text, language)
        assert labels_and_unscored(text, language) == expected, text
