"""Requests of inference: read, put into the queue, answered."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from orric.edge.connection import Connection
from orric.edge.guards import LENGTH_NAME, carries, refused
from orric.edge.log import tell
from orric.edge.protocol import SMALL_BYTES, BadRequestError, Inference, answered, decompressed, parsed
from orric.edge.request import JSON, OCTETS, RefusedError, Request
from orric.edge.sender import Sender, Senders
from orric.edge.serving import Array, Model, OverloadedError, Prepared, prepared

if TYPE_CHECKING:
    from orric.edge.daemon import Daemon

# Larger bodies are read in a thread of their own, and so are compressed ones, of which no more may wait.
LARGE_BYTES, MOST_COMPRESSED = 1 << 16, 16
Work = tuple[Connection, Request, bytes, int]


class Reader:
    """Reads bodies one after the other in a thread, which keeps one processor busy at most and one body in memory.

    Args:
        name: Of the thread.
        read: Reads one.
        most_bytes: Of the bodies that wait or are read; those of clients that have gone lie here, too.
    """

    def __init__(self, name: str, read: Callable[[Connection, Request, bytes], None], most_bytes: int) -> None:
        self._read, self._most_bytes = read, most_bytes
        self._lock, self._bytes, self._stopping = threading.Lock(), 0, False
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many bodies wait."""
        return self._queue.qsize()

    def put(self, connection: Connection, request: Request, body: bytes, size: int) -> bool:
        """Have a body read after those that wait; False where too many bytes do.

        Args:
            connection: It came on.
            request: Its head.
            body: As it came.
            size: Bytes that it may become.
        """
        with self._lock:
            if self._bytes + size > self._most_bytes:
                return False
            self._bytes += size
        self._queue.put((connection, request, body, size))
        return True

    def stop(self) -> None:
        """End the thread after the body that it reads; nobody waits for the others any more."""
        self._stopping = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            connection, request, body, size = work
            if not self._stopping and connection.waits_for(request):
                self._read(connection, request, body)
            del work, connection, request, body  # which are not held while waiting for the next
            with self._lock:
                self._bytes -= size


