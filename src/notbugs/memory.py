"""The memory of the command's own process, which is kept for the next tensor instead of handed back after each.

A program that imports notbugs owns its process, and decides for itself: it can call `keep_freed_memory`.
"""

from __future__ import annotations

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of mallopt(3)'s parameters, as in malloc.h."""
LARGEST = 2**30
"""Bytes: a larger block is still handed back as soon as it is free."""


def keep_freed_memory() -> None:
    """From now on, memory that this process frees stays with it; where the C library is not glibc, nothing changes.

    By default, glibc asks the system for every large tensor anew, and the system clears each of its pages. On a CPU, a
    search spends a fifth of its processor time on that, and more in bf16. MALLOC_MMAP_THRESHOLD_ and
    MALLOC_TRIM_THRESHOLD_ are heeded.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & {*os.environ}:
        return
    mallopt(MMAP_THRESHOLD, LARGEST)
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
