"""Beam search, many prompts at once: the beams of all of them are the rows of one cache.

Without the encoder's help it equals transformers' `generate(num_beams=n, do_sample=False, early_stopping=False)`, with
its rule of when no beam can win any more: it compares the best running score at its present length. With `ctc_weight`
the encoder's labels have their say in every step (see `prefix`). Beams of as many tokens have then said more or less of
what was heard; `future_cost` makes them comparable, as in phrase-based translation (Koehn 2004, "Pharaoh"): without it
those win that stay where they are, with marks and little words, over those that say a difficult word. Knows no text,
no files, no seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TypeAlias

import torch
from torch import Tensor

from lithophone.ctc.forced_alignment import WILDCARD
from lithophone.ctc.prefix_score import Prefix, PrefixScorer
from lithophone.decode.keyword_biasing import KeywordTrie
from lithophone.decode.options import BeamSearch
from lithophone.decode.reply import Reply, reply_budget
from lithophone.model.granite import GraniteForCausalLM, pad_rows
from lithophone.model.speech import GraniteSpeech


@dataclass(frozen=True)
class Pronunciation:
    """The labels that an encoder hears when a text is said, and how many of its letters it has none for.

    Labels hold a wildcard for a number or a sign, however long it is. Letters without a label are charged as labels
    that might be any: cheaper, and a reply that goes on with them for ever would outlive those that say what is heard.
    """

    labels: Sequence[int]
    unscored: int = 0


Pronounce: TypeAlias = Callable[[Sequence[int]], Pronunciation]
"""Token ids of a reply, or of its beginning -> how it is said."""
Propose: TypeAlias = Callable[[Sequence[int], bool], Sequence[int]]
"""Labels that might come next, and whether they are the first of all -> tokens that spell a beginning of them."""

ROUNDING = 1e-6
"""Nats by which a sum over frames may be wrong."""


@dataclass(frozen=True)
class CTCScorer:
    """The encoder's opinion of one prompt's replies: its scorer, how token ids are said, and which might come next.

    `expected` are the words of a keyword list, where they are to be boosted.
    """

    prefixes: PrefixScorer
    pronounce: Pronounce
    propose: Propose = lambda labels, first: ()
    keywords: KeywordTrie | None = None

    def next_tokens(self, past: Prefix, behind: Sequence[int]) -> list[int]:
        """Tokens that say what was heard `behind` a reply's beginning, or what an expected word would add to it."""
        wanted = self.keywords.continuations(past.labels, behind) if self.keywords else []
        return [token for labels in (behind, *wanted) for token in self.propose(labels, not past.labels)]


@dataclass(frozen=True)
class Beam:
    """A reply so far, with the end-of-text token where it has come.

    `score` is the sum of its log-probabilities, or the weighted mean of that with the score of `heard`, the same reply
    as the encoder has it.
    """

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    score: float = 0.0
    parent: int = 0
    """Which of the beams of the step before it extends: the row of its past in the cache."""
    prefix: Prefix | None = None


@dataclass(frozen=True)
class _Candidate:
    """A beam that is longer by a token, of which the encoder has heard only its `past`, a token before.

    `written` is its score without the encoder's share, `future` what is to come is expected to cost, and `limit` what
    the score less that cost can be at most.
    """

    beam: Beam
    past: Prefix
    labels: tuple[int, ...]
    ended: bool
    written: float
    future: float
    limit: float


