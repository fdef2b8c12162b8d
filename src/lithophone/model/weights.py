"""safetensors files <-> parameters of a model, by name, strictly.

Tensors are read one by one (`stored_tensors.py`). BatchNorm statistics take the model's dtype, as in `transformers`:
some kernels refuse mixed dtypes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lithophone.errors import CheckpointError
from lithophone.files import replacing, write_json
from lithophone.memory import release_freed_memory
from lithophone.model.conformer import FeedForward
from lithophone.model.granite import MLP
from lithophone.model.int4_groups import group_size, pack_groups
from lithophone.model.int8_kernels import packing
from lithophone.model.lora import LoraConfig, LoraLinear, is_adapter, to_peft_name
from lithophone.model.quantize import COMPUTE_DTYPE, SCALE, Operand, dequantize_rows, int8_groups, set_int8
from lithophone.model.stored_tensors import (
    ADAPTER,
    ADAPTER_CONFIG,
    BPE_HEAD,
    INDEX,
    INTEGERS,
    SINGLE,
    TOLERATED,
    Stored,
    check_kinds,
    stored_tensors,
)
from lithophone.model.tensor_names import PUBLISHED, Names

LM_HEAD = "language_model.lm_head.weight"
EMBEDDINGS = "language_model.model.embed_tokens.weight"

SHARD_BYTES = 4_000_000_000
"""Above this size the weights are split into several files."""

NAMES_SHOWN = 20

TRIMMED_AFTER = 16
"""Groups of matrices that are packed until freed memory is given back: it would grow to a fifth of an int8 model."""

LAYER = re.compile(r"(.*?)\.(\d{1,9})\..*")
"""A tensor in a list of layers: the list's path, and the layer's number."""


class _Uninitialised(TorchFunctionMode):
    """Leaves out `nn.init.normal_`: on the meta device torch 2.13 imports its compiler for it, which takes 0.8 s."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        named = kwargs or {}
        return named["tensor"] if func is nn.init.normal_ else func(*args, **named)


@contextmanager
def without_values() -> Iterator[None]:
    """Modules built within are on the meta device, for `load_weights`."""
    with torch.device("meta"), _Uninitialised():
        yield


def layer_counts(names: Iterable[str]) -> dict[str, int]:
    """Number of layers by list, from tensor names: `encoder.layers` -> 16."""
    numbers: dict[str, set[str]] = {}
    for found in filter(None, map(LAYER.fullmatch, names)):
        numbers.setdefault(found[1], set()).add(found[2])
    return {path: len(layers) for path, layers in numbers.items()}


def _with_zeros(found: Mapping[str, Stored], wanted: Mapping[str, Tensor]) -> dict[str, Stored]:
    """Weights that are wanted, and of which there are scales of zero alone."""
    joined = dict(found)
    for name, weight in wanted.items():
        scale = found.get(f"{name.removesuffix('weight')}{SCALE}") if name.endswith(".weight") else None
        if name not in found and scale is not None and scale.shape == weight.shape[:1] and not scale.read().any():
            del joined[f"{name.removesuffix('weight')}{SCALE}"]
            joined[name] = replace(scale, shape=tuple(weight.shape), kind=INTEGERS[0][0], scale=scale, sparse=True)
    return joined


def load_weights(
    model: nn.Module,
    files: Sequence[Path],
    *,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> None:
    """Fill every parameter and buffer of `model`, which may be on the meta device, in `dtype` on `device`.

    Files may hold floats or int8 for any `dtype`; with int8, other layers take COMPUTE_DTYPE. Names and shapes are
    compared before reading; at most one tensor is held twice, of int8 those of one layer in each thread. Raises
    CheckpointError that lists missing, unexpected and misshapen tensors.
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
    packed = [(layers, [found.pop(f"{path}.weight") for path in layers]) for layers in groups]

    def pack(layers: Mapping[str, nn.Module], weights: Sequence[Stored]) -> None:
        set_int8(layers, [weight.read_int8(device) for weight in weights], kind)

    with packing(), ThreadPoolExecutor(torch.get_num_threads()) as threads:  # a matrix is packed on one thread
        for number, done in enumerate([threads.submit(pack, *group) for group in packed], 1):
            done.result()
            if number % TRIMMED_AFTER == 0:
                release_freed_memory()
    for name, stored in found.items():
        _place(model, name, stored.read(kind, device))
    _settle_counters(model, device)
    if groups:
        model.requires_grad_(False)
        release_freed_memory()
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
            _place(model, name, torch.zeros(buffer.shape, dtype=buffer.dtype, device=device))
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
