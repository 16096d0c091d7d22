"""The demonstration's client: it comes again when it is told to, and names what fails."""

from __future__ import annotations

import http.server
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..builders import ROOT

sys.path.insert(0, str(ROOT / "simulations"))
from edge_demo import Client, reasons

LOGITS = np.eye(10, dtype="<f4")[[3, 7]]
HEAD = json.dumps({"outputs": [{"shape": [2, 10]}], "model_version": "4"}).encode()
IMAGES = np.zeros((2, 32, 32, 3), np.uint8)


@pytest.fixture
def answering() -> Iterator[Any]:
    """Yield a function that makes a server which answers with these statuses one after the other; it gives a client."""
    servers = []

    def made(*statuses: int) -> Client:
        left = iter(statuses)

        class Answers(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                status = next(left)
                body = HEAD + LOGITS.tobytes() if status == 200 else b"no"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Inference-Header-Content-Length", str(len(HEAD)))
                if status == 503:
                    self.send_header("Retry-After", "0")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *given: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return Client(f"127.0.0.1:{server.server_port}")

    yield made
    for server in servers:
        server.shutdown()
        server.server_close()


def test_it_comes_again_when_it_is_told_to(answering) -> None:
    client = answering(503, 503, 200)
    assert client.classes(IMAGES, time.monotonic() + 600).tolist() == [3, 7]
    assert (client.sent, client.retried, dict(client.failed)) == (1, 2, {})
    client._connection.close()


def test_what_fails_has_its_reason(answering) -> None:
    client = answering(500, 503, 200)
    assert client.classes(IMAGES, time.monotonic() + 600) is None
    assert client.classes(IMAGES, 0.0) is None, "its slot has ended"
    assert client.failed == {
        "/v2/models/digits/infer: status 500: no": 1,
        "/v2/models/digits/infer: status 503: no (again and again until the slot ended)": 1,
    }
    assert client.classes(IMAGES, time.monotonic() + 600) is not None
    client._connection.close()
    gone = Client("127.0.0.1:1")
    assert gone.classes(IMAGES, 0.0) is None
    assert next(iter(gone.failed)).startswith("no answer: ConnectionRefusedError")


def test_the_log_says_what_the_daemon_failed_at(tmp_path: Path) -> None:
    lines = [
        {"level": "info", "event": "swap"},
        {"level": "error", "event": "retraining failed", "error": "did not end within 2.7 s"},
        {"level": "error", "event": "retraining failed", "error": "did not end within 2.7 s"},
        {"level": "warning", "event": "slot overrun", "overrun_s": 1.5, "missed": 0},
    ]
    (tmp_path / "log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert reasons(tmp_path / "log") == {"retraining failed: did not end within 2.7 s": 2, "slot overrun": 1}
