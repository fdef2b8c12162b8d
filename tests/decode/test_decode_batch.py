"""Ragged batches give the tokens of the judge, in any company."""

from __future__ import annotations

from collections import Counter

import pytest
from torch import Tensor

from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import Greedy
from lithophone.decode.scheduler import decode_batch
from lithophone.model.speech import GraniteSpeech
from tests.decode.lively import assert_same_replies, with_end
from tests.tiny import audio_prompt, tiny_frames, tiny_model

LENGTHS = (437, 1, 201, 200, 199, 16, 90, 400)
OPTIONS = Greedy(24)


@pytest.fixture(scope="module", params=["base", "plus", "lora"])
def model(request: pytest.FixtureRequest) -> GraniteSpeech:
    """A model whose end token is a common one, so that rows finish at different steps."""
    model = tiny_model(request.param).requires_grad_(False)
    prompts, counts = prompts_for(model, LENGTHS)
    replies = decode_batch(model, prompts, OPTIONS, counts)
    return with_end(model, Counter(i for reply in replies for i in set(reply.ids)).most_common(1)[0][0])


def prompts_for(model: GraniteSpeech, lengths: tuple[int, ...]) -> tuple[list[Tensor], list[int]]:
    audio, counts = model.audio_embeddings(*tiny_frames(*lengths))
    ids = [audio_prompt(int(n), before=2 + i, seed=i) for i, n in enumerate(counts)]
    return model.embed(ids, audio, counts), counts.tolist()


def test_a_ragged_batch_of_eight_equals_the_judge_row_by_row(model: GraniteSpeech) -> None:
    prompts, counts = prompts_for(model, LENGTHS)
    replies = decode_batch(model, prompts, OPTIONS, counts)
    judged = [greedy_decode(model, prompt, OPTIONS, n) for prompt, n in zip(prompts, counts, strict=True)]
    assert_same_replies(replies, judged)
    assert [reply.passes for reply in replies] == [reply.passes for reply in judged]
    assert len({len(reply.ids) for reply in replies}) > 2, "rows that all end together prove nothing"


def test_order_and_company_do_not_matter(model: GraniteSpeech) -> None:
    prompts, counts = prompts_for(model, LENGTHS[:4])
    together = [reply.ids for reply in decode_batch(model, prompts, OPTIONS, counts)]
    backwards = [reply.ids for reply in decode_batch(model, prompts[::-1], OPTIONS, counts[::-1])]
    assert together == backwards[::-1]


def test_rows_with_budgets_of_their_own() -> None:
    model = tiny_model().requires_grad_(False)
    prompts = model.embed([audio_prompt(0, seed=i) for i in range(3)])
    n_audio = [0, 600, 450]  # what the budgets are reckoned from
    replies = decode_batch(model, prompts, Greedy(max_new_tokens_per_30s=10), n_audio)
    assert [len(reply.ids) for reply in replies if not reply.finished] == [10, 20, 15]


def test_no_prompts_no_replies(model: GraniteSpeech) -> None:
    assert decode_batch(model, [], OPTIONS, []) == []


def test_a_prompt_without_room_gives_an_empty_unfinished_reply() -> None:
    model = tiny_model().requires_grad_(False)
    limit = model.config.text_config.max_position_embeddings
    full, short = decode_batch(model, model.embed([[1] * limit, [1, 2]]), OPTIONS, [0, 0])
    assert (full.ids, full.finished) == ((), False)
    assert short.ids


def test_adapters_are_on_for_audio_and_off_for_text_in_one_batch() -> None:
    model = tiny_model("lora").requires_grad_(False)
    audio, counts = model.audio_embeddings(*tiny_frames(16))
    heard, written = model.embed([audio_prompt(6)], audio, counts)[0], model.embed([audio_prompt(0)])[0]
    prompts, n_audio = [heard, written, heard], [6, 0, 6]
    judged = [greedy_decode(model, prompt, OPTIONS, n) for prompt, n in zip(prompts, n_audio, strict=True)]
    assert_same_replies(decode_batch(model, prompts, OPTIONS, n_audio), judged)
