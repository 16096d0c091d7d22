"""Attack the daemon's front with one bounded client, and watch a victim, health and memory meanwhile.

usage: python tests/benchmarks/front.py [ATTACK ...] [--seconds 6]      (all: some two minutes)

Everything runs over loopback against a daemon in a process of its own. The victim asks for one image again and again on
a connection of its own, another client asks for health on a new connection each time, on both ports. An attack lasts a
few seconds, sends so many bytes at most, and ends by itself; its process steps back behind all others, as an attacker's
processor is not this one. Targets: the victim's 99th percentile at most 3 times the undisturbed one, health on the
port of its own within 100 ms, memory growth below 64 MB, and no answer of 5xx but 503 with Retry-After.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parent))
from restarts import configuration, serving_profile, started

INFER = "/v2/models/digits/infer"
# Bytes that an attack sends at most, and connections that it opens at a time.
MOST_BYTES, MOST_CONNECTIONS = 256 << 20, 1200


def request(path: str, body: bytes = b"", *lines: str, length: int | None = None) -> bytes:
    """Return a request: with a body a POST."""
    size = len(body) if length is None else length
    first = [f"POST {path} HTTP/1.1", f"Content-Length: {size}"] if size else [f"GET {path} HTTP/1.1"]
    return "\r\n".join([*first, "Host: localhost", *lines, "", ""]).encode() + body


def one_image() -> bytes:
    """Return a request of one image, as bytes."""
    raw = bytes(3072)
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, 32, 32, 3], "parameters": {"binary_data_size": 3072}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return request(INFER, head + raw, f"Inference-Header-Content-Length: {len(head)}")


def connected(port: int) -> socket.socket:
    """Connect."""
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def answer(connection: socket.socket) -> int:
    """Read an answer whole; return its status, negative for 5xx without Retry-After."""
    found = b""
    while b"\r\n\r\n" not in found:
        part = connection.recv(1 << 16)
        if not part:
            raise EOFError
        found += part
    head, _, body = found.partition(b"\r\n\r\n")
    left = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]) - len(body)
    while left > 0 and (part := connection.recv(1 << 16)):
        left -= len(part)
    status = int(head.split()[1])
    return -status if status >= 500 and (status != 503 or b"retry-after:" not in head.lower()) else status


# --- who is watched ---------------------------------------------------------------------------------------------------


def victim(port: int, seconds: float) -> None:
    """Ask for one image again and again; print the 99th percentile, how many were asked, and the statuses."""
    asked, taken, statuses = one_image(), list[float](), Counter[int]()
    connection = connected(port)
    until = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until:
        try:
            connection.sendall(asked)
            statuses[answer(connection)] += 1
        except (OSError, EOFError):
            statuses[0] += 1
            connection = connected(port)
        taken.append(time.perf_counter() - begun)
        time.sleep(0.002)
    p50, p99 = np.quantile(taken, [0.5, 0.99])
    print(json.dumps([p50, p99, len(taken), dict(statuses)]))


def prober(ports: list[int], seconds: float) -> None:
    """Ask for health, on a new connection each time; print the slowest answer of each port, and the statuses."""
    slowest, statuses = [0.0] * len(ports), Counter[int]()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for place, port in enumerate(ports):
            begun = time.perf_counter()
            try:
                with connected(port) as connection:
                    connection.sendall(request("/healthz"))
                    statuses[answer(connection)] += 1
            except (OSError, EOFError):
                statuses[0] += 1
            slowest[place] = max(slowest[place], time.perf_counter() - begun)
        time.sleep(0.02)
    print(json.dumps([slowest, dict(statuses)]))


# --- who attacks ------------------------------------------------------------------------------------------------------


class Attack:
    """One client's means: time, bytes and connections, all bounded.

    Args:
        port: Of the daemon.
        seconds: How long it goes on.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self.port, self.until, self.sent, self.statuses = port, time.monotonic() + seconds, 0, Counter[int]()

    @property
    def goes_on(self) -> bool:
        """Whether there is time, and bytes to send."""
        return time.monotonic() < self.until and self.sent < MOST_BYTES

    def ask(self, content: bytes, connection: socket.socket | None = None) -> socket.socket | None:
        """Send something and take its answer; return the connection where it may be used again."""
        try:
            connection = connection or connected(self.port)
            connection.sendall(content)
            self.sent += len(content)
            self.statuses[answer(connection)] += 1
            return connection
        except (OSError, EOFError):
            self.statuses[0] += 1
            return None

    def crowd(self, first: bytes, again: Callable[[int], bytes], number: int, every_s: float, reads: bool) -> None:
        """Open connections, send something on each, and more now and then; reopen those that are closed."""
        lines: list[socket.socket | None] = [None] * min(number, MOST_CONNECTIONS)
        turn = 0
        while self.goes_on:
            for place, line in enumerate(lines):
                if not self.goes_on:
                    break
                try:
                    if line is None:
                        line = lines[place] = connected(self.port)
                        content = first
                    else:
                        content = again(turn)
                    line.setblocking(False)
                    if content:
                        self.sent += line.send(content)
                    if reads:
                        said = line.recv(1 << 16)
                        if said.startswith(b"HTTP/1.1 "):
                            status = int(said.split()[1])
                            self.statuses[-status if status >= 500 and b"retry-after" not in said else status] += 1
                        if not said:
                            raise EOFError
                except BlockingIOError:
                    continue
                except (OSError, EOFError):
                    if line is not None:
                        line.close()
                    lines[place] = None
            turn += 1
            time.sleep(every_s)
        for line in lines:
            if line is not None:
                line.close()


