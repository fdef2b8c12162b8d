"""Freed memory, kept for the next tensor: a setting of the C library, for programs that are all ours."""

from __future__ import annotations

import ctypes
import sys

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
