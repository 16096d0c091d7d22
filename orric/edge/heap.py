"""The C library's heap: what the process has freed goes back to the machine."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> bool:
    """Give freed memory back to the machine; return whether there was any, False where the C library cannot.

    Every retraining brings blocks of some megabytes: a model, its session, samples and messages. They are freed again,
    but whatever small and lasting thing was put behind one of them keeps the C library from returning it, and the next
    such block needs not fit into the gap. What the process uses stays the same; what it holds grows from swap to swap.
    """
    return bool(_trim()(0))


@cache
def _trim() -> Callable[[int], int]:
    """Return glibc's `malloc_trim`, which other C libraries lack."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda keep: 0
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    found: Callable[[int], int] = trim
    return found
