"""Beams: the sequences of transformers, and probabilities that a slow loop gives too."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
import torch

from lithophone.decode.batched import decode_batch
from lithophone.decode.beam import beam_decode
from lithophone.decode.greedy import Reply, greedy_decode
from lithophone.decode.options import BeamSearch, Greedy
from lithophone.errors import OptionError
from lithophone.model.speech import GraniteSpeech
from tests.decode.lively import decided_model, lively_model, with_end
from tests.tiny import AUDIO, PAD

if TYPE_CHECKING:
    from transformers import GraniteForCausalLM

BUDGET = 12


def random_ids(n: int, seed: int) -> torch.Tensor:
    return torch.randint(PAD, (n,), generator=torch.Generator().manual_seed(seed))


@functools.cache
def pair(kind: str, seed: int) -> tuple[GraniteSpeech, GraniteForCausalLM]:
    """Ours and the transformers model of its language part, which divides its logits, with the same weights."""
    from transformers import GraniteConfig, GraniteForCausalLM

    model = decided_model(kind, seed)
    reference = GraniteForCausalLM(GraniteConfig(**model.config.text_config.to_dict())).eval()
    state = model.language_model.state_dict()
    reference.load_state_dict({"lm_head.weight": state["model.embed_tokens.weight"]} | state)
    return model, reference


def theirs(reference: GraniteForCausalLM, ids: torch.Tensor, options: BeamSearch, eos: int) -> list[int]:
    """What transformers generates, with the end token where it came to it."""
    generated = reference.generate(
        ids[None], attention_mask=torch.ones_like(ids[None]), num_beams=options.num_beams, do_sample=False,
        early_stopping=False, length_penalty=options.length_penalty, max_new_tokens=options.max_new_tokens,
        eos_token_id=eos,
    )  # fmt: skip
    out: list[int] = generated[0, len(ids) :].tolist()
    return out


@pytest.mark.parametrize("num_beams", [2, 4])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -1.0])
@pytest.mark.parametrize("kind", ["base", "plus"])
def test_the_sequences_of_transformers(kind: str, num_beams: int, length_penalty: float) -> None:
    options = BeamSearch(BUDGET, num_beams=num_beams, length_penalty=length_penalty)
    endings = set()
    for seed in range(3):
        (model, reference), ids = pair(kind, seed), random_ids(5 + seed, seed)
        (prompt,) = model.embed([ids])
        eos = beam_decode(with_end(model, AUDIO), prompt, options, 0).ids[3 + seed]
        reply = beam_decode(with_end(model, eos), prompt, options, 0)
        assert [*reply.ids, *[eos] * reply.finished] == theirs(reference, ids, options, eos)
        endings.add(reply.finished)
    assert True in endings, "no reply that ends by itself proves little"


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_are_those_of_a_slow_loop(seed: int) -> None:
    model = lively_model(seed=seed)
    (prompt,) = model.embed([random_ids(6, seed)])
    reply = beam_decode(model, prompt, BeamSearch(BUDGET, num_beams=3), 0)
    torch.testing.assert_close(torch.tensor(reply.logprobs), torch.tensor(slow(model, prompt, reply)))
    assert reply.passes >= len(reply.ids)


@torch.inference_mode()
def slow(model: GraniteSpeech, prompt: torch.Tensor, reply: Reply) -> list[float]:
    """The log-probability of every token of a reply, the whole sequence read again for each."""
    logprobs = []
    for token in reply.ids:
        logits = model.language_model.logits(model.language_model(prompt[None]))[0, -1]
        logprobs.append(float(logits.log_softmax(-1)[token]))
        prompt = torch.cat((prompt, model.language_model.embed(torch.tensor([token]))))
    return logprobs


def test_more_beams_find_what_is_more_probable_than_the_greedy_reply() -> None:
    model = decided_model()
    (prompt,) = model.embed([random_ids(6, 0)])
    greedy = greedy_decode(model, prompt, Greedy(BUDGET), 0)
    beams = beam_decode(model, prompt, BeamSearch(BUDGET, num_beams=8), 0)
    assert len(beams.ids) == len(greedy.ids)
    assert sum(beams.logprobs) > sum(greedy.logprobs)


def test_batches_of_prompts_go_one_by_one() -> None:
    model, options = lively_model(), BeamSearch(BUDGET)
    prompts = model.embed([random_ids(n, n) for n in (3, 9)])
    assert decode_batch(model, prompts, options, [0, 0]) == [beam_decode(model, p, options, 0) for p in prompts]


def test_adapters_follow_the_audio() -> None:
    model = lively_model("lora")
    (prompt,) = model.embed([random_ids(6, 0)])
    with_audio, without = (beam_decode(model, prompt, BeamSearch(BUDGET), n) for n in (3, 0))
    assert with_audio.logprobs[0] != without.logprobs[0]
    assert without == beam_decode(model, prompt, BeamSearch(BUDGET), 0)


def test_a_prompt_without_room_gives_an_empty_unfinished_reply() -> None:
    model = lively_model()
    (prompt,) = model.embed([random_ids(model.config.text_config.max_position_embeddings, 0)])
    assert beam_decode(model, prompt, BeamSearch(), 0) == Reply((), False, ())


def test_beams_read_no_drafts() -> None:
    model = lively_model()
    with pytest.raises(OptionError, match="a draft was given to BeamSearch"):
        decode_batch(model, model.embed([[1, 2]]), BeamSearch(), [0], drafts=[[3]])
