"""Key/value cache of the language model for a ragged batch."""

from __future__ import annotations

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

    Per layer one tensor `(2, B, key_value_heads, capacity, head_dim)`, keys and values, written in place: inference
    only. `reserve` adds positions, `join` rows.
    """

    def __init__(
        self, config: TextConfig, batch: int, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (2, batch, config.num_key_value_heads, capacity, config.head_size)
        self.capacity = capacity
        self.layers = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.longest = 0
        """Length of the longest row, on the host: reading it from the device would stall every step."""

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
        stored = self.layers[layer]
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
        needed = self.longest + n
        if needed > self.capacity:
            self._grow(-(-needed // BLOCK) * BLOCK)

    def select(self, rows: Tensor, shared: int = 0) -> None:
        """Keep these rows `(n,)`, in this order, repeats allowed. Rows that stay are not copied.

        `shared`: first positions that are equal in a row and in that which takes its place.
        """
        if len(rows) == len(self.lengths):
            self._move(rows, shared)
        else:
            self.layers = [stored[:, rows] for stored in self.layers]
        self.rewind(self.lengths[rows])

    def _move(self, rows: Tensor, shared: int = 0) -> None:
        """Write `rows[i]` to row i, in place, from the position `shared` on."""
        moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
        if len(moved):
            for stored in self.layers:
                stored[:, moved, :, shared : self.longest] = stored[:, rows[moved], :, shared : self.longest]

    def join(self, other: KVCache) -> None:
        """Append the rows of another cache of the same model, which is used up."""
        self._grow(max(self.capacity, other.capacity))
        other._grow(self.capacity)
        for layer, (ours, theirs) in enumerate(zip(self.layers, other.layers, strict=True)):
            self.layers[layer] = torch.cat((ours, theirs), dim=1)
        self.rewind(torch.cat((self.lengths, other.lengths)))

    def _grow(self, capacity: int) -> None:
        more, self.capacity = capacity - self.capacity, capacity
        if more:
            for layer, stored in enumerate(self.layers):
                self.layers[layer] = F.pad(stored, (0, 0, 0, more))
