"""The reply of a decoder, and its budget of new tokens."""

from __future__ import annotations

from dataclasses import dataclass

from lithophone.decode.options import Budget, token_budget
from lithophone.model.speech import GraniteSpeech


@dataclass(frozen=True)
class Reply:
    """Token ids without the end-of-text token, and their natural log probabilities.

    Not `finished` where cut at the budget or the model's last position. Of `drafted` proposed draft tokens `accepted`
    were kept, in `passes` passes of the language model.
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
    """`token_budget`, limited to the positions the model has left."""
    left = model.config.text_config.max_position_embeddings - prompt_length
    return min(token_budget(options, n_audio, expected_labels), max(left, 0))
