"""The process: devices and number types by name, and the memory setting of the C library.

torch is imported when a device or number type is asked for: the command line sets up the process before that.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

from lithophone.errors import OptionError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16", "int8")
"""int8 stands for weights in int8 and the rest in float32 (`model/quantize.py`)."""


def torch_device(name: str | torch.device | None) -> torch.device:
    """The device of that name, or the best there is; OptionError where it is unknown or absent."""
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


def torch_dtype(name: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The number type of that name, or the one that suits the device; OptionError for one that is unknown there."""
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


# --- memory

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""glibc's `malloc.h`."""
WHOLE = 2**31 - 1


def keep_freed_memory() -> bool:
    """Ask the C library to keep what is freed, for the rest of the process; gives whether it will.

    Otherwise every large tensor is a new mapping, whose pages the kernel clears one by one, for ever again
    (`docs/performance.md` has the price of that). Memory once used is then not given back before the process ends,
    which is why the commands do this and a library does not do it unasked. Nothing happens where there is no glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not (hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt")):
        return False
    return bool(libc.mallopt(M_MMAP_MAX, 0) and libc.mallopt(M_TRIM_THRESHOLD, WHOLE))
