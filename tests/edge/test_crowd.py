"""All connections together: which of them go where there are too many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from orric.edge.config import Server
from orric.edge.crowd import RESERVED_FILES, Bounds, Crowd, Phase
from orric.edge.sender import Senders
from orric.exceptions import EdgeError

from .conftest import TOKEN
from .lines import INFER, counted, eventually, get, post
from .test_http import ask, request_of


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


def test_new_ones_do_not_drive_out_those_that_were_of_use(listening, line) -> None:
    _, address = listening(server__connections=16, server__connections_per_address=8)
    old = line(address)
    old.send(get())
    assert old.answer()[0] == 200
    flood = [line(address) for _ in range(20)]
    eventually(lambda: flood[0].is_over)
    old.send(get())
    assert old.answer()[0] == 200


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


class Held:
    """What a crowd sees of a connection whose body comes in, and whose deadline is over."""

    def __init__(self, crowd: Crowd, address: str, size: int) -> None:
        self.address = self.peer = address
        self.phase, self.deadline_s, self.held_bytes, self._crowd = Phase.BODY, -inf, size, crowd
        crowd.admit(self)
        crowd.hold(size)

    def make_room(self) -> None:
        self.phase = Phase.CLOSING
        self._crowd.release(self.held_bytes)


def test_room_is_made_by_whoever_holds_most() -> None:
    crowd = Crowd(replace(Bounds.of(Server(), 500), buffer_bytes=100), Senders(), str)
    honest, many = Held(crowd, "192.0.2.1", 40), [Held(crowd, "192.0.2.2", size) for size in (20, 30, 15)]
    assert [one.phase for one in (honest, *many)] == [Phase.BODY, Phase.BODY, Phase.CLOSING, Phase.BODY]


def test_one_failed_expiry_ends_no_deadlines(monkeypatch) -> None:
    monkeypatch.setattr("orric.edge.crowd.SWEEP_S", 0.0)
    crowd, expired, swept = Crowd(Bounds.of(Server(), 500), Senders(), str), [], []

    def fails() -> None:
        expired.append("first")
        raise RuntimeError("no")

    first, second = Held(crowd, "192.0.2.1", 0), Held(crowd, "192.0.2.2", 0)
    first.expire, second.expire = fails, lambda: expired.append("second")

    async def watch() -> None:
        watching = asyncio.create_task(crowd.watch(lambda: swept.append(1)))
        while len(swept) < 3 and not watching.done():
            await asyncio.sleep(0)
        watching.cancel()

    asyncio.run(watch())
    assert expired == ["first", "second", "second", "second"]


def test_next_to_no_files_is_told_at_the_start() -> None:
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
