"""Self-speculative decoding (arXiv 2603.11243): the language model verifies a draft of the CTC head.

The prefill verifies all of the draft. At a rejected token the model's own is taken, the tokens since are aligned with
the rest of the draft, and the remainder is proposed again.
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
"""Positions whose logits are held at once: 100 MB in float32 for 100,000 tokens."""


class Prediction(NamedTuple):
    """The most probable token of a position, its log probability, and that of the proposed token."""

    token: int
    logprob: float
    proposed_logprob: float


@torch.inference_mode()
def confident(logits: Tensor, lengths: Tensor, tau_ctc: float) -> list[bool]:
    """Whether no frame has more than `tau_ctc` nats of entropy: logits (B, T, V), lengths (B,) -> B booleans."""
    return [bool((_entropies(row[:n]) <= tau_ctc).all()) for row, n in zip(logits, lengths.tolist(), strict=True)]


def _entropies(logits: Tensor) -> Tensor:
    entropies: Tensor = torch.special.entr(logits.float().softmax(-1)).sum(-1)
    return entropies


def verify(language_model: GraniteForCausalLM, hidden: Tensor, proposed: Sequence[int]) -> list[Prediction]:
    """Hidden states (N, H) and the token proposed after each -> N predictions."""
    tokens = torch.tensor(proposed, device=hidden.device)
    chunks = [slice(at, at + CHUNK) for at in range(0, len(proposed), CHUNK)]
    parts = [_predictions(language_model.logits(hidden[chunk]).float(), tokens[chunk]) for chunk in chunks]
    columns = (torch.cat(column).tolist() for column in zip(*parts, strict=True))
    return [Prediction(*row) for row in zip(*columns, strict=True)]


def _predictions(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, V), tokens (N,) -> the fields of `Prediction`, (N,) each."""
    best, own = logits.max(-1)
    total = logits.logsumexp(-1)
    return own, best - total, logits.gather(-1, tokens[:, None])[:, 0] - total


class Draft:
    """Position of a reply in its draft, moved by accepted tokens only, and the next proposal.

    `fold(id)` is the text that is aligned. From the second miss in a row each proposal is half as long as the last,
    down to one token, which need not be read.
    """

    def __init__(self, ids: Sequence[int], options: Speculative, fold: Callable[[int], str]) -> None:
        self.ids, self.texts, self.fold = list(ids), [fold(i) for i in ids], fold
        self.most, self.misses = options.lookahead, 0
        self.threshold = math.inf if options.tau_slm is None else math.log(options.tau_slm)
        self.at = 0
        """Index behind the last accepted token."""
        self.start = 0
        """Index of the first proposed token."""
        self.taken: list[str] = []
        """Texts of the model's own tokens since the last accepted one."""

    @property
    def lookahead(self) -> int:
        return self.most >> max(0, self.misses - 1)

    def propose(self, limit: int) -> list[int]:
        """The next tokens to verify, at most `limit`."""
        if self.at == len(self.ids):
            return []
        self.start = self.at + resume(self.taken, self.texts[self.at :])
        return self.ids[self.start : self.start + limit]

    def accept(self, proposal: Sequence[int], predictions: Sequence[Prediction]) -> int:
        """Number of accepted tokens: a prefix, each the model's own or at least `tau_slm` probable.

        `predictions` has one entry a token, and may have one for the position behind them.
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
