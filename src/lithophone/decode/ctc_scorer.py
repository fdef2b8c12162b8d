"""CTC scorer for joint CTC/LM decoding (Watanabe et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from lithophone.ctc.prefix_score import Prefix, PrefixScorer
from lithophone.decode.keyword_biasing import KeywordTrie


@dataclass(frozen=True)
class Pronunciation:
    """CTC labels of a text, with a wildcard for each number or sign.

    Each of its `unscored` characters, which have no label, costs log(1/V), or hypotheses of digits would win.
    """

    labels: Sequence[int]
    unscored: int = 0


Pronounce: TypeAlias = Callable[[Sequence[int]], Pronunciation]
"""Token ids of a reply or its prefix -> pronunciation."""
Propose: TypeAlias = Callable[[Sequence[int], bool], Sequence[int]]
"""(next labels, whether they begin the reply) -> tokens that spell a prefix of them."""


@dataclass(frozen=True)
class CTCScorer:
    """Prefix scores of one utterance, pronunciation of token ids, tokens for labels, and keywords to boost."""

    prefixes: PrefixScorer
    pronounce: Pronounce
    propose: Propose = lambda labels, first: ()
    keywords: KeywordTrie | None = None

    def next_tokens(self, past: Prefix, behind: Sequence[int]) -> list[int]:
        """Tokens that spell the best path `behind` a prefix, or the rest of a keyword."""
        wanted = self.keywords.continuations(past.labels, behind) if self.keywords else []
        return [token for labels in (behind, *wanted) for token in self.propose(labels, not past.labels)]
