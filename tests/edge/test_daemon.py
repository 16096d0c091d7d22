"""The daemon as a process: told to systemd, reloaded, drained, killed and recovered."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orric.edge.config import EdgeConfig
from orric.edge.journal import read_journal
from orric.edge.store import ModelStore

from ..builders import ROOT
from .conftest import DIGITS, TOKEN
from .test_http import HEADERS, ask, request_of

EXAMPLES = ROOT / "docs/examples/edge"


class Running:
    """A daemon in a process of its own.

    Args:
        path: Its configuration.
        environment: Beside the test's own.
    """

    def __init__(self, path: Path, **environment: str) -> None:
        command = [sys.executable, "-m", "orric", "serve", str(path), "--json"]
        given = {**os.environ, "ORRIC_TOKEN": TOKEN, **environment}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.log: list[dict[str, Any]] = []
        self._heard = threading.Condition()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        line = self.process.stdout.readline()
        assert line, self.log
        self.address = json.loads(line)["url"].removeprefix("http://").rstrip("/")

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.log.append(json.loads(line))
                self._heard.notify_all()

    def wait_for(self, event: str, number: int = 1) -> dict[str, Any]:
        """Return the log's line of an event, once there are so many."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.of(event)) >= number, 60), self.log
        return self.of(event)[number - 1]

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the log's lines of an event."""
        return [line for line in self.log if line["event"] == event]

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and return the status that it ends with."""
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._listener.join(10)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        return status


@pytest.fixture
def start() -> Iterator[Any]:
    """Return a function that starts a daemon."""
    running = []

    def started(path: Path, **environment: str) -> Running:
        running.append(Running(path, **environment))
        return running[-1]

    yield started
    for one in running:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


def test_systemd_is_told_and_a_reload_keeps_what_is_good(
    start, write, onnx_student, images: np.ndarray, tmp_path: Path
) -> None:
    path = write(profile=onnx_student, retraining__enabled=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(60)
        daemon = start(path, NOTIFY_SOCKET=str(tmp_path / "notify"))

        def heard(wanted: bytes) -> None:
            while wanted not in channel.recv(1000):
                pass

        heard(b"READY=1")
        heard(b"WATCHDOG=1")
        good = path.read_text()
        path.write_text(good + "\n[samples]\nretention_s = -5.0\n")
        daemon.process.send_signal(signal.SIGHUP)
        heard(b"RELOADING=1\nMONOTONIC_USEC=")
        heard(b"READY=1")
        refused = daemon.wait_for("reload refused")
        assert "samples.retention_s: found -5.0" in refused["error"]
        path.write_text(good.replace("slot_s = 5.0", "slot_s = 6.0"))
        daemon.process.send_signal(signal.SIGHUP)
        assert "slot_s: cannot change while the daemon runs" in daemon.wait_for("reload refused", 2)["error"]
        path.write_text(good + "\n[samples]\nretention_s = 5.0\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("reloaded")
        assert ask(daemon.address, "POST", "/v2/models/digits/infer", request_of(images[:1]))[0] == 200
        assert daemon.end() == 0
        heard(b"STOPPING=1")
    assert daemon.log[-1]["event"] == "stopped"


def test_a_shutdown_serves_what_is_under_way(start, write, onnx_student, images: np.ndarray) -> None:
    daemon = start(write(profile=onnx_student, retraining__enabled=False))
    statuses: list[int] = []

    def client() -> None:
        with contextlib.suppress(OSError):  # when it listens no more
            while True:
                statuses.append(ask(daemon.address, "POST", "/v2/models/digits/infer", request_of(images[:40]))[0])

    clients = [threading.Thread(target=client) for _ in range(4)]
    for one in clients:
        one.start()
    while len(statuses) < 20:
        pass
    assert daemon.end() == 0
    for one in clients:
        one.join(30)
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 20


def test_kills_of_the_whole_daemon(start, write, images: np.ndarray, tmp_path: Path) -> None:
    """It retrains all the time, is killed at any moment, and comes back with a whole model and every accepted slot.

    Six times here, fifty in tests/benchmarks/restarts.py.
    """
    given = {"budget__macs_per_s": 1e11, "samples__most": 40, "retraining__nice": 0}
    path = write(slot_s=2.5, horizon_slots=1000, **given)
    rng, seen, slots = np.random.default_rng(1), 0, 0
    for _ in range(6):
        daemon = start(path)
        recovered = " ".join(line["what"] for line in daemon.of("recovered"))
        if slots:
            assert "went on after slot" in recovered
            assert int(recovered.split("went on after slot ")[1].split()[0]) >= slots
        # Some are killed at once, the others once they have swapped, somewhere in what follows.
        patience, swaps = int(rng.integers(1, 30)), int(rng.integers(0, 3))
        for number in range(3000):
            if patience <= 0:
                break
            some = request_of(images[number % 10 :: 10])
            status, _, told = ask(daemon.address, "POST", "/v2/models/digits/infer", some)
            assert status == 200
            assert np.isfinite(told["outputs"][0]["data"]).all()
            patience -= len(daemon.of("swap")) >= swaps
        state = ask(daemon.address, "GET", "/v1/status")[2]
        daemon.end(signal.SIGKILL)
        slots, seen = max(slots, state["slot"]), max(seen, state["serving"])
        records, _ = read_journal(max((tmp_path / "state/journal").glob("*.jsonl")))
        decided = [record["slot"] for record in records if record["kind"] == "decision"]
        assert decided == list(range(1, len(decided) + 1))
        assert len(decided) >= slots
        store = ModelStore(tmp_path / "state")
        assert store.current is not None
        store.load(store.current.serving)
        assert store.told == [] or all("removed" in told for told in store.told)
    assert seen > 1, "it did retrain"
    last = start(path)
    assert ask(last.address, "POST", "/v1/pause", None, HEADERS)[0] == 200
    last.end(signal.SIGKILL)
    again = start(path)
    assert ask(again.address, "GET", "/v1/status")[2]["paused"], "the operator's word lasts"


def test_an_unusable_configuration_starts_nothing(write, orric_command, tmp_path: Path) -> None:
    path = write(server__port=123456)
    for arguments in ((), ("--check",)):
        code, out, err = orric_command("serve", path, *arguments)
        assert (code, out) == (2, "")
        assert "server.port: found 123456" in err
        assert err.count("\n") == 1
    assert not (tmp_path / "state").exists()
    code, out, err = orric_command("serve", write(budget__macs_per_s=6e10), "--check")
    assert (code, err) == (0, "")
    assert "edge.toml: fine" in out
    code, out, err = orric_command("serve", write(), "--check")
    assert "edge.toml: 1 warning, see below" in out
    assert "orric: warning: budget.macs_per_s is 1e+09" in err
    assert not (tmp_path / "state").exists()
    code, _, err = orric_command("serve", write(server__host="0.0.0.0", profile=DIGITS), "--check")
    assert "inference is open to whoever reaches this address" in err


def test_an_address_in_use_is_told(write, onnx_student) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        path = write(profile=onnx_student, retraining__enabled=False, server__port=taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "orric", "serve", str(path)], capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert "cannot be listened on (Address already in use); choose another port or host" in done.stderr


def test_the_container_starts_what_there_is() -> None:
    lines = (EXAMPLES / "Dockerfile").read_text()
    assert 'CMD ["orric", "serve", "simulations/edge/digits.toml"]' in lines
    variables = {
        word.partition("=")[0]: word.partition("=")[2] for word in lines.split() if word.startswith("ORRIC_EDGE")
    }
    config = EdgeConfig.load(ROOT / "simulations/edge/digits.toml", variables)
    assert (config.store.folder, config.server.host) == ("/state", "0.0.0.0")
    for copied in (line.split()[1:-1] for line in lines.splitlines() if line.startswith("COPY")):
        assert all((ROOT / name).exists() for name in copied)
