"""Connections: what HTTP asks of them, what bounds them, and how they end."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from orric.edge.crowd import RESERVED_FILES, Bounds
from orric.edge.http import refuse_new
from orric.edge.log import Repeated
from orric.exceptions import EdgeError

from .conftest import TOKEN
from .test_http import ask, request_of

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


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    """Return a function that connects."""
    with contextlib.ExitStack() as opened:

        def connected(address: str, **given: Any) -> Line:
            return opened.enter_context(contextlib.closing(Line(address, **given)))

        yield connected


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


def test_a_client_that_has_said_all_still_reads(listening, line, images: np.ndarray) -> None:
    _, address = listening(server__longest_wait_s=0.2)
    one = line(address)
    one.send(post(json.dumps(request_of(images[:1])).encode()))
    one.finish()
    assert one.answer()[0] == 200
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
    assert counted(daemon, "orric_connections") == 0


def test_when_there_are_too_many_the_oldest_idle_one_goes(listening, line, images: np.ndarray) -> None:
    daemon, address = listening(server__connections=16, server__connections_per_address=8)
    lines = [line(address) for _ in range(8)]
    for one in lines:
        one.send(get())
        one.answer()
    lines[0].send(get())  # which makes another one the oldest
    lines[0].answer()
    lines[2].send(b"GET / HT")
    new = line(address)
    new.send(get())
    assert new.answer()[0] == 200
    assert lines[1].is_over
    for one in (lines[0], *lines[3:]):
        one.send(get())
        assert one.answer()[0] == 200
    assert counted(daemon, "orric_connections") == 8
    # Where none is idle, those that still send their body go.
    for one in (lines[0], *lines[3:], new):
        one.send(post(b"{}", length=900))
    eventually(lambda: counted(daemon, "orric_connections") == 8)
    assert ask(address, "GET", "/healthz")[0] == 200
    assert counted(daemon, "orric_connections_closed_total", reason="crowd") >= 2


def test_bodies_share_a_buffer(listening, line, images: np.ndarray) -> None:
    daemon, address = listening(server__buffer_bytes=1 << 20, server__body_bytes=1 << 20)
    half = b"{" * (1 << 19)
    lines = [line(address) for _ in range(4)]
    for one in lines:
        one.send(post(half, length=1 << 20))
    statuses = []
    for one in lines[:2]:
        with contextlib.suppress(TimeoutError):
            statuses.append(one.answer())
            break
    assert statuses[0][0] == 503
    assert statuses[0][1]["retry-after"]
    assert counted(daemon, "orric_connections_closed_total", reason="buffer") >= 1
    assert ask(address, "POST", INFER, request_of(images[:1]))[0] == 200


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


def test_next_to_no_files_is_told_at_the_start() -> None:
    from orric.edge.config import Server

    assert Bounds.of(Server(), RESERVED_FILES + 100).connections == 100
    assert Bounds.of(Server(), 1 << 20).connections == 1000
    with pytest.raises(EdgeError, match="limit of open files: is 100; raise it to 176"):
        Bounds.of(Server(), 100)


def test_connections_leave_files_for_the_rest(write, onnx_student, line, images: np.ndarray) -> None:
    """A daemon that may open few files, and as many clients as will: it keeps serving, and blames no model."""
    path = write(profile=onnx_student, retraining__enabled=False, server__drain_s=0.5)
    limit = 260

    def lowered() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, limit))

    process = subprocess.Popen(
        [sys.executable, "-m", "orric", "serve", str(path), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "ORRIC_TOKEN": TOKEN}, preexec_fn=lowered,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        address = json.loads(process.stdout.readline())["url"].removeprefix("http://").rstrip("/")
        lines = [line(address) for _ in range(limit)]
        for one in lines:
            with contextlib.suppress(OSError):
                one.send(b"GET / HT")
        for _ in range(5):
            assert ask(address, "GET", "/healthz")[0] == 200
            assert ask(address, "POST", INFER, request_of(images[:1]))[0] == 200
        assert ask(address, "POST", "/v1/pin", {"version": 1}, {"Authorization": f"Bearer {TOKEN}"})[0] == 200
        process.send_signal(signal.SIGTERM)
        said = process.stderr.read().decode()
        assert process.wait(60) == 0
        assert "the limit of open files allows" in said
        assert "damaged" not in said
        assert "Too many open files" not in said
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


# --- health -----------------------------------------------------------------------------------------------------------


def test_health_has_a_port_of_its_own(listening, line, images: np.ndarray) -> None:
    from orric.edge.http import start_server

    daemon, _ = listening()
    server = start_server(daemon)
    try:
        health = f"127.0.0.1:{server.health_port}"
        for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
            assert ask(health, "GET", path)[0] == 200
        assert b"orric_images_total" in ask(health, "GET", "/metrics")[2]
        assert ask(health, "GET", "/v1/status")[0] == 404
        assert ask(health, "POST", "/healthz")[0] == 405
        assert ask(health, "POST", INFER, request_of(images[:1]))[0] == 413
        daemon.ready = False
        assert ask(health, "GET", "/readyz")[0] == 503
    finally:
        daemon.ready = True
        server.stop(0.0)


def test_health_needs_no_port(listening) -> None:
    from orric.edge.http import start_server

    daemon, _ = listening(server__health_port=-1)
    server = start_server(daemon)
    assert server.health_port is None
    server.stop(0.0)


# --- the end ----------------------------------------------------------------------------------------------------------


def test_the_end_answers_what_came_before_and_tells_what_comes_after(listening, line, images: np.ndarray) -> None:
    from orric.edge.http import start_server

    daemon, _ = listening(server__longest_wait_s=0.0)
    server = start_server(daemon)
    address = "{}:{}".format(*server.address)
    before, idle, silent = line(address), line(address), line(address)
    body = json.dumps(request_of(images[:1], id="before")).encode()
    before.send(post(body)[:300])
    idle.send(get())
    idle.answer()
    eventually(lambda: counted(daemon, "orric_connections") == 3)
    daemon.ready, daemon.stopping = False, True
    crowd = server._main._crowd
    ending = threading.Thread(target=server.stop, args=(20.0,))
    ending.start()
    eventually(lambda: crowd.drained_s is not None)
    idle.send(get())
    status, headers, told = idle.answer()
    assert (status, headers["connection"], json.loads(told)) == (503, "close", {"error": "shutting down; come again"})
    assert headers["retry-after"]
    assert idle.is_over
    before.send(post(body)[300:])
    status, headers, told = before.answer()
    assert (status, headers["connection"], json.loads(told)["id"]) == (200, "close", "before")
    assert before.is_over
    assert silent.is_over, "it is closed, not reset"
    ending.join(30)
    assert not ending.is_alive()


def test_what_the_system_has_accepted_is_not_reset() -> None:
    """A listening socket takes no more connections, and gives out those that it has taken."""
    with socket.socket() as listening, socket.socket() as late:
        listening.bind(("127.0.0.1", 0))
        listening.listen(8)
        waiting = socket.create_connection(listening.getsockname())
        waiting.sendall(b"hello")
        refuse_new(listening)
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect(listening.getsockname())
        accepted, _ = listening.accept()
        assert accepted.recv(5) == b"hello"
        waiting.sendall(b"again")
        assert accepted.recv(5) == b"again"
        accepted.close()
        waiting.close()


def test_what_happens_again_and_again_is_told_now_and_then() -> None:
    now, told = [0.0], []
    repeated = Repeated("refused", lambda: now[0], lambda level, event, **values: told.append(values))
    for _ in range(5):
        repeated.note("host", peer="a")
    repeated.note("token", peer="b")
    assert told == [{"reason": "host", "peer": "a"}, {"reason": "token", "peer": "b"}]
    repeated.flush()
    assert len(told) == 2
    now[0] = 10.0
    repeated.flush()
    assert told[2:] == [{"reason": "host", "peer": "a", "more": 3}]
