"""safetensors files <-> parameters of a model, by name, strictly.

Our names are the published ones. Also read: names of other generations (`tensor_names.py`), the BPE head in
`out_llm.safetensors`, which no index lists, and peft's `adapter_model.safetensors`. BatchNorm statistics take the
model's dtype, as in `transformers`: some kernels refuse mixed dtypes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lithophone.errors import CheckpointError, ConfigError
from lithophone.files import replacing, write_json
from lithophone.model.checkpoint_files import is_file, read_json
from lithophone.model.conformer import FeedForward
from lithophone.model.granite import MLP
from lithophone.model.int4_groups import group_size, pack_groups, unpack_groups
from lithophone.model.lora import LoraConfig, LoraLinear, from_peft_name, is_adapter, to_peft_name
from lithophone.model.quantize import (
    COMPUTE_DTYPE,
    SCALE,
    Operand,
    dequantize_rows,
    int8_groups,
    quantize_rows,
    set_int8,
)
from lithophone.model.tensor_names import ANY, PUBLISHED, Names

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
BPE_HEAD = "out_llm.safetensors"
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

LM_HEAD = "language_model.lm_head.weight"
EMBEDDINGS = "language_model.model.embed_tokens.weight"

SHARD_BYTES = 4_000_000_000
"""Above this size the weights are split into several files."""

TOLERATED = re.compile(r"(^|\.)(attention_dists|num_batches_tracked|rotary_emb\.(original_)?inv_freq)$")
"""Tables and counters that a file may have or omit."""

NAMES_SHOWN = 20

FLOATS = ("F64", "F32", "F16", "BF16")
INTEGERS = (("I8", "F32"), ("U8", "F16"))
"""Dtypes of weights in safetensors: floats, or integers of 8 bits, or of 4 in pairs, with a tensor of scales."""

SHARD = re.compile(r"[^/\\\x00]{1,200}\.safetensors")
"""Name of a shard in the same folder."""
LAYER = re.compile(r"(.*?)\.(\d{1,9})\..*")
"""A tensor in a list of layers: the list's path, and the layer's number."""


@dataclass(frozen=True)
class Stored:
    """File, shape and dtype of a tensor not yet read; a weight of 8 or 4 bits where it has a `scale`."""

    file: Path
    key: str
    shape: tuple[int, ...]
    kind: str = "F32"
    """Dtype in safetensors."""
    scale: Stored | None = None
    sparse: bool = False
    """A weight with scales of which the file holds only the rows whose scale is not zero, or nothing."""

    @property
    def in_groups(self) -> bool:
        """Whether the weight has 4 bits."""
        return self.scale is not None and len(self.scale.shape) == 2

    def read(self, dtype: torch.dtype | None = None, device: str | torch.device = "cpu") -> Tensor:
        """The tensor as floats, as a copy."""
        if self.scale is None:
            return self._copy(dtype, device)
        if self.in_groups:
            rows = unpack_groups(*self._held(torch.uint8))
            return rows.to(device, dtype or COMPUTE_DTYPE)
        return dequantize_rows(*self.read_int8(), dtype or COMPUTE_DTYPE).to(device)

    def read_int8(self, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
        """The weight in int8, quantised if stored as floats, and its scales."""
        if self.scale is None:
            with self._mapped() as weight:
                return quantize_rows(weight.to(device))
        if self.in_groups:
            return quantize_rows(self.read(torch.float32, device))
        values, scale = self._held(torch.int8)
        return values.to(device), scale.to(device)

    def _held(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Integers of all rows, packed or not, and scales."""
        assert self.scale is not None
        scale = self.scale.read()
        width = self.shape[1] // 2 if self.in_groups else self.shape[1]
        shape = (self.shape[0], width, *self.shape[2:])
        if not self.sparse:
            with self._mapped() as rows:
                return torch.empty(shape, dtype=dtype).copy_(rows), scale
        values, held = torch.zeros(shape, dtype=dtype), scale.view(len(scale), -1).any(1)
        if held.any():
            with self._mapped() as rows:
                values[held] = rows
        return values, scale

    def _copy(self, dtype: torch.dtype | None, device: str | torch.device) -> Tensor:
        with self._mapped() as mapped:
            kind = dtype if dtype is not None and mapped.is_floating_point() else mapped.dtype
            return torch.empty(self.shape, dtype=kind, device=device).copy_(mapped)

    @contextmanager
    def _mapped(self) -> Iterator[Tensor]:
        """The tensor in the mapped file; mapped one at a time to bound memory."""
        with safe_open(self.file, framework="pt") as file:
            yield file.get_tensor(self.key)


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


