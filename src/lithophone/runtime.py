"""Devices and dtypes by name; threads; memory of the C library. Imports torch on use."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lithophone.errors import OptionError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16", "int8")
"""int8: weights in int8, the rest in float32 (`model/quantize.py`)."""


PRECISIONS = ("bfloat16", "float32")
"""Dtypes of computation in training."""


def torch_device(name: str | torch.device | None) -> torch.device:
    """None: the best present. Raises OptionError for unknown or absent devices."""
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        present = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise OptionError(f"device {str(name)!r} cannot be used; there is {present}") from error
    return device


def usable_cpus() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def torch_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """None: the device's default. Raises OptionError for unknown dtypes."""
    import torch

    if name is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    known = {dtype: getattr(torch, dtype) for dtype in DTYPES}
    found = name if isinstance(name, torch.dtype) else known.get(name)
    if found is None or found not in known.values():
        raise OptionError(f"dtype {str(name)!r} is not known; allowed are {', '.join(DTYPES)}")
    if found is torch.int8 and device.type != "cpu":
        raise OptionError(f"dtype 'int8' is for CPUs, and the device is {device}: use bfloat16 there")
    return found


def training_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """None: bfloat16, but float32 on CPUs without AVX-512, where bfloat16 is eight times as slow (torch 2.13.0)."""
    import torch

    if name is None:
        slow = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
        return torch.float32 if slow else torch.bfloat16
    assert name in PRECISIONS, name
    return torch_dtype(name, device)
