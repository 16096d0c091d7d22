"""Connections: what HTTP asks of them, and what bounds each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import threading
from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orric.edge.config import Server
from orric.edge.connection import Connection
from orric.edge.crowd import Bounds, Crowd
from orric.edge.request import RefusedError, Request
from orric.edge.sender import Senders

from .lines import INFER, counted, eventually, get, post
from .test_http import ask, request_of

# --- HTTP -------------------------------------------------------------------------------------------------------------


def test_connections_are_kept_as_each_version_has_it(listening, line) -> None:
    _, address = listening()
    one = line(address)
    for _ in range(3):
        one.send(get())
        assert one.answer()[0] == 200
    one.send(get("/v2/health/live", "Connection: close"))
    assert one.answer()[1]["connection"] == "close"
    assert one.is_over
    two = line(address)
    two.send(get("/v2/health/live", "Connection: keep-alive", version="1.0"))
    assert two.answer()[1]["connection"] == "keep-alive"
    two.send(get(version="1.0"))
    assert two.answer()[1]["connection"] == "close"
    assert two.is_over


def test_bytes_may_come_one_by_one(listening, line, images: np.ndarray) -> None:
    _, address = listening()
    one = line(address)
    body = json.dumps(request_of(images[:1], id="slow")).encode()
    for byte in post(body)[:400]:
        one.send(bytes([byte]))
    one.send(post(body)[400:])
    status, _, told = one.answer()
    assert (status, json.loads(told)["id"]) == (200, "slow")


def test_requests_that_come_together_are_answered_in_their_order(listening, line, images: np.ndarray) -> None:
    _, address = listening()
    one = line(address)
    requests = []
    for number in range(12):
        count = 40 if number % 3 == 0 else 1
        requests.append(post(json.dumps(request_of(images[:count], id=str(number))).encode()))
        requests.append(get(f"/v2/models/digits/versions/{number}"))
    content = b"".join(requests)
    sender = threading.Thread(target=one.send, args=(content,))
    sender.start()
    for number in range(12):
        assert json.loads(one.answer()[2])["id"] == str(number)
        assert one.answer()[0] == (200 if number == 1 else 404)
    sender.join()


def test_heads_without_bodies_and_whole_targets(listening, line) -> None:
    _, address = listening()
    one = line(address)
    for path in ("/v2/health/live", "/", "/v1/status"):
        one.send(get(path).replace(b"GET", b"HEAD"))
        status, headers, _ = one.answer(without_body=True)
        assert status == 200
        assert int(headers["content-length"]) > 5
    one.send(b"GET http://localhost:1/v2/health/live?x=1 HTTP/1.1\r\nHost: elsewhere.example\r\n\r\n")
    assert one.answer()[0] == 200
    one.send(b"GET http://elsewhere.example/v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert one.answer()[0] == 421
    one.send(b"\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert one.answer()[0] in (404, 405)


def test_another_protocol_is_not_spoken(listening, line) -> None:
    _, address = listening()
    one = line(address)
    for lines in (("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA=="), ("Upgrade: h2c",)):
        one.send(get("/v2/health/live", *lines))
        assert one.answer()[0] == 200
    one.send(b"CONNECT elsewhere.example:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert one.answer()[0] == 400


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_behind_an_offered_protocol_is_no_request(listening, line, chunked: bool) -> None:
    _, address = listening()
    one = line(address)
    hidden = get("/healthz")
    lines = ("Connection: upgrade", "Upgrade: h2c")
    sent = post(hidden, *lines, path="/v2/repository/index")
    if chunked:
        sent = sent.replace(b"Content-Length: %d" % len(hidden), b"Transfer-Encoding: chunked")
    one.send(sent)
    status, headers, _ = one.answer()
    assert (status, headers["connection"]) == (400, "close")
    assert one.is_over


@pytest.mark.parametrize(
    "behind",
    [
        get("/v2/health/live", "Content-Length: 3") + b"abc", b"POST /v1/pause HTTP/1.1\r\nHost: loc", b"\x00\x01",
        b"GET /a HTTP/1.1\r\nHost: elsewhere.example\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)  # fmt: skip
def test_nothing_behind_a_body_with_chunks_reaches_its_request(
    listening, line, images: np.ndarray, behind: bytes
) -> None:
    daemon, address = listening()
    one = line(address)
    body = json.dumps(request_of(images[:1], id="first")).encode()
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    one.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + behind)
    status, headers, told = one.answer()
    assert (status, json.loads(told)["id"], headers["connection"]) == (200, "first", "close")
    assert one.is_over
    assert counted(daemon, "orric_requests_total", model="digits", status="200") == 1


def test_bodies_with_chunks_and_those_that_are_asked_for_first(listening, line, images: np.ndarray) -> None:
    _, address = listening()
    body = json.dumps(request_of(images[:40])).encode()
    one = line(address)
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    parts = [body[at : at + 9000] for at in range(0, len(body), 9000)]
    chunks = b"".join(b"%x;note=1\r\n%s\r\n" % (len(part), part) for part in parts)
    for _ in range(2):
        one.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\nTrailer: 1\r\n\r\n")
        assert one.answer()[0] == 200
    one.send(f"{head}Expect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    assert one.answer()[0] == 100
    one.send(body)
    assert one.answer()[0] == 200
    one.send(f"{head}Expect: 100-continue\r\nContent-Length: {1 << 30}\r\n\r\n".encode())
    assert one.answer()[0] == 413
    assert one.is_over


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"GET / HTTP/1.1\nHost: localhost\n\n",
        b"GET /\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", b"FOO / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -3\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_told_and_the_connection_closed(listening, line, wrong: bytes) -> None:
    if b"\n" in wrong and b"\r\n" not in wrong:
        wrong += b"x" * 16384  # no head ends this way
    daemon, address = listening()
    one = line(address)
    one.send(wrong)
    status, headers, told = one.answer()
    assert status in (400, 431)
    assert "error" in json.loads(told)
    if headers.get("connection") == "close":
        assert one.is_over
    assert counted(daemon, "orric_refusals_total", reason="malformed") + counted(
        daemon, "orric_refusals_total", reason="head"
    )


def test_a_client_that_goes_is_forgotten(listening, line, images: np.ndarray) -> None:
    daemon, address = listening(server__longest_wait_s=0.5)
    before = daemon.uploads.served
    one = line(address)
    one.send(post(json.dumps(request_of(images[:1])).encode()))
    eventually(lambda: daemon.uploads.arrived == 1)
    one._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # which resets
    one.close()
    eventually(lambda: counted(daemon, "orric_requests_total", model="digits", status="499") == 1)
    assert daemon.uploads.served == before
    assert ask(address, "POST", INFER, request_of(images[:1]))[0] == 200


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("what", ["arrive", "remember"])
def test_what_fails_fails_one_request(listening, line, images: np.ndarray, monkeypatch, count: int, what: str) -> None:
    daemon, address = listening()
    one, body = line(address), json.dumps(request_of(images[:count], id="a")).encode()

    def fails(*given: object) -> None:
        raise RuntimeError("no")

    with monkeypatch.context() as patch:
        patch.setattr(daemon.uploads, what, fails)
        one.send(post(body))
        status, headers, told = one.answer()
        assert (status, json.loads(told)) == (503, {"error": "the server failed; come again"})
        assert headers["retry-after"]
    one.send(post(body))
    assert one.answer()[0] == 200


def test_a_client_that_has_said_all_still_reads(listening, line, images: np.ndarray) -> None:
    _, address = listening(server__longest_wait_s=0.2)
    one = line(address)
    one.send(post(json.dumps(request_of(images[:1])).encode()))
    one.finish()
    assert one.answer()[0] == 200
    assert one.is_over


def test_no_host_is_missing_for_requests_of_the_old_version_alone(listening, line) -> None:
    _, address = listening()
    one = line(address)
    one.send(b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert one.answer()[0] == 200
    one.send(b"GET /healthz HTTP/1.1\r\n\r\n")
    assert one.answer()[0] == 400


def test_encoded_paths_are_unknown(listening, line) -> None:
    _, address = listening()
    one = line(address)
    for path in ("/health%7a", "/metric%73", "/%00"):
        one.send(get(path))
        assert one.answer()[0] == 404


def test_bodies_that_nobody_reads_are_refused_before_they_come(listening, line) -> None:
    _, address = listening()
    for method, path, status in (
        ("PUT", "/v1/pin", 405), ("DELETE", "/", 405), ("GET", "/v1/status", 405), ("PUT", INFER, 405),
        ("POST", "/v2/repository/index", 413),
    ):  # fmt: skip
        one = line(address)
        one.send(post(b"{", path=path, length=8 << 20).replace(b"POST", method.encode()))
        assert one.answer()[0] == status
        assert one.is_over


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_heads_are_bounded_while_they_come(listening, line) -> None:
    daemon, address = listening(server__head_bytes=2000, server__headers=10)
    one = line(address)
    one.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2000)
    status, headers, _ = one.answer()
    assert (status, headers["connection"]) == (431, "close")
    assert one.is_over
    two = line(address)
    two.send(get("/", *(f"X-{number}: 1" for number in range(11))))
    assert two.answer()[0] == 431
    assert counted(daemon, "orric_refusals_total", reason="head") == 2
    three = line(address)
    three.send(
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
        "\r\n\r\n0\r\n".encode()
        + b"".join(b"X-%d: 1\r\n" % number for number in range(30))
    )
    assert three.answer()[0] == 431, "lines behind a body count, too"
    for endless in (b"0\r\nX: " + b"x" * 5000, b"5;note=" + b"x" * 5000):
        four = line(address)
        four.send(
            f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
            "\r\n\r\n".encode()
            + endless
        )
        assert four.answer()[0] == 431


def test_many_small_chunks_are_no_body(listening, line) -> None:
    _, address = listening()
    one = line(address)
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    one.send(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + b"1\r\nx\r\n" * 3000)
    status, _, told = one.answer()
    assert (status, b"chunks" in told) == (400, True)


@pytest.mark.parametrize(
    ("sent", "status", "reason"),
    [(b"", None, "idle"), (b"GET / HT", 408, "head"), (post(b"{}", length=9000), 408, "body")],
)
def test_nothing_may_take_for_ever(listening, line, sent: bytes, status: int | None, reason: str) -> None:
    times = {"server__head_s": 0.1, "server__body_s": 0.1, "server__idle_s": 0.1}
    daemon, address = listening(**times)
    one = line(address)
    one.send(sent)
    if status is not None:
        assert one.answer()[0] == status
    assert one.is_over
    assert counted(daemon, "orric_connections_closed_total", reason=reason) == 1


def test_whoever_does_not_read_is_cut_off(listening, line) -> None:
    daemon, address = listening(server__answer_s=0.1)
    one = line(address, receive_bytes=4096)
    # More answers than the system's buffers hold, none of which is read.
    with contextlib.suppress(OSError):
        for _ in range(3000):
            one.send(get("/openapi.json"))
    eventually(lambda: counted(daemon, "orric_connections_closed_total", reason="unread") == 1)
    eventually(lambda: counted(daemon, "orric_connections") == 0)


def test_bodies_that_swell_are_refused(listening) -> None:
    import gzip

    daemon, address = listening()
    black = json.dumps(request_of(np.zeros((100, 32, 32, 3), np.uint8))).encode()
    assert ask(address, "POST", INFER, gzip.compress(black), {"Content-Encoding": "gzip"})[0] == 200
    swollen = gzip.compress(b" " * (4 << 20))
    status, _, told = ask(address, "POST", INFER, swollen, {"Content-Encoding": "gzip"})
    assert (status, "100 times larger" in told["error"]) == (413, True)
    assert counted(daemon, "orric_refusals_total", reason="body") == 1


def test_compressed_bodies_are_bounded_in_number(listening, images: np.ndarray, monkeypatch) -> None:
    import gzip

    _, address = listening()
    body, headers = gzip.compress(json.dumps(request_of(images[:1])).encode()), {"Content-Encoding": "gzip"}
    assert ask(address, "POST", INFER, body, headers)[0] == 200
    monkeypatch.setattr("orric.edge.inference.MOST_COMPRESSED", 0)
    status, told, _ = ask(address, "POST", INFER, body, headers)
    assert (status, "retry-after" in told) == (503, True)
    assert ask(address, "POST", INFER, request_of(images[:1]))[0] == 200


# --- any bytes --------------------------------------------------------------------------------------------------------


class Pretended(asyncio.Transport):
    """A transport to nowhere, which holds its user to the rules."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 1)})
        self.written, self.is_paused, self._closed, self._ended = b"", False, False, False

    def write(self, data: bytes) -> None:
        assert not self._closed
        assert not self._ended
        self.written += data

    def write_eof(self) -> None:
        self._ended = True

    def close(self) -> None:
        self._closed = True

    abort = close

    def is_closing(self) -> bool:
        return self._closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


