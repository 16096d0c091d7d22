"""Connections of which a test writes every byte, and what it looks at."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

INFER = "/v2/models/digits/infer"


class Line:
    """A connection of which a test writes every byte.

    Args:
        address: Host and port.
    """

    def __init__(self, address: str, receive_bytes: int | None = None) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.socket()
        if receive_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(30)
        self._socket.connect((host, int(port)))
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def finish(self) -> None:
        """Say that no more bytes will come."""
        self._socket.shutdown(socket.SHUT_WR)

    def answer(self, without_body: bool = False) -> tuple[int, dict[str, str], bytes]:
        """Return an answer: status, headers, body."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = 0 if without_body else int(headers.get("content-length", 0))
        while len(self._buffer) < length:
            self._more()
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return int(first.split()[1]), headers, body

    def _more(self) -> None:
        found = self._socket.recv(1 << 16)
        if not found:
            raise EOFError
        self._buffer += found

    @property
    def is_over(self) -> bool:
        """Whether the other side has said all, waiting until it has or says something."""
        return not self._buffer and not self._socket.recv(1)

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def get(path: str = "/v2/health/live", *lines: str, version: str = "1.1") -> bytes:
    """Return a request without a body."""
    return "\r\n".join([f"GET {path} HTTP/{version}", "Host: localhost", *lines, "", ""]).encode()


def post(body: bytes, *lines: str, path: str = INFER, length: int | None = None) -> bytes:
    """Return a request with a body."""
    size = len(body) if length is None else length
    first = (f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {size}")
    return "\r\n".join([*first, *lines, "", ""]).encode() + body


def counted(daemon: Any, name: str, **labels: str) -> float:
    """Return a metric's value, 0 where there is none."""
    wanted = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    start = f"{name}{{{wanted}}} " if labels else f"{name} "
    for row in daemon.metrics.text().decode().splitlines():
        if row.startswith(start):
            return float(row.removeprefix(start))
    return 0.0


def eventually(holds: Callable[[], bool]) -> None:
    """Return once something holds."""
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until, "it never held"
