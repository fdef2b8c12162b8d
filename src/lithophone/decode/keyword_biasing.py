"""Words that a reply is expected to hold, by a keyword list: how much of them a beginning says, and what goes on.

Contextual biasing while decoding (Zhao et al. 2019, "Shallow-Fusion End-to-End Contextual Biasing"): a hypothesis is
paid for every label of a listed word, already while it is being said, and has to give it back where another word comes
of it. Which words are worth trying at all, the encoder's own labels tell. Knows labels, no text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import compress

import numpy as np
import numpy.typing as npt

from lithophone.ctc.forced_alignment import WILDCARD

LIKENESS = 0.4
"""Share of a word's labels that may differ from what the encoder heard, for the word to be no stranger there."""

_NO_LABEL = -2

CACHED_PLACES = 1 << 12
"""Beams ask about the same places of a recording, again and again."""


class KeywordTrie:
    """Listed words as labels. With a `space` (a label) words stand between spaces, else anywhere.

    Words that hold a wildcard, or nothing, are left out: nobody can tell where they are said.
    """

    def __init__(self, words: Iterable[Sequence[int]], space: int | None = None) -> None:
        self.words = sorted({tuple(word) for word in words if word and WILDCARD not in word})
        self._space = space
        self._gap = "" if space is None else _text([space])
        self._longest = max(map(len, self.words), default=0)
        before, behind = (f"(?<={re.escape(self._gap)})", f"(?={re.escape(self._gap)})") if self._gap else ("", "")
        said = "|".join(re.escape(_text(word)) for word in sorted(self.words, key=len, reverse=True))
        self._said = re.compile(f"{before}(?:{said}){behind}")
        self._begun: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for word in self.words:
            for n in range(1, len(word) + 1):
                self._begun[_text(word[:n])].append(word)
        self._sizes = np.array([len(word) for word in self.words], np.int64)
        self._table = np.full((len(self.words), self._longest), _NO_LABEL)
        for row, word in zip(self._table, self.words, strict=True):
            row[: len(word)] = word
        self._like = lru_cache(CACHED_PLACES)(self._like_what_is_heard)

    def __bool__(self) -> bool:
        return bool(self.words)

    def matched(self, labels: Sequence[int], ended: bool) -> int:
        """How many labels belong to listed words, the beginning of one at their end among them unless `ended`."""
        text = self._gap + _text(labels) + self._gap * ended
        spans = [match.span() for match in self._said.finditer(text)]
        whole = sum(end - start for start, end in spans)
        return whole if ended else whole + next(iter(self._begun_in(text, since=spans[-1][1] if spans else 0)), (0,))[0]

    def continuations(self, labels: Sequence[int], heard: Sequence[int]) -> list[tuple[int, ...]]:
        """Labels that listed words would add to `labels`: those begun, and those like what was `heard` behind it."""
        text = self._gap + _text(labels)
        rests = [word[n:] for n, words in self._begun_in(text) for word in words if n < len(word)]
        lead: tuple[int, ...] = () if self._space is None or not labels else (self._space,)
        if tuple(heard[: len(lead)]) != lead:
            return rests
        like = self._like(tuple(heard[len(lead) :][: 2 * self._longest]))
        return rests + [(*lead, *word) for word in like]

    def _begun_in(self, text: str, since: int = 0) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
        """Lengths of what the text ends in that begins listed words, the longest first, and these words."""
        for at in range(max(since, len(text) - self._longest), len(text)):
            if text[at:] in self._begun and text[:at].endswith(self._gap):
                yield len(text) - at, self._begun[text[at:]]

    def pruned(self, labels: Sequence[int]) -> KeywordTrie:
        """The words like some stretch of `labels`, all that the encoder spells; the others are strangers."""
        near = self.distances(labels, anywhere=True) <= LIKENESS * self._sizes
        return KeywordTrie(compress(self.words, near), self._space)

    def _like_what_is_heard(self, heard: tuple[int, ...]) -> list[tuple[int, ...]]:
        return list(compress(self.words, self.distances(heard) <= LIKENESS * self._sizes))

    def distances(self, heard: Sequence[int], anywhere: bool = False) -> npt.NDArray[np.int64]:
        """Labels to be changed, put in or left out to make each word of the stretch of `heard` that is nearest to it.

        The stretch begins where `heard` does, or `anywhere`.
        """
        places = np.arange(self._longest + 1)
        rows = np.repeat(places[None], len(self.words), 0)
        ends = np.arange(len(self.words)), self._sizes
        least = rows[ends]
        for n, label in enumerate(heard, 1):
            changed = rows[:, :-1] + (self._table != label)
            first = np.full((len(rows), 1), 0 if anywhere else n)
            rows = np.concatenate((first, np.minimum(rows[:, 1:] + 1, changed)), 1)
            rows = np.minimum.accumulate(rows - places, 1) + places
            least = np.minimum(least, rows[ends])
        return least


def _text(labels: Iterable[int]) -> str:
    """Labels as characters, for the quick search of strings."""
    return "".join(chr(label - WILDCARD) for label in labels)
