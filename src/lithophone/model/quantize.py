"""int8 weights for CPUs: integer products with one scale per output channel and one per token.

A weight W (N, K) is W ~ s Q with Q in -127..127 and scales s (N,); a token is x ~ t q: `y = t s (q . Q) + b`. Integer
sums are exact and scales are per token, so results do not depend on the batch.

`quantize_` replaces weights, not layers: an `Operand` implements `F.linear` and `F.embedding` by `__torch_function__`.
Layers that read the same input are packed as one matrix, and `products` rounds that input once.
Inference only. Measured in `bench/int8_linear.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lithophone.errors import ConfigError, OptionError
from lithophone.model.int8_kernels import TINY, WEIGHT_LEVELS, activation_levels, packed
from lithophone.model.lora import is_adapter
from lithophone.model.strict_config import shown

SCALE = "weight_scale"
"""Name of the scales of `weight` in state dicts and files: float32 (N,)."""
QUANTIZATION = {"quant_method": "lithophone_int8"}
"""`quantization_config` in `config.json` of int8 checkpoints."""
COMPUTE_DTYPE = torch.float32
"""Dtype of all else: as fast as bfloat16 here, more exact, and supported by older CPUs."""
FLOAT_LAYERS = re.compile(r"(^|\.)encoder\.(input_linear|out|out_mid)$")
"""Float layers: the input layer, and the CTC heads, whose posteriors give word times; under 1 % of the encoder."""

FEW_ROWS = re.compile(r"(^|\.)language_model\.model\.layers\.")
"""Layers that mostly multiply few rows, in decoder steps."""
SAME_INPUT = re.compile(r"(^|\.)language_model\.model\.layers\.\d+\.(self_attn\.(?=[qkv]_)|mlp\.(?=gate_|up_))")
"""Start of the paths of layers that read the same input: of q, k and v, of gate and up."""
SMALL_TABLE = 2**24
"""Weights of a table that is packed for few rows; for larger ones this takes seconds, and gains nothing."""
ROUNDED_AT_ONCE = 2**19
"""Numbers rounded at once: they fit the CPU cache, and no large table is held in float32."""


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weight `(N, K, ...)` -> int8 of the same shape and scales `(N,)`, float32; 0 for a row of zeros."""
    values = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(len(weight), device=weight.device)
    rows_at_once = max(1, ROUNDED_AT_ONCE // max(1, weight[:1].numel()))
    flat = (weight.detach().flatten(1), values.view(len(weight), -1), scale)
    for rows, into, scales in zip(*(torch.split(t, rows_at_once) for t in flat), strict=True):
        scales.copy_(rows.abs().amax(1)).div_(WEIGHT_LEVELS)
        into.copy_((rows / scales.clamp_min(TINY)[:, None]).round_())
    return values, scale


def dequantize_rows(values: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """int8 `(N, K, ...)` and scales `(N,)` -> weight in `dtype`."""
    return (values.flatten(1) * scale[:, None]).to(dtype).view(values.shape)


class Operand:
    """A weight in `F.linear` and `F.embedding`; other functions raise TypeError."""

    shape: torch.Size
    scale: Tensor
    """Of each row (N,), float32."""

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        answers: dict[Callable[..., Any], Callable[..., Any]] = {F.linear: _linear, F.embedding: _embedding}
        answer = answers.get(func)
        return NotImplemented if answer is None else answer(*args, **(kwargs or {}))


class Int8Matrix(Operand):
    """The weight `(N, K)` of a linear layer, or `(N, K, 1)` of a convolution, packed. Immutable.

    Raises OptionError off the CPU, and on CPUs without exact int8 products.
    """

    def __init__(self, values: Tensor, scale: Tensor, *, few_rows: bool = False) -> None:
        _check_device(values.device)
        levels = activation_levels()
        if levels is None:
            raise OptionError("int8 products of torch overflow on this CPU: use float32 or bfloat16")
        self.shape, self.scale, self.levels = values.shape, scale, levels
        self.packed = packed(values.flatten(1), scale, few_rows=few_rows)

    @property
    def values(self) -> Tensor:
        """The integers, unpacked to the shape of the weight."""
        return self.packed.values.view(self.shape)

    def squeeze(self, dim: int) -> Int8Matrix:
        """The matrix of a convolution, for `pointwise`."""
        assert self.shape[dim] == 1, f"{self.shape} has a width"
        return self

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """`(..., K)` of any float type -> `(..., N)` of the same type."""
        _check_device(x.device)
        if not x.numel():
            return x.new_zeros(*x.shape[:-1], len(self.scale))
        out = self.packed.product(x, self.levels)
        return (out if bias is None else out.add_(bias)).to(x.dtype)


class Int8Rows(Operand):
    """Rows of a matrix: the weight `(N, K)` of one of the layers that are packed together."""

    def __init__(self, matrix: Int8Matrix, rows: slice) -> None:
        self.matrix, self.rows, self.scale = matrix, rows, matrix.scale[rows]
        self.shape = torch.Size((len(self.scale), *matrix.shape[1:]))

    @property
    def values(self) -> Tensor:
        """The integers, unpacked."""
        return self.matrix.values[self.rows]

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """`(..., K)` -> `(..., N)`, with the product of all rows of the matrix; `products` shares it."""
        return self.part_of(self.matrix.product(x), bias)

    def part_of(self, out: Tensor, bias: Tensor | None) -> Tensor:
        """Product with the matrix -> with these rows."""
        own = out[..., self.rows]
        return own if bias is None else own + bias


class Int8Table(Operand):
    """The embedding table `(N, K)`, read in `dtype`; also a tied head."""

    def __init__(self, values: Tensor, scale: Tensor, dtype: torch.dtype) -> None:
        _check_device(values.device)
        self.values, self.scale, self.dtype, self.device = values, scale, dtype, values.device
        self.shape = values.shape

    @cached_property
    def matrix(self) -> Int8Matrix:
        """The table packed for products, on first use."""
        return Int8Matrix(self.values, self.scale, few_rows=self.values.numel() <= SMALL_TABLE)

    def product(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """`(..., K)` -> `(..., N)`, as `Int8Matrix` does."""
        return self.matrix.product(x, bias)

    def rows(self, ids: Tensor) -> Tensor:
        """Ids `(...)` -> embeddings `(..., K)`."""
        _check_device(ids.device)
        return (self.values[ids] * self.scale[ids][..., None]).to(self.dtype)


def products(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """`layer(x)` of each layer; where they are packed together, by one product."""
    weights: list[Any] = [layer.weight for layer in layers]
    matrix = weights[0].matrix if isinstance(weights[0], Int8Rows) else None
    if matrix is None or any(getattr(weight, "matrix", None) is not matrix for weight in weights):
        return tuple(layer(x) for layer in layers)
    out = matrix.product(x)
    return tuple(weight.part_of(out, layer.bias) for weight, layer in zip(weights, layers, strict=True))


def quantize_(model: nn.Module) -> None:
    """Quantise the weights of `int8_layers` in place, one group after the other, and freeze the model."""
    for group in int8_groups(model):
        weights = [layer.get_parameter("weight") for layer in group.values()]
        set_int8(group, [quantize_rows(weight) for weight in weights], weights[0].dtype)
    model.requires_grad_(False)


def int8_groups(model: nn.Module) -> list[dict[str, nn.Module]]:
    """`int8_layers`, in groups that read the same input; most are alone."""
    groups: dict[str, dict[str, nn.Module]] = {}
    for path, layer in int8_layers(model).items():
        start = SAME_INPUT.search(path) if type(layer) is nn.Linear else None
        groups.setdefault(path if start is None else path[: start.end()], {})[path] = layer
    return list(groups.values())


def int8_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> layer with an int8 weight: linear, convolution of width 1, token embeddings.

    Without `FLOAT_LAYERS` and adapters.
    """
    layers = {path: layer for path, layer in model.named_modules() if _is_matrix(path, layer)}
    return {path: layer for path, layer in layers.items() if not (FLOAT_LAYERS.search(path) or is_adapter(path))}


def set_int8(layers: Mapping[str, nn.Module], weights: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
    """Replace the weights of a group by int8 `(N, K, ...)` and scales `(N,)`; `dtype` is that of embeddings.

    Paths decide the packing; weights of zeros are packed alone, since their product may be left out. State dicts then
    have `weight` and `weight_scale` of each layer.
    """
    together = [pair for pair in weights if len(layers) > 1 and pair[1].any()]
    few_rows = all(FEW_ROWS.search(path) for path in layers)
    matrix = Int8Matrix(*map(torch.cat, zip(*together, strict=True)), few_rows=few_rows) if len(together) > 1 else None
    begin = 0
    for layer, (values, scale) in zip(layers.values(), weights, strict=True):
        operand: Operand
        if isinstance(layer, nn.Embedding):
            operand = Int8Table(values, scale, dtype)
        elif matrix is not None and scale.any():
            operand = Int8Rows(matrix, slice(begin, begin := begin + len(scale)))
        else:
            operand = Int8Matrix(values, scale, few_rows=few_rows)
        del layer.weight
        layer.weight = operand  # type: ignore[assignment]
        layer.register_state_dict_post_hook(_write_state)  # type: ignore[no-untyped-call]


def has_int8(model: nn.Module) -> bool:
    return any(isinstance(layer.weight, Operand) for layer in int8_layers(model).values())


def weight_count(model: nn.Module) -> int:
    """Weights of a model: its parameters, and those in int8, which are no parameters."""
    operands = (vars(layer).get("weight") for layer in model.modules())
    integers = sum(operand.shape.numel() for operand in operands if isinstance(operand, Operand))
    return integers + sum(parameter.numel() for parameter in model.parameters())


def activation_bits(model: nn.Module) -> int | None:
    """Bits of the activations in int8 products here; None for a model of floats."""
    levels = activation_levels()
    return None if levels is None or not has_int8(model) else levels.bit_length() + 1


def is_quantized(config: Mapping[str, Any]) -> bool:
    """Whether `config.json` declares int8 weights; ConfigError for another quantisation."""
    method = config.get("quantization_config")
    if method not in (None, QUANTIZATION):
        raise ConfigError(f"quantization_config is {shown(method)}: only {QUANTIZATION} is built")
    return method is not None


def products_are_exact() -> bool:
    """Whether this CPU multiplies bytes without overflow."""
    return activation_levels() is not None


def _linear(x: Tensor, weight: Int8Matrix | Int8Rows | Int8Table, bias: Tensor | None = None) -> Tensor:
    return weight.product(x, bias)


def _embedding(ids: Tensor, table: Int8Table, **_for_training: object) -> Tensor:
    return table.rows(ids)


def _is_matrix(path: str, layer: nn.Module) -> bool:
    if isinstance(layer, nn.Embedding):
        return path.rpartition(".")[2] == "embed_tokens"
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv1d) and layer.kernel_size == (1,))


def _write_state(layer: nn.Module, state: dict[str, Any], prefix: str, _metadata: Mapping[str, Any]) -> None:
    operand: Any = layer.weight
    state[f"{prefix}weight"], state[f"{prefix}{SCALE}"] = operand.values, operand.scale


def _check_device(device: torch.device) -> None:
    if device.type != "cpu":
        raise OptionError(f"int8 weights are for CPUs, and this is {device}: use bfloat16 there")
