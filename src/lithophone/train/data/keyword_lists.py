"""Keyword lists for prompts: rare words of a text, and distractors, rare words of other texts."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from lithophone.ctc.characters import raw_text
from lithophone.languages import base_language
from lithophone.text import japanese as kana
from lithophone.train.data.corpora import CorpusPart

COMMON_SHARE = 0.8
"""Share of all word occurrences that the common words cover; others are rare."""

LARGEST = 200
NONE_SHARE = 0.15
"""Share of lists with distractors only."""

KEPT_SHARE = 0.8
"""Share of a text's rare words in its list."""

_EDGES = re.compile(r"^\W+|\W+$")
_JAPANESE_NAME = re.compile(r"[々\u30a1-\u30fa\u30fc\u4e00-\u9fff]{2,}")


class KeywordLists:
    """Keyword lists for texts of one language; words as written, without surrounding punctuation.

    Japanese words are dictionary words without Hiragana; none without a dictionary.
    """

    def __init__(self, texts: Iterable[str], lang: str, largest: int = LARGEST) -> None:
        self.lang = base_language(lang)
        self.largest = largest
        written = [word for text in texts for word in self._words(text)]
        counts = Counter(map(raw_text, written))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        before = itertools.accumulate((counts[word] for word in ranked), initial=0)
        wanted = COMMON_SHARE * counts.total()
        self.common = frozenset(word for word, total in zip(ranked, before, strict=False) if total < wanted)
        self.pool = sorted({word for word in written if raw_text(word) not in self.common})

    def draw(self, text: str, rng: np.random.Generator) -> tuple[str, ...]:
        """1 to `largest` words in random order, the number log-uniform; empty without rare words."""
        own = self.rare(text) if rng.random() >= NONE_SHARE else []
        own = [word for word in own if rng.random() < KEPT_SHARE]
        size = int(np.exp(rng.uniform(0.0, np.log(self.largest + 1))))
        spoken = {raw_text(word) for word in self._words(text)}
        others: dict[str, str] = {}
        for place in rng.integers(max(1, len(self.pool)), size=2 * size):
            word = self.pool[int(place)] if self.pool else ""
            if word and raw_text(word) not in spoken and len(others) < size - len(own):
                others.setdefault(raw_text(word), word)
        words = [*own, *others.values()][: self.largest]
        return tuple(words[int(i)] for i in rng.permutation(len(words)))

    def rare(self, text: str) -> list[str]:
        """Distinct rare words of a text as written."""
        return list({raw_text(w): w for w in self._words(text) if raw_text(w) not in self.common}.values())

    def _words(self, text: str) -> Iterator[str]:
        if self.lang == "ja":
            known = kana.read(text) if kana.can_read() else ()
            yield from (word for word, _ in known if _JAPANESE_NAME.fullmatch(word))
            return
        for token in text.split():
            word = _EDGES.sub("", token)
            if any(map(str.isalpha, word)) and "," not in word:
                yield word


def keyword_lists(parts: Sequence[CorpusPart], largest: int = LARGEST) -> dict[str, KeywordLists]:
    """Lists by language, from its training texts."""
    texts: dict[str, list[str]] = {}
    for part in parts:
        for clip in part.corpus.clips:
            texts.setdefault(clip.lang, []).append(clip.text)
    return {lang: KeywordLists(known, lang, largest) for lang, known in texts.items()}
