"""Self-speculative decoding (arXiv 2603.11243): a draft, made by the encoder, that the language model verifies.

All of the draft is read in the pass that reads the prompt. Where a token is rejected the model's own takes its place,
what was taken since is aligned with the rest of the draft, and the remainder is proposed again: a wrong, missing or
extra word costs a pass or two, and not the whole tail. One row at a time; the engine joins rows into passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lithophone.decode.draft_alignment import resume
from lithophone.decode.options import Speculative
from lithophone.model.granite import GraniteForCausalLM

CHUNK = 256
"""Positions whose logits are held at once: with 100,000 tokens they are 100 MB in float32."""


class Prediction(NamedTuple):
    """What the model says at one position: its own token, that one's log-probability, and that of the one proposed."""

    token: int
    logprob: float
    proposed_logprob: float


@torch.inference_mode()
def confident(logits: Tensor, lengths: Tensor, tau_ctc: float) -> list[bool]:
    """Whether a draft may go unverified: logits of a CTC head (B, T, V) and lengths (B,) -> an answer a row.

    It may where the entropy of no frame exceeds `tau_ctc`, in nats.
    """
    return [bool((_entropies(row[:n]) <= tau_ctc).all()) for row, n in zip(logits, lengths.tolist(), strict=True)]


def _entropies(logits: Tensor) -> Tensor:
    entropies: Tensor = torch.special.entr(logits.float().softmax(-1)).sum(-1)
    return entropies


def verify(language_model: GraniteForCausalLM, hidden: Tensor, proposed: Sequence[int]) -> list[Prediction]:
    """Hidden states (N, H) and the token proposed after each -> a verdict a position."""
    tokens = torch.tensor(proposed, device=hidden.device)
    chunks = [slice(at, at + CHUNK) for at in range(0, len(proposed), CHUNK)]
    parts = [_predictions(language_model.logits(hidden[chunk]).float(), tokens[chunk]) for chunk in chunks]
    columns = (torch.cat(column).tolist() for column in zip(*parts, strict=True))
    return [Prediction(*row) for row in zip(*columns, strict=True)]


def _predictions(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, V) and tokens (N,) -> the fields of the predictions, (N,) each."""
    best, own = logits.max(-1)
    total = logits.logsumexp(-1)
    return own, best - total, logits.gather(-1, tokens[:, None])[:, 0] - total


class Draft:
    """How far a reply has come in its draft, and what to propose next.

    `fold` gives a token's text as it is compared when aligning. Only accepted tokens move the draft on; it never goes
    back. Where nothing of two proposals in a row holds the next is half as long, and so on down to the one token that
    costs nothing, because no position is read for it: a bad draft makes a pass little dearer than none.
    """

    def __init__(self, ids: Sequence[int], options: Speculative, fold: Callable[[int], str]) -> None:
        self.ids, self.texts, self.fold = list(ids), [fold(i) for i in ids], fold
        self.most, self.misses = options.lookahead, 0
        self.threshold = math.inf if options.tau_slm is None else math.log(options.tau_slm)
        self.at = 0
        """The next token behind the last accepted one."""
        self.start = 0
        """The first token of the running proposal."""
        self.taken: list[str] = []
        """Texts of the model's own tokens since the last accepted one."""

    @property
    def lookahead(self) -> int:
        """Tokens that the next proposal may have read."""
        return self.most >> max(0, self.misses - 1)

    def propose(self, limit: int) -> list[int]:
        """The next tokens to verify, at most `limit`."""
        if self.at == len(self.ids):
            return []
        self.start = self.at + resume(self.taken, self.texts[self.at :])
        return self.ids[self.start : self.start + limit]

    def accept(self, proposal: Sequence[int], predictions: Sequence[Prediction]) -> int:
        """How many tokens of the proposal hold, from its first one on; what holds, and the next own token, count.

        A token holds where it is the model's own, or probable enough. `predictions` has an entry for every token of the
        proposal, and may have one more for the position behind it.
        """
        holds = [
            t == v.token or v.proposed_logprob >= self.threshold for t, v in zip(proposal, predictions, strict=False)
        ]
        n = [*holds, False].index(False)
        if n:
            self.at, self.taken, self.misses = self.start + n, [], 0
        elif proposal:
            self.misses += 1
        self.taken += [self.fold(prediction.token) for prediction in predictions[n : n + 1]]
        return n
