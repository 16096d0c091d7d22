"""A load of inference on a server, from a process of its own, and the bare loop to compare it with.

usage: python tests/benchmarks/inference_load.py ADDRESS CONNECTIONS SECONDS < REQUEST

The other benchmarks start it so; it prints requests per second, the median and the 99th percentile of latencies in
seconds, and how many requests failed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

MODEL_NAME = "digits"
CPU = "CPUExecutionProvider"


class Connection(asyncio.Protocol):
    """Sends one request over and over, the next one when the last is answered.

    Args:
        load: What all connections share.
    """

    def __init__(self, load: Load) -> None:
        self._load, self._buffer, self._wanted = load, b"", 0

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take an answer in."""
        self._buffer += data
        if not self._wanted:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self._load.failed += 1
            length = head.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0]
            self._wanted = end + 4 + int(length)
        if len(self._buffer) < self._wanted:
            return
        self._load.latencies_s.append(time.perf_counter() - self._begun)
        self._buffer, self._wanted = b"", 0
        if time.perf_counter() < self._load.until:
            self._send()
        else:
            self._transport.close()
            self._end()

    def connection_lost(self, problem: Exception | None) -> None:
        """Count a connection that the server closed as a failure, rather than wait for its answer."""
        if not self._over:
            self._load.failed += 1
            self._end()

    def _end(self) -> None:
        self._over = True
        self._load.left -= 1
        if not self._load.left:
            self._load.done.set_result(None)

    def _send(self) -> None:
        self._begun = time.perf_counter()
        self._transport.write(self._load.request)

    _over = False


class Load:
    """A load on a server: connections that ask one after the other.

    Args:
        request: Head and body, as they go over the wire.
        connections: How many.
        seconds: How long.
    """

    def __init__(self, request: bytes, connections: int, seconds: float) -> None:
        self.request = request
        self.left, self.failed, self.latencies_s = connections, 0, list[float]()
        self._seconds = seconds

    async def run(self, address: str) -> float:
        """Load a server; return the seconds that it took."""
        loop = asyncio.get_running_loop()
        self.done, begun = loop.create_future(), time.perf_counter()
        self.until = begun + self._seconds
        host, port = address.rsplit(":", 1)
        for _ in range(self.left):
            await loop.create_connection(lambda: Connection(self), host, int(port))
        await self.done
        return time.perf_counter() - begun


def pictures(images: int) -> np.ndarray:
    """Return images of noise, shape (images, 32, 32, 3): what they show changes nothing about the time."""
    return np.random.default_rng(1).integers(0, 256, (images, 32, 32, 3), np.uint8)


def binary(images: int) -> bytes:
    """Return a request whose images are bytes behind the JSON, by Triton's extension."""
    raw = pictures(images).tobytes()
    tensor = {**_tensor(images), "parameters": {"binary_data_size": len(raw)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return _request(head + raw, f"Inference-Header-Content-Length: {len(head)}")


def in_json(images: int) -> bytes:
    """Return a request whose images are numbers in JSON, flat, as the protocol prefers them."""
    return _request(json.dumps({"inputs": [{**_tensor(images), "data": pictures(images).ravel().tolist()}]}).encode())


def _tensor(images: int) -> dict[str, Any]:
    return {"name": "images", "datatype": "UINT8", "shape": [images, 32, 32, 3]}


def _request(body: bytes, *more: str) -> bytes:
    lines = (
        f"POST /v2/models/{MODEL_NAME}/infer HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more,
        f"Content-Length: {len(body)}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode() + body


def loaded(address: str, request: bytes, connections: int, seconds: float) -> tuple[float, float, float]:
    """Load a server from a process of its own; return requests per second, median and 99th percentile in seconds."""
    command = [sys.executable, __file__, address, str(connections), str(seconds)]
    done = subprocess.run(command, input=request, capture_output=True, check=True, timeout=10 * seconds + 60)
    rate, p50, p99, failed = json.loads(done.stdout)
    assert failed == 0, f"{failed} requests failed"
    return rate, p50, p99


def model_of(folder: Path, version: int) -> bytes:
    """Return a version's model from the store that a daemon writes to."""
    from orric.edge.store import MODEL

    return (folder / f"store/versions/{version:06d}" / MODEL).read_bytes()


def bare(content: bytes, images: int, seconds: float) -> float:
    """Return images per second of a session in a loop, on the input of the network."""
    from orric.edge.serving import Model
    from orric.vision.datasets import to_input

    model = Model.open(content, 1, CPU, 1, (32,))
    inputs = to_input(pictures(images), 32)
    count, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        model.session.run(None, {model.name: inputs})
        count += images
    return count / (time.perf_counter() - begun)


def main() -> None:
    """Load a server in this process, and print what came of it."""
    import uvloop

    address, connections, seconds = sys.argv[1:]
    load = Load(sys.stdin.buffer.read(), int(connections), float(seconds))
    took = uvloop.run(load.run(address))
    p50, p99 = np.quantile(load.latencies_s, [0.5, 0.99])
    print(json.dumps([len(load.latencies_s) / took, p50, p99, load.failed]))


if __name__ == "__main__":
    main()