class Answering:
    """Answers at once or later, or refuses, by what the path says."""

    def __init__(self) -> None:
        self.retry_after_s, self.later = (lambda: 1), deque()

    def begins(self, connection: Connection, request: Request) -> None:
        if request.path == b"/refused":
            raise RefusedError("token", 403, "no")

    def answer(self, connection: Connection, request: Request, body: bytes) -> None:
        if request.path == b"/later":
            self.later.append((connection, request))
        else:
            connection.respond(request, 200, b"{}")

    def finished(self, *given: object) -> None:
        pass

    gone = refuses = flush = failed = finished


HEADS = [
    f"{method} {path} HTTP/1.{minor}\r\nHost: a\r\n\r\n".encode()
    for method in ("GET", "HEAD")
    for path in ("/", "/later", "/refused")
    for minor in (0, 1)
]
PIECES = [
    b"POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", b"\r\n", b"GET / HTTP/1.1\r\n",
    b"Host: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"5;a=b\r\nhello\r\n", b"0\r\n", b"\x00", b"a" * 600,
    b"Connection: close\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
    b"Expect: 100-continue\r\n",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(HEADS), st.sampled_from(PIECES), st.binary(max_size=20)), max_size=12),
    st.lists(st.sampled_from([1, 3, 40, 900]), min_size=1, max_size=9),
)
def test_no_bytes_stall_or_break_a_connection(pieces: list[bytes], steps: list[int]) -> None:
    async def drive() -> None:
        answering, crowd = Answering(), Crowd(Bounds.of(Server(head_bytes=1024, headers=8), 500), Senders(), str)
        connection, transport, data = Connection(answering, crowd), Pretended(), b"".join(pieces)
        connection.connection_made(transport)
        for step in itertools.cycle(steps):
            if not data or transport.is_closing():
                break
            for _ in range(100):  # as many requests as may have come together
                while answering.later:
                    one, request = answering.later.popleft()
                    one.respond(request, 200, b"{}")
                await asyncio.sleep(0)
                if not transport.is_paused:
                    break
            assert not transport.is_paused, "whatever came before is answered, so it reads on"
            connection.data_received(data[:step])
            data = data[step:]
        connection.connection_lost(None)
        assert (crowd.count, crowd.buffered_bytes) == (0, 0)
        assert not transport.written or transport.written.startswith(b"HTTP/1.1 ")

    asyncio.run(drive())
