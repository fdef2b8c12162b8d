"""Sampling: temperature, top-k, top-p."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from lithophone.decode.options import Sampling
from lithophone.model.granite import GraniteForCausalLM


class Sampler:
    """Draws one row's tokens with its own random numbers, independent of the batch."""

    def __init__(self, options: Sampling) -> None:
        self.options, self.random = options, Random(options.seed)

    def draw(self, logits: Tensor) -> int:
        return sample(logits, self.options, self.random.random())


def draw(language_model: GraniteForCausalLM, hidden: Tensor, samplers: Sequence[Sampler]) -> list[tuple[int, float]]:
    """Hidden states (N, H) -> next token of each row and its natural log probability before temperature and cuts."""
    logits = language_model.logits(hidden).float()
    tokens = [sampler.draw(row) for sampler, row in zip(samplers, logits, strict=True)]
    chosen = torch.tensor(tokens, device=logits.device)[:, None]
    logprobs = logits.log_softmax(-1).gather(-1, chosen)[:, 0]
    return list(zip(tokens, logprobs.tolist(), strict=True))


def sample(logits: Tensor, options: Sampling, uniform: float) -> int:
    """Logits (V,) and a random number in [0, 1) -> a token, by the inverse cumulative distribution.

    The token that reaches `top_p` is kept.
    """
    ordered, tokens = logits.sort(descending=True, stable=True)
    probabilities = ((ordered - ordered[0]) / options.temperature)[: options.top_k].softmax(-1)
    ends = probabilities.cumsum(-1)
    # The first token stays even for a top_p below the smallest float32.
    ends = ends[: max(1, int((ends - probabilities < options.top_p).sum()))]
    place = torch.searchsorted(ends, uniform * ends[-1:], right=True)
    return int(tokens[place.clamp(max=len(ends) - 1)])
