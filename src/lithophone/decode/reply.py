"""The reply of a decoder, and the budget of new tokens it has."""

from __future__ import annotations

from dataclasses import dataclass

from lithophone.decode.options import Budget, token_budget
from lithophone.model.speech import GraniteSpeech


@dataclass(frozen=True)
class Reply:
    """Token ids without the end-of-text token, and the natural log of each one's probability.

    `finished` is False where the reply was cut at its budget, or at the last position of the model. `drafted` draft
    tokens were proposed, `accepted` of them held, in `passes` passes of the language model.
    """

    ids: tuple[int, ...]
    finished: bool
    logprobs: tuple[float, ...]
    drafted: int = 0
    accepted: int = 0
    passes: int = 0


def reply_budget(
    model: GraniteSpeech, prompt_length: int, options: Budget, n_audio: int, expected_labels: int = 0
) -> int:
    """New tokens a reply may have: those of `token_budget`, as far as the model has positions for them."""
    left = model.config.text_config.max_position_embeddings - prompt_length
    return min(token_budget(options, n_audio, expected_labels), max(left, 0))