def swollen(inner: bytes, size: int) -> bytes:
    """Return a compressed request whose JSON is of a size and costly, at the ratio that is allowed."""
    tensor = '{"name":"images","datatype":"UINT8","shape":[256,32,32,3],"data":['
    table = f'{{"inputs":[{tensor}'.encode() + (inner * (size // len(inner) + 1))[:size].rstrip(b",") + b"]}]}"
    small = gzip.compress(table, 9)
    if len(table) > 95 * len(small):
        # Members of gzip may follow one another: one that holds noise and is of use for nothing but the ratio.
        short = len(table) // 95 - len(small)
        note = b"\x1f\x8b\x08\x10" + bytes(6) + b"n" * short + b"\0"
        small = note + small[10:]  # a comment in the head of the file
    return request(INFER, small, "Content-Type: application/json", "Content-Encoding: gzip")


def json_bodies(attack: Attack) -> None:
    """Compressed bodies within all limits whose JSON is costly: nested, of many nodes, of numbers, of objects."""
    most = (8 << 20) - 4096
    rng = np.random.default_rng(1)
    numbers = ",".join(map(str, rng.integers(0, 256, 786_432).tolist())).encode()
    kinds = [
        swollen(b"[],", most), swollen(b"[[[[1]]]],", most), swollen(b"1,", 1_572_864), swollen(b"{},", most),
        swollen(b'"a",', most), swollen(b"1e1,", most), swollen(numbers, len(numbers)),
    ]  # fmt: skip
    lines: list[socket.socket | None] = [None] * 4
    turn = 0
    while attack.goes_on:
        place = turn % len(lines)
        lines[place] = attack.ask(kinds[turn % len(kinds)], lines[place])
        turn += 1


def large_heads(attack: Attack) -> None:
    """Heads far beyond what is allowed, in one line and in many."""
    while attack.goes_on:
        for content in (b"X: " + b"x" * (1 << 20), b"X: x\r\n" * 170_000):
            attack.ask(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + content)


def idle_connections(attack: Attack) -> None:
    """As many idle connections as there may be, and more."""
    attack.crowd(b"", lambda turn: b"", MOST_CONNECTIONS, 0.1, reads=True)


def slow_heads(attack: Attack) -> None:
    """Heads that come byte by byte."""
    attack.crowd(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ", lambda turn: b"x", 400, 0.1, reads=True)


def slow_bodies(attack: Attack) -> None:
    """Large bodies that begin well and then hardly go on."""
    first = request(INFER, b"{" * (1 << 17), "Content-Type: application/json", length=8 << 20)
    attack.crowd(first, lambda turn: b" " * (4096 if turn % 8 == 0 else 1), 300, 0.1, reads=True)


def bursts(attack: Attack) -> None:
    """Bursts: a hundred connections at once, each with a request, five times a second."""
    kinds = [request("/v2/health/live"), one_image(), request("/v1/status")]
    while attack.goes_on:
        lines = []
        try:
            for number in range(100):
                lines.append(connected(attack.port))
                lines[-1].sendall(kinds[number % len(kinds)])
                attack.sent += len(kinds[number % len(kinds)])
            for line in lines:
                attack.statuses[answer(line)] += 1
        except (OSError, EOFError):
            attack.statuses[0] += 1
        for line in lines:
            line.close()
        time.sleep(0.2)


def unread_answers(attack: Attack) -> None:
    """Requests whose answers nobody reads."""
    asked = request("/openapi.json") * 20
    attack.crowd(asked, lambda turn: asked, 200, 0.2, reads=False)


def metrics(attack: Attack) -> None:
    """Many connections, each of which asks for the metrics again and again without waiting for an answer."""
    asked = request("/metrics") * 20
    attack.crowd(asked, lambda turn: asked, 200, 0.1, reads=True)


def resets(attack: Attack) -> None:
    """Large bodies, and a reset right behind each."""
    content = request(INFER, b"{" * (7 << 20), "Content-Type: application/json")
    while attack.goes_on:
        try:
            with connected(attack.port) as line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                line.sendall(content)
                attack.sent += len(content)
        except OSError:
            attack.statuses[0] += 1


ATTACKS = {
    "json-bodies": json_bodies, "large-heads": large_heads, "idle-connections": idle_connections,
    "slow-heads": slow_heads, "slow-bodies": slow_bodies, "bursts": bursts, "unread-answers": unread_answers,
    "metrics": metrics, "resets": resets,
}  # fmt: skip


def attack_main(name: str, port: int, seconds: float) -> None:
    """Attack in this process, and print the statuses that came back, 0 for connections that were closed."""
    os.nice(19)
    attack = Attack(port, seconds)
    ATTACKS[name](attack)
    print(json.dumps([attack.sent, dict(attack.statuses)]))


# --- all of it --------------------------------------------------------------------------------------------------------


def beside(*arguments: object) -> subprocess.Popen[str]:
    """Start a part of this in a process of its own."""
    command = [sys.executable, __file__, "--as", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> list:
    """Return what a part found."""
    found: list = json.loads(process.communicate()[0])
    return found


def peak(process: psutil.Process, until: threading.Event) -> Iterator[int]:
    """Yield the most memory that a process has had, until told to stop."""
    most = 0
    while not until.wait(0.02):
        most = max(most, process.memory_info().rss)
        yield most


def watched(daemon: psutil.Process, ports: list[int], name: str | None, seconds: float) -> list:
    """Watch the victim, health and memory for some seconds, under attack or not."""
    before, most, done = daemon.memory_info().rss, [0], threading.Event()
    watcher = threading.Thread(target=lambda: most.extend(peak(daemon, done)))
    watcher.start()
    attacker = None
    if name is not None:
        attacker = beside("attack", name, ports[0], seconds + 1.5)
        time.sleep(1.0)  # until it has begun
    parts = [beside("victim", ports[0], seconds), beside("prober", ",".join(map(str, ports)), seconds)]
    found = [told(one) for one in parts]
    attacked = told(attacker) if attacker is not None else [0, {}]
    done.set()
    watcher.join()
    return [*found, attacked, max(most) - before]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("attacks", nargs="*", help=f"any of {', '.join(ATTACKS)} [all]")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each is watched [6]")
    parser.add_argument("--as", nargs="+", dest="part", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        kind, *given = asked.part
        if kind == "victim":
            victim(int(given[0]), float(given[1]))
        elif kind == "prober":
            prober([int(port) for port in given[0].split(",")], float(given[1]))
        else:
            attack_main(given[0], int(given[1]), float(given[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = "slot_s = 60.0\n[budget]\nmacs_per_s = 1e11\n[retraining]\nenabled = false\n[server]\nport = 0"
        path = configuration(folder, serving_profile(folder), lines)
        process, address = started(path, secrets.token_hex(16), folder / "log")
        try:
            port = int(address.rpartition(":")[2])
            log = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
            ports = [port, next(line["health_port"] for line in log if line["event"] == "listening")]
            report(psutil.Process(process.pid), ports, asked.attacks or list(ATTACKS), asked.seconds)
        finally:
            process.terminate()
            process.wait(60)


def fill(port: int) -> None:
    """Send as many images as are kept to learn from, so that what a daemon holds by its configuration is no growth."""
    raw = bytes(256 * 3072)
    tensor = {"name": "images", "datatype": "UINT8", "shape": [256, 32, 32, 3]}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    content = request(INFER, head + raw, f"Inference-Header-Content-Length: {len(head)}")
    with connected(port) as connection:
        for _ in range(40):
            connection.sendall(content)
            assert answer(connection) == 200


def report(daemon: psutil.Process, ports: list[int], attacks: list[str], seconds: float) -> None:
    """Attack and print."""
    fill(ports[0])
    watched(daemon, ports, None, 1.0)
    alone = [watched(daemon, ports, None, seconds / 2) for _ in range(3)]
    p99 = statistics.median(one[0][1] for one in alone)
    health = max(one[1][0][1] for one in alone)
    print(f"undisturbed: the victim's p99 {1e3 * p99:.2f} ms, slowest health on its own port {1e3 * health:.1f} ms")
    print(f"{'attack':17}{'p50 ms':>8}{'p99 ms':>8}{'times':>7}{'health ms, own port':>21}{'growth MB':>11}  statuses")
    for name in attacks:
        found, probed, attacked, growth = watched(daemon, ports, name, seconds)
        statuses = Counter[str]()
        for part in (found[3], probed[1], attacked[1]):
            statuses.update(part)
        wrong = [status for status in statuses if int(status) < 0]
        shown = " ".join(f"{status}:{count}" for status, count in sorted(statuses.items()))
        missed = [
            what for what, holds in (
                ("p99", found[1] <= 3 * p99), ("health", probed[0][1] <= 0.1), ("memory", growth < 64e6),
                ("statuses", not wrong), ("the victim was cut off", "0" not in found[3]),
                ("health was refused", "0" not in probed[1]),
            ) if not holds
        ]  # fmt: skip
        verdict = f"missed: {', '.join(missed)}" if missed else "ok"
        print(
            f"{name:17}{1e3 * found[0]:8.2f}{1e3 * found[1]:8.2f}{found[1] / p99:7.1f}{1e3 * probed[0][0]:14.1f}"
            f"{1e3 * probed[0][1]:7.1f}{growth / 1e6:11.1f}  {shown}  {verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
