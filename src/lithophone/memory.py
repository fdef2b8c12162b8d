"""Freed memory: glibc gives it back to the kernel, or keeps it."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""glibc's `malloc.h`."""
WHOLE = 2**31 - 1


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory until the process ends; False without glibc.

    Otherwise the kernel maps and zeroes pages for every large tensor (`docs/performance.md`). All threads share one
    arena: each would keep the memory of the largest batch it ever computed. For commands only: libraries must not
    change it unasked.
    """
    libc = _glibc()
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, WHOLE), (M_ARENA_MAX, 1))
    return libc is not None and all(libc.mallopt(name, value) for name, value in settings)


def release_freed_memory() -> bool:
    """Give freed memory back to the kernel, once; False without glibc.

    For what leaves much behind: packing the weights of a large model in int8 a fifth of their size.
    """
    libc = _glibc()
    return libc is not None and bool(libc.malloc_trim(0))


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") and hasattr(libc, "mallopt") else None
