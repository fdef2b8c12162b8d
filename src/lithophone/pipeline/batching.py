"""Items of different size, run in batches of similar size, results in the order of the items.

Looks ahead over a bounded number of items, so memory does not grow with how many there are. Knows no audio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOOK_AHEAD = 4
"""Batches that are sorted by size together."""


def run_in_order(
    items: Iterable[Item],
    run: Callable[[list[Item]], list[Result]],
    size: Callable[[Item], int],
    batch_size: int,
) -> Iterator[tuple[Item, Result]]:
    """Pairs of item and result, in the order of `items`, each given out as soon as all before it are done.

    `run` takes 1 to `batch_size` items of similar `size`, the largest first, and gives as many results.
    """
    for block in _blocks(iter(items), batch_size):
        done: dict[int, Result] = {}
        given = 0
        for batch in _batches(block, size, batch_size):
            done.update(zip(batch, run([block[i] for i in batch]), strict=True))
            while given in done:
                yield block[given], done.pop(given)
                given += 1


def _blocks(items: Iterator[Item], batch_size: int) -> Iterator[list[Item]]:
    """The first block is a single batch, so that a stream begins at once."""
    block = list(islice(items, batch_size))
    while block:
        yield block
        block = list(islice(items, batch_size * LOOK_AHEAD))


def _batches(block: list[Item], size: Callable[[Item], int], batch_size: int) -> Iterator[list[int]]:
    """Positions in the block, largest items first."""
    order = sorted(range(len(block)), key=lambda i: -size(block[i]))
    return (order[i : i + batch_size] for i in range(0, len(order), batch_size))
