"""Loops over numbers, compiled by numba at their first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from orric.exceptions import extra

with extra("sim"):
    import numba

Compiled = TypeVar("Compiled", bound=Callable[..., Any])


def compiled(function: Compiled) -> Compiled:
    """Compile a function at its first call, and keep the machine code for the next process."""
    fast: Any = numba.njit(cache=True, nogil=True)(function)
    return fast  # type: ignore[no-any-return]


def compiled_part(function: Compiled) -> Compiled:
    """Compile a function that only compiled ones call: without the way in from Python, which takes long to compile."""
    fast: Any = numba.njit(cache=True, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return fast  # type: ignore[no-any-return]
