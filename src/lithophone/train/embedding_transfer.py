"""Embedding transfer to a new vocabulary."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from lithophone.text.tokenizer import Tokenizer


def carry_over(rows: Tensor, old: Tokenizer, new: Tokenizer) -> Tensor:
    """Rows (V_old, ...) by tokens of `old` -> rows (V_new, ...) by those of `new`.

    Shared tokens keep their rows; a new one is the mean of its longest pieces in `old` (byte-level vocabularies have
    every byte), a new special token the mean of all rows.
    """
    known = {token: i for i, token in enumerate(old.pieces)}
    longest = max(map(len, known))

    @lru_cache(None)
    def ids(token: str) -> tuple[int, ...]:
        if not token or token in known:
            return (known[token],) if token else ()
        sizes = range(min(longest, len(token)), 0, -1)
        found = next((token[:size] for size in sizes if token[:size] in known), None)
        return () if found is None else (known[found], *ids(token[len(found) :]))

    special = set(new.special_tokens)
    kept = [() if token in special and token not in known else ids(token) for token in new.pieces]
    return torch.stack([rows[list(places)].mean(0) if places else rows.mean(0) for places in kept])
