"""Normalisers: what two texts must have in common to count as the same words. Each has a name and a version.

`english` is the pipeline of the Open ASR Leaderboard: lower case; brackets with what they hold and fillers dropped;
contractions and titles written out; numbers and currency spelled one way; British spelling made American; symbols and
white space collapsed. `basic` is for all others: lower case, brackets and punctuation dropped, diacritics kept.
Both are OpenAI's published normalisers as packaged in `whisper-normalizer`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from whisper_normalizer.basic import BasicTextNormalizer
from whisper_normalizer.english import EnglishTextNormalizer

PACKAGE = "whisper-normalizer"


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
    return Normalizer("english", package_version(), EnglishTextNormalizer())


@functools.cache
def basic() -> Normalizer:
    """Any other language: brackets, symbols and punctuation removed, diacritics kept."""
    return Normalizer("basic", package_version(), BasicTextNormalizer(remove_diacritics=False, preserve_marks=True))


def normalizer_for(lang: str | None) -> Normalizer:
    """The normaliser of a language given by its code (`en`, `pt`, `zh-CN`)."""
    return english() if base_language(lang) == "en" else basic()


def base_language(lang: str | None) -> str:
    """`zh-CN` -> `zh`; an unknown language is the empty string."""
    return (lang or "").lower().replace("_", "-").split("-")[0]


def package_version() -> str:
    return f"{PACKAGE} {metadata.version(PACKAGE)}"
