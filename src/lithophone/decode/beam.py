"""Beam search of one prompt, with joint CTC/LM scores where it has a `CTCScorer`.

Without one it equals transformers' `generate(num_beams=n, do_sample=False, early_stopping=False)`. `Greedy` is the
search with one beam, which ends with the first end of the reply. With CTC, hypotheses
of equally many tokens cover more or less of the recording: `future_cost` makes them comparable (Koehn 2004, "Pharaoh"),
or those win that delay a difficult word with punctuation.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from lithophone.ctc.forced_alignment import WILDCARD
from lithophone.ctc.prefix_score import Extension, Prefix, PrefixScorer, extend_together
from lithophone.decode.ctc_scorer import CTCScorer
from lithophone.decode.options import BeamSearch, Greedy
from lithophone.decode.reply import Reply, reply_budget
from lithophone.decode.sequences import SequenceGroup
from lithophone.model.granite import GraniteForCausalLM
from lithophone.model.speech import GraniteSpeech

T = TypeVar("T")
Scoring: TypeAlias = Generator[list[Extension], list[Prefix], T]
"""Yields extensions, is sent their prefixes, returns T."""

ROUNDING = 1e-6
"""Rounding error in nats of a sum over frames."""


@dataclass(frozen=True)
class Beam:
    """A hypothesis; `score` is its log probability, or the weighted mean with the CTC score of `prefix`."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    score: float = 0.0
    parent: int = 0
    """Index among the beams of the step before."""
    prefix: Prefix | None = None

    def scored(self, score: float, prefix: Prefix) -> Beam:
        """With a CTC score."""
        return Beam(self.ids, self.logprobs, score, self.parent, prefix)


@dataclass(frozen=True)
class _Candidate:
    """A beam one token longer, with a CTC score only for `past`, the prefix before that token.

    `partial`: score without CTC; `limit`: upper bound of the score less `future`, its future cost.
    """

    beam: Beam
    past: Prefix
    labels: tuple[int, ...]
    ended: bool
    partial: float
    future: float
    limit: float


