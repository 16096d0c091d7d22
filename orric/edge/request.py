"""A request as its head tells it, and why one may be refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orric.exceptions import extra

with extra("edge"):
    import msgspec

Headers = Sequence[tuple[bytes, bytes]]
JSON = b"application/json"
OCTETS = b"application/octet-stream"
PHRASES = {
    200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found",
    405: b"Method Not Allowed", 408: b"Request Timeout", 409: b"Conflict", 413: b"Content Too Large",
    415: b"Unsupported Media Type", 417: b"Expectation Failed", 421: b"Misdirected Request",
    422: b"Unprocessable Content", 431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}  # fmt: skip


class RefusedError(Exception):
    """A request that is turned away.

    Args:
        reason: For the metrics and the log: one of few words.
        status: Of HTTP.
        message: What the client is told, in a line.
    """

    def __init__(self, reason: str, status: int, message: str) -> None:
        super().__init__(reason, status, message)
        self.reason, self.status, self.message = reason, status, message


@dataclass(eq=False)
class Request:
    """A request whose head is complete.

    Attributes:
        method: As it came.
        path: Percent-encoded as it came, without the query.
        query: What follows the question mark.
        headers: By their names in small letters; lines of one name are joined by commas.
        authority: Whom it is for: of the target where that has one, or else of the Host line. "" where it has none.
        first_s: When its first byte came, by `time.monotonic`.
        keeps_alive: Whether its connection may be used again.
        announces_body: Whether a body follows.
        is_new: Whether it is of HTTP/1.1, rather than 1.0.
        images: How many images it has, once that is known; 0 for anything but inference.
        counted: Whether it is a request of inference, which the metrics count.
        status: Of its answer, 0 before.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: dict[bytes, bytes]
    authority: bytes
    first_s: float
    keeps_alive: bool
    announces_body: bool
    is_new: bool
    images: int = 0
    counted: bool = False
    status: int = field(default=0)

    def text(self, name: bytes) -> str | None:
        """Return a header's value, None where it is missing."""
        found = self.headers.get(name)
        return None if found is None else found.decode("latin-1")


def problem(message: str) -> bytes:
    """Return the content of an answer that tells why there is no other."""
    found: bytes = msgspec.json.encode({"error": message})
    return found


def head(status: int, kind: bytes, length: int, more: Headers) -> bytes:
    """Return the head of an answer."""
    lines = [
        b"HTTP/1.1 %d %s" % (status, PHRASES.get(status, b"Unknown")),
        b"content-type: " + kind,
        b"content-length: %d" % length,
        *[name + b": " + value for name, value in more],
        b"\r\n",
    ]
    return b"\r\n".join(lines)
