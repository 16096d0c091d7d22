"""Kill and restart the daemon under load, and count what was lost.

usage: python tests/benchmarks/restarts.py [kills] [restarts] [--kills 50] [--restarts 200] [--fast]

kills: SIGKILL of the whole daemon while it retrains; the retraining process must go with it, every slot that the daemon
told of must come back, and the version that serves must be whole. restarts: SIGTERM under load from clients that keep
their connections and clients that open one for each request; no request on a connection that was accepted may be reset
or left without an answer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil

from orric.edge.store import ModelStore
from orric.profile import Profile
from orric.retraining.accuracy import drifted
from orric.retraining.models import exported
from orric.vision.datasets import digits

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "simulations"))
from edge_demo import Client  # noqa: E402

PROFILE = ROOT / "traces/profiles/digits.toml"
KEEPING, OPENING = 3, 2
# How long an orphan may take to notice.
PATIENCE_S = 10.0


def serving_profile(folder: Path) -> Path:
    """Write a profile whose student only serves, which starts sooner; return its file."""
    profile = Profile.load(PROFILE)
    assert profile.models is not None
    (folder / "student.onnx").write_bytes(exported(profile.beside(profile.models.student), "student", 10))
    teacher = str(profile.beside(profile.models.teacher).resolve())
    models = profile.models.model_copy(update={"student": "student.onnx", "teacher": teacher})
    profile.model_copy(update={"models": models}).save(folder / "profile.toml")
    return folder / "profile.toml"


def configuration(folder: Path, profile: Path, lines: str) -> Path:
    """Write a daemon's configuration; return its file."""
    path = folder / "edge.toml"
    path.write_text(
        f'format = 1\nhorizon_slots = 1000\n{lines}\n[[stream]]\nname = "digits"\nprofile = "{profile}"\n'
        'requests = [10.0, 1000.0]\n[store]\nfolder = "state"\n'
    )
    return path


