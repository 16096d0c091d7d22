"""Spread independent calls over worker processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def in_parallel(
    function: Callable[..., Answer], calls: Sequence[tuple[Any, ...]], jobs: int | None = None
) -> Iterator[tuple[int, Answer]]:
    """Call a function with many argument lists, and yield each answer when it is there.

    Workers are started afresh rather than forked: torch and ONNX Runtime hold threads that do not survive a
    fork. An error in one call ends the others and is raised here.

    Args:
        function: A function of a module, so that workers find it by name.
        calls: Positional arguments of each call.
        jobs: Worker processes; as many as there are cores when left out. With 1, or one call, no worker is
            started.

    Yields:
        The index of the call and its answer, in the order of completion.

    >>> sorted(in_parallel(max, [(1, 2), (5, 4)], jobs=1))
    [(0, 2), (1, 5)]
    """
    jobs = min(jobs or os.cpu_count() or 1, len(calls))
    if jobs <= 1:
        for index, arguments in enumerate(calls):
            yield index, function(*arguments)
        return
    executor = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"))
    try:
        futures = {executor.submit(function, *arguments): index for index, arguments in enumerate(calls)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
