"""What supervisors and Prometheus ask: answered without a queue, on the main port and on one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orric.edge.request import JSON

if TYPE_CHECKING:
    from orric.edge.daemon import Daemon

PATHS = frozenset((b"/healthz", b"/readyz", b"/v2/health/live", b"/v2/health/ready", b"/metrics"))


def told(daemon: Daemon, path: bytes) -> tuple[int, bytes, bytes]:
    """Return the status, the content and its type for one of the paths but that of the metrics."""
    if path == b"/v2/health/live":
        return 200, b'{"live":true}', JSON
    if path == b"/healthz":
        if daemon.alive:
            return 200, b'{"healthy":true}', JSON
        return 503, b'{"error":"the slot loop stands still"}', JSON
    if daemon.ready:
        return 200, b'{"ready":true}', JSON
    return 503, b'{"error":"not ready"}', JSON
