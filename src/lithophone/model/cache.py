"""The key/value cache of the language model, for a ragged batch. Knows shapes only: no layers, no ids."""

from __future__ import annotations

import torch
from torch import Tensor

from lithophone.config import TextConfig


class KVCache:
    """Keys and values of a ragged batch, allocated once.

    Row b holds `lengths[b]` positions, at slots 0..lengths[b]-1; what stands behind them is stale and is never seen.
    Per layer `(B, key_value_heads, capacity, head_dim)`. For inference only: writing is in place.
    """

    def __init__(
        self, config: TextConfig, batch: int, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        self.capacity = capacity
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.num_hidden_layers)]
        self.lengths = torch.zeros(batch, dtype=torch.int64, device=device)
        self.longest = 0
        """The longest row, as a Python number: asking the device for it at every step would stall it."""

    def slots(self, n: int) -> Tensor:
        """The slots `(B, n)` that the next n positions of every row will take."""
        return self.lengths[:, None] + torch.arange(n, device=self.lengths.device)

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store `(B, key_value_heads, n, head_dim)` behind each row; gives all slots up to the longest row's end."""
        end = self.longest + keys.shape[2]
        assert end <= self.capacity, f"the cache holds {self.capacity} positions, {end} are needed"
        for stored, new in ((self.keys[layer], keys), (self.values[layer], values)):
            self._store(stored, new)
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def _store(self, stored: Tensor, new: Tensor) -> None:
        batch, _, n, _ = new.shape
        if batch == 1 or self.longest == 0:
            stored[:, :, self.longest : self.longest + n] = new
        else:
            rows = torch.arange(batch, device=new.device)[:, None]
            stored[rows, :, self.slots(n)] = new.transpose(1, 2)

    def advance(self, n: int, lengths: Tensor | None = None) -> None:
        """Count the n positions just written; with `lengths` `(B,)` only that many of them in each row are kept."""
        if lengths is None:
            self.lengths = self.lengths + n
            self.longest += n
        else:
            self.rewind(self.lengths + lengths)

    def rewind(self, lengths: Tensor) -> None:
        """Forget all positions from `lengths` `(B,)` on."""
        self.lengths = lengths
        self.longest = int(lengths.max()) if len(lengths) else 0

    def select(self, rows: Tensor) -> None:
        """Keep only these rows `(n,)`, in this order."""
        self.keys = [keys[rows] for keys in self.keys]
        self.values = [values[rows] for values in self.values]
        self.rewind(self.lengths[rows])
