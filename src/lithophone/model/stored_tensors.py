"""Tensors in safetensors files, not yet read: names, shapes and dtypes from the headers, values when asked for.

Our names are the published ones. Also read: names of other generations (`tensor_names.py`), the BPE head in
`out_llm.safetensors`, which no index lists, and peft's `adapter_model.safetensors`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lithophone.errors import CheckpointError, ConfigError
from lithophone.model.checkpoint_files import is_file, read_json
from lithophone.model.int4_groups import unpack_groups
from lithophone.model.lora import from_peft_name
from lithophone.model.quantize import COMPUTE_DTYPE, SCALE, dequantize_rows, quantize_rows
from lithophone.model.tensor_names import ANY

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
BPE_HEAD = "out_llm.safetensors"
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

TOLERATED = re.compile(r"(^|\.)(attention_dists|num_batches_tracked|rotary_emb\.(original_)?inv_freq)$")
"""Tables and counters that a file may have or omit."""

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I8": torch.int8, "U8": torch.uint8,
}  # fmt: skip
"""Dtypes that are read, by their names in safetensors."""
FLOATS = tuple(name for name, dtype in DTYPES.items() if dtype.is_floating_point)
INTEGERS = (("I8", "F32"), ("U8", "F16"))
"""Dtypes of weights in safetensors: floats, or integers of 8 bits, or of 4 in pairs, with a tensor of scales."""

SHARD = re.compile(r"[^/\\\x00]{1,200}\.safetensors")
"""Name of a shard in the same folder."""


@dataclass(frozen=True)
class Stored:
    """File, shape and dtype of a tensor not yet read; a weight of 8 or 4 bits where it has a `scale`."""

    file: Path
    key: str
    shape: tuple[int, ...]
    kind: str
    """Dtype in safetensors."""
    begin: int
    end: int
    """First byte in the file, and that behind the last."""
    scale: Stored | None = None
    sparse: bool = False
    """A weight with scales of which the file holds only the rows whose scale is not zero, or nothing."""

    @property
    def in_groups(self) -> bool:
        """Whether the weight has 4 bits."""
        return self.scale is not None and len(self.scale.shape) == 2

    def read(self, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Tensor:
        """The tensor as floats."""
        if self.scale is None:
            return self._values(self.shape).to(device, dtype)
        if self.in_groups:
            return unpack_groups(*self._rows()).to(device, dtype or COMPUTE_DTYPE)
        return dequantize_rows(*self.read_int8(), dtype or COMPUTE_DTYPE).to(device)

    def read_int8(self, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
        """The weight in int8, quantised if stored as floats, and its scales."""
        if self.scale is None or self.in_groups:
            return quantize_rows(self.read(device=device))
        values, scale = self._rows()
        return values.to(device), scale.to(device)

    def _rows(self) -> tuple[Tensor, Tensor]:
        """Integers of all rows, in bytes, and scales."""
        assert self.scale is not None
        scale = self.scale.read()
        shape = (self.shape[1] // 2 if self.in_groups else self.shape[1], *self.shape[2:])
        if not self.sparse:
            return self._values((self.shape[0], *shape)), scale
        held = scale.view(len(scale), -1).any(1)
        values = torch.zeros((self.shape[0], *shape), dtype=self._dtype())
        if held.any():
            values[held] = self._values((int(held.sum()), *shape))
        return values, scale

    def _values(self, shape: tuple[int, ...]) -> Tensor:
        """What the file holds, as it is: one tensor at a time, without a map, so that memory is bounded."""
        values = torch.empty(shape, dtype=self._dtype())
        into: Any = values.flatten().view(torch.uint8).numpy()
        try:
            with self.file.open("rb") as file:
                file.seek(self.begin)
                n_bytes = file.readinto(into) if len(into) == self.end - self.begin else 0
        except OSError as error:
            raise CheckpointError(f"{self.file} cannot be read: {error}") from error
        if n_bytes != len(into):
            raise CheckpointError(f"{self.file}: {self.key} has {n_bytes} bytes, and needs {len(into)}")
        return values

    def _dtype(self) -> torch.dtype:
        if self.kind not in DTYPES:
            raise CheckpointError(f"{self.file}: {self.key} is stored as {self.kind}; read are {', '.join(DTYPES)}")
        return DTYPES[self.kind]


def weight_files(folder: str | Path) -> list[Path]:
    """Files of a checkpoint's tensors: one or the shards of the index, BPE head and adapters.

    Raises CheckpointError where there are none, or a shard is missing.
    """
    folder = Path(folder)
    main = [folder / SINGLE] if is_file(folder / SINGLE) else _shards(folder)
    missing = [path.name for path in main if not is_file(path)]
    if missing:
        raise CheckpointError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names")
    return main + [folder / name for name in (BPE_HEAD, ADAPTER) if is_file(folder / name)]


def stored_tensors(files: Iterable[Path]) -> dict[str, Stored]:
    """Parameter name -> tensor in a file, from headers only. CheckpointError for a damaged file."""
    found: dict[str, Stored] = {}
    for path in files:
        for stored in _read_header(path):
            name = _named(stored)
            if name in found:
                raise CheckpointError(f"{name} is stored twice: in {found[name].file.name} and in {path.name}")
            found[name] = stored
    return _with_scales(found)


def _named(stored: Stored) -> str:
    try:
        return our_name(stored.key, stored.file.name)
    except ConfigError as error:
        raise CheckpointError(f"{stored.file}: {error}") from error


def check_kinds(found: Mapping[str, Stored]) -> None:
    """CheckpointError for weights that are neither floats nor integers with their scales."""
    for name, stored in found.items():
        is_known = (stored.kind, stored.scale.kind) in INTEGERS if stored.scale else stored.kind in FLOATS
        if not is_known and not TOLERATED.search(name):
            seen = f"{stored.kind}{f' with scales in {stored.scale.kind}' if stored.scale else ''}"
            allowed = f"{', '.join(FLOATS)}, I8 with scales in F32, and U8 with scales in F16"
            raise CheckpointError(f"{stored.file}: {stored.key} is stored as {seen}; allowed are {allowed}")


def _with_scales(found: Mapping[str, Stored]) -> dict[str, Stored]:
    """Scales joined to their weights of integers; a scale without a weight, or for other rows, stays a tensor."""
    joined = dict(found)
    for name, scale in found.items():
        weight = found.get(f"{name.removesuffix(SCALE)}weight") if name.endswith(f".{SCALE}") else None
        if weight is None or not (shape := _with_scale_shape(weight, scale)):
            continue
        whole = scale.shape[0] == weight.shape[0]
        if whole or int(scale.read().view(scale.shape[0], -1).any(1).sum()) == weight.shape[0]:
            del joined[name]
            joined[f"{name.removesuffix(SCALE)}weight"] = replace(weight, shape=shape, scale=scale, sparse=not whole)
    return joined


def _with_scale_shape(weight: Stored, scale: Stored) -> tuple[int, ...]:
    """Shape of a weight with these scales; () where they do not fit."""
    if len(weight.shape) < 2 or len(scale.shape) not in (1, 2) or scale.shape[0] < weight.shape[0]:
        return ()
    if len(scale.shape) == 1:
        return (*scale.shape, *weight.shape[1:])
    width = 2 * weight.shape[1]
    fits = weight.kind == "U8" and scale.shape[1] > 0 and width % scale.shape[1] == 0
    return (scale.shape[0], width, *weight.shape[2:]) if fits else ()


def our_name(key: str, file_name: str) -> str:
    """Parameter name of a tensor of any generation."""
    if file_name == BPE_HEAD:
        return f"bpe_head.{key}"
    if file_name == ADAPTER:
        return from_peft_name(key)
    return ANY.ours(key)


def _shards(folder: Path) -> list[Path]:
    """Files of the index, which must lie in the folder."""
    if not is_file(folder / INDEX):
        raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX}")
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(f"{folder / INDEX} is no index of weights: it has no object 'weight_map'")
    wrong = [name for name in places.values() if not isinstance(name, str) or SHARD.fullmatch(name) is None]
    if wrong:
        allowed = "expected names of .safetensors files in the same folder"
        raise CheckpointError(f"{folder / INDEX}: weight_map has {wrong[0]!r:.100}; {allowed}")
    return [folder / name for name in sorted(set(places.values()))]


def _read_header(path: Path) -> list[Stored]:
    try:
        with safe_open(path, framework="pt") as file:  # which checks the header
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            shapes = {key: (tuple(found.get_shape()), found.get_dtype()) for key, found in slices.items()}
        places = _places(path)
        return [Stored(path, key, *of, *places[key]) for key, of in shapes.items()]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; was it downloaded completely?") from error


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """First byte of each tensor of a file, and that behind its last.

    safetensors does not tell, and takes milliseconds to open a file with many tensors.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entries: dict[str, dict[str, list[int]]] = json.loads(file.read(size))
    spans = {key: entry["data_offsets"] for key, entry in entries.items() if key != "__metadata__"}
    return {key: (8 + size + begin, 8 + size + end) for key, (begin, end) in spans.items()}
