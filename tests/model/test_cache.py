"""The cache: rows that grow, join, leave and come twice keep what they hold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lithophone.model.cache import BLOCK
from lithophone.model.granite import GraniteForCausalLM, pad_rows
from tests.tiny import VOCABULARY, randomise, tiny_config


@pytest.fixture(scope="module")
def lm() -> GraniteForCausalLM:
    return randomise(GraniteForCausalLM(tiny_config().text_config)).requires_grad_(False)


def random_rows(lm: GraniteForCausalLM, *lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [lm.embed(torch.randint(VOCABULARY, (n,), generator=generator)) for n in lengths]


def test_room_comes_in_blocks_and_only_where_it_is_needed(lm: GraniteForCausalLM) -> None:
    cache = lm.new_cache(1, 0)
    cache.reserve(1)
    assert cache.capacity == BLOCK
    cache.reserve(BLOCK)
    assert cache.capacity == BLOCK
    cache.reserve(BLOCK + 1)
    assert cache.capacity == 2 * BLOCK


def test_a_cache_that_grew_holds_what_it_held(lm: GraniteForCausalLM) -> None:
    (row,) = random_rows(lm, 12)
    cache = lm.new_cache(1, 10)
    lm(row[None, :10], cache)
    cache.reserve(2)
    torch.testing.assert_close(lm(row[None, 10:], cache), lm(row[None])[:, 10:], atol=1e-5, rtol=0)


def test_rows_of_two_caches_go_on_in_one(lm: GraniteForCausalLM) -> None:
    rows = random_rows(lm, 5, 9, 20)
    first, second = lm.new_cache(2, 12), lm.new_cache(1, 20)
    lm(pad_rows([rows[0][:-2], rows[1][:-2]])[0], first, lengths=torch.tensor([3, 7]))
    lm(rows[2][None, :-2], second)
    first.join(second)
    first.reserve(2)
    assert first.lengths.tolist() == [3, 7, 18]
    hidden = lm(torch.stack([row[-2:] for row in rows]), first)
    for ours, row in zip(hidden, rows, strict=True):
        torch.testing.assert_close(ours, lm(row[None])[0, -2:], atol=1e-5, rtol=0)


def test_a_row_that_is_named_twice_goes_two_ways(lm: GraniteForCausalLM) -> None:
    past, *ways = random_rows(lm, 6, 2, 2)
    cache = lm.new_cache(1, 8)
    lm(past[None], cache)
    cache.select([0, 0])
    hidden = lm(torch.stack(ways), cache)
    for ours, way in zip(hidden, ways, strict=True):
        torch.testing.assert_close(ours, lm(torch.cat((past, way))[None])[0, -2:], atol=1e-5, rtol=0)


def test_rows_move_and_share_what_they_have_in_common(lm: GraniteForCausalLM) -> None:
    """Of four rows of two prompts one leaves, one goes on in two places, and one moves forward."""
    first, second, *ways = random_rows(lm, 6, 3, 2, 2, 2, 2)
    cache = lm.new_cache(2, 0)
    cache.reserve_rows(4)
    cache.reserve(8)
    lm(pad_rows([first, second])[0], cache, lengths=torch.tensor([6, 3]))
    cache.select([0, 1, 0, 1])
    lm(torch.stack(ways), cache)
    cache.select([2, 3, 2], [6, 0, 6])
    assert cache.lengths.tolist() == [8, 5, 8]
    (more,) = random_rows(lm, 4)
    pasts = [torch.cat((first, ways[2])), torch.cat((second, ways[3])), torch.cat((first, ways[2]))]
    for ours, past in zip(lm(more.expand(3, -1, -1), cache), pasts, strict=True):
        torch.testing.assert_close(ours, lm(torch.cat((past, more))[None])[0, -4:], atol=1e-5, rtol=0)


def test_a_cache_that_joins_rows_that_are_longer_grows_by_whole_blocks(lm: GraniteForCausalLM) -> None:
    short, long = random_rows(lm, 5, BLOCK + 3)
    first, second = lm.new_cache(1, 0), lm.new_cache(1, 0)
    for row, cache in ((short, first), (long, second)):
        cache.reserve(len(row))
        lm(row[None], cache)
    first.join(second)
    assert (first.rows, first.capacity) == (2, 2 * BLOCK)
