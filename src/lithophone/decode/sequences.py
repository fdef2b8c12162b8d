"""Requests under way, and the passes of the language model that they share.

How a row chooses its tokens is its own affair: a greedy row is a speculative row without a draft, and a sampling row
draws. Rows share a cache and passes, and nothing else. Who joins when, the engine decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import torch
from torch import Tensor

from lithophone.decode.options import Greedy, Sampling, Speculative
from lithophone.decode.reply import Reply
from lithophone.decode.sampling import Sampler, draw
from lithophone.decode.speculative import Draft, Prediction, verify
from lithophone.errors import OptionError
from lithophone.model.cuda_graphs import StaticSteps
from lithophone.model.granite import GraniteForCausalLM, pad_rows

RowOptions: TypeAlias = Greedy | Speculative | Sampling


@dataclass(frozen=True, eq=False)
class Request:
    """A prompt of embeddings `(L, H)`, `n_audio` of them of audio, and how to answer it.

    `draft` is a guess of the reply, in token ids. Raises OptionError for a draft that nobody would read, and for a
    decoder whose rows cannot share passes.
    """

    prompt: Tensor
    n_audio: int
    options: RowOptions
    draft: Sequence[int] = ()

    def __post_init__(self) -> None:
        name = type(self.options).__name__
        if not isinstance(self.options, Greedy | Speculative | Sampling):
            raise OptionError(f"{name} cannot share passes: Greedy, Speculative and Sampling can")
        if len(self.draft) and not isinstance(self.options, Speculative):
            raise OptionError(f"a draft was given to {name}: only Speculative reads it")


class Row:
    """A request under way. Between passes the cache holds its prompt, and its reply up to the last token but one."""

    def __init__(self, request: Request, budget: int, eos: int, fold: Callable[[int], str]) -> None:
        options = request.options
        self.prompt, self.audio, self.budget, self.eos = request.prompt, request.n_audio > 0, budget, eos
        self.draft = Draft(request.draft, options if isinstance(options, Speculative) else Speculative(), fold)
        self.sampler = Sampler(options) if isinstance(options, Sampling) else None
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.finished = False
        self.drafted = self.accepted = self.passes = 0
        self.proposal: list[int] = []
        """Tokens of the draft that the next pass judges; the last one may be judged without being read."""
        self.positions = 1
        """How many positions of the next pass are judged: behind the last token there is, and behind each one read."""

    @property
    def done(self) -> bool:
        return self.finished or len(self.ids) >= self.budget

    @property
    def cached(self) -> int:
        """Positions of the row that stay in the cache after a pass."""
        return len(self.prompt) + len(self.ids) - 1

    def propose(self) -> list[int]:
        """Choose what the next pass judges; gives the tokens to read for that, all of the draft in the first pass.

        With n tokens read n + 1 can be said, which is never more than the budget allows.
        """
        left = self.budget - len(self.ids)
        most = left if self.passes == 0 else min(left, self.draft.lookahead + 1)
        self.proposal = self.draft.propose(most)
        read = self.proposal[: most - 1]
        self.positions = len(read) + 1
        return read

    def take(self, verdicts: Sequence[Prediction]) -> None:
        """What a pass says: as much of the proposal as holds, then the model's own token, up to the end of the text."""
        n = self.draft.accept(self.proposal, verdicts)
        self.passes += 1
        self.drafted += len(self.proposal)
        self.accepted += n
        said = [(token, p.proposed_logprob) for token, p in zip(self.proposal[:n], verdicts, strict=False)]
        said += [(p.token, p.logprob) for p in verdicts[n : n + 1]]
        for token, logprob in said:
            if token == self.eos:
                self.finished = True
                return
            self.ids.append(token)
            self.logprobs.append(logprob)

    def reply(self) -> Reply:
        counts = (self.drafted, self.accepted, self.passes)
        return Reply(tuple(self.ids), self.finished, tuple(self.logprobs), *counts)


class Batch:
    """Rows that go through the language model together, each at its own place, and their cache."""

    def __init__(
        self, language_model: GraniteForCausalLM, rows: Sequence[Row] = (), steps: StaticSteps | None = None
    ) -> None:
        self.language_model, self.rows, self.steps = language_model, list(rows), steps
        self.cache = steps.cache if steps else language_model.new_cache(len(rows), 0)

    def prefill(self) -> None:
        """The first pass of all rows: their prompts, and behind them their drafts."""
        embed, device = self.language_model.embed, self.rows[0].prompt.device
        drafts = [torch.tensor(row.propose(), dtype=torch.int64, device=device) for row in self.rows]
        inputs = [torch.cat((row.prompt, embed(ids))) for row, ids in zip(self.rows, drafts, strict=True)]
        embeddings = pad_rows(inputs)[0]
        self.cache.reserve(embeddings.shape[1])
        self._judge(self.language_model(embeddings, self.cache), [len(row.prompt) - 1 for row in self.rows])

    def advance(self) -> None:
        """One more pass: the last token of every row, and behind it what it proposes."""
        inputs = [[row.ids[-1], *row.propose()] for row in self.rows]
        width = max(map(len, inputs))
        padded = [ids + [0] * (width - len(ids)) for ids in inputs]
        tokens = torch.tensor(padded, device=self.cache.lengths.device)
        self._judge(self._read(tokens), [0] * len(inputs))

    def join(self, other: Batch) -> None:
        """Take in the rows of another batch, which is used up."""
        if self.rows or self.steps:
            self.cache.join(other.cache)
        else:
            self.cache = other.cache
        self.rows += other.rows

    def drop(self, rows: Collection[Row]) -> None:
        """Forget those of these rows that are here."""
        kept = [i for i, row in enumerate(self.rows) if row not in rows]
        if len(kept) < len(self.rows):
            self.cache.select(torch.tensor(kept, dtype=torch.int64, device=self.cache.lengths.device))
            self.rows = [self.rows[i] for i in kept]

    def _read(self, tokens: Tensor) -> Tensor:
        """Token ids (B, n) behind what the cache holds -> hidden states (B, n, H)."""
        if self.steps:
            return self.steps(tokens)
        self.cache.reserve(tokens.shape[1])
        hidden: Tensor = self.language_model(self.language_model.embed(tokens), self.cache)
        return hidden

    def _judge(self, hidden: Tensor, first: Sequence[int]) -> None:
        """Judge each row of `(B, n, H)` from its `first` position on; what does not hold is forgotten."""
        judged = [
            (row, states[at : at + row.positions]) for row, states, at in zip(self.rows, hidden, first, strict=True)
        ]
        self._verify({row: states for row, states in judged if row.sampler is None})
        self._draw({row: states for row, states in judged if row.sampler is not None})
        self.drop([row for row in self.rows if row.done])
        self.cache.rewind(torch.tensor([row.cached for row in self.rows], dtype=torch.int64, device=hidden.device))

    def _verify(self, judged: dict[Row, Tensor]) -> None:
        if not judged:
            return
        # Nothing is proposed behind the end of a draft: any token holds that place.
        proposed = [token for row in judged for token in [*row.proposal, 0][: row.positions]]
        verdicts = iter(verify(self.language_model, torch.cat(list(judged.values())), proposed))
        for row in judged:
            row.take(list(islice(verdicts, row.positions)))

    def _draw(self, judged: dict[Row, Tensor]) -> None:
        if not judged:
            return
        samplers = [row.sampler for row in judged if row.sampler is not None]
        drawn = draw(self.language_model, torch.cat(list(judged.values())), samplers)
        for row, (token, logprob) in zip(judged, drawn, strict=True):
            row.take([Prediction(token, logprob, logprob)])