class Search:
    """The beams of one prompt, longer by a token with every step."""

    def __init__(self, options: BeamSearch, budget: int, eos: int, scorer: CTCScorer | None = None) -> None:
        self.options, self.budget, self.eos, self.scorer = options, budget, eos, scorer
        self.beams = [Beam(prefix=scorer.prefixes.empty if scorer else None)]
        self.ended: list[Beam] = []
        self.passes = 0

    def step(self, logprobs: Tensor) -> None:
        """Take the log-probabilities (B, V) of the tokens that may follow each beam."""
        n = self.options.num_beams
        self.passes += 1
        longer = self._extend(logprobs, 2 * n)
        last = self.passes == self.budget
        ended = self.ended + [beam for beam in longer[:n] if beam.ids[-1] == self.eos or last]
        self.ended = sorted(ended, key=self._merit, reverse=True)[:n]
        self.beams = [beam for beam in longer if beam.ids[-1] != self.eos][:n]

    @property
    def done(self) -> bool:
        if self.passes == self.budget or not self.beams:
            return True
        return len(self.ended) == self.options.num_beams and self._merit(self.beams[0]) <= self._merit(self.ended[-1])

    def reply(self) -> Reply:
        """The best beam of all, ended or cut at the budget."""
        if not self.budget:
            return Reply((), False, ())
        best = self.ended[0]
        finished = best.ids[-1] == self.eos
        n = len(best.ids) - finished
        return Reply(best.ids[:n], finished, best.logprobs[:n], passes=self.passes)

    def _merit(self, beam: Beam) -> float:
        """The score by length: in tokens, or in labels, which tokens that say nothing do not stretch."""
        length = len(beam.prefix.labels) - beam.prefix.labels.count(WILDCARD) + 1 if beam.prefix else len(beam.ids)
        return beam.score / math.pow(length, self.options.length_penalty)

    def _extend(self, logprobs: Tensor, n: int) -> list[Beam]:
        """The n best beams longer by one, best first."""
        if self.scorer:
            return self._extend_heard(logprobs, n, self.scorer)
        scores = torch.tensor([beam.score for beam in self.beams], dtype=logprobs.dtype, device=logprobs.device)
        return self._longer(logprobs, (logprobs + scores[:, None]).flatten().topk(min(n, logprobs.numel())).indices)

    def _longer(self, logprobs: Tensor, places: Tensor) -> list[Beam]:
        """The beams that `places` in the flat (B * V) stand for."""
        parents, tokens = places // logprobs.shape[1], places % logprobs.shape[1]
        steps = logprobs[parents, tokens]
        return [
            Beam((*past.ids, token), (*past.logprobs, step), past.score + step, parent, past.prefix)
            for parent, token, step in zip(parents.tolist(), tokens.tolist(), steps.tolist(), strict=True)
            for past in (self.beams[parent],)
        ]

    def _extend_heard(self, logprobs: Tensor, n: int, scorer: CTCScorer) -> list[Beam]:
        """The n best by both scores, of the `num_beams + 1` tokens the language model likes best behind each beam.

        And of those that say what the encoder heard next.
        """
        vocabulary = logprobs.shape[1]
        liked = logprobs.topk(min(self.options.num_beams + 1, vocabulary)).indices.tolist()
        pasts = [beam.prefix or scorer.prefixes.empty for beam in self.beams]
        behind = [scorer.prefixes.continuation(past) for past in pasts]
        tokens = [
            dict.fromkeys([*row, *scorer.next_tokens(past, labels)])
            for row, past, labels in zip(liked, pasts, behind, strict=True)
        ]
        places = [i * vocabulary + token for i, row in enumerate(tokens) for token in row]
        longer = self._longer(logprobs, torch.tensor(places, device=logprobs.device))
        candidates = [self._candidate(beam, pasts[beam.parent], len(behind[beam.parent]), scorer) for beam in longer]
        return self._best_heard(candidates, n, scorer.prefixes)

    def _candidate(self, beam: Beam, past: Prefix, unsaid: int, scorer: CTCScorer) -> _Candidate:
        """A beam that goes on behind `past`, where the encoder has heard `unsaid` labels more."""
        weight = self.options.ctc_weight
        ended = self.passes == self.budget or beam.ids[-1] == self.eos
        spelling = scorer.pronounce(beam.ids[:-1] if beam.ids[-1] == self.eos else beam.ids)
        labels = tuple(spelling.labels)
        written = (1 - weight) * math.fsum(beam.logprobs) + weight * scorer.prefixes.unscored * spelling.unscored
        if scorer.keywords:
            written += self.options.keyword_boost * scorer.keywords.matched(labels, ended)
        said = max(0, len(labels) - len(past.labels))
        future = 0.0 if ended else self.options.future_cost * max(0, unsaid - said)
        # Nothing is said more probably than its beginning.
        limit = written - future + weight * (past.score if labels[: len(past.labels)] == past.labels else 0.0)
        return _Candidate(beam, past, labels, ended, written, future, limit)

    def _best_heard(self, candidates: list[_Candidate], n: int, scorer: PrefixScorer) -> list[Beam]:
        """The n best once the encoder has been asked, which it is not about those that cannot be among them."""
        waiting = sorted(candidates, key=lambda candidate: candidate.limit, reverse=True)
        best: list[tuple[float, Beam]] = []
        while waiting and (len(best) < n or waiting[0].limit > best[-1][0] - ROUNDING):
            some, waiting = waiting[:n], waiting[n:]
            heard = scorer.extend([one.past for one in some], [one.labels for one in some])
            for one, prefix in zip(some, heard, strict=True):
                score = one.written + self.options.ctc_weight * (prefix.complete if one.ended else prefix.score)
                best.append((score - one.future, replace(one.beam, score=score, prefix=prefix)))
            best = sorted(best, key=lambda one: one[0], reverse=True)[:n]
        return [beam for _, beam in best]


