"""CTC scorer of a beam search: joint CTC/LM decoding (Watanabe et al. 2017) of one utterance. Knows labels, no text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lithophone.ctc.prefix_score import Prefix, PrefixScorer
from lithophone.decode.keyword_biasing import KeywordTrie


@dataclass(frozen=True)
class Pronunciation:
    """CTC labels of a text, with a wildcard for each number or sign, and how many of its characters have no label.

    Unscored characters cost log(1/V) each, or hypotheses of digits would win.
    """

    labels: Sequence[int]
    unscored: int = 0


Pronounce: TypeAlias = Callable[[Sequence[int]], Pronunciation]
"""Token ids of a reply, or of its beginning -> their pronunciation."""
Propose: TypeAlias = Callable[[Sequence[int], bool], Sequence[int]]
"""Labels that may come next, and whether they are the first of all -> tokens that spell a beginning of them."""


@dataclass(frozen=True)
class CTCScorer:
    """Prefix scores of one utterance, the pronunciation of token ids, and tokens for given labels.

    `keywords` are the words of a keyword list, where they are to be boosted.
    """

    prefixes: PrefixScorer
    pronounce: Pronounce
    propose: Propose = lambda labels, first: ()
    keywords: KeywordTrie | None = None

    def next_tokens(self, past: Prefix, behind: Sequence[int]) -> list[int]:
        """Tokens that spell the best path `behind` a prefix, or what a keyword would add to the prefix."""
        wanted = self.keywords.continuations(past.labels, behind) if self.keywords else []
        return [token for labels in (behind, *wanted) for token in self.propose(labels, not past.labels)]
