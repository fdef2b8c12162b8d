"""Key/value cache of the language model for a ragged batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from lithophone.model.config import TextConfig

BLOCK = 64
"""Positions by which `reserve` grows; each growth copies the cache. Attention reads whole blocks: torch's kernels on
CPUs sum over a multiple of 64 keys in the same order, however many, so a row has the same states alone and in a batch.
"""


class KVCache:
    """Row b holds `lengths[b]` positions at slots 0..lengths[b]-1; later slots are stale and masked.

    `stored` is `(layers, 2, rows, key_value_heads, capacity, head_dim)`, keys and values, of which the first
    `len(lengths)` rows are in use; it is written in place: inference only. `reserve` adds positions, `join` and
    `select` rows.
    """

    def __init__(
        self, config: TextConfig, batch: int, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        heads = (config.num_key_value_heads, capacity, config.head_size)
        self.stored = torch.zeros((config.num_hidden_layers, 2, batch, *heads), device=device, dtype=dtype)
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.longest = 0
        """Length of the longest row, on the host: reading it from the device would stall every step."""

    @property
    def rows(self) -> int:
        """Rows there is room for."""
        return self.stored.shape[2]

    @property
    def capacity(self) -> int:
        """Positions of a row."""
        return self.stored.shape[4]

    def slots(self, n: int) -> Tensor:
        """The slots `(B, n)` of each row's next n positions."""
        return self.lengths[:, None] + torch.arange(n, device=self.lengths.device)

    def attention_mask(self, slots: Tensor) -> tuple[Tensor | None, bool]:
        """Mask `(B, 1, n, keys)` of queries at `slots` `(B, n)`, or None, and whether it is causal."""
        if self.longest == 0:
            return None, True
        keys = torch.arange(self._keys(slots.shape[1]), device=slots.device)
        return (keys <= slots[..., None])[:, None], False

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store `(B, key_value_heads, n, head_dim)` behind each row; gives the slots that `attention_mask` is for."""
        needed, end = self.longest + keys.shape[2], self._keys(keys.shape[2])
        assert needed <= self.capacity, f"the cache holds {self.capacity} positions, {needed} are needed"
        stored = self.stored[layer, :, : len(self.lengths)]
        self._store(stored[0], keys)
        self._store(stored[1], values)
        return stored[0, :, :, :end], stored[1, :, :, :end]

    def _keys(self, n: int) -> int:
        """Slots that the next n positions attend to: those of a prompt to themselves, later ones to whole blocks."""
        needed = self.longest + n
        return needed if self.longest == 0 else min(self.capacity, -(-needed // BLOCK) * BLOCK)

    def _store(self, stored: Tensor, new: Tensor) -> None:
        batch, _, n, _ = new.shape
        if batch == 1 or self.longest == 0:
            stored[:, :, self.longest : self.longest + n] = new
        else:
            rows = torch.arange(batch, device=new.device)[:, None]
            stored[rows, :, self.slots(n)] = new.transpose(1, 2)

    def advance(self, n: int, lengths: Tensor | None = None) -> None:
        """Count the n positions just written, or of each row `lengths` `(B,)` of them."""
        if lengths is None:
            self.lengths = self.lengths + n
            self.longest += n
        else:
            self.rewind(self.lengths + lengths)

    def rewind(self, lengths: Tensor) -> None:
        """Drop all positions from `lengths` `(B,)` on."""
        self.lengths = lengths
        self.longest = int(lengths.max()) if len(lengths) else 0

    def reserve(self, n: int) -> None:
        """Make room for n more positions behind the longest row."""
        self._grow(self.longest + n)

    def select(self, rows: Sequence[int], shared: Sequence[int] | None = None) -> None:
        """Keep these rows, in this order, repeats allowed. Rows that stay are not copied.

        `shared[i]`: first positions that row i and the row that takes its place have in common; by default none.
        """
        moved: dict[int, list[int]] = {}
        for row, source in enumerate(rows):
            if row != source:
                moved.setdefault(shared[row] if shared else 0, []).append(row)
        whole = moved.pop(0, [])
        taken = self._read(whole, rows, 0)
        for start, some in moved.items():
            self._write(some, start, self._read(some, rows, start))
        self.reserve_rows(len(rows))
        self._write(whole, 0, taken)
        self.rewind(self.lengths[self._index(rows)])

    def _read(self, rows: Sequence[int], sources: Sequence[int], start: int) -> Tensor:
        """Copies of the sources of these rows, from the position `start` on."""
        return self.stored[..., start : self.longest, :].index_select(2, self._index([sources[row] for row in rows]))

    def _write(self, rows: Sequence[int], start: int, taken: Tensor) -> None:
        if rows:
            self.stored[..., start : self.longest, :].index_copy_(2, self._index(rows), taken)

    def _index(self, rows: Sequence[int]) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self.lengths.device)

    def join(self, other: KVCache) -> None:
        """Append the rows of another cache of the same model."""
        n, more, end = len(self.lengths), len(other.lengths), other.longest
        self._grow(end)
        self.reserve_rows(n + more)
        self.stored[:, :, n : n + more, :, :end] = other.stored[:, :, :more, :, :end]
        self.rewind(torch.cat((self.lengths, other.lengths)))

    def reserve_rows(self, rows: int) -> None:
        """Make room for so many rows; growth copies the cache."""
        if rows > self.rows:
            self.stored = F.pad(self.stored, (0, 0, 0, 0, 0, 0, 0, rows - self.rows))

    def _grow(self, needed: int) -> None:
        """Make room for so many positions, in whole blocks."""
        if needed > self.capacity:
            self.stored = F.pad(self.stored, (0, 0, 0, -(-needed // BLOCK) * BLOCK - self.capacity))
