"""Drawing: the distribution is that of transformers' filters, and a row's tokens are its own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import Greedy, Sampling
from lithophone.decode.sampling import sample
from lithophone.decode.scheduler import decode_batch
from lithophone.model.speech import GraniteSpeech
from tests.decode.lively import lively_model, prompts_for

BUDGET = 20


@pytest.fixture(scope="module")
def model() -> GraniteSpeech:
    return lively_model()


def logits_of(seed: int) -> Tensor:
    return 2.0 * torch.randn(20, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "options",
    [
        Sampling(), Sampling(temperature=0.5), Sampling(temperature=3.0), Sampling(top_k=3), Sampling(top_k=50),
        Sampling(top_p=0.6), Sampling(top_p=0.01), Sampling(temperature=2.0, top_k=8, top_p=0.7),
    ],
)  # fmt: skip
def test_evenly_spread_numbers_give_every_token_its_share(options: Sampling) -> None:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    n = 400
    for seed in range(3):
        logits = logits_of(seed)
        drawn = torch.tensor([sample(logits, options, (i + 0.5) / n) for i in range(n)])
        warped = TemperatureLogitsWarper(options.temperature)(None, logits[None])
        warped = warped if options.top_k is None else TopKLogitsWarper(options.top_k)(None, warped)
        warped = TopPLogitsWarper(options.top_p)(None, warped)
        shares = torch.bincount(drawn, minlength=20) / n
        torch.testing.assert_close(shares, warped.softmax(-1)[0], atol=1.5 / n, rtol=0)


@pytest.mark.parametrize("options", [Sampling(), Sampling(top_p=0.5), Sampling(temperature=1e-6), Sampling(top_k=1)])
def test_the_first_and_the_last_number_draw_allowed_tokens(options: Sampling) -> None:
    logits = logits_of(0)
    assert sample(logits, options, 0.0) == int(logits.argmax())
    last = sample(logits, options, 1 - 2**-53)
    assert 0 <= last < len(logits)
    assert (last == int(logits.argmax())) == (options.top_k == 1 or options.temperature < 1)


@pytest.mark.parametrize("top_p", [1e-300, 5e-324, 1e-7])
def test_the_smallest_mass_leaves_the_most_probable_token(top_p: float) -> None:
    logits = logits_of(1)
    for uniform in (0.0, 0.5, 1 - 2**-53):
        assert sample(logits, Sampling(top_p=top_p), uniform) == int(logits.argmax())


def test_a_row_draws_the_same_tokens_in_any_company(model: GraniteSpeech) -> None:
    prompts, options = prompts_for(model, 8), Sampling(BUDGET, temperature=1.5, top_p=0.9, seed=3)
    together = [reply.ids for reply in decode_batch(model, prompts, options, [0] * 8)]
    alone = [decode_batch(model, [prompt], options, [0])[0].ids for prompt in prompts]
    assert together == alone
    assert len(set(together)) == 8


def test_another_seed_draws_other_tokens(model: GraniteSpeech) -> None:
    prompts = prompts_for(model, 1)
    seen = {decode_batch(model, prompts, Sampling(BUDGET, seed=seed), [0])[0].ids for seed in (1, 2, 3, 1)}
    assert len(seen) == 3


@pytest.mark.parametrize("options", [Sampling(BUDGET, top_k=1), Sampling(BUDGET, temperature=1e-6)])
def test_without_freedom_sampling_is_greedy(model: GraniteSpeech, options: Sampling) -> None:
    (prompt,) = prompts_for(model, 1)
    (reply,) = decode_batch(model, [prompt], options, [0])
    assert reply.ids == greedy_decode(model, prompt, Greedy(BUDGET), 0).ids


def test_the_probabilities_of_the_reply_are_the_models_own(model: GraniteSpeech) -> None:
    (prompt,) = prompts_for(model, 1)
    (reply,) = decode_batch(model, [prompt], Sampling(BUDGET, temperature=5.0, top_k=9), [0])
    ids = torch.tensor(reply.ids)
    read = torch.cat((prompt, model.language_model.embed(ids)))[None]
    logprobs = model.language_model.logits(model.language_model(read))[0, len(prompt) - 1 : -1].log_softmax(-1)
    expected = logprobs.gather(-1, ids[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-5, rtol=0)
