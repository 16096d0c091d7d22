"""Let the daemon learn while handwritten digits fog up, for two minutes.

usage: python simulations/edge_demo.py [--slots 40] [--slot-s 3] [--frozen]

It starts `orric serve` on the digits, sends 200 images in every slot over HTTP, compares the answers with the true
classes, which the daemon does not know, and prints what happened. The status page lies at the address that it prints.
Slots are those of the daemon's clock, so that it takes as long on a busy machine. A request that is answered with 503
and Retry-After is sent again within its slot; whatever fails is named at the end, with the reason.
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
from collections import Counter
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


class RefusedError(RuntimeError):
    """An answer of another status than 200.

    Args:
        path: That was asked.
        status: Of the answer.
        told: Its body.
        retry_after_s: When to come again, None where the answer does not say.
    """

    def __init__(self, path: str, status: int, told: bytes, retry_after_s: float | None) -> None:
        super().__init__(f"{path}: status {status}: {told[:200].decode(errors='replace')}")
        self.status, self.retry_after_s = status, retry_after_s


class Client:
    """Asks a daemon over one connection.

    Args:
        address: Host and port.
        token: For what changes something.

    Attributes:
        sent, retried: Requests of inference, and how often one was sent again.
        failed: Those that failed for good, by why.
    """

    def __init__(self, address: str, token: str = "") -> None:
        host, port = address.rsplit(":", 1)
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)
        self._token = token
        self.sent = self.retried = 0
        self.failed: Counter[str] = Counter()

    def ask(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        """Ask, and return the body of the answer."""
        given = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        kind = {"Content-Type": "application/json"} if body is not None else {}
        self._connection.request(method, path, body, {**kind, **given, **(headers or {})})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            after = answer.headers.get("Retry-After", "")
            raise RefusedError(path, answer.status, content, float(after) if after.isdigit() else None)
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

    def classes(self, images: np.ndarray, until_s: float) -> np.ndarray | None:
        """Return the classes of images, asking again where the daemon says when; None where it failed.

        Args:
            images: Shape (n, 32, 32, 3).
            until_s: By `time.monotonic`, when it is given up.
        """
        self.sent += 1
        while True:
            try:
                return np.asarray(self.classify(images)[0].argmax(axis=1))
            except RefusedError as error:
                after_s, why = error.retry_after_s, str(error)
                if error.status == 503 and after_s is not None:
                    if time.monotonic() + after_s < until_s:
                        self.retried += 1
                        time.sleep(after_s)
                        continue
                    why += " (again and again until the slot ended)"
            except (OSError, http.client.HTTPException) as error:
                why = f"no answer: {type(error).__name__}: {error}"
                self._connection.close()  # it is opened again by the next request
            self.failed[why] += 1
            return None

    def next_slot(self, after: int) -> tuple[int, float]:
        """Wait until a later slot has begun by the daemon's clock; return its number and how long it lasts yet."""
        while (clock := self.status()["clock"])["number"] <= after:
            time.sleep(max(clock["left_s"], 0.02))
        return clock["number"], clock["left_s"]


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
    """Send every slot's images while it lasts; return each slot's true accuracy and what the daemon says of it.

    The accuracy is over the images that were answered. A slot that the daemon missed is served all the same, under the
    decision of the one before, and has that one's row.
    """
    accuracies: list[tuple[float, int]] = []
    clock, _ = client.next_slot(0)
    for at_slot in range(1, slots + 1):
        clock, left_s = client.next_slot(clock)
        until_s = time.monotonic() + left_s
        severity = 1 + SEVERITIES * (at_slot - 1) // slots
        images, truth = drifted(digits(), SEED, at_slot, PER_SLOT, CORRUPTION, severity)
        right = answered = 0
        for at in range(0, PER_SLOT, TOGETHER):
            found = client.classes(images[at : at + TOGETHER], until_s)
            if found is not None:
                answered += len(found)
                right += int((found == truth[at : at + TOGETHER]).sum())
        row = client.status()["slots"][-1]
        accuracies.append((right / answered if answered else float("nan"), row["slot"]))
        if tell:
            told = f"{row['executed'] or row['retraining']:>5} retraining, {row['inference']}, version {row['version']}"
            waits = f" ({row['unlearnt']})" if row["unlearnt"] else ""
            print(f"slot {at_slot:3d}  fog {severity}  right {accuracies[-1][0]:6.1%}  {told}{waits}", flush=True)
    client.next_slot(clock)
    rows = {row["slot"]: row for row in client.status()["slots"]}
    return [(accuracy, rows[slot]) for accuracy, slot in accuracies if slot in rows]


def reasons(log: Path) -> Counter[str]:
    """Return what went wrong by a daemon's log, in words, and how often."""
    found: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        told = json.loads(line)
        if told["level"] in ("warning", "error"):
            why = next((f": {told[key]}" for key in ("error", "why", "what", "reason") if key in told), "")
            found[told["event"] + why] += 1
    return found


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
        daemons = reasons(Path(folder, "log.jsonl"))
    mean = np.nanmean([accuracy for accuracy, _ in rows])
    last = np.nanmean([accuracy for accuracy, _ in rows[-asked.slots // SEVERITIES :]])
    p99 = max((row.get("p99_s") or 0.0 for _, row in rows), default=0.0)
    clock, failed = found["clock"], sum(client.failed.values())
    print(f"right answers:   {mean:.1%} of all, {last:.1%} under the thickest fog")
    print(f"student:         {found['swaps']} swaps, {found['rollbacks']} rollbacks, version {found['serving']} serves")
    print(f"latency:         99th percentile of the worst slot {1000 * p99:.1f} ms")
    print(
        f"slots:           {clock['number']} by the clock, {clock['missed']} missed, {clock['overrun_s']:.1f} s overrun"
    )
    print(f"requests:        {client.sent} sent, {client.retried} sent again after 503, {failed} failed")
    print(f"failures:        {sum(found['failures'].values())} of the daemon, {failed} of requests")
    for why, count in [*client.failed.items(), *daemons.items()]:
        print(f"  {count} x {why}")


if __name__ == "__main__":
    main()
