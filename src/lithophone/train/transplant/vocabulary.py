"""A byte-level BPE tokenizer with a part of another one's tokens, such as Whisper's 50,000.

A token needs the two that it is merged from, down to single bytes. With all of them kept, a text whose tokens are kept
is split as before, and other texts into more and shorter tokens.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tokenizers import Tokenizer

from lithophone.errors import CheckpointError


def token_shares(
    core: Tokenizer, texts: Mapping[str, Iterable[str]], weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """How often each token is used, as a share of its language's tokens, summed over languages by weights (else 1)."""
    total: dict[str, float] = {}
    for lang, lines in texts.items():
        encoded = core.encode_batch(list(lines), add_special_tokens=False)
        counts = Counter(token for one in encoded for token in one.tokens)
        weight = (weights or {}).get(lang, 1.0) / sum(counts.values())
        for token, count in counts.items():
            total[token] = total.get(token, 0.0) + weight * count
    return total


def cut_vocabulary(core: Tokenizer, shares: Mapping[str, float], size: int) -> Tokenizer:
    """The single bytes and the most used tokens, at most `size` of them, in the old order; without special tokens.

    Raises CheckpointError where the tokenizer is no byte-level BPE, and where `size` does not hold the bytes.
    """
    values: dict[str, Any] = json.loads(core.to_str())
    model = values["model"]
    if model["type"] != "BPE" or values["decoder"] is None or values["decoder"]["type"] != "ByteLevel":
        raise CheckpointError(f"the tokenizer is a {model['type']}: only a byte-level BPE can be cut")
    merges = [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in model["merges"]]
    parts = {left + right: (left, right) for left, right in reversed(merges)}
    special = {token["content"] for token in values["added_tokens"]}
    kept = {token for token in model["vocab"] if len(token) == 1}
    if size < len(kept):
        raise CheckpointError(f"a vocabulary of {size} tokens does not hold the {len(kept)} single bytes")
    for token, _ in sorted(shares.items(), key=lambda item: (-item[1], item[0])):
        if token in model["vocab"] and token not in special:
            added = _with_parts(token, parts) - kept
            if len(kept) + len(added) <= size:
                kept |= added
    order = sorted(kept, key=model["vocab"].__getitem__)
    model["vocab"] = {token: number for number, token in enumerate(order)}
    model["merges"] = [[a, b] for a, b in merges if {a, b, a + b} <= kept]
    values |= {"added_tokens": [], "post_processor": None, "normalizer": None}
    return Tokenizer.from_str(json.dumps(values))


def _with_parts(token: str, parts: Mapping[str, tuple[str, str]]) -> set[str]:
    """The token and all that it is merged from."""
    found, open_ = set(), [token]
    while open_:
        one = open_.pop()
        found.add(one)
        open_.extend(parts.get(one, ()))
    return found
