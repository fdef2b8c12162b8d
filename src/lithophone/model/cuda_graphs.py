"""Static KV cache and CUDA graph capture for decoder steps.

A step of a large model is a thousand small kernels that take longer to launch than to run; a captured pass of fixed
shape is one launch. On other devices the same pass runs uncaptured (tests).
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from lithophone.model.cache import KVCache
from lithophone.model.config import TextConfig
from lithophone.model.granite import GraniteForCausalLM

CAPACITY = 1024
"""Positions a row has at first: a prompt of 30 s and its reply. Growth copies the cache and records anew."""


class StaticKVCache(KVCache):
    """A cache of a fixed number of rows, at a fixed address while `capacity` stays."""

    def __init__(
        self, config: TextConfig, rows: int, capacity: int, *, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(config, rows, capacity, device=device, dtype=dtype)
        self.starts = torch.zeros(rows, dtype=torch.int64, device=device)
        """Lengths of all rows, those in use and others, where a recorded pass finds them."""
        self.rewind(self.lengths[:0])

    def reserve_rows(self, rows: int) -> None:
        """Check that there is room for so many rows."""
        assert rows <= self.rows, f"the cache has {self.rows} rows, {rows} are needed"


class CapturedView:
    """A static cache inside a captured pass: all rows at full capacity, no control flow on the host."""

    def __init__(self, cache: StaticKVCache) -> None:
        self.cache = cache

    def slots(self, n: int) -> Tensor:
        return self.cache.starts[:, None] + torch.arange(n, device=self.cache.starts.device)

    def attention_mask(self, slots: Tensor) -> tuple[Tensor, bool]:
        keys = torch.arange(self.cache.capacity, device=slots.device)
        return (keys <= slots[..., None])[:, None], False

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        stored = self.cache.stored[layer]
        rows = torch.arange(self.cache.rows, device=keys.device)[:, None]
        slots = self.slots(keys.shape[2])
        stored[0][rows, :, slots] = keys.transpose(1, 2)
        stored[1][rows, :, slots] = values.transpose(1, 2)
        return stored[0], stored[1]

    def advance(self, n: int, lengths: Tensor | None = None) -> None:
        """Nothing: `StaticSteps` counts, outside the captured pass."""


class StaticSteps:
    """Passes of a language model over up to `rows` rows of a `StaticKVCache`."""

    def __init__(self, language_model: GraniteForCausalLM, rows: int, capacity: int = CAPACITY) -> None:
        table = language_model.model.embed_tokens.weight
        self.language_model = language_model
        self.cache = StaticKVCache(language_model.config, rows, capacity, device=table.device, dtype=table.dtype)
        self._recorded: dict[tuple[int, int], _Recording] = {}

    def __call__(self, tokens: Tensor) -> Tensor:
        """Token ids `(n, width)` behind the n rows in use -> hidden states `(n, width, H)`, valid to the next call."""
        n, width = tokens.shape
        padded = 1 << (width - 1).bit_length()
        self.cache.reserve(padded)
        self.cache.starts.zero_()
        self.cache.starts[:n] = self.cache.lengths
        ids = tokens.new_zeros(self.cache.rows, padded)
        ids[:n, :width] = tokens
        hidden = self._pass(ids)
        self.cache.advance(width)
        return hidden[:n, :width]

    def _pass(self, ids: Tensor) -> Tensor:
        if ids.device.type != "cuda":
            return self._read(ids)
        key = (ids.shape[1], self.cache.capacity)
        if key not in self._recorded:
            self._recorded = {kept: r for kept, r in self._recorded.items() if kept[1] == self.cache.capacity}
            self._recorded[key] = _Recording(self, ids)
        return self._recorded[key].replay(ids)

    def _read(self, ids: Tensor) -> Tensor:
        view: Any = CapturedView(self.cache)
        hidden: Tensor = self.language_model(self.language_model.embed(ids), view)
        return hidden


class _Recording:
    """One shape of pass as a CUDA graph, with its own input and output buffers."""

    def __init__(self, steps: StaticSteps, ids: Tensor) -> None:
        self.ids = ids.clone()
        self.graph = torch.cuda.CUDAGraph()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            steps._read(self.ids)  # libraries set themselves up in a first pass, which cannot be recorded
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self.graph):
            self.hidden = steps._read(self.ids)

    def replay(self, ids: Tensor) -> Tensor:
        self.ids.copy_(ids)
        self.graph.replay()
        return self.hidden


_KEPT: weakref.WeakKeyDictionary[GraniteForCausalLM, tuple[weakref.ref[object], StaticSteps]] = (
    weakref.WeakKeyDictionary()
)


def static_steps(language_model: GraniteForCausalLM, rows: int, owner: object) -> StaticSteps:
    """Steps for the exclusive use of `owner` while it lives; buffers of a former owner are reused if large enough."""
    former, steps = _KEPT.get(language_model, (None, None))
    if steps is None or former is None or former() is not None or steps.cache.rows < rows:
        steps = StaticSteps(language_model, rows)
    _KEPT[language_model] = (weakref.ref(owner), steps)
    steps.cache.rewind(steps.cache.lengths[:0])
    return steps