class Search:
    def __init__(self, options: Greedy | BeamSearch, budget: int, eos: int, scorer: CTCScorer | None = None) -> None:
        assert scorer or not options.ctc_weight, "ctc_weight needs a scorer"
        self.options, self.budget, self.eos = options, budget, eos
        self.scorer = scorer if options.ctc_weight else None
        self.beams = [Beam(prefix=self.scorer.prefixes.empty if self.scorer else None)]
        self.ended: list[Beam] = []
        self.passes = 0

    def step(self, logprobs: Tensor) -> None:
        """Extend by the log probabilities (B, V) of next tokens."""
        step_together([(self, logprobs)])

    def steps(self, logprobs: Tensor) -> Scoring[None]:
        """`step`, which is sent the prefixes of the extensions that it yields."""
        n = self.options.num_beams
        self.passes += 1
        longer = yield from self._extend(logprobs, 2 * n)
        last = self.passes == self.budget
        ended = self.ended + [beam for beam in longer[:n] if beam.ids[-1] == self.eos or last]
        self.ended = sorted(ended, key=self._merit, reverse=True)[:n]
        self.beams = [beam for beam in longer if beam.ids[-1] != self.eos][:n]

    @property
    def done(self) -> bool:
        if self.passes == self.budget or not self.beams:
            return True
        if len(self.ended) < self.options.num_beams:
            return False
        return self.options.num_beams == 1 or self._merit(self.beams[0]) <= self._merit(self.ended[-1])

    def reply(self) -> Reply:
        """The best beam that ended or was cut at the budget, else the best running one."""
        best = (self.ended or self.beams)[0]
        finished = best.ids[-1:] == (self.eos,)
        n = len(best.ids) - finished
        return Reply(best.ids[:n], finished, best.logprobs[:n], passes=self.passes)

    def _merit(self, beam: Beam) -> float:
        """Score by length in tokens, or with CTC in labels: punctuation would lengthen a hypothesis in tokens."""
        length = len(beam.prefix.labels) - beam.prefix.labels.count(WILDCARD) + 1 if beam.prefix else len(beam.ids)
        return beam.score / math.pow(length, self.options.length_penalty)

    def _extend(self, logprobs: Tensor, n: int) -> Scoring[list[Beam]]:
        if self.scorer:
            return (yield from self._extend_jointly(logprobs, n, self.scorer))
        scores = torch.tensor([beam.score for beam in self.beams], dtype=logprobs.dtype, device=logprobs.device)
        return self._longer(logprobs, (logprobs + scores[:, None]).flatten().topk(min(n, logprobs.numel())).indices)

    def _longer(self, logprobs: Tensor, places: Tensor) -> list[Beam]:
        """`places` in the flat (B * V) -> beams."""
        parents, tokens = places // logprobs.shape[1], places % logprobs.shape[1]
        steps = logprobs[parents, tokens]
        return [
            Beam((*past.ids, token), (*past.logprobs, step), past.score + step, parent, past.prefix)
            for parent, token, step in zip(parents.tolist(), tokens.tolist(), steps.tolist(), strict=True)
            for past in (self.beams[parent],)
        ]

    def _extend_jointly(self, logprobs: Tensor, n: int, scorer: CTCScorer) -> Scoring[list[Beam]]:
        """The n best of each beam's `num_beams + 1` most probable tokens, those on the best CTC path, and the end."""
        vocabulary = logprobs.shape[1]
        liked = logprobs.topk(min(self.options.num_beams + 1, vocabulary)).indices.tolist()
        pasts = [beam.prefix or scorer.prefixes.empty for beam in self.beams]
        behind = [scorer.prefixes.continuation(past) for past in pasts]
        tokens = [
            dict.fromkeys([*row, *scorer.next_tokens(past, labels), self.eos])
            for row, past, labels in zip(liked, pasts, behind, strict=True)
        ]
        places = [i * vocabulary + token for i, row in enumerate(tokens) for token in row]
        longer = self._longer(logprobs, torch.tensor(places, device=logprobs.device))
        candidates = [self._candidate(beam, pasts[beam.parent], len(behind[beam.parent]), scorer) for beam in longer]
        return (yield from self._best_jointly(candidates, n, scorer.prefixes))

    def _candidate(self, beam: Beam, past: Prefix, ahead: int, scorer: CTCScorer) -> _Candidate:
        """`ahead`: labels of the best CTC path behind `past`."""
        weight = self.options.ctc_weight
        ended = self.passes == self.budget or beam.ids[-1] == self.eos
        spoken = scorer.pronounce(beam.ids[:-1] if beam.ids[-1] == self.eos else beam.ids)
        labels = tuple(spoken.labels)
        partial = (1 - weight) * math.fsum(beam.logprobs) + weight * scorer.prefixes.unscored * spoken.unscored
        if scorer.keywords:
            partial += self.options.keyword_boost * scorer.keywords.matched(labels, ended)
        added = max(0, len(labels) - len(past.labels))
        future = 0.0 if ended else self.options.future_cost * max(0, ahead - added)
        # A prefix is at most as probable as its own prefix.
        limit = partial - future + weight * (past.score if labels[: len(past.labels)] == past.labels else 0.0)
        return _Candidate(beam, past, labels, ended, partial, future, limit)

    def _best_jointly(self, candidates: list[_Candidate], n: int, scorer: PrefixScorer) -> Scoring[list[Beam]]:
        """The n best; a CTC score is computed only where `limit` may be among them."""
        waiting = sorted(candidates, key=lambda candidate: candidate.limit, reverse=True)
        best: list[tuple[float, Beam]] = []
        while waiting and (len(best) < n or waiting[0].limit > best[-1][0] - ROUNDING):
            some, waiting = waiting[:n], waiting[n:]
            prefixes = yield [Extension(scorer, one.past, one.labels) for one in some]
            for one, prefix in zip(some, prefixes, strict=True):
                score = one.partial + self.options.ctc_weight * (scorer.complete(prefix) if one.ended else prefix.score)
                best.append((score - one.future, one.beam.scored(score, prefix)))
            best = sorted(best, key=lambda one: one[0], reverse=True)[:n]
        return [beam for _, beam in best]


