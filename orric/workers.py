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
# What a call may say that it is doing.
DOINGS = ("", "compiling")


class Board:
    """How far several calls are, told by whoever computes them and read by whoever waits for them.

    Args:
        calls: Their number.
        changed: Called after every change; None where others look at the board of themselves, as from another process.
    """

    def __init__(self, calls: int, changed: Callable[[], None] | None = None) -> None:
        context = multiprocessing.get_context("spawn")
        # Memory that processes share, without a lock: each call has a place of its own, and an old number is no harm.
        self._steps, self._doing = context.RawArray("q", calls), context.RawArray("b", calls)
        self._changed, self._place = changed, 0

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_changed": None}

    def begin(self, call: int) -> None:
        """Let what is told from now on be of another call."""
        self._place = call

    def step(self, steps: int) -> None:
        """Count steps of the call."""
        self._steps[self._place] += steps
        if self._changed is not None:
            self._changed()

    def tell(self, doing: str) -> None:
        """Say what the call is doing, beside its steps."""
        self._doing[self._place] = DOINGS.index(doing)
        if self._changed is not None:
            self._changed()

    def steps(self) -> list[int]:
        """Return the steps of all calls."""
        return list(self._steps)

    def doings(self) -> list[str]:
        """Return what all calls are doing, "" where that is their steps or nothing yet."""
        return [DOINGS[doing] for doing in self._doing]


_board: Board | None = None


def step(steps: int) -> None:
    """Count steps of the present call, where somebody waits for it and wants to know."""
    if _board is not None:
        _board.step(steps)


def tell(doing: str) -> None:
    """Say what the present call is doing beside its steps, one of `DOINGS`; "" says that this is over."""
    if _board is not None:
        _board.tell(doing)


def _put_up(board: Board | None) -> None:
    global _board  # of this process alone
    _board = board


def in_parallel(
    function: Callable[..., Answer],
    calls: Sequence[tuple[Any, ...]],
    jobs: int | None = None,
    waiting: Callable[[], None] = lambda: None,
    progress: Callable[[Board], None] | None = None,
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
        progress: Likewise, with what the calls told by `step` and `tell`; without workers at every such word.

    Yields:
        The index of the call and its answer, in the order of completion.

    >>> sorted(in_parallel(max, [(1, 2), (5, 4)], jobs=1))
    [(0, 2), (1, 5)]
    """
    jobs = min(jobs or os.cpu_count() or 1, len(calls))
    if jobs <= 1:
        yield from _in_turn(function, calls, progress)
        return
    others = set(multiprocessing.active_children())
    board = None if progress is None else Board(len(calls))
    executor = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _prepared, (board,))
    try:
        futures = {executor.submit(_called, index, function, one): index for index, one in enumerate(calls)}
        pending = set(futures)
        while pending:
            patience_s = 1.0 if progress is None else 0.25
            done, pending = wait(pending, timeout=patience_s, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures[future], future.result()
            waiting()
            if progress is not None and board is not None:
                progress(board)
    except BaseException:
        # Whoever interrupts does not want to wait for calls that are still under way.
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _in_turn(
    function: Callable[..., Answer], calls: Sequence[tuple[Any, ...]], progress: Callable[[Board], None] | None
) -> Iterator[tuple[int, Answer]]:
    """Call a function in this process."""
    board: Board | None = None
    if progress is not None:
        board = shown = Board(len(calls), lambda: progress(shown))
    before = _board
    for index, arguments in enumerate(calls):
        if board is not None:
            board.begin(index)
            _put_up(board)
        try:
            answer = function(*arguments)
        finally:
            _put_up(before)
        yield index, answer


def _prepared(board: Board | None) -> None:
    """Prepare a worker."""
    end_with_parent()
    _put_up(board)


def _called(index: int, function: Callable[..., Answer], arguments: tuple[Any, ...]) -> Answer:
    """Do a call as a worker does."""
    if _board is not None:
        _board.begin(index)
    return function(*arguments)


def end_with_parent() -> None:
    """End this worker when its parent is killed, and silently when the terminal interrupts both."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None, "only workers call this"

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
