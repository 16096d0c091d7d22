"""One connection: bytes in, requests to whoever answers, bytes out, all of it bounded.

The bounds stand before the parser, which is why no HTTP server of others is used: a head that is too large is counted
while it comes in, the parser sees heads that are whole and no more than one request at a time, and a connection that is
closed is first read to its end, since closing it with bytes unread would take the answer back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Protocol, cast

from orric.edge.crowd import Crowd, Phase
from orric.edge.request import JSON, Headers, RefusedError, Request, head, problem
from orric.edge.sender import grouped
from orric.exceptions import extra

with extra("edge"):
    import httptools

if TYPE_CHECKING:
    from collections.abc import Callable

# Bytes of a body with chunks that are read at once, and chunks of a body beyond which they must be of some size:
# a body of bytes in chunks of their own would keep the interpreter busy.
CHUNKED_BYTES, FREE_CHUNKS, CHUNK_BYTES, CHUNK_HEAD_BYTES = 1 << 14, 512, 256, 64
# Bodies of no more bytes are answered however many bytes of others wait.
SMALL_BYTES = 1 << 16
# How long a connection is read to its end before it is closed, and how much.
LINGER_S, LINGER_BYTES = 2.0, 64 << 20
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CROWDED = "there are too many connections; come again"
WAITING = "too many bytes of other requests wait; come again"
NOT_HTTP = "this is no request of HTTP/1.1"


class Answering(Protocol):
    """Whoever answers the requests of connections."""

    retry_after_s: Callable[[], int]

    def begins(self, connection: Connection, request: Request) -> None:
        """Look at a request before its body is read; raise RefusedError to refuse it."""

    def answer(self, connection: Connection, request: Request, body: bytes) -> None:
        """Answer a request, now or later, by the connection's `respond`."""

    def finished(self, request: Request, seconds: float) -> None:
        """Take note of an answer whose last byte was handed to the system."""

    def gone(self, request: Request) -> None:
        """Take note of a client that went before its answer."""

    def refuses(self, reason: str, peer: str, message: str) -> None:
        """Take note of a refusal."""

    def failed(self, error: Exception) -> None:
        """Take note of what failed while a request was answered."""

    def flush(self) -> None:
        """Tell of refusals that were held back."""


