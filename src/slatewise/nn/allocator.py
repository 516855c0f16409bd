"""What the C library does with freed memory."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of the two parameters in glibc's malloc.h."""

_LARGEST_BLOCK = 32 << 20
"""glibc takes no more for blocks from its own heap; larger ones are still mapped and unmapped each time."""

_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Ask glibc to keep up to 1 GB of freed memory for the next step; False where the C library is another.

    A training step frees and takes the same blocks of 1 to 16 MB again. By default glibc gives them back to the kernel
    in between, which then clears and maps thousands of pages a step: a fifth of the time of a step over 10⁶ items.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BLOCK)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT))
