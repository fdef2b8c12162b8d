"""int8 matrix products by two libraries inside torch, with activations rounded by a scale for each token.

`OneDNN` is the faster one for many rows (encoder, head), `FBGEMM` 1.5 times as fast for few (decoder steps). Integer
sums are exact, so the choice affects speed only. `Plain` is the reference. Measured in `bench/int8_linear.py`.

CPUs with VNNI or AMX add products in 32 bits. With AVX2 alone both libraries add two products in 16 bits, which
saturate with activations of 8 bits (2 * 255 * 127), and are exact with 7 (2 * 127 * 127).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ParamSpec, Protocol, TypeVar, cast

import torch
from torch import Tensor

WEIGHT_LEVELS = 127
"""Largest integer of a weight."""
ACTIVATION_LEVELS = (127, 63)
"""Largest integers of an activation, best first; one more is the code of 0: CPUs multiply unsigned by signed bytes."""
TINY = 1e-30
"""Least scale to divide by, for rows and tokens of zeros."""


P = ParamSpec("P")
T = TypeVar("T")


def in_torchscript(function: Callable[P, T]) -> Callable[P, T]:
    """The function run by torch's own interpreter: of a product of one row Python takes half the time.

    The function itself where this torch cannot: TorchScript is deprecated, and operators may be missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return cast("Callable[P, T]", torch.jit.script(function))
    except (AttributeError, RuntimeError):
        return function


@in_torchscript
def activation_scales(x: Tensor, levels: int, tiny: float = TINY) -> Tensor:
    """Activations `(..., K)` -> scale of each token `(..., 1)`, float32; not finite where the activation is not."""
    return (x.abs().amax(-1, keepdim=True).float() / levels).clamp_min_(tiny)


class Packed(Protocol):
    """An int8 matrix `(N, K)` with a scale `(N,)` for each row, in a layout of its own. Immutable."""

    def __init__(self, values: Tensor, scale: Tensor) -> None: ...

    @property
    def values(self) -> Tensor:
        """The integers, `(N, K)`: a new tensor."""
        ...

    def product(self, x: Tensor, levels: int) -> Tensor:
        """Activations `(..., K)` of any float type, rounded half to even to -levels..levels -> float32 `(..., N)`.

        At least one token: fbgemm refuses none.
        """
        ...


class OneDNN:
    """oneDNN's layout, by the operators that `torch.compile` uses."""

    def __init__(self, values: Tensor, scale: Tensor) -> None:
        self.scale = scale
        self.zeros = torch.zeros(len(values), dtype=torch.int32)
        self.matrix: Tensor = torch.ops.onednn.qlinear_prepack(values.contiguous(), None)  # which reads past strides

    @property
    def values(self) -> Tensor:
        return self.matrix.to_dense().T.contiguous()

    def product(self, x: Tensor, levels: int) -> Tensor:
        rounded, scale = _rounded(x, levels)
        tokens = rounded.view(torch.uint8).add_(levels + 1)  # thrice as fast as .to(torch.uint8)
        return _onednn_product(tokens, scale, levels + 1, self.matrix, self.scale, self.zeros)


@in_torchscript
def _rounded(x: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    scale = activation_scales(x, levels)
    return (x / scale).round_().to(torch.int8), scale


@in_torchscript
def _onednn_product(
    tokens: Tensor, token_scale: Tensor, zero_point: int, matrix: Tensor, scale: Tensor, zeros: Tensor
) -> Tensor:
    out: Tensor = torch.ops.onednn.qlinear_pointwise(
        tokens, 1.0, zero_point, matrix, scale, zeros, None, 1.0, 0, torch.float32, "none", [], ""
    )
    return out.mul_(token_scale)


class FBGEMM:
    """fbgemm's layout, by torch's quantised tensors, on x86."""

    def __init__(self, values: Tensor, scale: Tensor) -> None:
        zeros = torch.zeros(len(values), dtype=torch.int64)
        with packing():
            weight = torch._make_per_channel_quantized_tensor(values.contiguous(), scale.double(), zeros, 0)
            self.matrix: Any = torch.ops.quantized.linear_prepack(weight, None)

    @property
    def values(self) -> Tensor:
        weight, _bias = torch.ops.quantized.linear_unpack(self.matrix)
        values: Tensor = weight.int_repr()
        return values

    def product(self, x: Tensor, levels: int) -> Tensor:
        return _fbgemm_product(x, levels, self.matrix)


@in_torchscript
def _fbgemm_product(
    x: Tensor,
    levels: int,
    matrix: torch.classes.quantized.LinearPackedParamsBase,  # type: ignore[name-defined]
) -> Tensor:
    scale = activation_scales(x, levels)
    out: Tensor = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(x / scale, 1.0, levels + 1, matrix)
    return out.mul_(scale)


class Plain:
    """Reference for tests, on any CPU: integers multiplied as float64, which is exact."""

    def __init__(self, values: Tensor, scale: Tensor) -> None:
        self.matrix, self.scale = values.contiguous(), scale

    @property
    def values(self) -> Tensor:
        return self.matrix.clone()

    def product(self, x: Tensor, levels: int) -> Tensor:
        scale = activation_scales(x, levels)
        return ((x / scale).round().double() @ self.matrix.double().T).float() * self.scale * scale


def packed(values: Tensor, scale: Tensor, *, few_rows: bool) -> Packed:
    """int8 `(N, K)` and scales `(N,)` in the layout for products of few rows, or of many."""
    return (FBGEMM if few_rows and is_exact(FBGEMM, activation_levels() or 0) else OneDNN)(values, scale)


def activation_levels() -> int | None:
    """The largest integer of activations with which this CPU's products are exact; None where there is none."""
    return next((levels for levels in ACTIVATION_LEVELS if is_exact(OneDNN, levels)), None)


@cache
def is_exact(kind: type[Packed], levels: int) -> bool:
    """Whether sums of products do not overflow here."""
    x, ones = torch.full((1, 64), float(levels)), torch.ones(16)
    try:
        sums = kind(torch.full((16, 64), WEIGHT_LEVELS, dtype=torch.int8), ones).product(x, levels)
    except (AttributeError, RuntimeError):  # torch was built without the library
        return False
    return torch.equal(sums, ones.expand(1, -1) * (64 * levels * WEIGHT_LEVELS))


@contextmanager
def packing() -> Iterator[None]:
    """Torch's quantised engine is fbgemm: a setting of the process, so threads that pack need one such block around."""
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deprecated")  # where torch has dropped it, OneDNN serves
        if "fbgemm" in torch.backends.quantized.supported_engines:
            torch.backends.quantized.engine = "fbgemm"
        try:
            yield
        finally:
            torch.backends.quantized.engine = before
