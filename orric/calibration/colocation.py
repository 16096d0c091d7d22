"""Serve and retrain on the same core, for real: what `[colocation]` and the simulator's latencies are checked against.

Two processes are bound to one core: a server, which takes requests at given times in batches, and a trainer, which
retrains a student over and over. They share the core as the operating system has it, or take turns in rounds, as the
simulator's `time-slice` has it: then the one whose turn it is not stands still.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from orric.exceptions import CalibrationError, OrricError
from orric.profile import Profile
from orric.vision.onnx_sessions import open_session
from orric.workers import end_with_parent

Array = np.ndarray[Any, np.dtype[np.float64]]
# Sleeping overshoots by some tens of microseconds, so the last part of a wait is spent looking at the clock.
WATCHFUL_S = 3e-4
START_S = 0.01
# Of Linux: the signal that a process gets when its parent ends.
PR_SET_PDEATHSIG = 1
MOST = 64
SAMPLES = 64


@dataclass(frozen=True)
class Turns:
    """How server and trainer take turns.

    Attributes:
        round_s: Length of a round; the server comes first.
        serving: The server's share of it, in (0, 1].
    """

    round_s: float
    serving: float


@dataclass(frozen=True)
class Requests:
    """What the server is asked.

    Attributes:
        arrivals_s: Ascending times of arrival from the start on, shape (n,).
        most: Requests in a batch at most.
        model: Which of the server's models is asked.
    """

    arrivals_s: Array
    most: int = 1
    model: int = 0


@dataclass(frozen=True)
class Served:
    """A model that a server serves.

    Attributes:
        model: Serialized ONNX model.
        resolution_px: Side of the images that it gets.
    """

    model: bytes
    resolution_px: int


def cores() -> list[int]:
    """Return the cores that this process may use, where the platform tells."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _prepare(core: int) -> None:
    """Bind this process to a core, and let it end with its parent, even while it stands still."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    end_with_parent()  # which also lets the terminal's Ctrl-C end it in silence
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _wait_until(moment_s: float) -> None:
    """Return at a moment of the monotonic clock, as exactly as can be."""
    left_s = moment_s - time.monotonic()
    if left_s > WATCHFUL_S:
        time.sleep(left_s - WATCHFUL_S)
    while time.monotonic() < moment_s:
        pass


def _serve(pipe: Connection, models: Sequence[Served], core: int) -> None:
    """Serve as a process: take requests from the pipe, answer with when each was done."""
    _prepare(core)
    opened = []
    for one in models:
        session, px = open_session(one.model), one.resolution_px
        images = np.random.default_rng(0).random((MOST, 3, px, px), dtype=np.float32)
        name = session.get_inputs()[0].name
        for count in (1, MOST, 1):  # the first calls allocate memory
            session.run(None, {name: images[:count]})
        opened.append((session, name, images))
    pipe.send("ready")
    while True:
        requests, start_s = pipe.recv()
        arrivals, most = requests.arrivals_s, requests.most
        session, name, images = opened[requests.model]
        done = np.empty(len(arrivals))
        place, count = 0, len(arrivals)
        while place < count:
            now_s = time.monotonic() - start_s
            if arrivals[place] > now_s:
                _wait_until(start_s + arrivals[place])
                continue
            end = place + 1
            while end < count and end - place < most and arrivals[end] <= now_s:
                end += 1
            session.run(None, {name: images[: end - place]})
            done[place:end] = time.monotonic() - start_s
            place = end
        pipe.send(done)


def _train(pipe: Connection, profile: Profile, core: int) -> None:
    """Train as a process, until it is ended: label, step, export, swap."""
    from orric.retraining.loop import Student  # the server beside it starts without torch

    _prepare(core)
    try:
        student = Student(profile)
        images, _ = student.dataset.draw(SAMPLES, np.random.default_rng(0))
        rng = np.random.default_rng(0)
        student.retrain(images, rng)
        student.swap()
    except OrricError as error:
        pipe.send(error)  # told in one line by whoever waits
        return
    pipe.send("ready")
    while True:
        student.retrain(images, rng)
        student.swap()


class Server:
    """A server process on a core, and possibly a trainer beside it. Made by `colocated`."""

    def __init__(self, pipe: Connection, process: Any, trainer: Any) -> None:
        self._pipe, self._process, self._trainer = pipe, process, trainer

    def run(self, requests: Requests, turns: Turns | None = None) -> Array:
        """Let the server go through requests.

        Args:
            requests: With their times of arrival.
            turns: How it takes turns with the trainer; left out, both run when the operating system lets them.

        Returns:
            When each request was done, from the start on, shape (n,).

        Raises:
            CalibrationError: One of the processes has ended.
        """
        try:
            done = self._run(requests, turns)
        except (EOFError, OSError):
            raise CalibrationError(
                "colocation", "the server ended in the middle of its work", "measure again"
            ) from None
        if self._trainer is not None and not self._trainer.is_alive():
            raise CalibrationError("colocation", "the trainer ended in the middle of its work", "measure again")
        return done

    def _run(self, requests: Requests, turns: Turns | None) -> Array:
        start_s = time.monotonic() + START_S
        if turns is None:
            self._pipe.send((requests, start_s))
            return np.asarray(self._pipe.recv())
        self._stop(self._trainer)
        self._pipe.send((requests, start_s))
        _wait_until(start_s)
        round_number = 0
        try:
            while not self._pipe.poll():
                begin_s = start_s + round_number * turns.round_s
                self._go(self._process)
                _wait_until(begin_s + turns.serving * turns.round_s)
                if turns.serving < 1:
                    self._stop(self._process)
                    self._go(self._trainer)
                    _wait_until(begin_s + turns.round_s)
                    self._stop(self._trainer)
                round_number += 1
        finally:
            self._go(self._process)
            self._go(self._trainer)
        return np.asarray(self._pipe.recv())

    @staticmethod
    def _stop(process: Any) -> None:
        if process is not None:
            os.kill(process.pid, signal.SIGSTOP)

    @staticmethod
    def _go(process: Any) -> None:
        if process is not None:
            os.kill(process.pid, signal.SIGCONT)


@contextmanager
def colocated(
    profile: Profile, models: Sequence[Served], beside: bool = False, core: int | None = None
) -> Iterator[Server]:
    """Start a server of models, with or without a trainer on the same core.

    Args:
        profile: With [models]: what the trainer retrains.
        models: What the server serves.
        beside: Whether there is a trainer.
        core: The core of both; the last of those there are when left out.

    Raises:
        CalibrationError: The platform cannot let a process stand still.
    """
    if not hasattr(signal, "SIGSTOP"):
        raise CalibrationError("colocation", "this platform cannot let a process stand still", "measure on Linux")
    core = cores()[-1] if core is None else core
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(theirs, models, core), daemon=True)
    processes = [server]
    trainer = None
    if beside:
        trainers, trainers_end = context.Pipe()
        trainer = context.Process(target=_train, args=(trainers_end, profile, core), daemon=True)
        processes.append(trainer)
    try:
        for process in processes:
            process.start()
        # Held by the processes alone, so that one that ends ends the wait for it.
        theirs.close()
        waited = [pipe]
        if beside:
            trainers_end.close()
            waited.append(trainers)
        for end in waited:
            try:
                said = end.recv()
            except EOFError:
                found, remedy = "a process ended before it was ready", "its own message stands above"
                raise CalibrationError("colocation", found, remedy) from None
            if isinstance(said, OrricError):
                raise said
        yield Server(pipe, server, trainer)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def batch_seconds(server: Server, models: int, sizes: tuple[int, ...], repeats: int) -> Array:
    """Return the median seconds of a batch by a server that always has requests, shape (models, sizes).

    Models and sizes take turns, so that a passing disturbance hits all alike.
    """
    found: dict[tuple[int, int], list[float]] = {(model, size): [] for model in range(models) for size in sizes}
    for _ in range(repeats):
        for (model, size), times in found.items():
            done = server.run(Requests(np.zeros(max(4, 32 // size) * size), size, model))
            times += np.diff(done[size - 1 :: size]).tolist()
    return np.array([[float(np.median(found[model, size])) for size in sizes] for model in range(models)])
