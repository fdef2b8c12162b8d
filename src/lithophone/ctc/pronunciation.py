"""Text -> CTC labels, Japanese by its reading.

Numbers, signs and letters without a label are wildcards: their spoken form is unknown. Text mostly of such letters
(Mandarin) has no labels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from lithophone.ctc.characters import LIGATURES, character_label, katakana, raw_text
from lithophone.ctc.forced_alignment import WILDCARD
from lithophone.text import japanese as kana

MAX_UNKNOWN = 0.5
"""Largest share of letters without a label."""

CACHED_WORDS = 1 << 14
"""Words repeat in every step of a beam search."""

SPACE = ord(" ")
_UNSPELLED = "0"
"""Placeholder of a wildcard; digits have no label."""

_SIGNS = re.compile("[%&@#§°+=×÷<>$€£¥]")
_MARKS_IN_A_ROW = re.compile(r"(?:[^\w\s]\s*){3,}")
_UNSPELLED_RUN = re.compile(f"{_UNSPELLED}(?: *{_UNSPELLED})*")


@dataclass(frozen=True)
class AlignmentUnit:
    """Words aligned as one: a single word, or adjacent wildcards; silence has no labels."""

    words: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class SpokenText:
    """Units of a text; `spaced` where the language writes spaces, which are labels."""

    units: tuple[AlignmentUnit, ...] = ()
    spaced: bool = True

    @property
    def labels(self) -> list[int]:
        """Labels, with a space between units where `spaced`."""
        spoken = [unit.labels for unit in self.units if unit.labels]
        flat = [label for labels in spoken for label in (*labels, *[SPACE] * self.spaced)]
        return flat[:-1] if self.spaced else flat


def spoken_text(text: str, language: str | None = None) -> SpokenText:
    """Units of `text`; `language` (a code) separates Japanese from Mandarin without kana.

    Empty where most letters have no label, or the reader of Japanese is not installed.
    """
    japanese = kana.is_japanese(text, language)
    if japanese and not kana.can_read():
        return SpokenText()
    sounds = list(_with_marks(kana.read(text))) if japanese else [(word, word) for word in text.split()]
    if _unknown_share(sound for _, sound in sounds) > MAX_UNKNOWN:
        return SpokenText()
    return SpokenText(tuple(_units([(word, _spelled(sound)) for word, sound in sounds])), spaced=not japanese)


def spoken_labels(text: str, language: str | None = None) -> list[int]:
    """Labels of `text`; one wildcard where it has letters but no units."""
    labels = spoken_text(text, language).labels
    return labels or [WILDCARD] * any(map(str.isalnum, text))


def unscored_letters(text: str, language: str | None = None) -> int:
    """Letters and digits that become wildcards, and punctuation from the third mark in a row on.

    Otherwise hypotheses could repeat punctuation at no cost.
    """
    marks = _marks_in_a_row(text)
    japanese = kana.is_japanese(text, language)
    if japanese and not kana.can_read():
        return marks + sum(map(str.isalnum, text))
    sounds = [sound for _, sound in kana.read(text)] if japanese else text.split()
    return marks + sum(map(_unscored, sounds))


def labels_and_unscored(text: str, language: str | None = None) -> tuple[list[int], int]:
    """`spoken_labels` and `unscored_letters` at once, faster where texts differ in their last word alone.

    A beam search asks for every extension of every hypothesis.
    """
    if kana.is_japanese(text, language):
        return spoken_labels(text, language), unscored_letters(text, language)
    before, _, last = text.rpartition(" ")
    counted = _with_words(_counted(before), last)
    unscored = _marks_in_a_row(before if last.isalnum() else text) + counted.unscored
    is_known = counted.unknown <= MAX_UNKNOWN * max(counted.letters, 1)
    return (list(counted.labels) if is_known else []) or [WILDCARD] * any(map(str.isalnum, text)), unscored


class _Counted(NamedTuple):
    """Words: their labels, letters, those without a label, and unscored characters."""

    labels: tuple[int, ...] = ()
    ends_in_wildcard: bool = False
    letters: int = 0
    unknown: int = 0
    unscored: int = 0


@lru_cache(CACHED_WORDS)
def _counted(text: str) -> _Counted:
    return _with_words(_Counted(), text)


def _with_words(past: _Counted, text: str) -> _Counted:
    for word in text.split():
        past = _with_word(past, word)
    return past


def _with_word(past: _Counted, word: str) -> _Counted:
    spelled = _spelled(word)
    is_wildcard = spelled == _UNSPELLED
    added = (WILDCARD,) if is_wildcard else _labels(spelled)
    if is_wildcard and past.ends_in_wildcard:
        added = ()
    labels = (*past.labels, SPACE, *added) if past.labels and added else past.labels + added
    letters, unknown = _letter_counts(word)
    return _Counted(
        labels, is_wildcard, past.letters + letters, past.unknown + unknown, past.unscored + _unscored(word)
    )


@lru_cache(CACHED_WORDS)
def _marks_in_a_row(text: str) -> int:
    return sum(len("".join(row.split())) - 2 for row in _MARKS_IN_A_ROW.findall(text))


@lru_cache(CACHED_WORDS)
def _unscored(sound: str) -> int:
    return sum(c.isalnum() and _in_label_set(c) == _UNSPELLED for c in katakana(raw_text(sound)).translate(LIGATURES))


@lru_cache(CACHED_WORDS)
def _spelled(sound: str) -> str:
    """Raw word, with one `_UNSPELLED` for each run without labels."""
    raw = raw_text(_SIGNS.sub(f" {_UNSPELLED} ", katakana(sound))).translate(LIGATURES)
    return _UNSPELLED_RUN.sub(_UNSPELLED, "".join(map(_in_label_set, raw)))


@lru_cache(CACHED_WORDS)
def _in_label_set(character: str) -> str:
    """The character, its base letters (š -> s), or `_UNSPELLED`."""
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
    counts = [_letter_counts(sound) for sound in sounds]
    return sum(unknown for _, unknown in counts) / max(sum(letters for letters, _ in counts), 1)


@lru_cache(CACHED_WORDS)
def _letter_counts(sound: str) -> tuple[int, int]:
    """(letters, those without a label)."""
    letters = [c for c in katakana(raw_text(sound)).translate(LIGATURES) if c.isalpha()]
    return len(letters), sum(_in_label_set(letter) == _UNSPELLED for letter in letters)


def _units(spelled: list[tuple[str, str]]) -> Iterator[AlignmentUnit]:
    """A unit a word, but one for adjacent wildcards."""
    for unspelled, group in groupby(spelled, key=lambda pair: pair[1] == _UNSPELLED):
        if unspelled:
            yield AlignmentUnit(tuple(word for word, _ in group), (WILDCARD,))
        else:
            yield from (AlignmentUnit((word,), _labels(sound)) for word, sound in group)


def _with_marks(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Join Japanese punctuation to the word before, opening marks to the next."""
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
