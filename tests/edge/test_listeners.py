"""The daemon's listeners: health on a port of its own, and the end, which loses nothing."""

from __future__ import annotations

import json
import socket
import threading

import numpy as np
import pytest

from orric.edge.config import Server
from orric.edge.http import listen, refuse_new
from orric.exceptions import EdgeError

from .lines import INFER, counted, eventually, get, post
from .test_http import ask, request_of


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


@pytest.mark.parametrize("host", ["ä" * 60, "a..b"])
def test_hosts_that_are_no_names_are_told_in_a_line(host: str) -> None:
    with pytest.raises(EdgeError, match=r"cannot be listened on \(.*choose another port or host") as caught:
        listen(Server(host=host, port=0))
    assert "\n" not in str(caught.value)


def test_a_host_with_a_nul_character_is_refused_before_it_is_listened_on() -> None:
    with pytest.raises(EdgeError, match=r"host: found 'a\\x00b'.*leave out its NUL character"):
        Server(host="a\0b", port=0)
