"""How to decode: one frozen dataclass per decoder, and the budget of new tokens. Numbers only, no tensors."""

from __future__ import annotations

from dataclasses import dataclass

from lithophone.errors import OptionError

EMBEDDINGS_PER_30_S = 300
"""Audio embeddings come at 10 Hz: three for every window of 15 frames of 20 ms."""


@dataclass(frozen=True)
class Greedy:
    """The most probable token at every step.

    A reply ends at the end-of-text token, or unfinished at its budget: `max_new_tokens` where that is given, else
    `max_new_tokens_per_30s`, scaled up for audio longer than 30 s.
    """

    max_new_tokens: int | None = None
    max_new_tokens_per_30s: int = 200

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "max_new_tokens_per_30s"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise OptionError(f"{name} is {value!r}: it must be a whole number, at least 1")


def token_budget(options: Greedy, n_audio: int) -> int:
    """New tokens a reply may have, for a prompt with `n_audio` audio embeddings (10 Hz; 0 for text)."""
    if options.max_new_tokens is not None:
        return options.max_new_tokens
    n_audio = max(n_audio, EMBEDDINGS_PER_30_S)
    return -(-options.max_new_tokens_per_30s * n_audio // EMBEDDINGS_PER_30_S)
