"""Beams: the sequences of transformers, and probabilities that a slow loop gives too."""

from __future__ import annotations

import functools
import random
from typing import TYPE_CHECKING

import pytest
import torch

from lithophone.decode.beam import BeamGroup, _placed, extend_groups
from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import BeamSearch, Greedy
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import decode_batch
from lithophone.errors import OptionError
from lithophone.model.speech import GraniteSpeech
from tests.decode.lively import decided_model, lively_model, with_end
from tests.tiny import AUDIO, PAD

if TYPE_CHECKING:
    from transformers import GraniteForCausalLM

BUDGET = 12


def beam(model: GraniteSpeech, prompt: torch.Tensor, options: BeamSearch, n_audio: int = 0) -> Reply:
    """One prompt by itself."""
    (reply,) = decode_batch(model, [prompt], options, [n_audio])
    return reply


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
        eos = beam(with_end(model, AUDIO), prompt, options).ids[3 + seed]
        reply = beam(with_end(model, eos), prompt, options)
        assert [*reply.ids, *[eos] * reply.finished] == theirs(reference, ids, options, eos)
        endings.add(reply.finished)
    assert True in endings, "no reply that ends by itself proves little"


@pytest.mark.parametrize("seed", range(4))
def test_probabilities_are_those_of_a_slow_loop(seed: int) -> None:
    model = lively_model(seed=seed)
    (prompt,) = model.embed([random_ids(6, seed)])
    reply = beam(model, prompt, BeamSearch(BUDGET, num_beams=3))
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
    beams = beam(model, prompt, BeamSearch(BUDGET, num_beams=8))
    assert len(beams.ids) == len(greedy.ids)
    assert sum(beams.logprobs) > sum(greedy.logprobs)


@pytest.mark.parametrize("kind", ["base", "lora"])
def test_a_ragged_batch_is_answered_as_its_prompts_alone(kind: str) -> None:
    model, options = lively_model(kind), BeamSearch(BUDGET, num_beams=3)
    prompts, n_audio = model.embed([random_ids(n, n) for n in (3, 9, 1, 6)]), [0, 3, 3, 0]
    batch = decode_batch(model, prompts, options, n_audio)
    alone = [beam(model, prompt, options, n) for prompt, n in zip(prompts, n_audio, strict=True)]
    assert [(r.ids, r.finished, r.passes) for r in batch] == [(r.ids, r.finished, r.passes) for r in alone]
    for ours, theirs in zip(batch, alone, strict=True):
        torch.testing.assert_close(torch.tensor(ours.logprobs), torch.tensor(theirs.logprobs), atol=1e-5, rtol=1e-4)


def test_prompts_of_a_batch_have_their_own_budgets() -> None:
    model = with_end(lively_model(), AUDIO)
    room = model.config.text_config.max_position_embeddings - 4
    prompts = model.embed([random_ids(n, 1) for n in (room, 5)])
    assert [len(reply.ids) for reply in decode_batch(model, prompts, BeamSearch(BUDGET), [0, 0])] == [4, BUDGET]


def test_adapters_follow_the_audio() -> None:
    model = lively_model("lora")
    (prompt,) = model.embed([random_ids(6, 0)])
    with_audio, without = (beam(model, prompt, BeamSearch(BUDGET), n) for n in (3, 0))
    assert with_audio.logprobs[0] != without.logprobs[0]
    assert without == beam(model, prompt, BeamSearch(BUDGET))


def test_a_prompt_without_room_gives_an_empty_unfinished_reply() -> None:
    model = lively_model()
    (prompt,) = model.embed([random_ids(model.config.text_config.max_position_embeddings, 0)])
    assert beam(model, prompt, BeamSearch()) == Reply((), False, ())


def test_beams_read_no_drafts() -> None:
    model = lively_model()
    with pytest.raises(OptionError, match="a draft was given to BeamSearch"):
        decode_batch(model, model.embed([[1, 2]]), BeamSearch(), [0], drafts=[[3]])


def test_beams_stay_in_the_rows_of_their_pasts_where_they_can() -> None:
    drawn = random.Random(0)
    for _ in range(200):
        n = drawn.randrange(1, 7)
        past = [drawn.randrange(drawn.choice((1, n, 7))) for _ in range(n)]
        order = _placed(past)
        assert sorted(order) == list(range(n)), "every beam has one row"
        stay = sum(past[beam] == row for row, beam in enumerate(order))
        assert stay == len({row for row in past if row < n}), "of the beams of one past one stays"


def test_a_group_reads_and_continues_its_rows_in_any_order() -> None:
    """Whatever the order of the rows, each holds the past of the beam that reads there."""
    generator = torch.Generator().manual_seed(0)
    group = BeamGroup(torch.zeros(3, 4), False, 12, 19, BeamSearch(num_beams=5), None)
    rows: list[tuple[int, ...]] = [()]
    moved = 0
    for _ in range(8):
        extend_groups([(group, (2 * torch.randn(len(rows), 20, generator=generator)).log_softmax(-1))])
        rows = [rows[parent] for parent in group.parents]
        moved += sum(parent != row for row, parent in enumerate(group.parents))
        for row, read in enumerate(group.propose()):
            rows[row] = (*rows[row], *read)
        assert sorted(rows) == sorted(beam.ids for beam in group.search.beams)
    assert moved
