"""The student that serves, and the batches that it serves in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orric.edge.config import PROVIDERS, Server
from orric.exceptions import EdgeError, extra
from orric.vision.datasets import Pixels, to_input

Array = np.ndarray[Any, np.dtype[np.float32]]
# What a model is given for images, and the resolution that it is made for.
Prepared = tuple[Array, int]
# Images that go through a model at once: what fits into a processor's cache is a sixth quicker than 64 of them.
FEW = 32
# Requests of as many images are made ready where they arrive, so that the thread of inference does little else.
MANY = 8


def available(server: Server) -> tuple[str, str | None]:
    """Return the execution provider to use, and what to tell where the one asked for is absent."""
    import onnxruntime

    wanted = PROVIDERS[server.provider]
    there = onnxruntime.get_available_providers()
    if wanted in there:
        return wanted, None
    names = ", ".join(name for name, long in PROVIDERS.items() if long in there)
    return PROVIDERS["cpu"], f"provider {server.provider!r} is absent, serving on the processor (here: {names})"


@dataclass(frozen=True)
class Model:
    """One version of the student, ready to serve.

    Attributes:
        version: Its number.
        session: ONNX Runtime's.
        classes: Number of classes.
        name: Of the session's input.
    """

    version: int
    session: Any
    classes: int
    name: str

    @classmethod
    def open(cls, content: bytes, version: int, provider: str, threads: int, resolutions_px: tuple[int, ...]) -> Model:
        """Open a model and run it once at every resolution that may be asked for.

        Raises:
            EdgeError: It does not load or run, or is no classifier of images.
        """
        with extra("models"):
            import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(content, options, providers=[provider])
            name = session.get_inputs()[0].name
            shapes = {session.run(None, {name: np.zeros((2, 3, px, px), np.float32)})[0].shape for px in resolutions_px}
        except Exception as error:  # ONNX Runtime's own exceptions have no common root of theirs
            line = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise EdgeError(f"version {version}", f"does not run ({line})") from None
        shape = shapes.pop()
        if shapes or len(shape) != 2 or shape[0] != 2:
            raise EdgeError(f"version {version}", "is no classifier: its outputs are no row of classes for each image")
        return cls(version, session, shape[1], name)

    def logits(self, inputs: Array) -> Array:
        """Return the outputs for inputs of shape (n, 3, height, width), shape (n, classes)."""
        parts = [self.session.run(None, {self.name: inputs[at : at + FEW]})[0] for at in range(0, len(inputs), FEW)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def prepared(images: Pixels, resolution_px: int) -> Prepared | None:
    """Make images ready for a model in the thread that calls, where they are many; None for few."""
    return (to_input(images, resolution_px), resolution_px) if len(images) >= MANY else None


class OverloadedError(Exception):
    """So many images wait that no more are taken."""


@dataclass
class _Waiting:
    images: Pixels
    inputs: Array | None
    resolution_px: int
    since_s: float
    answer: asyncio.Future[tuple[Array, Model]]
    loop: asyncio.AbstractEventLoop = field(repr=False)


class Batcher:
    """Requests that wait, and the thread that serves them in batches by the model of the moment.

    A batch holds on to the model that it began with, so that a swap between two batches mixes no answers.

    Args:
        model: Serves first.
        resolution_px: It serves at.
        server: Batches, waits and limits.
    """

    def __init__(self, model: Model, resolution_px: int, server: Server) -> None:
        self.model, self.resolution_px = model, resolution_px
        # Images that may still be taken in this slot, None for any number.
        self.limit: int | None = None
        self._server = server
        self._queue: deque[_Waiting] = deque()
        self._images = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return self._images

    def submit(self, images: Pixels, ready: Prepared | None = None) -> asyncio.Future[tuple[Array, Model]]:
        """Put a request into the queue; call it from an event loop.

        Args:
            images: Shape (n, height, width, 3).
            ready: What `prepared` made of them elsewhere.

        Returns:
            A future of the outputs, shape (n, classes), and of the model that gave them.

        Raises:
            OverloadedError: The queue is full.
        """
        loop = asyncio.get_running_loop()
        since_s = time.perf_counter()
        inputs, resolution_px = ready or prepared(images, self.resolution_px) or (None, self.resolution_px)
        waiting = _Waiting(images, inputs, resolution_px, since_s, loop.create_future(), loop)
        with self._wake:
            if self._images + len(images) > self._server.queue_images or self._stopping:
                raise OverloadedError
            if self.limit is not None:
                if len(images) > self.limit:
                    raise OverloadedError
                self.limit -= len(images)
            self._queue.append(waiting)
            self._images += len(images)
            # The thread is woken when it may begin: where nothing waited, or where a batch is full.
            if len(self._queue) == 1 or self._images >= self._server.most_batch:
                self._wake.notify()
        return waiting.answer

    def stop(self) -> None:
        """Take no more requests, serve those that wait, and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _batch(self) -> list[_Waiting]:
        """Wait for a batch that is full, or whose oldest request has waited long enough."""
        most, patience_s = self._server.most_batch, self._server.longest_wait_s
        with self._wake:
            while not self._queue:
                if self._stopping:
                    return []
                self._wake.wait()
            while self._images < most and not self._stopping:
                left_s = patience_s - (time.perf_counter() - self._queue[0].since_s)
                if left_s <= 0 or not self._wake.wait(left_s):
                    break
            taken = [self._queue.popleft()]
            count = len(taken[0].images)
            while self._queue and _together(taken[0], self._queue[0]) and count + len(self._queue[0].images) <= most:
                taken.append(self._queue.popleft())
                count += len(taken[-1].images)
            self._images -= count
            return taken

    def _run(self) -> None:
        while taken := self._batch():
            model = self.model
            error: Exception | None = None
            outputs = np.empty((0, 0), np.float32)
            try:
                outputs = _outputs(model, taken)
            except Exception as problem:
                error = problem
            at, answers = 0, []
            for one in taken:
                answers.append((one, outputs[at : at + len(one.images)]))
                at += len(one.images)
            # All requests come from one event loop, the server's, but for tests that have several.
            for loop in {one.loop for one in taken}:
                some = [(one.answer, part) for one, part in answers if one.loop is loop]
                loop.call_soon_threadsafe(_answer, some, model, error)


def _together(one: _Waiting, other: _Waiting) -> bool:
    """Say whether two requests may share a batch."""
    return (one.inputs is None) == (other.inputs is None) and one.resolution_px == other.resolution_px


def _outputs(model: Model, taken: list[_Waiting]) -> Array:
    """Return the outputs of requests that go together, one after the other."""
    if taken[0].inputs is None:
        images = taken[0].images if len(taken) == 1 else np.concatenate([one.images for one in taken])
        return model.logits(to_input(images, taken[0].resolution_px))
    parts = [model.logits(one.inputs) for one in taken if one.inputs is not None]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _answer(
    answers: list[tuple[asyncio.Future[tuple[Array, Model]], Array]], model: Model, error: Exception | None
) -> None:
    for future, outputs in answers:
        if future.done():  # whoever asked has gone
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result((outputs, model))