@torch.inference_mode()
def beam_decode(
    model: GraniteSpeech,
    prompts: Sequence[Tensor],
    options: BeamSearch,
    n_audio: Sequence[int],
    scorers: Sequence[CTCScorer] | None = None,
) -> list[Reply]:
    """Decode prompts of embeddings `(L_i, H)`, of which `n_audio[i]` are audio; every one as if it were alone.

    `n_audio` sets the budgets, and adapters are on where it is not 0. `scorers` are needed where `ctc_weight` is
    above 0.
    """
    assert scorers is not None or not options.ctc_weight, "ctc_weight needs scorers"
    eos = model.config.text_config.eos_token_id
    heard: Sequence[CTCScorer | None] = scorers if scorers and options.ctc_weight else [None] * len(prompts)
    budgets = [reply_budget(model, len(prompt), options, n) for prompt, n in zip(prompts, n_audio, strict=True)]
    searches = [Search(options, budget, eos, ear) for budget, ear in zip(budgets, heard, strict=True)]
    for audio in (True, False):
        rows = [i for i, search in enumerate(searches) if search.budget and (n_audio[i] > 0) == audio]
        if rows:
            with model.adapters(audio):
                _search(model.language_model, [prompts[i] for i in rows], [searches[i] for i in rows])
    return [search.reply() for search in searches]


def _search(lm: GraniteForCausalLM, prompts: Sequence[Tensor], searches: list[Search]) -> None:
    """Run searches, each behind its prompt, to their ends."""
    embeddings, lengths = pad_rows(prompts)
    cache = lm.new_cache(len(prompts), embeddings.shape[1])
    states: Tensor = lm(embeddings, cache)
    cache.rewind(lengths)
    hidden = states[torch.arange(len(prompts), device=states.device), lengths - 1]
    while True:
        sizes = [len(search.beams) for search in searches]
        logprobs = lm.logits(hidden).float().log_softmax(-1)
        for search, own in zip(searches, torch.split(logprobs, sizes), strict=True):
            search.step(own)
        starts = [0, *accumulate(sizes)]
        going = [(search, start) for search, start in zip(searches, starts, strict=False) if not search.done]
        if not going:
            return
        searches = [search for search, _ in going]
        past = [start + beam.parent for search, start in going for beam in search.beams]
        tokens = [[beam.ids[-1]] for search in searches for beam in search.beams]
        cache.select(torch.tensor(past, device=hidden.device))
        cache.reserve(1)
        hidden = lm(lm.embed(torch.tensor(tokens, device=hidden.device)), cache)[:, 0]
