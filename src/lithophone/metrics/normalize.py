"""Normalisers: what two texts must have in common to count as the same words. Each has a name and a version.

`english`       the pipeline of the Open ASR Leaderboard for English (`english.py`): lower case; brackets with what they
                hold and fillers dropped; contractions and titles written out; numbers and currency spelled one way;
                British spelling made American; symbols and white space collapsed.
`basic`         every other language: lower case, brackets, symbols and punctuation dropped, diacritics kept. OpenAI's
                published normaliser as packaged in `whisper-normalizer`, which keeps combining marks since 0.1.15.
`characters`    Japanese and Mandarin, for character error rates (`characters.py`).
`kana`          Japanese as it is said: `characters` of its readings by SudachiPy, so that a word in kana is the same as
                in kanji. Numbers in digits stay digits.
`multilingual`  the Leaderboard's pipeline for languages other than English (`multilingual.py`), for comparison with it.

`normalizer_for` chooses among the first three; any can be had by its name.
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

NAMES = ("english", "basic", "characters", "kana", "multilingual")


@dataclass(frozen=True)
class Normalizer:
    """A named function from text to comparable text."""

    name: str
    version: str
    apply: Callable[[str], str]

    def __call__(self, text: str) -> str:
        return self.apply(text).strip()

    def __str__(self) -> str:
        return f"{self.name} ({self.version})"


@functools.cache
def english() -> Normalizer:
    """The Open ASR Leaderboard's pipeline for English."""
    return Normalizer("english", f"{package_version('whisper-normalizer')}, {ENGLISH_PIPELINE}", English())


@functools.cache
def basic() -> Normalizer:
    """Any other language: brackets, symbols and punctuation removed, diacritics kept."""
    apply = BasicTextNormalizer(remove_diacritics=False, preserve_marks=True)
    return Normalizer("basic", package_version("whisper-normalizer"), apply)


@functools.cache
def characters() -> Normalizer:
    """Japanese and Mandarin: one form of every character, and no white space, symbols or punctuation between them."""
    return Normalizer("characters", CHARACTER_FORMS, to_characters)


@functools.cache
def in_kana() -> Normalizer:
    """Japanese by its sound, whichever characters it is written with. Raises OptionError without its dictionary."""
    kana.reading("")
    version = f"{package_version('SudachiDict-small')}, {CHARACTER_FORMS}"
    return Normalizer("kana", version, lambda text: to_characters(hiragana(kana.reading(text))))


@functools.cache
def multilingual(lang: str) -> Normalizer:
    """The Open ASR Leaderboard's pipeline for a language other than English, given by its code.

    Raises OptionError for a language in which num2words cannot say numbers.
    """
    from lithophone.metrics.multilingual import MULTILINGUAL_PIPELINE, Multilingual

    version = f"{MULTILINGUAL_PIPELINE}, {package_version('num2words')}"
    return Normalizer("multilingual", version, Multilingual(base_language(lang)))


def normalizer_for(lang: str | None) -> Normalizer:
    """The normaliser of a language given by its code (`en`, `pt`, `zh-CN`)."""
    base = base_language(lang)
    if base in UNSPACED_LANGUAGES:
        return characters()
    return english() if base == "en" else basic()


def normalizer_named(name: str, lang: str | None) -> Normalizer:
    """The normaliser of that name; `lang` matters to `kana` and `multilingual` alone.

    Raises OptionError for an unknown name, and for a language that the normaliser is not for.
    """
    if name not in NAMES:
        raise OptionError(f"there is no normaliser {name!r}: choose one of {', '.join(NAMES)}")
    if name == "multilingual":
        return multilingual(lang or "")
    if name == "kana" and base_language(lang) != "ja":
        raise OptionError(f"kana normalises Japanese, not {lang!r}: choose one of the others of {', '.join(NAMES)}")
    return {"english": english, "basic": basic, "characters": characters, "kana": in_kana}[name]()


def package_version(package: str) -> str:
    return f"{package} {metadata.version(package)}"
