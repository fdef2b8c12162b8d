"""Keyword lists for contextual biasing, one per clip (Le et al. 2021, arXiv 2104.02194).

A list holds the rare words of the clip's reference, and distractors: rare words of other references. Rare words are
those not in the list of common words. They are compared normalised, and listed as written.
"""

from __future__ import annotations

import functools
import itertools
import random
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lithophone.data.manifest import Entry, parsed_lines
from lithophone.errors import ManifestError, OptionError
from lithophone.languages import UNSPACED_LANGUAGES, base_language
from lithophone.metrics.wer import units

COMMON_SHARE = 0.9
"""Share of all reference words that common words make up, as in Le et al."""

EDGES = re.compile(r"^\W+|\W+$")


@dataclass(frozen=True)
class CommonWords:
    """Normalised words that are never keywords, and their name in a report."""

    name: str
    words: frozenset[str]


@dataclass(frozen=True)
class ContextualSets:
    """Entries with their keywords, and how the lists were made."""

    pairs: tuple[tuple[Entry, tuple[str, ...]], ...]
    common: tuple[str, ...]
    """Names of the lists of common words, one per language."""
    distractors: int
    seed: int

    def __iter__(self) -> Iterator[tuple[Entry, tuple[str, ...]]]:
        return iter(self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def entries(self) -> list[Entry]:
        """Entries with their keywords, for `write_entries`."""
        return [replace(entry, keywords=keywords) for entry, keywords in self.pairs]

    def __str__(self) -> str:
        return f"{self.distractors} distractors, seed {self.seed}; common words: {'; '.join(self.common)}"


def contextual_sets(
    entries: Sequence[Entry], *, distractors: int, seed: int = 0, common: CommonWords | None = None
) -> ContextualSets:
    """Keyword lists: all rare words of the entry's reference and `distractors` of the others, shuffled.

    common: words that are not rare; by default, per language, the most common ones that make up COMMON_SHARE.

    A list depends on the seed, the entry's name and the references, not on the manifest's order. Raises OptionError for
    too few rare words in other references, for languages written without spaces, and for several languages with one
    list.
    """
    if distractors < 0:
        raise OptionError(f"{distractors} distractors: take 0 or more")
    languages = sorted({base_language(entry.lang) for entry in entries})
    unspaced = [lang for lang in languages if lang in UNSPACED_LANGUAGES]
    if unspaced:
        raise OptionError(f"keyword lists are of words, which {', '.join(unspaced)} does not write apart: leave it out")
    if common is not None and len(languages) > 1:
        raise OptionError(f"{common.name} is of one language, and the manifest has {', '.join(languages)}: take one")
    lists: dict[int, tuple[str, ...]] = {}
    names = []
    for lang in languages:
        mine = {n: entry for n, entry in enumerate(entries) if base_language(entry.lang) == lang}
        known = common or most_common(list(mine.values()))
        names.append(known.name if len(languages) == 1 else f"{lang}: {known.name}")
        lists |= _lists(mine, known, distractors, seed)
    pairs = tuple((entry, lists[n]) for n, entry in enumerate(entries))
    return ContextualSets(pairs, tuple(names), distractors, seed)


def most_common(entries: Sequence[Entry], count: int | None = None) -> CommonWords:
    """The `count` most common words of the references, or as many as make up COMMON_SHARE.

    Ties are broken by a hash, not by the alphabet. Raises OptionError for a count below 0.
    """
    if count is not None and count < 0:
        raise OptionError(f"{count} common words: take 0 or more")
    counts = Counter(word for entry in entries for word in units(entry.text, entry.lang))
    ranked = sorted(counts, key=lambda word: (-counts[word], zlib.crc32(word.encode()), word))
    if count is None:
        sums = itertools.accumulate(counts[word] for word in ranked)
        wanted = COMMON_SHARE * counts.total()
        count = sum(before < wanted for before in itertools.islice(itertools.chain([0], sums), len(ranked)))
    words = frozenset(ranked[:count])
    share = sum(counts[word] for word in words) / max(counts.total(), 1)
    name = f"the {len(words)} most common words of the references, {100 * share:.0f} % of what is said"
    return CommonWords(name, words)


def read_common_words(path: str | Path, lang: str, count: int | None = None) -> CommonWords:
    """Word list, the most common first, one a line; what follows the word on its line is ignored.

    count: number of words to take; default all. Raises ManifestError if the file cannot be read, or has fewer.
    """
    path = Path(path)
    listed = [word for _, word in parsed_lines(path, lambda line: line.split()[0])]
    if not listed or len(listed) < (count or 0):
        raise ManifestError(f"{path} has {len(listed)} words, not {count or 'one or more'}")
    chosen = listed[:count]
    return CommonWords(f"the first {len(chosen)} of {path.name}", frozenset(u for w in chosen for u in units(w, lang)))


def _lists(entries: dict[int, Entry], common: CommonWords, distractors: int, seed: int) -> dict[int, tuple[str, ...]]:
    """Keywords by entry number, of one language."""
    rare = {n: _rare_words(entry, common.words) for n, entry in entries.items()}
    pool = {word: written for words in rare.values() for word, written in words.items()}
    drawn = sorted(pool)
    return {n: _list(entry, rare[n], pool, drawn, distractors, seed) for n, entry in entries.items()}


def _list(
    entry: Entry, own: dict[str, str], pool: dict[str, str], drawn: Sequence[str], distractors: int, seed: int
) -> tuple[str, ...]:
    if len(pool) - len(own) < distractors:
        raise OptionError(
            f"{distractors} distractors for {entry.id}, but the other references have only {len(pool) - len(own)} rare "
            "words: ask for fewer, take more clips, or call fewer words common"
        )
    chance = random.Random(f"{seed} {entry.id}")
    others = [word for word in chance.sample(drawn, distractors + len(own)) if word not in own][:distractors]
    keywords = [*own.values(), *(pool[word] for word in others)]
    chance.shuffle(keywords)
    return tuple(keywords)


def _rare_words(entry: Entry, common: frozenset[str]) -> dict[str, str]:
    """Rare words of the reference: normalised -> as written."""
    said = set(units(entry.text, entry.lang))
    found: dict[str, str] = {}
    for token in entry.text.split():
        written = EDGES.sub("", token)
        word = _single_word(written, base_language(entry.lang))
        if word in said and word not in common:
            found.setdefault(word, written)
    return found


@functools.lru_cache(maxsize=1 << 18)
def _single_word(written: str, lang: str) -> str:
    """Normalised word; empty for none, several (`it's`), or no letter."""
    words = units(written, lang)
    return words[0] if len(words) == 1 and any(map(str.isalpha, words[0])) else ""
