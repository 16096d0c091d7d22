"""Loops over numbers, compiled by numba at their first call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from orric.exceptions import extra
from orric.workers import tell

with extra("sim"):
    import numba
    from numba.core import event

Compiled = TypeVar("Compiled", bound=Callable[..., Any])


def _stamp() -> str:
    """Return what changes when a file does that compiled functions may take constants or other functions from."""
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), *(here / "simulation").rglob("*.py")])
    told = [(path.relative_to(here).as_posix(), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    return hashlib.sha256(repr(told).encode()).hexdigest()


STAMP = _stamp()


class _Told(event.Listener):
    """Says to whoever waits that time goes into compiling, which what was kept of an earlier process is spared."""

    def on_start(self, _: Any) -> None:
        tell("compiling")

    def on_end(self, _: Any) -> None:
        tell("")


event.register("numba:compile", _Told())  # type: ignore[no-untyped-call]  # numba leaves it unannotated


def compiled(function: Compiled) -> Compiled:
    """Compile a function at its first call, and keep the machine code for the next process."""
    return _kept(function)


def compiled_in_place(function: Compiled) -> Compiled:
    """Compile a function that makes no arrays, but is handed many.

    Without arrays of its own nobody need count who holds those that it is handed: a call that passes twenty of them
    would spend some 0.3 us on that.
    """
    return _kept(function, _nrt=False)


def compiled_part(function: Compiled) -> Compiled:
    """Compile such a function that only compiled ones call: without the way in from Python, which takes long."""
    return _kept(function, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def _kept(function: Compiled, **options: bool) -> Compiled:
    kept: dict[str, Any] = {"cache": True, "nogil": True, **options}
    fast: Any = numba.njit(**kept)(function)
    # numba compiles anew when the function's own file changes, but not when a constant or a function that it takes from
    # another file does (numba's documentation, "Caching limitations"); columns of tables would then be others'.
    cache = getattr(fast, "_cache", None)
    if cache is None or not hasattr(cache, "_index_key"):
        return fast  # type: ignore[no-any-return]  # not compiled at all (NUMBA_DISABLE_JIT), or kept otherwise
    key = cache._index_key
    cache._index_key = lambda signature, codegen: (*key(signature, codegen), STAMP)
    return fast  # type: ignore[no-any-return]
