"""Settings of the C library's memory allocator."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of the two parameters in glibc's malloc.h."""

_LARGEST_BLOCK = 32 << 20
"""The largest block that glibc serves from its heap; larger ones are always mapped and unmapped."""

_RETAINED = 1 << 30


def keep_freed_memory() -> bool:
    """Tell glibc to retain up to 1 GB of freed memory for reuse; returns False with another C library.

    A training step frees and allocates the same blocks of 1 to 16 MB again. By default glibc returns them to the kernel
    in between, which then clears and maps thousands of pages per step: a fifth of the time of a step over 10⁶ items.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)) and bool(mallopt(_TRIM_THRESHOLD, _RETAINED))