def step_together(searches: Sequence[tuple[Search, Tensor]]) -> None:
    """Extend every search by its log probabilities (B_i, V); CTC scores of all are computed together."""
    running = {search: search.steps(logprobs) for search, logprobs in searches}
    found: dict[Search, list[Prefix]] = {}
    while running:
        asked: dict[Search, list[Extension]] = {}
        for search, steps in list(running.items()):
            try:
                asked[search] = steps.send(found[search]) if search in found else next(steps)
            except StopIteration:
                del running[search]
        prefixes = iter(extend_together([one for some in asked.values() for one in some]))
        found = {search: list(islice(prefixes, len(some))) for search, some in asked.items()}


class BeamGroup(SequenceGroup):
    """A beam search with a row of the cache per beam."""

    def __init__(
        self, prompt: Tensor, audio: bool, budget: int, eos: int, options: Greedy | BeamSearch, scorer: CTCScorer | None
    ) -> None:
        super().__init__(prompt, audio, budget, eos)
        self.max_rows = options.num_beams
        self.search = Search(options, budget, eos, scorer)
        self.order = [0]
        """Beam of each row; a beam keeps its parent's row where it can, to save copies."""

    @property
    def done(self) -> bool:
        return self.search.done

    @property
    def length(self) -> int:
        return self.search.passes

    def propose(self) -> list[list[int]]:
        return [list(self.search.beams[i].ids[-1:]) for i in self.order]

    @classmethod
    def accept(cls, language_model: GraniteForCausalLM, states: Sequence[tuple[BeamGroup, Tensor]]) -> None:
        hidden = torch.cat([rows[:, -1] for _, rows in states])
        logprobs = language_model.logits(hidden).float().log_softmax(-1)
        split = torch.split(logprobs, [len(rows) for _, rows in states])
        extend_groups([(group, own) for (group, _), own in zip(states, split, strict=True)])

    @property
    def beam_rows(self) -> list[int]:
        """Row of each beam."""
        return sorted(range(len(self.order)), key=self.order.__getitem__)

    def place(self) -> None:
        """Give the beams of a step their rows."""
        rows = self.beam_rows
        past = [rows[beam.parent] for beam in self.search.beams]
        self.order = _placed(past)
        self.parents = [past[i] for i in self.order]

    def reply(self) -> Reply:
        return self.search.reply()


def extend_groups(groups: Sequence[tuple[BeamGroup, Tensor]]) -> None:
    """Extend groups by the log probabilities (rows, V) of next tokens."""
    step_together([(group.search, logprobs[group.beam_rows]) for group, logprobs in groups])
    for group, _ in groups:
        group.place()


def _placed(past: Sequence[int]) -> list[int]:
    """Parent row of each beam -> beam of each row; the first beam that continues a row keeps it."""
    first: dict[int, int] = {}
    for beam, row in enumerate(past):
        if row < len(past):
            first.setdefault(row, beam)
    others = iter([beam for beam in range(len(past)) if beam not in first.values()])
    return [first[row] if row in first else next(others) for row in range(len(past))]


@torch.inference_mode()
def beam_decode(
    model: GraniteSpeech,
    prompt: Tensor,
    options: Greedy | BeamSearch,
    n_audio: int,
    scorer: CTCScorer | None = None,
    expected_labels: int = 0,
) -> Reply:
    """Reference for `BeamGroup`: one prompt `(L, H)`, no cache. Arguments as in `DecodeRequest`."""
    lm = model.language_model
    budget = reply_budget(model, len(prompt), options, n_audio, expected_labels)
    search = Search(options, budget, model.config.text_config.eos_token_id, scorer)
    while not search.done:
        rows = [torch.cat((prompt, lm.embed(prompt.new_tensor(beam.ids, dtype=torch.int64)))) for beam in search.beams]
        with model.adapters(n_audio > 0):
            hidden = lm(torch.stack(rows))[:, -1]
        search.step(lm.logits(hidden).float().log_softmax(-1))
    return search.reply()