def layer_counts(names: Iterable[str]) -> dict[str, int]:
    """Number of layers by list, from tensor names: `encoder.layers` -> 16."""
    numbers: dict[str, set[str]] = {}
    for found in filter(None, map(LAYER.fullmatch, names)):
        numbers.setdefault(found[1], set()).add(found[2])
    return {path: len(layers) for path, layers in numbers.items()}


def check_kinds(found: Mapping[str, Stored]) -> None:
    """CheckpointError for weights that are neither floats nor integers with their scales."""
    for name, stored in found.items():
        integers = stored.scale is not None and (stored.kind, stored.scale.kind) in INTEGERS
        if stored.kind not in FLOATS and not integers and not TOLERATED.search(name):
            allowed = f"{', '.join(FLOATS)}, I8 with scales in F32, and U8 with scales in F16"
            raise CheckpointError(f"{stored.file}: {stored.key} is stored as {stored.kind}; allowed are {allowed}")


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


def _with_zeros(found: Mapping[str, Stored], wanted: Mapping[str, Tensor]) -> dict[str, Stored]:
    """Weights that are wanted, and of which there are scales of zero alone."""
    joined = dict(found)
    for name, weight in wanted.items():
        scale = found.get(f"{name.removesuffix('weight')}{SCALE}") if name.endswith(".weight") else None
        if name not in found and scale is not None and scale.shape == weight.shape[:1] and not scale.read().any():
            del joined[f"{name.removesuffix('weight')}{SCALE}"]
            joined[name] = replace(scale, shape=tuple(weight.shape), kind=INTEGERS[0][0], scale=scale, sparse=True)
    return joined


def our_name(key: str, file_name: str) -> str:
    """Parameter name of a tensor of any generation."""
    if file_name == BPE_HEAD:
        return f"bpe_head.{key}"
    if file_name == ADAPTER:
        return from_peft_name(key)
    return ANY.ours(key)


def load_weights(
    model: nn.Module,
    files: Sequence[Path],
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> None:
    """Fill every parameter and buffer of `model`, which may be on the meta device, in `dtype` on `device`.

    Files may hold floats or int8 for any `dtype`; with int8, other layers take COMPUTE_DTYPE. Names and shapes are
    compared before reading; at most one tensor is held twice. Raises CheckpointError that lists missing, unexpected and
    misshapen tensors.
    """
    found = stored_tensors(files)
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not TOLERATED.search(name)}
    found = {name: stored for name, stored in found.items() if not TOLERATED.search(name)}
    if LM_HEAD in found and LM_HEAD not in wanted and EMBEDDINGS in found:
        _check_tied(found.pop(LM_HEAD), found[EMBEDDINGS])
    found = _with_zeros(found, wanted)
    _compare(wanted, found)
    check_kinds(found)
    groups = int8_groups(model) if dtype is torch.int8 else []
    kind = COMPUTE_DTYPE if dtype is torch.int8 else dtype
    for layers in groups:
        weights = [found.pop(f"{path}.weight") for path in layers]
        set_int8(layers, [weight.read_int8(device) for weight in weights], kind)
    for name, stored in found.items():
        _place(model, name, stored.read(kind, device))
    _settle_counters(model, device)
    if groups:
        model.requires_grad_(False)
    _skip_constant(model)


def _skip_constant(model: nn.Module) -> None:
    """Mark feed-forwards with weights of zeros, which models from Whisper have."""
    for part in model.modules():
        if isinstance(part, FeedForward):
            part.constant = _only_bias(part.up_proj) and _only_bias(part.down_proj)
        elif isinstance(part, MLP) and isinstance(part.up_proj.weight, Operand):
            part.constant_gate = _only_bias(part.up_proj)
            part.constant = all(map(_only_bias, (part.up_proj, part.gate_proj, part.down_proj)))


