"""What is said of a written text: its words, and the labels that an encoder hears when somebody reads them aloud.

Letters have labels, Japanese has them through its reading. What is said in words that are not written, as numbers and
signs are, is a wildcard, and so is a single letter that no label stands for. A text that is mostly made of such
letters, as Mandarin is, has no labels here at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

from lithophone.ctc.characters import LIGATURES, character_label, katakana, raw_text
from lithophone.ctc.forced_alignment import WILDCARD
from lithophone.text import japanese as kana

MAX_UNKNOWN = 0.5
"""Share of letters without a label beyond which an alignment would mean nothing."""

CACHED_WORDS = 1 << 14
"""A beam search spells the same words over and over, with one more behind them each time."""

SPACE = ord(" ")
_UNSPELLED = "0"
"""Stands for whatever is said but not spelled, until it becomes a wildcard; free, because no digit is spelled."""

_SIGNS = re.compile("[%&@#§°+=×÷<>$€£¥]")
_MARKS_IN_A_ROW = re.compile(r"(?:[^\w\s]\s*){3,}")
_UNSPELLED_RUN = re.compile(f"{_UNSPELLED}(?: *{_UNSPELLED})*")


@dataclass(frozen=True)
class AlignmentUnit:
    """Words that are timed as one: a single one, or neighbours that are wildcards alone. No labels: nothing is said."""

    words: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class SpokenText:
    """Stretches in the order of the text; `spaced` where the language writes, and an encoder spells, spaces."""

    units: tuple[AlignmentUnit, ...] = ()
    spaced: bool = True

    @property
    def labels(self) -> list[int]:
        """The labels of the whole text, one space between two stretches where there are spaces."""
        said = [unit.labels for unit in self.units if unit.labels]
        flat = [label for labels in said for label in (*labels, *[SPACE] * self.spaced)]
        return flat[:-1] if self.spaced else flat


def spoken_text(text: str, language: str | None = None) -> SpokenText:
    """What is said of `text`; `language` (a code) tells Japanese from Mandarin where a text holds no kana.

    Without stretches where most letters have no label, or where Japanese cannot be read because the library is missing.
    """
    japanese = kana.is_japanese(text, language)
    if japanese and not kana.can_read():
        return SpokenText()
    sounds = list(_with_marks(kana.read(text))) if japanese else [(word, word) for word in text.split()]
    if _unknown_share(sound for _, sound in sounds) > MAX_UNKNOWN:
        return SpokenText()
    return SpokenText(tuple(_units([(word, _spelled(sound)) for word, sound in sounds])), spaced=not japanese)


def spoken_labels(text: str, language: str | None = None) -> list[int]:
    """Labels of all that is said of `text`; a single wildcard where nobody can tell, nothing where it says nothing."""
    labels = spoken_text(text, language).labels
    return labels or [WILDCARD] * any(map(str.isalnum, text))


def unscored_letters(text: str, language: str | None = None) -> int:
    """How many letters and digits of `text` stand for sounds that nobody can tell: those behind its wildcards.

    Nobody hears marks either: in a row they count from the third on, or a text could go on with them for ever.
    """
    marks = sum(len("".join(row.split())) - 2 for row in _MARKS_IN_A_ROW.findall(text))
    japanese = kana.is_japanese(text, language)
    if japanese and not kana.can_read():
        return marks + sum(map(str.isalnum, text))
    sounds = [sound for _, sound in kana.read(text)] if japanese else text.split()
    return marks + sum(map(_unheard, sounds))


@lru_cache(CACHED_WORDS)
def _unheard(sound: str) -> int:
    return sum(c.isalnum() and _in_the_set(c) == _UNSPELLED for c in katakana(raw_text(sound)).translate(LIGATURES))


@lru_cache(CACHED_WORDS)
def _spelled(sound: str) -> str:
    """A word as the heads were trained on it, raw, with one `_UNSPELLED` for each unit that is not spelled."""
    raw = raw_text(_SIGNS.sub(f" {_UNSPELLED} ", katakana(sound))).translate(LIGATURES)
    return _UNSPELLED_RUN.sub(_UNSPELLED, "".join(map(_in_the_set, raw)))


def _in_the_set(character: str) -> str:
    """The character, the letters it is written over (š -> s) where there is no label for it, or `_UNSPELLED`."""
    if character.isnumeric():
        return _UNSPELLED
    if character_label(character) is not None:
        return character
    parts = unicodedata.normalize("NFKD", character)
    return "".join(part for part in parts if character_label(part) is not None) or _UNSPELLED


@lru_cache(CACHED_WORDS)
def _labels(spelled: str) -> tuple[int, ...]:
    labels = (None if character == _UNSPELLED else character_label(character) for character in spelled)
    return tuple(WILDCARD if label is None else label for label in labels)


def _unknown_share(sounds: Iterable[str]) -> float:
    """Share of the letters that `_in_the_set` finds no label for."""
    counts = [_letter_counts(sound) for sound in sounds]
    return sum(unknown for _, unknown in counts) / max(sum(letters for letters, _ in counts), 1)


@lru_cache(CACHED_WORDS)
def _letter_counts(sound: str) -> tuple[int, int]:
    """Letters of a word, and how many of them have no label."""
    letters = [c for c in katakana(raw_text(sound)).translate(LIGATURES) if c.isalpha()]
    return len(letters), sum(_in_the_set(letter) == _UNSPELLED for letter in letters)


def _units(spelled: list[tuple[str, str]]) -> Iterator[AlignmentUnit]:
    """Every word by itself, but wildcards in a row together: nothing tells where one ends and the next begins."""
    for unspelled, group in groupby(spelled, key=lambda pair: pair[1] == _UNSPELLED):
        if unspelled:
            yield AlignmentUnit(tuple(word for word, _ in group), (WILDCARD,))
        else:
            yield from (AlignmentUnit((word,), _labels(said)) for word, said in group)


def _with_marks(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Marks, which Japanese writes without a space, joined to the word before, opening ones to the word behind."""
    waiting = ""
    held: tuple[str, str] | None = None
    for word, sound in pairs:
        if _spelled(sound):
            if held:
                yield held
            held, waiting = (waiting + word, sound), ""
        elif held is None or waiting or unicodedata.category(word[0]) in ("Ps", "Pi"):
            waiting += word
        else:
            held = (held[0] + word, held[1])
    if held:
        yield held[0] + waiting, held[1]
