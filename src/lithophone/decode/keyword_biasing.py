"""Contextual biasing by shallow fusion over a keyword list (Zhao et al. 2019).

Each label of a keyword gives a boost, taken back where another word results.
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
"""Share of a keyword's labels that may differ from the best path; beyond it, a distractor, it is pruned."""

_NO_LABEL = -2

CACHED_PLACES = 1 << 12


class KeywordTrie:
    """Keywords as CTC labels, indexed by prefix; with a `space` label only full words match.

    Empty keywords and those with a wildcard are dropped.
    """

    def __init__(self, words: Iterable[Sequence[int]], space: int | None = None) -> None:
        self.words = sorted({tuple(word) for word in words if word and WILDCARD not in word})
        self._space = space
        self._gap = "" if space is None else _text([space])
        self._longest = max(map(len, self.words), default=0)
        before, behind = (f"(?<={re.escape(self._gap)})", f"(?={re.escape(self._gap)})") if self._gap else ("", "")
        complete = "|".join(re.escape(_text(word)) for word in sorted(self.words, key=len, reverse=True))
        self._complete = re.compile(f"{before}(?:{complete}){behind}")
        self._begun: dict[str, list[tuple[int, ...]]] = defaultdict(list)
        for word in self.words:
            for n in range(1, len(word) + 1):
                self._begun[_text(word[:n])].append(word)
        self._sizes = np.array([len(word) for word in self.words], np.int64)
        self._table = np.full((len(self.words), self._longest), _NO_LABEL)
        for row, word in zip(self._table, self.words, strict=True):
            row[: len(word)] = word
        self._cached_alike = lru_cache(CACHED_PLACES)(self._alike)

    def __bool__(self) -> bool:
        return bool(self.words)

    def matched(self, labels: Sequence[int], ended: bool) -> int:
        """Labels in complete keywords, and unless `ended` in the keyword in progress."""
        text = self._gap + _text(labels) + self._gap * ended
        spans = [match.span() for match in self._complete.finditer(text)]
        complete = sum(end - start for start, end in spans)
        if ended:
            return complete
        begun = self._begun_in(text, since=spans[-1][1] if spans else 0)
        return complete + max((length for length, _ in begun), default=0)

    def continuations(self, labels: Sequence[int], ahead: Sequence[int]) -> list[tuple[int, ...]]:
        """Labels that complete begun keywords, and keywords like the best path `ahead`."""
        text = self._gap + _text(labels)
        rests = [word[n:] for n, words in self._begun_in(text) for word in words if n < len(word)]
        lead: tuple[int, ...] = () if self._space is None or not labels else (self._space,)
        if tuple(ahead[: len(lead)]) != lead:
            return rests
        like = self._cached_alike(tuple(ahead[len(lead) :][: 2 * self._longest]))
        return rests + [(*lead, *word) for word in like]

    def _begun_in(self, text: str, since: int = 0) -> Iterator[tuple[int, list[tuple[int, ...]]]]:
        """Suffixes of the text that are keyword prefixes, longest first: length and keywords."""
        for at in range(max(since, len(text) - self._longest), len(text)):
            if text[at:] in self._begun and text[:at].endswith(self._gap):
                yield len(text) - at, self._begun[text[at:]]

    def pruned(self, labels: Sequence[int]) -> KeywordTrie:
        """Keywords that resemble some part of `labels`, the best path."""
        near = self.distances(labels, anywhere=True) <= LIKENESS * self._sizes
        return KeywordTrie(compress(self.words, near), self._space)

    def _alike(self, ahead: tuple[int, ...]) -> list[tuple[int, ...]]:
        return list(compress(self.words, self.distances(ahead) <= LIKENESS * self._sizes))

    def distances(self, labels: Sequence[int], anywhere: bool = False) -> npt.NDArray[np.int64]:
        """Edit distance of each keyword to the nearest part of `labels` that begins at 0, or `anywhere`."""
        places = np.arange(self._longest + 1)
        rows = np.repeat(places[None], len(self.words), 0)
        ends = np.arange(len(self.words)), self._sizes
        least = rows[ends]
        for n, label in enumerate(labels, 1):
            changed = rows[:, :-1] + (self._table != label)
            first = np.full((len(rows), 1), 0 if anywhere else n)
            rows = np.concatenate((first, np.minimum(rows[:, 1:] + 1, changed)), 1)
            rows = np.minimum.accumulate(rows - places, 1) + places
            least = np.minimum(least, rows[ends])
        return least


def _text(labels: Iterable[int]) -> str:
    """Labels as characters, for fast string search."""
    return "".join(chr(label - WILDCARD) for label in labels)
