"""Running sequences and the passes of the language model that they share.

A `SequenceGroup` gives what its rows read next (`propose`) and takes the tokens (`accept`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

from lithophone.decode.options import Sampling, Speculative
from lithophone.decode.reply import Reply
from lithophone.decode.sampling import Sampler, draw
from lithophone.decode.speculative import Draft, Prediction, verify
from lithophone.model.cuda_graphs import StaticSteps
from lithophone.model.granite import GraniteForCausalLM, pad_rows

Group = TypeVar("Group", bound="SequenceGroup")


class SequenceGroup(ABC):
    """A running request; `prompt` is `(L, H)`, `audio` whether it holds audio embeddings.

    Between passes the cache holds each row's prompt and tokens but the last; `parents[i]` is the row of the last pass
    that row i continues.
    """

    max_rows = 1
    """Most rows it may have."""

    def __init__(self, prompt: Tensor, audio: bool, budget: int, eos: int) -> None:
        self.prompt, self.audio, self.budget, self.eos = prompt, audio, budget, eos
        self.parents = [0]

    @property
    @abstractmethod
    def done(self) -> bool:
        """Whether the reply is finished or at its budget."""

    @property
    @abstractmethod
    def length(self) -> int:
        """Tokens of each row."""

    @abstractmethod
    def propose(self) -> list[list[int]]:
        """Token ids each row reads next, equally many, from its last token on."""

    @classmethod
    @abstractmethod
    def accept(cls: type[Group], language_model: GraniteForCausalLM, states: Sequence[tuple[Group, Tensor]]) -> None:
        """Add tokens to groups by their hidden states `(rows, n, H)`, the first of the last cached position."""

    @abstractmethod
    def reply(self) -> Reply:
        """The reply so far."""

    @property
    def cached(self) -> int:
        return len(self.prompt) + self.length - 1


class SingleSequence(SequenceGroup):
    def __init__(self, prompt: Tensor, audio: bool, budget: int, eos: int) -> None:
        super().__init__(prompt, audio, budget, eos)
        self.ids: list[int] = []
        self.logprobs: list[float] = []
        self.finished = False
        self.drafted = self.accepted = self.passes = 0

    @property
    def done(self) -> bool:
        return self.finished or len(self.ids) >= self.budget

    @property
    def length(self) -> int:
        return len(self.ids)

    def propose(self) -> list[list[int]]:
        return [self.ids[-1:]]

    def append(self, tokens: Iterable[tuple[int, float]]) -> None:
        """Append (token, log probability) pairs up to the end-of-text token."""
        self.passes += 1
        for token, logprob in tokens:
            if token == self.eos:
                self.finished = True
                return
            self.ids.append(token)
            self.logprobs.append(logprob)

    def reply(self) -> Reply:
        counts = (self.drafted, self.accepted, self.passes)
        return Reply(tuple(self.ids), self.finished, tuple(self.logprobs), *counts)


class DraftedSequence(SingleSequence):
    """Speculative decoding of `draft`, greedy where it is empty."""

    def __init__(
        self,
        prompt: Tensor,
        audio: bool,
        budget: int,
        eos: int,
        draft: Sequence[int],
        options: Speculative,
        fold: Callable[[int], str],
    ) -> None:
        super().__init__(prompt, audio, budget, eos)
        self.draft = Draft(draft, options, fold)
        self.proposal: list[int] = []
        """Draft tokens to verify next; the last may be verified unread."""
        self.positions = 1
        """Positions of the next pass that give a token."""

    def propose(self) -> list[list[int]]:
        """n draft tokens read give at most n + 1, within the budget."""
        left = self.budget - len(self.ids)
        most = left if self.passes == 0 else min(left, self.draft.lookahead + 1)
        self.proposal = self.draft.propose(most)
        read = self.proposal[: most - 1]
        self.positions = len(read) + 1
        return [[*self.ids[-1:], *read]]

    @classmethod
    def accept(cls, language_model: GraniteForCausalLM, states: Sequence[tuple[DraftedSequence, Tensor]]) -> None:
        # Behind the end of a draft nothing is proposed; 0 is a placeholder.
        proposed = [token for one, _ in states for token in [*one.proposal, 0][: one.positions]]
        hidden = torch.cat([rows[0] for _, rows in states])
        predictions = iter(verify(language_model, hidden, proposed))
        for one, _ in states:
            one.verified(list(islice(predictions, one.positions)))

    def verified(self, predictions: Sequence[Prediction]) -> None:
        n = self.draft.accept(self.proposal, predictions)
        self.drafted += len(self.proposal)
        self.accepted += n
        held = [(token, p.proposed_logprob) for token, p in zip(self.proposal[:n], predictions, strict=False)]
        self.append(held + [(p.token, p.logprob) for p in predictions[n : n + 1]])


class SampledSequence(SingleSequence):
    def __init__(self, prompt: Tensor, audio: bool, budget: int, eos: int, options: Sampling) -> None:
        super().__init__(prompt, audio, budget, eos)
        self.sampler = Sampler(options)

    @classmethod
    def accept(cls, language_model: GraniteForCausalLM, states: Sequence[tuple[SampledSequence, Tensor]]) -> None:
        hidden = torch.cat([rows[0] for _, rows in states])
        drawn = draw(language_model, hidden, [one.sampler for one, _ in states])
        for (one, _), token in zip(states, drawn, strict=True):
            one.append([token])


class RunningBatch:
    """Groups that share passes, their cache, and the rows of each group in it."""

    def __init__(
        self,
        language_model: GraniteForCausalLM,
        groups: Sequence[SequenceGroup] = (),
        steps: StaticSteps | None = None,
    ) -> None:
        self.language_model, self.groups, self.steps = language_model, list(groups), steps
        self.cache = steps.cache if steps else language_model.new_cache(len(groups), 0)
        self.rows = [[row] for row in range(len(groups))]

    def prefill(self) -> None:
        """The first pass of all groups: prompts followed by proposals."""
        embed, device = self.language_model.embed, self.groups[0].prompt.device
        read = [torch.tensor(group.propose()[0], dtype=torch.int64, device=device) for group in self.groups]
        inputs = [torch.cat((group.prompt, embed(ids))) for group, ids in zip(self.groups, read, strict=True)]
        embeddings, lengths = pad_rows(inputs)
        self.cache.reserve_rows(sum(group.max_rows for group in self.groups))
        self.cache.reserve(embeddings.shape[1])
        hidden = self.language_model(embeddings, self.cache, lengths=lengths)
        rows = zip(self.groups, hidden, inputs, strict=True)
        self._accept([row[None, len(group.prompt) - 1 : len(ids)] for group, row, ids in rows])

    def advance(self) -> None:
        read = [group.propose() for group in self.groups]
        width = max(len(rows[0]) for rows in read)
        tokens = [[0] * width for _ in self.cache.lengths]
        for rows, proposed in zip(self.rows, read, strict=True):
            for row, ids in zip(rows, proposed, strict=True):
                tokens[row][: len(ids)] = ids
        hidden = self._forward(torch.tensor(tokens, device=self.cache.lengths.device))
        self._accept([hidden[rows, : len(ids[0])] for rows, ids in zip(self.rows, read, strict=True)])

    def join(self, other: RunningBatch) -> None:
        """Add the groups of `other`, which is used up."""
        used = len(self.cache.lengths)
        if self.groups or self.steps:
            self.cache.join(other.cache)
        else:
            self.cache = other.cache
        self.groups += other.groups
        self.rows += [[used + row for row in rows] for rows in other.rows]

    def drop(self, groups: Collection[SequenceGroup]) -> None:
        kept = [group for group in self.groups if group not in groups]
        self._arrange([(group, range(len(group.parents))) for group in kept])

    def _forward(self, tokens: Tensor) -> Tensor:
        """Token ids (B, n) behind the cached positions -> hidden states (B, n, H)."""
        if self.steps:
            return self.steps(tokens)
        self.cache.reserve(tokens.shape[1])
        hidden: Tensor = self.language_model(self.language_model.embed(tokens), self.cache)
        return hidden

    def _accept(self, states: Sequence[Tensor]) -> None:
        """Pass each group its states; rejected positions and finished groups leave the cache."""
        for kind in dict.fromkeys(type(group) for group in self.groups):
            rows = zip(self.groups, states, strict=True)
            kind.accept(self.language_model, [(group, own) for group, own in rows if type(group) is kind])
        self._arrange([(group, group.parents) for group in self.groups if not group.done])

    def _arrange(self, kept: Sequence[tuple[SequenceGroup, Sequence[int]]]) -> None:
        """Keep groups, and of each the rows that its new ones continue, up to what is cached of them.

        Rows are counted from 0. A group keeps the rows it has, but those behind the last one needed move forward.
        """
        held = dict(zip(self.groups, self.rows, strict=True))
        count = sum(len(parents) for _, parents in kept)
        staying = [[row for row in held[group][: len(parents)] if row < count] for group, parents in kept]
        free = iter(sorted(set(range(count)).difference(*staying)))
        sources, shared, lengths = [0] * count, [0] * count, [0] * count
        self.groups, self.rows = [], []
        for group, parents in kept:
            own = held[group]
            rows = [own[i] if i < len(own) and own[i] < count else next(free) for i in range(len(parents))]
            self.groups.append(group)
            self.rows.append(rows)
            for row, parent in zip(rows, parents, strict=True):
                sources[row], lengths[row] = own[parent], group.cached
                shared[row] = len(group.prompt) if row in own else 0
        if sources != list(range(len(self.cache.lengths))):
            self.cache.select(sources, shared)
        self.cache.rewind(torch.tensor(lengths, dtype=torch.int64, device=self.cache.lengths.device))
