"""Let the daemon learn while handwritten digits fog up, for two minutes.

usage: python simulations/edge_demo.py [--slots 40] [--slot-s 3] [--frozen]

It starts `orric serve` on the digits, sends 200 images in every slot over HTTP, compares the answers with the true
classes, which the daemon does not know, and prints what happened. The status page lies at the address that it prints.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from orric.retraining.accuracy import drifted
from orric.vision.datasets import digits

ROOT = Path(__file__).resolve().parents[1]
PER_SLOT, TOGETHER, SEED = 200, 20, 1
CORRUPTION, SEVERITIES = "fog", 5
# As the paper's scenario on the digits: what 0.6 of 1e8 MACs a second do in a slot of a minute.
BUDGET_MACS = 0.6 * 1e8 * 60


class Client:
    """Asks a daemon over one connection.

    Args:
        address: Host and port.
        token: For what changes something.
    """

    def __init__(self, address: str, token: str = "") -> None:
        host, port = address.rsplit(":", 1)
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)
        self._token = token

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        """Ask, and return the body of the answer."""
        given = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        kind = {"Content-Type": "application/json"} if body is not None else {}
        self._connection.request(method, path, body, {**kind, **given, **(headers or {})})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: status {answer.status}: {content[:200]!r}")
        self.headers = answer.headers
        return content

    def status(self) -> dict:
        """Return what the status page shows."""
        found: dict = json.loads(self.ask("GET", "/v1/status"))
        return found

    def classify(self, images: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the outputs for images of shape (n, 32, 32, 3), and the version that gave them."""
        raw = images.tobytes()
        tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape)}
        tensor["parameters"] = {"binary_data_size": len(raw)}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        length = {"Inference-Header-Content-Length": str(len(head))}
        content = self.ask("POST", "/v2/models/digits/infer", head + raw, length)
        end = int(self.headers["Inference-Header-Content-Length"])
        told = json.loads(content[:end])
        return np.frombuffer(content[end:], "<f4").reshape(told["outputs"][0]["shape"]), int(told["model_version"])


@contextmanager
def daemon(folder: Path, slot_s: float, slots: int, checkout: Path = ROOT, **changes: str) -> Iterator[tuple[str, str]]:
    """Run a daemon on the digits; yield its address and its token.

    Args:
        folder: For its log and, within, its store.
        slot_s: Length of a slot.
        slots: Of an episode.
        checkout: Of which build of orric.
        changes: Keys of its configuration, as the environment names them.
    """
    token = secrets.token_hex(16)
    given = {
        "SLOT_S": f"{slot_s:.6f}", "HORIZON_SLOTS": str(slots), "SERVER__PORT": "0",
        "STORE__FOLDER": f'"{folder / "store"}"',
        "BUDGET__MACS_PER_S": f"{BUDGET_MACS / slot_s:.6e}", "BUDGET__FRACTION": "1.0", **changes,
    }  # fmt: skip
    environment = {
        **os.environ, "PYTHONPATH": str(checkout), "ORRIC_TOKEN": token,
        **{f"ORRIC_EDGE_{key}": value for key, value in given.items()},
    }  # fmt: skip
    command = [sys.executable, "-m", "orric", "serve", str(checkout / "simulations/edge/digits.toml"), "--json"]
    with (folder / "log.jsonl").open("w") as log:
        # There Python looks for the module first, before PYTHONPATH.
        process = subprocess.Popen(
            command, cwd=checkout, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError((folder / "log.jsonl").read_text())
            yield json.loads(line)["url"].removeprefix("http://").rstrip("/"), token
        finally:
            process.terminate()
            process.wait(60)
            if process.stdout is not None:
                process.stdout.close()


def drive(client: Client, slots: int, tell: bool = False) -> list[tuple[float, dict]]:
    """Send every slot's images while it lasts; return each slot's true accuracy and what the daemon says of it."""
    accuracies: dict[int, float] = {}
    while (last := client.status()["slot"]) < 1:
        time.sleep(0.01)
    for slot in range(last + 1, last + 1 + slots):
        while client.status()["slot"] < slot:
            time.sleep(0.01)
        severity = 1 + SEVERITIES * (slot - last - 1) // slots
        images, truth = drifted(digits(), SEED, slot - last, PER_SLOT, CORRUPTION, severity)
        right = 0
        for at in range(0, PER_SLOT, TOGETHER):
            outputs, _ = client.classify(images[at : at + TOGETHER])
            right += int((outputs.argmax(axis=1) == truth[at : at + TOGETHER]).sum())
        accuracies[slot] = right / PER_SLOT
        if tell:
            row = client.status()["slots"][-1]
            told = f"{row['retraining']:>5} retraining, {row['inference']}, version {row['version']}"
            print(f"slot {slot - last:3d}  fog {severity}  right {accuracies[slot]:6.1%}  {told}", flush=True)
    while client.status()["slot"] <= last + slots:
        time.sleep(0.01)
    rows = {row["slot"]: row for row in client.status()["slots"]}
    return [(accuracy, rows[slot]) for slot, accuracy in accuracies.items()]


def main() -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--slots", type=int, default=40, help="slots [40]")
    parser.add_argument("--slot-s", type=float, default=3.0, help="seconds of a slot [3]")
    parser.add_argument("--frozen", action="store_true", help="switch retraining off, to compare")
    asked = parser.parse_args()
    changes = {"ALLOCATOR": '"inference-only"'} if asked.frozen else {}
    with (
        tempfile.TemporaryDirectory() as folder,
        daemon(Path(folder), asked.slot_s, asked.slots + 2, **changes) as (address, token),
    ):
        print(f"Status page: http://{address}/ (while this runs)", flush=True)
        client = Client(address, token)
        rows = drive(client, asked.slots, tell=True)
        found = client.status()
    mean = np.mean([accuracy for accuracy, _ in rows])
    last = np.mean([accuracy for accuracy, _ in rows[-asked.slots // SEVERITIES :]])
    p99 = np.nanmax([row["p99_s"] or np.nan for _, row in rows])
    print(f"right answers:   {mean:.1%} of all, {last:.1%} under the thickest fog")
    print(f"student:         {found['swaps']} swaps, {found['rollbacks']} rollbacks, version {found['serving']} serves")
    print(f"latency:         99th percentile of the worst slot {1000 * p99:.1f} ms")
    print(f"failures:        {sum(found['failures'].values())}")


if __name__ == "__main__":
    main()
