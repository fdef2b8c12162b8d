"""Tokens by their CTC labels: candidates of joint decoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

from lithophone.ctc.characters import character_labels
from lithophone.ctc.pronunciation import SPACE
from lithophone.text.tokenizer import Tokenizer

MOST = 4
"""Tokens proposed, longest first."""


class TokenSpellings:
    """Tokens of a vocabulary by the labels of their lower-case text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        found: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for token in range(len(tokenizer)):
            text = tokenizer.decode([token]).lower()
            labels = tuple(character_labels(text))
            if labels and len(labels) == len(text):
                found[labels].append(token)
        self._tokens = dict(found)
        self._longest = max(map(len, found), default=0)

    def __call__(self, labels: Sequence[int], first: bool) -> list[int]:
        """Tokens that spell a prefix of `labels`; at the `first` label also with a leading space."""
        starts = [labels, [SPACE, *labels]] if first else [labels]
        lengths = range(min(self._longest, len(labels) + first), 0, -1)
        found = (self._tokens.get(tuple(start[:n]), []) for n in lengths for start in starts if n <= len(start))
        return [token for tokens in found for token in tokens][:MOST]


@lru_cache(maxsize=4)
def token_spellings(tokenizer: Tokenizer) -> TokenSpellings:
    return TokenSpellings(tokenizer)
