"""The reply of a decoder, and the budget of new tokens it has."""

from __future__ import annotations

from dataclasses import dataclass

from lithophone.decode.options import Budget, token_budget
from lithophone.model.speech import GraniteSpeech


@dataclass(frozen=True)
class Reply:
    """What the model said: token ids without the end-of-text token, and the natural log of each one's probability.

    `finished` is False where the reply was cut at its budget, or at the last position the model has. `drafted` tokens
    of a draft were proposed on the way, `accepted` of them held, and the language model was asked `passes` times.
    """

    ids: tuple[int, ...]
    finished: bool
    logprobs: tuple[float, ...]
    drafted: int = 0
    accepted: int = 0
    passes: int = 0


def reply_budget(model: GraniteSpeech, prompt_length: int, options: Budget, n_audio: int) -> int:
    """New tokens a reply may have: the options' budget, or what is left of the model's positions."""
    left = model.config.text_config.max_position_embeddings - prompt_length
    return min(token_budget(options, n_audio), max(left, 0))
