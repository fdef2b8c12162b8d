"""Reference greedy decoding: one prompt, no cache; every faster decoder must equal it."""

from __future__ import annotations

import torch
from torch import Tensor

from lithophone.decode.options import Greedy
from lithophone.decode.reply import Reply, reply_budget
from lithophone.model.speech import GraniteSpeech


@torch.inference_mode()
def greedy_decode(
    model: GraniteSpeech, prompt: Tensor, options: Greedy, n_audio: int, expected_labels: int = 0
) -> Reply:
    """Decode prompt embeddings `(L, H)`, `n_audio` of them of audio; adapters are on where that is not 0."""
    budget = reply_budget(model, len(prompt), options, n_audio, expected_labels)
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


def most_probable(model: GraniteSpeech, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states `(B, H)` -> natural log probabilities `(B,)` and ids `(B,)` of the most probable tokens."""
    logits = model.language_model.logits(hidden).float()
    best, ids = logits.max(dim=-1)
    return best - logits.logsumexp(dim=-1), ids
