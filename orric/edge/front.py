"""What every request passes: guards, then inference or health, which go no further, or the application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from orric.edge import health
from orric.edge.bridge import Application, Bridge
from orric.edge.connection import Connection
from orric.edge.guards import Guards, carries, refused
from orric.edge.inference import Inferences
from orric.edge.log import Repeated
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
UNTOLD = ("overloaded", "body", "unknown", "draining")
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
        self._refusals = Repeated("refused")

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
            status, content, kind = health.told(self._daemon, request.path)
            more = ((b"retry-after", b"%d" % self.retry_after_s()),) if status == 503 else ()
            connection.respond(request, status, content, kind, more)

    def finished(self, request: Request, seconds: float) -> None:
        pass

    def gone(self, request: Request) -> None:
        pass

    def refuses(self, reason: str, peer: str, message: str) -> None:
        self._daemon.metrics.refuse(reason)
        if reason not in UNTOLD:
            self._refusals.note(reason, peer=peer, what=message)

    def flush(self) -> None:
        self._refusals.flush()


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
        self._inferences = Inferences(daemon, loop, senders)
        self._bridge = Bridge(application, loop, SECURITY)

    def begins(self, connection: Connection, request: Request) -> None:
        path, method = request.path, request.method
        request.counted = method == b"POST" and path.startswith(b"/v2/models/") and path.endswith(b"/infer")
        self._guards.check(request)
        if request.counted:
            self._inferences.begins(request)
        elif method == b"POST" and not path.startswith(b"/v2/repository/"):
            # Before a body is read: whoever has no token fills no memory.
            refusal = refused(self._daemon.token, request.text(b"authorization"))
            if refusal is not None:
                raise RefusedError("token", *refusal)

    def answer(self, connection: Connection, request: Request, body: bytes) -> None:
        if request.counted:
            self._inferences.answer(connection, request, body)
        elif request.path in health.PATHS:
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
