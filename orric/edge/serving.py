"""The student that serves, and the batches that it serves in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from contextlib import suppress
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
    # Of a request of many images, whose parts take turns with the requests of others.
    model: Model | None = None
    parts: list[Array] = field(default_factory=list)
    done: int = 0


class Batcher:
    """Requests that wait, and the thread that serves them in batches by the model of the moment.

    A batch holds on to the model that it began with, so that a swap between two batches mixes no answers; likewise a
    request of many images, which is served in parts that take turns with the requests of few.

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
        self._few: deque[_Waiting] = deque()
        self._many: deque[_Waiting] = deque()
        self._manys_turn = False
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
            queue = self._few if inputs is None else self._many
            queue.append(waiting)
            self._images += len(images)
            # The thread is woken when it may begin: where nothing waited, or where a batch is full.
            if len(queue) == 1 or self._images >= self._server.most_batch:
                self._wake.notify()
        return waiting.answer

    def stop(self) -> None:
        """Take no more requests, serve those that wait, and end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()

    def _batch(self) -> tuple[list[_Waiting], bool]:
        """Wait for what is to be served next: requests of few images together, or a part of those of many.

        Returns:
            The requests, none of them at the end, and whether they are of many images.
        """
        most, patience_s = self._server.most_batch, self._server.longest_wait_s
        with self._wake:
            while not (self._few or self._many):
                if self._stopping:
                    return [], False
                self._wake.wait()
            # Those of few wait for company where nothing else is to do.
            while self._few and not self._many and self._images < most and not self._stopping:
                left_s = patience_s - (time.perf_counter() - self._few[0].since_s)
                if left_s <= 0 or not self._wake.wait(left_s):
                    break
            of_many = bool(self._many) and (self._manys_turn or not self._few)
            self._manys_turn = not of_many
            queue, count = (self._many, FEW) if of_many else (self._few, most)
            taken: list[_Waiting] = []
            while queue and (not taken or (_together(taken[0], queue[0]) and len(queue[0].images) <= count)):
                one = queue[0]
                size = min(len(one.images) - one.done, FEW) if of_many else len(one.images)
                self._images -= size
                count -= size
                taken.append(one)
                if one.done + size < len(one.images):
                    break  # the rest of it comes in a later turn
                queue.popleft()
            return taken, of_many

    def _run(self) -> None:
        while (found := self._batch())[0]:
            taken, of_many = found
            error: Exception | None = None
            answers: list[tuple[_Waiting, Array]] = []
            model = self.model
            try:
                if of_many:
                    answers = [(one, outputs) for one in taken if (outputs := _part(one, model)) is not None]
                else:
                    answers = _outputs(model, taken)
            except Exception as problem:
                error = problem
                answers = [(one, np.empty((0, 0), np.float32)) for one in taken]
                self._give_up(taken[-1])
            # All requests come from one event loop, the server's, but for tests that have several.
            for loop in {one.loop for one, _ in answers}:
                some = [(one.answer, outputs, one.model or model) for one, outputs in answers if one.loop is loop]
                with suppress(RuntimeError):  # a loop that has ended: whoever asked has gone
                    loop.call_soon_threadsafe(_answer, some, error)

    def _give_up(self, failed: _Waiting) -> None:
        """Serve no further parts of a request that failed."""
        with self._wake:
            if self._many and self._many[0] is failed:
                self._many.popleft()
                self._images -= len(failed.images) - min(failed.done + FEW, len(failed.images))


def _together(one: _Waiting, other: _Waiting) -> bool:
    """Say whether two requests may share a batch."""
    return one.resolution_px == other.resolution_px


def _outputs(model: Model, taken: list[_Waiting]) -> list[tuple[_Waiting, Array]]:
    """Return each request of few images with its outputs."""
    images = taken[0].images if len(taken) == 1 else np.concatenate([one.images for one in taken])
    outputs = model.logits(to_input(images, taken[0].resolution_px))
    found, at = [], 0
    for one in taken:
        found.append((one, outputs[at : at + len(one.images)]))
        at += len(one.images)
    return found


def _part(one: _Waiting, model: Model) -> Array | None:
    """Serve the next part of a request of many images; return the outputs of all once that was the last."""
    assert one.inputs is not None, "the caller looked"
    one.model = one.model or model
    one.parts.append(one.model.logits(one.inputs[one.done : one.done + FEW]))
    one.done += len(one.parts[-1])
    if one.done < len(one.images):
        return None
    return one.parts[0] if len(one.parts) == 1 else np.concatenate(one.parts)


def _answer(answers: list[tuple[asyncio.Future[tuple[Array, Model]], Array, Model]], error: Exception | None) -> None:
    for future, outputs, model in answers:
        if future.done():  # whoever asked has gone
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result((outputs, model))