def _only_bias(layer: nn.Linear) -> bool:
    """Whether the layer has a bias, and no weight other than zero."""
    values = layer.weight.scale if isinstance(layer.weight, Operand) else layer.weight
    return type(layer) is nn.Linear and layer.bias is not None and not values.any()


def save_weights(
    model: nn.Module,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
    names: Names = PUBLISHED,
    four_bits: Callable[[str], bool] = lambda name: False,
) -> None:
    """Write all tensors under a generation's `names`, in shards of at most `shard_bytes` or one tensor.

    Of int8 weights the rows of zeros are left out, which their scales tell: a model from Whisper has millions of them.
    Those of which `four_bits` says so by their name are written with 4 bits a weight (`int4_groups.py`). BPE head and
    adapters get files of their own; older weight files are removed. Raises CheckpointError for merged adapters.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    adapter_config = lora_config(model)
    main, head, adapters = _by_file(_without_zeros(_in_groups(model.state_dict(), four_bits)))
    written = _write_shards(folder, {names.theirs(name): t for name, t in main.items()}, dtype, shard_bytes)
    written += [_write(folder / BPE_HEAD, head, dtype)] if head else []
    written += write_adapter(folder, adapters, adapter_config, dtype) if adapter_config is not None else []
    _remove_others(folder, written)


def _in_groups(state: Mapping[str, Tensor], four_bits: Callable[[str], bool]) -> dict[str, Tensor]:
    """int8 weights as 4 bits, where `four_bits` says so and their rows have groups."""
    packed = dict(state)
    for name, scale_name in _scaled(state).items():
        weight = state[name]
        if four_bits(name) and group_size(weight[0].numel()) is not None:
            floats = dequantize_rows(weight, state[scale_name], torch.float32)
            packed[name], packed[scale_name] = pack_groups(floats)
    return packed


def _without_zeros(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the rows whose scales are zero, and without the weights of which no row is left.

    Their scales stand for them; those of a weight without rows are those of int8, which is smaller.
    """
    kept = dict(state)
    for name, scale_name in _scaled(state).items():
        held = state[scale_name].view(len(state[scale_name]), -1).any(1)
        if not held.all():
            kept[name] = state[name][held]
        if not held.any():
            del kept[name]
            kept[scale_name] = torch.zeros(len(held))
    return kept


def _scaled(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of weights with scales -> names of these."""
    scales = {name: f"{name.removesuffix('weight')}{SCALE}" for name in state if name.endswith(".weight")}
    return {name: scale for name, scale in scales.items() if scale in state}


def write_adapter(
    folder: Path, tensors: Mapping[str, Tensor], config: LoraConfig, dtype: torch.dtype | None = None
) -> list[Path]:
    """Adapters and configuration in the format of `peft` -> both paths."""
    named = {to_peft_name(name): tensor for name, tensor in tensors.items()}
    files = [_write(folder / ADAPTER, named, dtype), folder / ADAPTER_CONFIG]
    write_json(folder / ADAPTER_CONFIG, config.to_dict())
    return files


def _by_file(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of the model, of the BPE head (names of its file), and of adapters."""
    head = {name.removeprefix("bpe_head."): t for name, t in tensors.items() if name.startswith("bpe_head.")}
    adapters = {name: t for name, t in tensors.items() if is_adapter(name)}
    main = {name: t for name, t in tensors.items() if not (name.startswith("bpe_head.") or is_adapter(name))}
    return main, head, adapters


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
        with safe_open(path, framework="pt") as file:
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            return [Stored(path, key, tuple(s.get_shape()), s.get_dtype()) for key, s in slices.items()]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}; was it downloaded completely?") from error