class Connection(asyncio.Protocol):
    """A client's connection.

    Args:
        answering: Answers.
        crowd: All connections of the listener.

    Attributes:
        peer: Address of the other end, "" where it has none.
        address: What stands for it where connections are counted.
        phase: Where it stands.
        deadline_s: When it is expired.
        held_bytes: Of a body that is read or waits.
    """

    def __init__(self, answering: Answering, crowd: Crowd) -> None:
        self._answering, self._crowd, self._bounds = answering, crowd, crowd.bounds
        self.peer = self.address = ""
        self.phase, self.deadline_s, self.held_bytes = Phase.CLOSED, inf, 0
        self._transport = cast(asyncio.Transport, None)
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._unread = b""
        self._taking = self._paused = self._writing = self._ends = False
        self._dropped = 0
        # When what was set aside began to come, 0 where nothing is.
        self._came_s = 0.0
        self._begin()

    def _begin(self) -> None:
        """Wait for a request."""
        self._request: Request | None = None
        self._refusal: RefusedError | None = None
        self._url, self._headers, self._lines = b"", dict[bytes, bytes](), 0
        self._authorities = 0
        self._parts: list[bytes] = []
        self._size = self._fed = self._chunks = 0
        self._left: int | None = None
        self._complete = False
        self._first_s = 0.0

    # --- the transport's side -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # What is written goes to the system at once, or writing is paused until all of it has gone.
        self._transport.set_write_buffer_limits(high=0)
        peer = transport.get_extra_info("peername")
        self.peer = str(peer[0]) if peer else ""
        self.address = grouped(self.peer)
        self.phase, self.deadline_s = Phase.IDLE, time.monotonic() + self._bounds.idle_s
        if not self._crowd.admit(self):
            self.turn_away("connections", 503, CROWDED)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        request, was = self._request, self.phase
        self.phase, self.deadline_s, self._unread = Phase.CLOSED, inf, b""
        self._parser = None  # it holds on to this object, which would wait for the collector of cycles
        self._crowd.leave(self)
        self._release()
        if request is not None and was == Phase.UNDER_WAY:
            self._request = None
            self._answering.gone(request)

    def eof_received(self) -> bool:
        if self.phase == Phase.UNDER_WAY:
            self._ends = True  # whoever has said all may still read
            return True
        return False

    def pause_writing(self) -> None:
        self._writing = True

    def resume_writing(self) -> None:
        self._writing = False
        if self.phase == Phase.UNDER_WAY and self._request is not None and self._request.status:
            self._written(self._request)

    def data_received(self, data: bytes) -> None:
        if self.phase in (Phase.CLOSING, Phase.CLOSED):
            self._dropped += len(data)
            if self._dropped > LINGER_BYTES:
                self._transport.abort()
            return
        if self.phase == Phase.UNDER_WAY:
            # Of a request that comes before the last one is answered no more is read than what has come already.
            self._set_aside(data)
            self.held_bytes += len(data)
            self._crowd.hold(len(data))
            return
        if self._unread:
            data = self._unread + data
            self._unread = b""
        self._take(data)

    def _take(self, data: bytes) -> None:
        """Read on; stop behind the end of a request."""
        self._taking = True
        view = memoryview(data)
        at = 0
        while at < len(data) and self.phase in (Phase.IDLE, Phase.HEAD, Phase.BODY):
            at = self._take_head(data, view, at) if self._request is None else self._take_body(view, at)
            if self._complete and self.phase == Phase.BODY:
                self._answer()
            if self.phase not in (Phase.HEAD, Phase.BODY):
                break  # before the next request of this connection others are heard
        self._taking = False
        if at < len(data) and self.phase in (Phase.IDLE, Phase.UNDER_WAY):
            self._set_aside(data[at:])
            if self.phase == Phase.IDLE:
                asyncio.get_running_loop().call_soon(self._go_on)

    def _set_aside(self, data: bytes) -> None:
        """Keep what came of a request before the last one was answered."""
        if not self._unread:
            self._came_s = time.monotonic()
        self._unread += data
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _take_head(self, data: bytes, view: memoryview, at: int) -> int:
        """Read a head that is whole; return where it ends, or the end of the data where it must wait for more."""
        if self.phase == Phase.IDLE:
            # Empty lines before a request are of clients that end a body with one.
            while at < len(data) and data[at] in b"\r\n":
                at += 1
            if at == len(data):
                return at
            now_s = time.monotonic()
            self.phase, self.deadline_s = Phase.HEAD, now_s + self._bounds.head_s
            self._first_s, self._came_s = self._came_s or now_s, 0.0
            if not 65 <= data[at] <= 90:
                self.turn_away("malformed", 400, NOT_HTTP)
                return at
        most = self._bounds.head_bytes
        end = data.find(b"\r\n\r\n", at, at + most)
        if end < 0:
            if len(data) - at >= most:
                self.turn_away("head", 431, f"the head of a request has {most} bytes at most")
                return at
            self._unread = data[at:]
            return len(data)
        end += 4
        if not self._feed(view[at:end]):
            return end
        if self._refusal is None and self._request is None:
            self.turn_away("malformed", 400, NOT_HTTP)
        elif self._refusal is not None:
            self.turn_away(self._refusal.reason, self._refusal.status, self._refusal.message)
        else:
            self._look(cast(Request, self._request))
        return end

    def _look(self, request: Request) -> None:
        """See, before its body is read, whether a request may be answered."""
        self.phase = Phase.BODY
        self.deadline_s = time.monotonic() + self._bounds.body_s
        began_s = self._crowd.drained_s
        try:
            if began_s is not None and request.first_s > began_s:
                raise RefusedError("draining", 503, "shutting down; come again")
            if self._left is not None and self._left > self._bounds.body_bytes:
                raise RefusedError("body", 413, f"the body is larger than {self._bounds.body_bytes} bytes")
            self._answering.begins(self, request)
            expected = request.headers.get(b"expect")
            if expected is not None and request.is_new and not self._complete:
                if expected.lower() != b"100-continue":
                    raise RefusedError("malformed", 417, "nothing but 100-continue may be expected")
                self._write(CONTINUE)
        except RefusedError as error:
            self.refuse(error)

    def _take_body(self, view: memoryview, at: int) -> int:
        """Read of a body what is there of it; return where it ends, or the end of the data."""
        end = min(at + (CHUNKED_BYTES if self._left is None else self._left), len(view))
        if not self._feed(view[at:end]):
            return end
        if self._left is not None:
            self._left -= end - at
        else:
            self._fed += end - at
        if self._size > self._bounds.body_bytes:
            self.turn_away("body", 413, f"the body is larger than {self._bounds.body_bytes} bytes")
        elif self._chunks > FREE_CHUNKS + self._size // CHUNK_BYTES:
            self.turn_away("body", 400, f"the body comes in chunks of less than {CHUNK_BYTES} bytes")
        elif self._fed - self._size > self._bounds.head_bytes + CHUNK_HEAD_BYTES * self._chunks and not self._complete:
            self.turn_away("head", 431, f"what is no body has {self._bounds.head_bytes} bytes at most")
        elif self._left is None and self._lines > self._bounds.headers:
            self.turn_away("head", 431, f"a request has {self._bounds.headers} headers at most")
        elif self._size > self.held_bytes:
            size, self.held_bytes = self._size - self.held_bytes, self._size
            self._crowd.hold(size)
        return end

    def _feed(self, piece: memoryview) -> bool:
        """Let the parser read; False where that was no HTTP."""
        try:
            cast(httptools.HttpRequestParser, self._parser).feed_data(piece)
        except httptools.HttpParserUpgrade:
            # Another protocol may be offered; ours goes on. The parser takes a body for bytes of the other one, and
            # what it skips would be read as a request.
            self._parser = httptools.HttpRequestParser(self)
            if self._request is not None and self._request.announces_body:
                self._refusal = RefusedError("malformed", 400, "a request that has a body may offer no other protocol")
        except httptools.HttpParserError:
            if self._complete and self._request is not None:
                self._request.keeps_alive = False  # where the next request began is not known any more
                return True
            self.turn_away("malformed", 400, NOT_HTTP)
            return False
        return True

    def on_message_begin(self) -> None:
        """Stop at another request behind a body with chunks, whose end the parser alone knows."""
        if self._complete:
            raise ValueError("a second request")

    def on_url(self, url: bytes) -> None:
        """Take the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a line of the head, or of what follows a body with chunks."""
        self._lines += 1
        if self._request is not None:
            return
        name = name.lower()
        headers = self._headers
        if name in headers:
            headers[name] += b", " + value
            if name == b"host":
                self._authorities += 1
        else:
            headers[name] = value

    def on_headers_complete(self) -> None:
        """Make a request of the head."""
        parser, headers = cast(httptools.HttpRequestParser, self._parser), self._headers
        method = parser.get_method()
        version = parser.get_http_version()
        is_new = version == "1.1"
        target, authority = self._url, headers.get(b"host", b"")
        if not target.startswith(b"/") and b"://" in target[:8]:
            authority, slash, target = target.partition(b"://")[2].partition(b"/")
            target = slash + target or b"/"
        path, _, query = target.partition(b"?")
        length = headers.get(b"content-length")
        chunked = b"transfer-encoding" in headers
        self._left = None if chunked else int(length or b"0")
        request = Request(
            method, path, query, headers, authority.strip(), self._first_s, parser.should_keep_alive(),
            chunked or bool(self._left), is_new,
        )  # fmt: skip
        if self._lines > self._bounds.headers:
            self._refusal = RefusedError("head", 431, f"a request has {self._bounds.headers} headers at most")
        elif self._authorities or method == b"CONNECT" or not (is_new or (version == "1.0" and not chunked)):
            self._refusal = RefusedError("malformed", 400, NOT_HTTP)
        else:
            self._request = request

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        self._parts.append(part)
        self._size += len(part)

    def on_chunk_header(self) -> None:
        """Count chunks."""
        self._chunks += 1

    def on_message_complete(self) -> None:
        """Take note that all of a request is there."""
        self._complete = True

    # --- answering ------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Have a request answered that is there from its first byte to its last."""
        request = cast(Request, self._request)
        parts, self._parts = self._parts, []
        self.phase, self.deadline_s = Phase.UNDER_WAY, inf
        if self._crowd.is_full and self.held_bytes > SMALL_BYTES:
            self.refuse(RefusedError("overloaded", 503, WAITING))
            return
        with self.answering(request):
            self._answering.answer(self, request, parts[0] if len(parts) == 1 else b"".join(parts))

    @contextmanager
    def answering(self, request: Request) -> Iterator[None]:
        """Let whatever fails inside the block fail this request alone, and have it answered."""
        try:
            yield
        except Exception as error:  # of whoever answers
            self._answering.failed(error)
            self.refuse_late(request, RefusedError("failure", 503, "the server failed; come again"))

    def respond(self, request: Request, status: int, content: bytes, kind: bytes = JSON, more: Headers = ()) -> None:
        """Answer a request; whoever has gone is not answered."""
        if self.phase in (Phase.CLOSED, Phase.CLOSING) or request is not self._request:
            return
        self._release()
        request.status = status
        more = (*more, *(line for line in self._about(status) if line[0] not in dict(more)))
        closes = self._ends or not request.keeps_alive or not self._complete or self._crowd.drained_s is not None
        if closes:
            request.keeps_alive = False
            more = (*more, (b"connection", b"close"))
        elif not request.is_new:
            more = (*more, (b"connection", b"keep-alive"))
        self.phase, self.deadline_s = Phase.UNDER_WAY, time.monotonic() + self._bounds.answer_s
        lines = head(status, kind, len(content), more)
        self._write(lines if request.method == b"HEAD" else lines + content)
        # Where the client turns out to have gone, the loss of the connection is all that follows.
        if not self._writing and not self._transport.is_closing():
            self._written(request)

    def refuse(self, error: RefusedError, closes: bool = False) -> None:
        """Answer the present request with why it is refused.

        Args:
            error: Why.
            closes: Whether the connection is closed, and with it whatever else was sent on it.
        """
        request = cast(Request, self._request)
        request.keeps_alive = request.keeps_alive and not closes
        self._answering.refuses(error.reason, self.peer, error.message)
        self.respond(request, error.status, problem(error.message))

    def waits_for(self, request: Request) -> bool:
        """Whether a request's client still waits for its answer."""
        return request is self._request and self.phase == Phase.UNDER_WAY

    def refuse_late(self, request: Request, error: RefusedError) -> None:
        """Refuse a request whose client may have gone."""
        if self.waits_for(request):
            self.refuse(error)

    def turn_away(self, reason: str, status: int, message: str) -> None:
        """Answer what is no request, or will not become one, and close."""
        if self.phase in (Phase.CLOSED, Phase.CLOSING):
            return
        self._answering.refuses(reason, self.peer, message)
        content = problem(message)
        more = (*self._about(status), (b"connection", b"close"))
        self._write(head(status, JSON, len(content), more) + content)
        self.linger()

    def _write(self, content: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(content)

    def _about(self, status: int) -> Headers:
        if status == 503:
            return ((b"retry-after", b"%d" % self._answering.retry_after_s()),)
        return ((b"www-authenticate", b"Bearer"),) if status == 401 else ()

    def _written(self, request: Request) -> None:
        """Go on after the last byte of an answer was handed to the system."""
        now_s = time.monotonic()
        self._answering.finished(request, now_s - request.first_s)
        if not request.keeps_alive or not self._complete:
            self.linger()
            return
        self.phase, self.deadline_s = Phase.IDLE, now_s + self._bounds.idle_s
        self._begin()
        self._crowd.rest(self)
        if not self._taking:
            self._go_on()

    def _go_on(self) -> None:
        """Read what was set aside, then what comes."""
        if self.phase != Phase.IDLE:
            return
        data, self._unread = self._unread, b""
        if data:
            self._take(data)
        # What is set aside again is read later; of a head that is not whole the rest must come.
        waits = self.phase in (Phase.HEAD, Phase.BODY) or (self.phase == Phase.IDLE and not self._unread)
        if self._paused and waits:
            self._paused = False
            self._transport.resume_reading()

    def _release(self) -> None:
        size, self.held_bytes = self.held_bytes, 0
        if size:
            self._crowd.release(size)

    def linger(self) -> None:
        """Say that nothing more will come, and read what still comes, for a moment, before closing."""
        self.phase, self.deadline_s = Phase.CLOSING, time.monotonic() + LINGER_S
        self._unread, self._parts = b"", []
        self._release()
        if self._ends or self._transport.is_closing():
            self._transport.close()
            return
        self._transport.write_eof()
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def give_way(self) -> None:
        """Close at once, for another connection."""
        if self.phase in (Phase.HEAD, Phase.BODY):
            self.turn_away("connections", 503, CROWDED)
        self._crowd.leave(self)
        self._transport.close() if self.phase == Phase.IDLE else self._transport.abort()
        self.phase, self.deadline_s = Phase.CLOSED, inf

    def make_room(self) -> None:
        """Give up a body, for those of others."""
        self.turn_away("overloaded", 503, WAITING)

    def expire(self) -> None:
        """Close what took too long."""
        if self.phase == Phase.IDLE:
            self._crowd.closed("idle")
            self.linger()
        elif self.phase == Phase.HEAD:
            self._crowd.closed("head")
            self.turn_away("slow", 408, f"the head did not come within {self._bounds.head_s:g} s")
        elif self.phase == Phase.BODY:
            self._crowd.closed("body")
            self.turn_away("slow", 408, f"the body did not come within {self._bounds.body_s:g} s")
        else:
            if self.phase == Phase.UNDER_WAY:
                self._crowd.closed("unread")
            self._transport.abort()

    def cut(self) -> None:
        """Close whatever is under way."""
        if self.phase in (Phase.HEAD, Phase.BODY):
            self.turn_away("draining", 503, "shutting down; come again")
        self._transport.abort() if self.phase == Phase.UNDER_WAY else self._transport.close()
