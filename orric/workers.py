"""Spread independent calls over worker processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from typing import Any, TypeVar

Answer = TypeVar("Answer")


def in_parallel(
    function: Callable[..., Answer],
    calls: Sequence[tuple[Any, ...]],
    jobs: int | None = None,
    waiting: Callable[[], None] = lambda: None,
) -> Iterator[tuple[int, Answer]]:
    """Call a function with many argument lists, and yield each answer when it is there.

    Workers are started afresh rather than forked: torch and ONNX Runtime hold threads that do not survive a
    fork. An error in one call ends the others and is raised here.

    Args:
        function: A function of a module, so that workers find it by name.
        calls: Positional arguments of each call.
        jobs: Worker processes; as many as there are cores when left out. With 1, or one call, no worker is
            started.
        waiting: Called about once a second while workers are at work, to show how far they are.

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
    others = set(multiprocessing.active_children())
    executor = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=end_with_parent)
    try:
        futures = {executor.submit(function, *arguments): index for index, arguments in enumerate(calls)}
        pending = set(futures)
        while pending:
            done, pending = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures[future], future.result()
            waiting()
    except BaseException:
        # Whoever interrupts does not want to wait for calls that are still under way.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def end_with_parent() -> None:
    """End this worker when its parent is killed, and silently when the terminal interrupts both."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers call this"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
