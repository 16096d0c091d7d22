"""What every request passes: guards, then inference or health, which go no further, or the application."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from orric.edge import health
from orric.edge.bridge import Application, Bridge
from orric.edge.connection import Connection
from orric.edge.guards import Guards, carries, refused
from orric.edge.inference import Inferences
from orric.edge.log import Repeated
from orric.edge.metrics import CONTENT_TYPE
from orric.edge.request import RefusedError, Request
from orric.edge.sender import Senders

if TYPE_CHECKING:
    from orric.edge.daemon import Daemon

SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'"),
)
# Reasons that are no news: clients are told, and the metrics count them.
UNTOLD = ("overloaded", "body", "unknown", "draining", "failure")
# Bytes of a body at most where neither a token is needed nor inference asked for, and how long metrics are kept: to
# make their text takes as long as some requests of inference.
OPEN_BYTES, METRICS_S = 1 << 16, 0.5
# Status of a request whose client went before its answer, as proxies write it.
GONE = 499


class HealthFront:
    """Answers health and metrics alone.

    Args:
        daemon: Tells.
    """

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._guards = Guards(daemon.config.server)
        self.retry_after_s: Callable[[], int] = lambda: daemon.retry_after_s
        self._refusals, self._failures = Repeated("refused"), Repeated("request")
        # When the text of the metrics was made, and the text.
        self._metrics = (-inf, b"")

    def begins(self, connection: Connection, request: Request) -> None:
        self._guards.check(request)
        if request.announces_body:
            raise RefusedError("body", 413, "there is nothing to send here")

    def answer(self, connection: Connection, request: Request, body: bytes) -> None:
        if request.path not in health.PATHS:
            connection.refuse(RefusedError("unknown", 404, "health and metrics alone are told here"))
        elif request.method not in (b"GET", b"HEAD"):
            connection.refuse(RefusedError("unknown", 405, "Method Not Allowed"))
        else:
            connection.respond(request, *self._told(request.path))

    def _told(self, path: bytes) -> tuple[int, bytes, bytes]:
        if path != b"/metrics":
            return health.told(self._daemon, path)
        now_s = time.monotonic()
        if now_s > self._metrics[0] + METRICS_S:
            self._metrics = now_s, self._daemon.metrics.text()
        return 200, self._metrics[1], CONTENT_TYPE.encode()

    def finished(self, request: Request, seconds: float) -> None:
        pass

    def gone(self, request: Request) -> None:
        pass

    def refuses(self, reason: str, peer: str, message: str) -> None:
        self._daemon.metrics.refuse(reason)
        if reason not in UNTOLD:
            self._refusals.note(reason, peer=peer, what=message)

    def failed(self, error: Exception) -> None:
        kind = type(error).__name__
        self._failures.note(kind, error=f"{kind}: {error}")

    def flush(self) -> None:
        self._refusals.flush()
        self._failures.flush()


class Front(HealthFront):
    """Answers everything.

    Args:
        daemon: Has the model.
        application: Answers what is neither inference nor health.
        senders: Tells who sent a request.
        loop: The event loop.
    """

    def __init__(
        self, daemon: Daemon, application: Application, senders: Senders, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(daemon)
        self._loop = loop
        # Requests of all else: one of them a turn of the loop, so that hundreds at once delay no inference.
        self._waiting: deque[tuple[Connection, Request, bytes]] = deque()
        self._inferences = Inferences(daemon, loop, senders, self.failed)
        self._bridge = Bridge(application, loop, self.failed, SECURITY)

    def begins(self, connection: Connection, request: Request) -> None:
        path, method = request.path, request.method
        request.counted = method == b"POST" and path.startswith(b"/v2/models/") and path.endswith(b"/infer")
        self._guards.check(request)
        if b"%" in path:
            # No path needs it, and what is decoded later would pass by what looks at paths here.
            raise RefusedError("unknown", 404, "there is no such path")
        if request.counted:
            self._inferences.begins(request)
        elif method != b"POST" and request.announces_body:
            raise RefusedError("body", 405, f"{method.decode()} has no body here")
        elif path.startswith(b"/v2/repository/"):
            if b"transfer-encoding" in request.headers or int(request.headers.get(b"content-length", 0)) > OPEN_BYTES:
                raise RefusedError("body", 413, f"give a body of {OPEN_BYTES} bytes at most, without chunks")
        elif method == b"POST":
            # Before a body is read: whoever has no token fills no memory.
            refusal = refused(self._daemon.token, request.text(b"authorization"))
            if refusal is not None:
                raise RefusedError("token", *refusal)

    def answer(self, connection: Connection, request: Request, body: bytes) -> None:
        if request.counted:
            self._inferences.answer(connection, request, body)
            return
        self._waiting.append((connection, request, body))
        if len(self._waiting) == 1:
            self._loop.call_soon(self._answer_next)

    def _answer_next(self) -> None:
        """Answer the one that has waited longest, and have the next one answered in the next turn."""
        connection, request, body = self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._answer_next)
        if connection.waits_for(request):
            with connection.answering(request):
                self._answer_now(connection, request, body)

    def _answer_now(self, connection: Connection, request: Request, body: bytes) -> None:
        if request.path in health.PATHS:
            super().answer(connection, request, body)
        else:
            # Whoever has the token is answered however many others ask for pages.
            trusted = carries(self._daemon.token, request.text(b"authorization"))
            self._bridge.answer(connection, request, body, bounded=not trusted)

    def finished(self, request: Request, seconds: float) -> None:
        if not request.counted:
            return
        daemon = self._daemon
        daemon.metrics.answer(request.status, seconds, request.images)
        if request.status == 200:
            daemon.uploads.answer([request.images], [seconds])

    def gone(self, request: Request) -> None:
        if request.counted:
            self._daemon.metrics.answer(GONE, 0.0, 0)

    def stop(self) -> None:
        """End what runs beside the event loop."""
        self._inferences.stop()
        self._bridge.stop()
