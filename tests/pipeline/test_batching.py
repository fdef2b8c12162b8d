"""Batches of similar size, results in the order of the items, bounded look-ahead."""

from __future__ import annotations

import itertools

import pytest

from lithophone.pipeline.batching import LOOK_AHEAD, run_in_order


@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("sizes", [[], [5], [3, 1, 2], [1, 9, 1, 9, 1, 9, 1, 9, 4, 4, 7, 2, 8, 3, 6, 5, 1, 1, 2, 3]])
def test_every_result_once_and_in_order(sizes: list[int], batch_size: int) -> None:
    batches: list[list[int]] = []

    def run(batch: list[int]) -> list[int]:
        batches.append(batch)
        return [10 * size for size in batch]

    assert list(run_in_order(sizes, run, lambda size: size, batch_size)) == [(size, 10 * size) for size in sizes]
    assert all(len(batch) <= batch_size for batch in batches)
    assert all(batch == sorted(batch, reverse=True) for batch in batches)


def test_it_begins_after_one_batch_and_looks_no_further_than_it_must() -> None:
    taken = itertools.count()
    items = (next(taken) for _ in itertools.count())
    results = run_in_order(items, lambda batch: batch, lambda item: item, batch_size=2)
    assert next(results) == (0, 0)
    assert next(taken) == 2
    list(itertools.islice(results, 2))
    assert next(taken) <= 2 + 2 * LOOK_AHEAD + 2
