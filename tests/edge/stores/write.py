"""Writes stores as the orric that Python finds writes them: its own daemon, real retraining, its own journal.

usage: python tests/edge/stores/write.py NAME      writes tests/edge/stores/NAME
       python tests/edge/stores/write.py models    makes the small models that all of them learn with

With the folder of a checked-out version in PYTHONPATH it is that version which writes. It speaks to the daemon by its
command and over HTTP alone, which change less than what lies behind them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
TOKEN = "a-token-of-some-length"
SLOTS = 12
LIVE = """format = 1
allocator = "{allocator}"
slot_s = 1.5
horizon_slots = 40

[[stream]]
name = "digits"
profile = "../../models/profile.toml"
requests = [50.0, 500.0]

[budget]
macs_per_s = 1.6e8

[store]
folder = "state"
versions = 2

[server]
port = 0
"""
DECISIONS = """format = 1
mode = "decisions"
allocator = "orric-guided"
slot_s = 60.0
horizon_slots = 40

[[stream]]
name = "gate"
profile = "../../models/profile.toml"
requests = [50.0, 500.0]

[budget]
macs_per_s = 1e7

[store]
folder = "state"

[server]
port = 0
"""


class Running:
    """A daemon in a process of its own.

    Args:
        path: Its configuration.
    """

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "orric", "serve", path.name, "--json"]
        given = {**os.environ, "ORRIC_TOKEN": TOKEN}
        # In a folder without an orric of its own, which would go before the one that is asked for.
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=given, cwd=path.parent)
        assert self.process.stdout is not None
        self._address = json.loads(self.process.stdout.readline())["url"].removeprefix("http://").rstrip("/")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer of a request."""
        connection = http.client.HTTPConnection(self._address, timeout=60)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            found = json.loads(answer.read())
            if answer.status != 200:
                raise RuntimeError(f"{path}: {answer.status} {found}")
            return found
        finally:
            connection.close()

    def infer(self, images: np.ndarray) -> tuple[int, np.ndarray]:
        """Return the version that answered, and its logits."""
        tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
        found = self.ask("POST", "/v2/models/digits/infer", {"inputs": [tensor]})
        (logits,) = (one for one in found["outputs"] if one["name"] == "logits")
        return int(found["model_version"]), np.array(logits["data"], np.float32).reshape(logits["shape"])

    def kill(self) -> None:
        """End it as a power cut does: the store is as it was at that moment."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def learn(folder: Path, allocator: str) -> None:
    """Let a daemon learn fog for some slots, and keep its store and what its student gives for fixed images."""
    folder.mkdir(parents=True)
    (folder / "edge.toml").write_text(LIVE.format(allocator=allocator))
    fixed = np.load(HERE / "models/images.npz")
    foggy = fog()
    daemon = Running(folder / "edge.toml")
    try:
        until_s, slot = time.monotonic() + 60, 0
        rng = np.random.default_rng(1)
        while time.monotonic() < until_s:
            state = daemon.ask("GET", "/v1/status")
            if state["slot"] >= SLOTS and state["serving"] > 2:
                break
            if state["slot"] > slot:
                slot = state["slot"]
                daemon.infer(foggy[rng.permutation(len(foggy))[: rng.integers(60, 250)]])
            time.sleep(0.05)
        daemon.ask("POST", "/v1/pause")  # nothing is swapped any more
        version, logits = daemon.infer(fixed["images"])
        state = daemon.ask("GET", "/v1/status")
    finally:
        daemon.kill()
    np.save(folder / "logits.npy", logits)
    told = {"version": version, "slot": state["slot"], "serving": state["serving"], "good": state["good"]}
    (folder / "told.json").write_text(json.dumps(told) + "\n")
    right = float((logits.argmax(axis=1) == fixed["labels"]).mean())
    print(f"{folder}: slot {state['slot']}, version {version}, {right:.1%} of the fixed images right")


def decide(folder: Path) -> None:
    """Have slots decided for another serving stack, each with what came of the one before."""
    folder.mkdir(parents=True)
    (folder / "edge.toml").write_text(DECISIONS)
    daemon = Running(folder / "edge.toml")
    rng = np.random.default_rng(1)
    try:
        seen: list[dict[str, Any]] = []
        for _ in range(SLOTS):
            requests = float(rng.integers(50, 500))
            asked = {
                "streams": [{"name": "gate", "requests": requests}],
                "budget_macs": float(rng.uniform(1e8, 6e8)), "observed": seen,
            }  # fmt: skip
            told = daemon.ask("POST", "/v1/decide", asked)
            seen = [{"stream": "gate", "requests": requests, "served": requests, "agreement": float(rng.random())}]
    finally:
        daemon.kill()
    (folder / "told.json").write_text(json.dumps({"slot": told["slot"]}) + "\n")
    print(f"{folder}: slot {told['slot']}")


def fog() -> np.ndarray:
    """Return digits under fog, shape (300, 32, 32, 3)."""
    from orric.retraining.accuracy import drifted
    from orric.vision.datasets import digits

    return drifted(digits(), 1, 1, 300, "fog", 4)[0]


def make_models() -> None:
    """Train a teacher that sees through fog, and a student of few weights that does not; choose the fixed images."""
    import torch
    from torch import nn

    from orric.profile import Profile
    from orric.retraining.accuracy import drifted
    from orric.vision.datasets import digits, to_input
    from orric.vision.networks import Classifier
    from orric.vision.onnx_export import export

    folder = HERE / "models"
    folder.mkdir(exist_ok=True)
    dataset = digits()
    clean = dataset.images[dataset.pretraining], dataset.labels[dataset.pretraining]
    foggy = [drifted(dataset, 7, 1, 600, "fog", severity, part="pretraining") for severity in (1, 2, 3, 4)]

    def trained(widths: tuple[int, ...], parts: list[Any], epochs: int) -> nn.Module:
        torch.manual_seed(1)
        layers: list[nn.Module] = []
        # Without biases and batch norms, whose tensors the landed versions cannot keep of an ONNX student.
        for inputs, outputs in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.ReLU()]
        network = Classifier(nn.Sequential(*layers), widths[-1], 10)
        network.head = nn.Linear(widths[-1], 10, bias=False)
        images = torch.from_numpy(np.concatenate([to_input(one, 32) for one, _ in parts]))
        labels = torch.from_numpy(np.concatenate([one for _, one in parts]))
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        network.train()
        for _ in range(epochs):
            for chunk in torch.randperm(len(images)).split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images[chunk]), labels[chunk]).backward()
                optimizer.step()
        return network.eval()

    (folder / "teacher.onnx").write_bytes(export(trained((16, 32, 32), [clean, *foggy], 40)))
    (folder / "student.onnx").write_bytes(export(trained((8, 16, 24), [clean], 40)))
    images, labels = drifted(dataset, 3, 1, 64, "fog", 4)
    np.savez_compressed(folder / "images.npz", images=images, labels=labels)
    Profile(
        name="small digits", best_accuracy=0.99, slope_floor=0.005,
        retraining=[
            {"name": "none", "profit": 0.0, "cost_macs": 0.0},
            {"name": "20%", "profit": 0.2, "cost_macs": 4e5},
            {"name": "100%", "profit": 1.0, "cost_macs": 1e6},
        ],
        inference=[
            {"name": "32px", "profit": 1.0, "cost_macs": 4e5},
            {"name": "20px", "profit": 0.7, "cost_macs": 1.6e5},
        ],
        curve={"form": "power", "c": 0.98, "a": 0.0083, "b": 0.0055, "alpha": 0.69},
        models={
            "dataset": "digits", "student": "student.onnx", "teacher": "teacher.onnx",
            "resolution_px": {"32px": 32, "20px": 20}, "sampling_ratio": {"none": 0.0, "20%": 0.2, "100%": 1.0},
        },
    ).save(folder / "profile.toml")  # fmt: skip


def main() -> None:
    """Write what is asked for."""
    name = sys.argv[1]
    if name == "models":
        make_models()
        return
    folder = HERE / name
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    learn(folder / "live", "orric")
    learn(folder / "guided", "orric-guided")
    decide(folder / "decisions")
    for lock in folder.glob("*/state/.lock"):
        lock.unlink()


if __name__ == "__main__":
    main()
