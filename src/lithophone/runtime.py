"""Devices and dtypes by name; threads; memory of the C library. Imports torch on use."""

from __future__ import annotations

import ctypes
import os
import sys
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


# --- threads

SMALL_MODEL = 100_000_000
"""Weights below which a second thread gains nothing."""


def is_small(network: torch.nn.Module) -> bool:
    from lithophone.model.quantize import weight_count

    return weight_count(network) < SMALL_MODEL


# --- memory

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""glibc's `malloc.h`."""
WHOLE = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory until the process ends; False without glibc.

    Otherwise the kernel maps and zeroes pages for every large tensor (`docs/performance.md`). All threads share one
    arena: each would keep the memory of the largest batch it ever computed. For commands only: libraries must not
    change it unasked.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt")):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, WHOLE), (M_ARENA_MAX, 1))
    return all(libc.mallopt(name, value) for name, value in settings)