def started(path: Path, token: str, log: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a daemon; return it and its address."""
    command = [sys.executable, "-m", "orric", "serve", str(path), "--json"]
    with log.open("a") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=file, text=True, env={**os.environ, "ORRIC_TOKEN": token}
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    process.stdout.close()
    if not line:
        raise RuntimeError(log.read_text()[-2000:])
    return process, json.loads(line)["url"].removeprefix("http://").rstrip("/")


def kills(number: int) -> None:
    """Kill the daemon while it retrains, again and again."""
    images = drifted(digits(), 1, 1, 200, "fog", 4)[0]
    rng, orphans, lost, damaged, slots, caught = np.random.default_rng(1), 0, 0, 0, 0, 0
    slowest_s, serving = 0.0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "slot_s = 2.0\n[budget]\nmacs_per_s = 1e11\n[samples]\nmost = 40\n[server]\nport = 0"
        path, token = configuration(folder, PROFILE, lines), secrets.token_hex(16)
        swaps = 0
        for _ in range(number):
            process, address = started(path, token, folder / "log")
            client = Client(address, token)
            lost += client.status()["slot"] < slots
            daemon = psutil.Process(process.pid)
            until = time.monotonic() + float(rng.uniform(0.0, 9.0))  # some in their first second, some amid retraining
            while time.monotonic() < until:
                client.classify(images[rng.permutation(len(images))[:20]])
                time.sleep(0.05)  # serving goes before retraining, which needs some of the processor, too
            children = daemon.children(recursive=True)
            caught += any("orric.edge.worker" in child.cmdline() for child in children)
            found = client.status()
            swaps += found["swaps"]
            slots, serving = max(slots, found["slot"]), max(serving, found["serving"])
            process.send_signal(signal.SIGKILL)
            process.wait()
            begun = time.monotonic()
            _, left = psutil.wait_procs(children, timeout=PATIENCE_S)
            slowest_s = max(slowest_s, time.monotonic() - begun)
            orphans += len(left)
            for child in left:
                child.kill()
            store = ModelStore(folder / "state")
            try:
                assert store.current is not None
                store.load(store.current.serving)
            except Exception as error:
                damaged += 1
                print(f"  the version that serves: {error}")
    print(
        f"{number} kills, {caught} of them with a retraining process, {slots} slots, {swaps} swaps, version {serving}: "
        f"{orphans} orphans (the slowest went after {slowest_s:.2f} s), {lost} times slots lost, "
        f"{damaged} versions damaged"
    )


class Load:
    """Clients that go on asking whatever becomes of the daemon.

    Args:
        port: Of the daemon.
    """

    def __init__(self, port: int) -> None:
        raw = np.zeros((4, 32, 32, 3), np.uint8).tobytes()
        tensor = {"name": "images", "datatype": "UINT8", "shape": [4, 32, 32, 3]}
        tensor["parameters"] = {"binary_data_size": len(raw)}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        lines = (
            "POST /v2/models/digits/infer HTTP/1.1", "Host: localhost",
            f"Inference-Header-Content-Length: {len(head)}", f"Content-Length: {len(head) + len(raw)}", "", "",
        )  # fmt: skip
        self._request, self._port = "\r\n".join(lines).encode() + head + raw, port
        self._done, self._lock, self.counts = threading.Event(), threading.Lock(), Counter[str]()
        self._threads = [threading.Thread(target=self._go_on, args=(number < KEEPING,)) for number in range(5)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _note(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1

    def _go_on(self, keeps: bool) -> None:
        while not self._done.is_set():
            try:
                connection = socket.create_connection(("127.0.0.1", self._port), timeout=30)
            except OSError as error:
                # Nobody listens, or the system took no more: no request was accepted.
                self._note(f"not connected ({type(error).__name__})")
                time.sleep(0.01)
                continue
            with contextlib.closing(connection):
                while self._ask(connection) and keeps and not self._done.is_set():
                    pass

    def _ask(self, connection: socket.socket) -> bool:
        """Ask once; return whether the connection may be used again."""
        found = b""
        try:
            connection.sendall(self._request)
            while b"\r\n\r\n" not in found:
                part = connection.recv(1 << 16)
                if not part:
                    self._note("LEFT WITHOUT AN ANSWER" if not found else "CUT OFF")
                    return False
                found += part
            head, _, body = found.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while len(body) < length:
                part = connection.recv(1 << 16)
                if not part:
                    self._note("CUT OFF")
                    return False
                body += part
        except OSError as error:
            self._note(f"RESET ({type(error).__name__})")
            return False
        status = head.split()[1].decode()
        lower = head.lower()
        told = " with Retry-After" if b"retry-after: " in lower else ""
        self._note(f"{status}{told}")
        return b"connection: close" not in lower


def restarts(number: int) -> None:
    """Restart the daemon under load, again and again."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        lines = (
            f"slot_s = 60.0\n[budget]\nmacs_per_s = 1e11\n[retraining]\nenabled = false\n"
            f"[server]\nport = {port}\nhealth_port = -1"
        )
        path, token = configuration(folder, serving_profile(folder), lines), secrets.token_hex(16)
        process, _ = started(path, token, folder / "log")
        load, slowest_s, codes = Load(port), 0.0, Counter[int]()
        try:
            for _ in range(number):
                before = load.counts["200"]
                while load.counts["200"] < before + 200:
                    time.sleep(0.005)
                begun = time.monotonic()
                process.terminate()
                codes[process.wait(60)] += 1
                slowest_s = max(slowest_s, time.monotonic() - begun)
                process, _ = started(path, token, folder / "log")
        finally:
            load.stop()
            process.terminate()
            process.wait(60)
    counts = ", ".join(f"{what}: {count:,}" for what, count in sorted(load.counts.items()))
    bad = sum(count for what, count in load.counts.items() if what.isupper() or what.startswith("RESET"))
    print(
        f"{number} restarts under load, the slowest end took {slowest_s:.2f} s, statuses {dict(codes)}: "
        f"{bad} accepted requests lost; {counts}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", help="kills, restarts [both]")
    parser.add_argument("--kills", type=int, default=50, help="how many [50]")
    parser.add_argument("--restarts", type=int, default=200, help="how many [200]")
    parser.add_argument("--fast", action="store_true", help="a tenth of them")
    asked = parser.parse_args()
    part = 10 if asked.fast else 1
    if "kills" in (asked.parts or ["kills"]):
        kills(max(asked.kills // part, 1))
    if "restarts" in (asked.parts or ["restarts"]):
        restarts(max(asked.restarts // part, 1))


if __name__ == "__main__":
    main()
