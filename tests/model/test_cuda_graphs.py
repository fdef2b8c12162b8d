"""Steps of fixed shapes give what a cache that grows gives, wherever rows stand and however wide a pass is."""

from __future__ import annotations

import gc

import pytest
import torch

from lithophone.model.cache import BLOCK
from lithophone.model.cuda_graphs import StaticSteps, static_steps
from lithophone.model.granite import GraniteForCausalLM
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def lm() -> GraniteForCausalLM:
    return tiny_model().language_model


def prompt(length: int) -> torch.Tensor:
    return torch.randn(1, length, 64, generator=torch.Generator().manual_seed(length))


@torch.inference_mode()
def joined(lm: GraniteForCausalLM, steps: StaticSteps, lengths: list[int]) -> None:
    """Put prompts of these lengths behind the rows that are there."""
    for length in lengths:
        cache = lm.new_cache(1, length)
        lm(prompt(length), cache)
        steps.cache.join(cache)


@torch.inference_mode()
def alone(lm: GraniteForCausalLM, length: int, ids: list[int]) -> torch.Tensor:
    """Hidden states of the ids behind one prompt, without a cache."""
    whole = torch.cat((prompt(length), lm.embed(torch.tensor([ids]))), dim=1)
    return lm(whole)[0, length:]


@torch.inference_mode()
@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_pass_gives_every_row_what_it_would_have_alone(lm: GraniteForCausalLM, width: int) -> None:
    steps = StaticSteps(lm, rows=4, capacity=32)
    joined(lm, steps, [3, 9, 5])
    ids = torch.arange(3 * width).view(3, width) % 50
    hidden = steps(ids)
    for row, length in enumerate((3, 9, 5)):
        torch.testing.assert_close(hidden[row], alone(lm, length, ids[row].tolist()), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_rows_leave_and_others_take_their_place(lm: GraniteForCausalLM) -> None:
    steps = StaticSteps(lm, rows=3, capacity=32)
    joined(lm, steps, [4, 11, 7])
    steps.cache.select([2])
    joined(lm, steps, [6])
    hidden = steps(torch.tensor([[8], [9]]))
    torch.testing.assert_close(hidden[0], alone(lm, 7, [8]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hidden[1], alone(lm, 6, [9]), rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_what_was_just_read_moves_with_its_row(lm: GraniteForCausalLM) -> None:
    steps = StaticSteps(lm, rows=2, capacity=32)
    joined(lm, steps, [4, 9])
    steps(torch.tensor([[8], [5]]))
    steps.cache.select([1])
    torch.testing.assert_close(steps(torch.tensor([[7]]))[0], alone(lm, 9, [5, 7])[1:], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_what_is_taken_back_is_not_seen_any_more(lm: GraniteForCausalLM) -> None:
    steps = StaticSteps(lm, rows=2, capacity=32)
    joined(lm, steps, [4])
    steps(torch.tensor([[8, 9, 3]]))
    steps.cache.rewind(torch.tensor([6]))
    torch.testing.assert_close(steps(torch.tensor([[7]]))[0], alone(lm, 4, [8, 9, 7])[2:], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_it_grows_where_a_row_needs_more(lm: GraniteForCausalLM) -> None:
    steps = StaticSteps(lm, rows=2, capacity=8)
    joined(lm, steps, [6, BLOCK - 1])
    assert steps.cache.capacity == BLOCK
    hidden = steps(torch.tensor([[1, 2], [3, 4]]))
    assert steps.cache.capacity == 2 * BLOCK
    torch.testing.assert_close(hidden[0], alone(lm, 6, [1, 2]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(hidden[1], alone(lm, BLOCK - 1, [3, 4]), rtol=1e-4, atol=1e-5)


def test_more_rows_than_there_are_places_are_refused(lm: GraniteForCausalLM) -> None:
    steps = StaticSteps(lm, rows=1, capacity=8)
    joined(lm, steps, [3])
    with pytest.raises(AssertionError, match="1 rows, 2 are needed"):
        joined(lm, steps, [4])


def test_steps_are_kept_for_the_next_owner_and_never_shared(lm: GraniteForCausalLM) -> None:
    class Owner:
        pass

    first, second = Owner(), Owner()
    steps = static_steps(lm, 2, first)
    joined(lm, steps, [3])
    assert static_steps(lm, 2, second) is not steps
    again = static_steps(lm, 2, first)
    del first, second
    gc.collect()
    third = Owner()
    assert static_steps(lm, 2, third) is again
    assert len(again.cache.lengths) == 0
