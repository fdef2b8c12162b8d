"""Text normalisers with names and versions; texts that are equal after one count as the same words.

`english`       the Open ASR Leaderboard's pipeline for English (`english.py`): lower case; brackets with their content
                and fillers dropped; contractions and titles written out; numbers and currency spelled one way; British
                spelling made American; symbols and white space collapsed.
`english-apostrophes`  the same after typographic apostrophes (`don’t`) are made ASCII; the Leaderboard counts `don’t`
                against `do not` as two errors.
`basic`         other languages: lower case; brackets, symbols and punctuation dropped; diacritics kept (OpenAI's, from
                `whisper-normalizer`).
`characters`    Japanese and Mandarin, for character error rates (`characters.py`).
`kana`          `characters` of the readings of Japanese, by SudachiPy: kana equal kanji. Digits stay digits.
`multilingual`  the Leaderboard's pipeline for languages other than English (`multilingual.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from whisper_normalizer.basic import BasicTextNormalizer

from lithophone.ctc.characters import hiragana
from lithophone.errors import OptionError
from lithophone.languages import UNSPACED_LANGUAGES, base_language
from lithophone.metrics.characters import CHARACTER_FORMS, to_characters
from lithophone.metrics.english import ENGLISH_PIPELINE, English
from lithophone.text import japanese as kana

NAMES = ("english", "english-apostrophes", "basic", "characters", "kana", "multilingual")


APOSTROPHES = "’‘ʼ＇"
"""U+2019, which Unicode prefers, U+2018, U+02BC and U+FF07."""

TO_ASCII = str.maketrans(dict.fromkeys(APOSTROPHES, "'"))


@dataclass(frozen=True)
class Normalizer:
    """Function from text to comparable text, with its name and version."""

    name: str
    version: str
    apply: Callable[[str], str]

    def __call__(self, text: str) -> str:
        return self.apply(text).strip()

    def __str__(self) -> str:
        return f"{self.name} ({self.version})"


@functools.cache
def english() -> Normalizer:
    return Normalizer("english", f"{package_version('whisper-normalizer')}, {ENGLISH_PIPELINE}", English())


@functools.cache
def english_apostrophes() -> Normalizer:
    plain = english()
    return Normalizer("english-apostrophes", plain.version, lambda text: plain.apply(text.translate(TO_ASCII)))


@functools.cache
def basic() -> Normalizer:
    apply = BasicTextNormalizer(remove_diacritics=False, preserve_marks=True)
    return Normalizer("basic", package_version("whisper-normalizer"), apply)


@functools.cache
def characters() -> Normalizer:
    return Normalizer("characters", CHARACTER_FORMS, to_characters)


@functools.cache
def in_kana() -> Normalizer:
    """Raises OptionError without SudachiPy's dictionary."""
    kana.reading("")
    version = f"{package_version('SudachiDict-small')}, {CHARACTER_FORMS}"
    return Normalizer("kana", version, lambda text: to_characters(hiragana(kana.reading(text))))


@functools.cache
def multilingual(lang: str) -> Normalizer:
    """Raises OptionError for a code whose numbers num2words cannot write."""
    from lithophone.metrics.multilingual import MULTILINGUAL_PIPELINE, Multilingual

    version = f"{MULTILINGUAL_PIPELINE}, {package_version('num2words')}"
    return Normalizer("multilingual", version, Multilingual(base_language(lang)))


def normalizer_for(lang: str | None) -> Normalizer:
    """`english`, `basic` or `characters` by a language code (`en`, `pt`, `zh-CN`)."""
    base = base_language(lang)
    if base in UNSPACED_LANGUAGES:
        return characters()
    return english() if base == "en" else basic()


def normalizer_named(name: str, lang: str | None) -> Normalizer:
    """A normaliser by name; `lang` matters to `kana` and `multilingual` alone.

    Raises OptionError for an unknown name, and for a language that the normaliser is not for.
    """
    if name not in NAMES:
        raise OptionError(f"there is no normaliser {name!r}: choose one of {', '.join(NAMES)}")
    if name == "multilingual":
        return multilingual(lang or "")
    if name == "kana" and base_language(lang) != "ja":
        raise OptionError(f"kana normalises Japanese, not {lang!r}: choose one of the others of {', '.join(NAMES)}")
    return {
        "english": english, "english-apostrophes": english_apostrophes, "basic": basic, "characters": characters,
        "kana": in_kana,
    }[name]()  # fmt: skip


def package_version(package: str) -> str:
    return f"{package} {metadata.version(package)}"
