"""The judge: budgets, endings, probabilities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import Greedy, token_budget
from lithophone.decode.reply import Reply
from lithophone.model.speech import GraniteSpeech
from tests.tiny import audio_prompt, tiny_frames, tiny_model


@pytest.fixture(scope="module")
def model() -> GraniteSpeech:
    return tiny_model().requires_grad_(False)


def decode(model: GraniteSpeech, options: Greedy, before: int = 5) -> Reply:
    audio, counts = model.audio_embeddings(*tiny_frames(60))
    prompt = model.embed([audio_prompt(12, before)], audio, counts)[0]
    return greedy_decode(model, prompt, options, int(counts))


@pytest.mark.parametrize(
    ("options", "n_audio", "budget"),
    [
        (Greedy(), 0, 200), (Greedy(), 300, 200), (Greedy(), 303, 202), (Greedy(), 600, 400), (Greedy(), 30, 200),
        (Greedy(max_new_tokens=7), 600, 7), (Greedy(max_new_tokens_per_30s=31), 450, 47),
    ],
)  # fmt: skip
def test_budget_grows_with_the_audio(options: Greedy, n_audio: int, budget: int) -> None:
    assert token_budget(options, n_audio) == budget


def test_a_reply_is_cut_at_its_budget_and_says_so(model: GraniteSpeech) -> None:
    long, short = decode(model, Greedy(20)), decode(model, Greedy(6))
    assert not short.finished
    assert (short.ids, short.logprobs) == (long.ids[:6], long.logprobs[:6])


def test_a_reply_ends_at_the_end_token_and_leaves_it_out(model: GraniteSpeech) -> None:
    ids = decode(model, Greedy(20)).ids
    other = tiny_model()
    other.config = replace(other.config, text_config=replace(other.config.text_config, eos_token_id=ids[9]))
    reply = decode(other, Greedy(20))
    assert reply.finished
    assert reply.ids == ids[: ids.index(ids[9])]
    assert len(reply.logprobs) == len(reply.ids)


def test_a_reply_is_cut_at_the_last_position(model: GraniteSpeech) -> None:
    limit = model.config.text_config.max_position_embeddings
    reply = decode(model, Greedy(20), before=limit - 12 - 4 - 3)
    assert (len(reply.ids), reply.finished) == (3, False)


def test_logprobs_are_those_of_the_whole_sequence_read_at_once(model: GraniteSpeech) -> None:
    frames, lengths = tiny_frames(60)
    prompt, reply = audio_prompt(12), decode(model, Greedy(10))
    logits, _ = model([[*prompt, *reply.ids]], frames, lengths)
    expected = logits.log_softmax(-1)[0, len(prompt) - 1 : -1].gather(1, torch.tensor(reply.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-5, rtol=0)