class Inferences:
    """Answers requests of inference; but for the reading of large bodies all of it happens in the event loop.

    Args:
        daemon: Has the model.
        loop: The event loop.
        senders: Tells who sent a request.
        failed: Takes note of what failed.
    """

    def __init__(
        self,
        daemon: Daemon,
        loop: asyncio.AbstractEventLoop,
        senders: Senders,
        failed: Callable[[Exception], None],
    ) -> None:
        self._daemon, self._loop, self._senders, self._failed = daemon, loop, senders, failed
        self._server = daemon.config.server
        self._client_header = (self._server.client_header or "").lower().encode()
        start = f"/v2/models/{daemon.name}".encode()
        self._plain, self._versions = start + b"/infer", start + b"/versions/"
        most_bytes = max(self._server.buffer_bytes, self._server.body_bytes)
        self._large = Reader("reading", self._read_large, most_bytes)
        self._compressed = Reader("decompressing", self._read_large, most_bytes)

    def begins(self, request: Request) -> None:
        """See whether a request may be answered.

        Raises:
            RefusedError: It may not.
        """
        request.counted = True
        path = request.path
        if self._daemon.loop is None or not (path == self._plain or self._is_of_version(path)):
            raise RefusedError("unknown", 404, "there is no such model, or this version does not serve")
        if self._server.inference_token:
            refusal = refused(self._daemon.token, request.text(b"authorization"))
            if refusal is not None:
                raise RefusedError("token", *refusal)

    def _is_of_version(self, path: bytes) -> bool:
        """Whether a path names the version that serves."""
        model = self._daemon.versions.model
        return model is not None and path == b"%s%d/infer" % (self._versions, model.version)

    def answer(self, connection: Connection, request: Request, body: bytes) -> None:
        """Answer a request."""
        if b"content-encoding" in request.headers:
            # A few bytes may become many: unlike those that came in full, these are bounded in number.
            server = self._server
            size = min(max(len(body), SMALL_BYTES, int(len(body) * server.compression_ratio)), server.body_bytes)
            waits = self._compressed.waiting < MOST_COMPRESSED
            if not (waits and self._compressed.put(connection, request, body, size)):
                connection.refuse(RefusedError("overloaded", 503, "too many compressed bodies wait; come again"))
            return
        if len(body) > LARGE_BYTES:
            if not self._large.put(connection, request, body, len(body)):
                connection.refuse(RefusedError("overloaded", 503, "too many large bodies wait; come again"))
            return
        try:
            asked = self._read(request, body)
        except BadRequestError as error:
            connection.refuse(RefusedError("body", error.status, error.message))
            return
        self._submit(connection, request, asked, None)

    def stop(self) -> None:
        """End the threads."""
        self._large.stop()
        self._compressed.stop()

    def _read(self, request: Request, body: bytes) -> Inference:
        encoding = request.text(b"content-encoding")
        if encoding is not None:
            server = self._server
            body = decompressed(body, encoding.strip().lower(), server.body_bytes, server.compression_ratio)
        return parsed(body, request.text(LENGTH_NAME), self._server)

    def _read_large(self, connection: Connection, request: Request, body: bytes) -> None:
        """Read a body in the thread that calls, and hand it to the event loop."""
        try:
            asked = self._read(request, body)
            ready = prepared(asked.images, self._daemon.batcher.resolution_px)
        except BadRequestError as error:
            self._call(connection.refuse_late, request, RefusedError("body", error.status, error.message))
        except Exception as error:  # want of memory among others
            self._failed(error)
            self._call(connection.refuse_late, request, RefusedError("overloaded", 503, "come again"))
        else:
            self._call(self._submit_late, connection, request, asked, ready)

    def _call(self, function: object, *arguments: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)  # type: ignore[arg-type]

    def _submit_late(self, connection: Connection, request: Request, asked: Inference, ready: Prepared | None) -> None:
        with connection.answering(request):
            self._submit(connection, request, asked, ready)

    def _submit(self, connection: Connection, request: Request, asked: Inference, ready: Prepared | None) -> None:
        """Put a request into the queue."""
        if not connection.waits_for(request):
            return  # the client has gone
        daemon, count = self._daemon, len(asked.images)
        if not daemon.serves:
            connection.refuse(RefusedError("overloaded", 503, "not ready"))
            return
        try:
            answer = daemon.batcher.submit(asked.images, ready)
        except OverloadedError:
            daemon.uploads.turn_away(count)
            daemon.metrics.shed.inc(count)
            connection.refuse(RefusedError("overloaded", 503, "too many images wait; come again"))
            return
        authenticated = carries(daemon.token, request.text(b"authorization"))
        forwarded = request.text(b"x-forwarded-for")
        client = request.text(self._client_header) if self._client_header else None
        sender = self._senders.sender(connection.peer, authenticated, forwarded, client)
        number = daemon.uploads.arrive(asked.images, sender)
        request.images = count
        answer.add_done_callback(lambda done: self._respond(connection, request, asked, (number, sender), done))

    def _respond(
        self,
        connection: Connection,
        request: Request,
        asked: Inference,
        sent: tuple[int, Sender],
        done: asyncio.Future[tuple[Array, Model]],
    ) -> None:
        with connection.answering(request):
            self._answer(connection, request, asked, sent, done)

    def _answer(
        self,
        connection: Connection,
        request: Request,
        asked: Inference,
        sent: tuple[int, Sender],
        done: asyncio.Future[tuple[Array, Model]],
    ) -> None:
        error = done.exception()
        if error is not None:
            tell("error", "inference", error=f"{type(error).__name__}: {error}")
            connection.refuse_late(request, RefusedError("overloaded", 503, "inference failed; come again"))
            return
        outputs, model = done.result()
        daemon = self._daemon
        if asked.identity is not None:
            daemon.uploads.remember(asked.identity, outputs.argmax(axis=1), *sent)
        names = daemon.classes if asked.classes else ()
        content, length = answered(asked, outputs, daemon.name, model.version, names)
        if length is None:
            connection.respond(request, 200, content, JSON)
        else:
            connection.respond(request, 200, content, OCTETS, ((LENGTH_NAME, b"%d" % length),))