def _compare(wanted: Mapping[str, Tensor], found: Mapping[str, Stored]) -> None:
    missing = [f"{name} {list(wanted[name].shape)}" for name in wanted if name not in found]
    unexpected = [f"{name} {list(found[name].shape)}" for name in found if name not in wanted]
    misshapen = [
        f"{name} is {list(found[name].shape)}, expected {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tuple(tensor.shape)
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "wrong shape": misshapen}
    report = [f"{kind} ({len(names)}): {_shown(names)}" for kind, names in kinds.items() if names]
    if report:
        raise CheckpointError("the weights do not fit the configuration\n  " + "\n  ".join(report))


def _shown(names: list[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return "; ".join(sorted(names)[:NAMES_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _check_tied(head: Stored, embeddings: Stored) -> None:
    """A stored head that is tied to the embeddings must equal them."""
    if head.shape != embeddings.shape or not torch.equal(head.read(), embeddings.read()):
        raise CheckpointError(
            f"{head.key} differs from {embeddings.key}, but config.json ties them: set tie_word_embeddings to false"
        )


def _place(model: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    owner = model.get_submodule(path)
    old = getattr(owner, leaf)
    is_parameter = isinstance(old, nn.Parameter)
    setattr(owner, leaf, nn.Parameter(tensor, requires_grad=old.requires_grad) if is_parameter else tensor)


def _settle_counters(model: nn.Module, device: str | torch.device) -> None:
    """Initialise BatchNorm's count of batches, the only buffer that a file may omit."""
    for name, buffer in list(model.named_buffers()):
        if name.endswith("num_batches_tracked"):
            _place(model, name, torch.zeros_like(buffer, device=device))
    left = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    assert not left, f"tensors that are in no state_dict must be computed in forward: {left}"


def lora_config(model: nn.Module) -> LoraConfig | None:
    """The adapters' configuration, from the layers; CheckpointError where they are merged."""
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, LoraLinear)}
    if any(layer.merged for layer in layers.values()):
        raise CheckpointError("the LoRA adapters are merged: call fold_lora to keep that, or unmerge_lora")
    if not layers:
        return None
    layer = next(iter(layers.values()))
    rank = layer.lora_A.out_features
    targets = tuple(sorted({path.rpartition(".")[2] for path in layers}))
    return LoraConfig(rank, layer.scale * rank, layer.dropout.p, targets)


def _write_shards(folder: Path, tensors: dict[str, Tensor], dtype: torch.dtype | None, limit: int) -> list[Path]:
    groups = _split({name: _n_bytes(name, tensor, dtype) for name, tensor in tensors.items()}, limit)
    if len(groups) == 1:
        return [_write(folder / SINGLE, tensors, dtype)]
    files = [folder / f"model-{number:05}-of-{len(groups):05}.safetensors" for number in range(1, len(groups) + 1)]
    for file, names in zip(files, groups, strict=True):
        _write(file, {name: tensors[name] for name in names}, dtype)
    total = sum(_n_bytes(name, tensor, dtype) for name, tensor in tensors.items())
    places = {name: file.name for file, names in zip(files, groups, strict=True) for name in names}
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    return [*files, folder / INDEX]


def _split(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in order, in groups within the limit."""
    groups: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if groups[-1] and filled + size > limit:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def _n_bytes(name: str, tensor: Tensor, dtype: torch.dtype | None) -> int:
    return tensor.numel() * _saved_as(name, tensor, dtype).itemsize


def _saved_as(name: str, tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """The dtype asked for, except for integers and their scales."""
    asked = dtype is not None and tensor.is_floating_point() and not name.endswith(SCALE)
    return dtype if dtype is not None and asked else tensor.dtype


def _write(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> Path:
    """Atomic: the file is renamed when complete."""
    ready = {name: t.detach().to("cpu", _saved_as(name, t, dtype)).contiguous() for name, t in tensors.items()}
    with replacing(path, one_writer=True) as partial:
        save_file(ready, partial, metadata={"format": "pt"})
    return path


def _remove_others(folder: Path, written: Sequence[Path]) -> None:
    """Shards of an earlier save would be read with, or instead of, the new ones."""
    for pattern in (SINGLE, "model-*-of-*.safetensors", INDEX, BPE_HEAD, ADAPTER, ADAPTER_CONFIG):
        for path in set(folder.glob(pattern)) - set(written):
            path.unlink()
