"""Beam search, one prompt at a time: the beams are the rows of its cache.

Equals transformers' `generate(num_beams=n, do_sample=False, early_stopping=False)`, with its rule of when no beam can
win any more: it compares the best running score at its present length. Knows no text, no files, no seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lithophone.decode.greedy import Reply, reply_budget
from lithophone.decode.options import BeamSearch
from lithophone.model.cache import KVCache
from lithophone.model.granite import GraniteForCausalLM
from lithophone.model.speech import GraniteSpeech


@dataclass(frozen=True)
class Beam:
    """A reply so far, with the end-of-text token where it has come; `score` is the sum of its log-probabilities."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    score: float = 0.0
    parent: int = 0
    """Which of the beams of the step before it extends: the row of its past in the cache."""


@torch.inference_mode()
def beam_decode(model: GraniteSpeech, prompt: Tensor, options: BeamSearch, n_audio: int) -> Reply:
    """Decode one prompt of embeddings `(L, H)`, as `model.embed` gives it, with `n_audio` audio embeddings in it.

    `n_audio` sets the budget, and adapters are on where it is not 0.
    """
    budget = reply_budget(model, len(prompt), options, n_audio)
    if not budget:
        return Reply((), False, ())
    eos = model.config.text_config.eos_token_id
    with model.adapters(n_audio > 0):
        best, passes = _search(model.language_model, prompt, options, eos, budget)
    n, finished = len(best.ids), best.ids[-1] == eos
    return Reply(best.ids[: n - finished], finished, best.logprobs[: n - finished], passes=passes)


def _search(lm: GraniteForCausalLM, prompt: Tensor, options: BeamSearch, eos: int, budget: int) -> tuple[Beam, int]:
    """-> the best beam of all, ended or cut at the budget, and the number of passes it took."""
    cache = lm.new_cache(1, len(prompt))
    hidden = lm(prompt[None], cache)[:, -1]
    beams, ended = [Beam()], list[Beam]()

    def merit(beam: Beam) -> float:
        return beam.score / math.pow(len(beam.ids), options.length_penalty)

    for length in range(1, budget + 1):
        longer = _extend(beams, lm.logits(hidden).float().log_softmax(-1), 2 * options.num_beams)
        ended += [beam for beam in longer[: options.num_beams] if beam.ids[-1] == eos or length == budget]
        ended = sorted(ended, key=merit, reverse=True)[: options.num_beams]
        beams = [beam for beam in longer if beam.ids[-1] != eos][: options.num_beams]
        if length == budget or (len(ended) == options.num_beams and merit(beams[0]) <= merit(ended[-1])):
            break
        hidden = _advance(lm, cache, beams)
    return ended[0], length


def _extend(beams: Sequence[Beam], logprobs: Tensor, n: int) -> list[Beam]:
    """Beams and the log-probabilities (B, V) of their next tokens -> the n best beams longer by one, best first."""
    scores = torch.tensor([beam.score for beam in beams], dtype=logprobs.dtype, device=logprobs.device)
    best = (logprobs + scores[:, None]).flatten().topk(min(n, logprobs.numel()))
    parents, tokens = best.indices // logprobs.shape[1], best.indices % logprobs.shape[1]
    steps = logprobs[parents, tokens]
    found = zip(parents.tolist(), tokens.tolist(), steps.tolist(), best.values.tolist(), strict=True)
    return [
        Beam((*beams[parent].ids, token), (*beams[parent].logprobs, step), score, parent)
        for parent, token, step, score in found
    ]


def _advance(lm: GraniteForCausalLM, cache: KVCache, beams: Sequence[Beam]) -> Tensor:
    """Bring the cache into the beams' order and read their last tokens -> hidden states (B, H)."""
    device = cache.lengths.device
    cache.select(torch.tensor([beam.parent for beam in beams], device=device))
    cache.reserve(1)
    tokens = torch.tensor([[beam.ids[-1]] for beam in beams], device=device)
    hidden: Tensor = lm(lm.embed(tokens), cache)
    return hidden[:, 0]
