"""Greedy decoding, slow and obvious: one prompt, no cache, the whole sequence again for every token.

The judge of every faster decoder. Works on embeddings and ids; knows no text, no files, no seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lithophone.decode.options import Budget, Greedy, token_budget
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


@torch.inference_mode()
def greedy_decode(model: GraniteSpeech, prompt: Tensor, options: Greedy, n_audio: int) -> Reply:
    """Decode one prompt of embeddings `(L, H)`, as `model.embed` gives it, with `n_audio` audio embeddings in it.

    `n_audio` sets the budget, and adapters are on where it is not 0.
    """
    budget = reply_budget(model, len(prompt), options, n_audio)
    ids: list[int] = []
    logprobs: list[float] = []
    while len(ids) < budget:
        with model.adapters(n_audio > 0):
            hidden = model.language_model(prompt[None])
        logprob, token = most_probable(model, hidden[:, -1])
        if token.item() == model.config.text_config.eos_token_id:
            return Reply(tuple(ids), True, tuple(logprobs), passes=len(ids) + 1)
        ids.append(int(token))
        logprobs.append(float(logprob))
        prompt = torch.cat((prompt, model.language_model.embed(token)))
    return Reply(tuple(ids), False, tuple(logprobs), passes=len(ids))


def reply_budget(model: GraniteSpeech, prompt_length: int, options: Budget, n_audio: int) -> int:
    """New tokens a reply may have: the options' budget, or what is left of the model's positions."""
    left = model.config.text_config.max_position_embeddings - prompt_length
    return min(token_budget(options, n_audio), max(left, 0))


def most_probable(model: GraniteSpeech, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states `(B, H)` -> natural log-probabilities `(B,)` and ids `(B,)` of the most probable tokens."""
    logits = model.language_model.logits(hidden).float()
    best, ids = logits.max(dim=-1)
    return best - logits.logsumexp(dim=-1), ids
