"""Report images per second over loopback, JSON and binary: this build, another one, MLServer, and the bare loop.

usage: python tests/benchmarks/serving.py [--beside CHECKOUT] [--mlserver FOLDER | --without-mlserver]
                                          [--images 1 8 32 64] [--kinds json binary] [--rounds 5] [--seconds 2]

All serve the same ONNX model with one thread of ONNX Runtime, beside one another in one run: in every round each is
loaded for some seconds, in turns, by a client in a process of its own. Given are medians over the rounds; parts are
medians of each round's parts. The daemon is as it ships but that it does not retrain: it decides, keeps samples and
batches. MLServer runs a custom runtime around the model (mlserver_runtime.py) in the process that listens
(parallel_workers = 0, which is quicker here than a pool of its own), with debug off and all else as it comes; its HTTP
front takes no binary tensors. It is installed into FOLDER, or a temporary one, unless it is there.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from orric.edge.serving import Model
from orric.vision.datasets import to_input

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "simulations"))
from edge_demo import daemon  # noqa: E402
from inference_load import CPU, MODEL_NAME, bare, binary, in_json, loaded, model_of, pictures  # noqa: E402

MLSERVER = "1.7.1"
KINDS: dict[str, Callable[[int], bytes]] = {"json": in_json, "binary": binary}
# As many connections that the server never waits for the client.
CONNECTIONS = {1: 16}
OTHERWISE = 4
STARTS_S = 120.0
TREE, BESIDE, OTHER, LOOP = "this build", "beside", "MLServer", "bare loop"


@contextmanager
def build(checkout: Path) -> Iterator[tuple[str, Path]]:
    """Run the daemon of a checkout; yield its address and its state."""
    # An hour's slot with compute in plenty, and an allocator that never retrains.
    given = {"ALLOCATOR": '"inference-only"', "BUDGET__MACS_PER_S": "1e13"}
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder), 3600.0, 1000, checkout, **given) as (address, _):
        yield address, Path(folder)


def installed(folder: Path) -> Path:
    """Return the program of MLServer in an environment of its own, made where it is not there."""
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    # The runtime that the daemon has, so that servers are compared and nothing else.
    wanted = [f"mlserver=={MLSERVER}", *(f"{name}=={version(name)}" for name in ("onnxruntime", "numpy"))]
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted], check=True)
    return folder / "bin/mlserver"


def free_ports(number: int) -> list[int]:
    """Return ports of loopback that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def mlserver(program: Path, content: bytes) -> Iterator[str]:
    """Run MLServer on a model; yield its address."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "student.onnx").write_bytes(content)
        (folder / "mlserver_runtime.py").write_text((Path(__file__).parent / "mlserver_runtime.py").read_text())
        http, grpc, metrics = free_ports(3)
        settings = {
            "debug": False, "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics,
            "parallel_workers": 0,
        }  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(settings))
        model = {
            "name": MODEL_NAME, "implementation": "mlserver_runtime.Student",
            "parameters": {"uri": str(folder / "student.onnx")},
        }  # fmt: skip
        (folder / "model-settings.json").write_text(json.dumps(model))
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [program, "start", folder],
                cwd=folder, env={**environment, "PYTHONPATH": name}, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            wait_for(f"http://127.0.0.1:{http}/v2/models/{MODEL_NAME}/ready", process, folder / "log")
            yield f"127.0.0.1:{http}"
        finally:
            process.terminate()
            process.wait(60)


def wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server says that it is ready."""
    until = time.monotonic() + STARTS_S
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(log.read_text()[-2000:])


def check_answers(name: str, address: str, content: bytes) -> None:
    """Compare a server's answer with what the model gives: a quick wrong one is none."""
    images = pictures(4)
    tensor = {"name": "images", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
    asked = urllib.request.Request(
        f"http://{address}/v2/models/{MODEL_NAME}/infer",
        json.dumps({"inputs": [tensor]}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        told = json.load(answer)["outputs"][0]
    expected = Model.open(content, 1, CPU, 1, (32,)).logits(to_input(images, 32))
    apart = np.abs(np.reshape(told["data"], told["shape"]) - expected).max()
    assert apart < 1e-3, f"{name} answers otherwise than the model, by {apart:g}"


def measured(
    servers: dict[str, str], content: bytes, kinds: list[str], sizes: list[int], rounds: int, seconds: float
) -> Iterator[tuple[str, int, dict[str, list[float]]]]:
    """Yield for each kind and size images per second of each server in each round."""
    for kind in kinds:
        for images in sizes:
            request = KINDS[kind](images)
            connections = CONNECTIONS.get(images, OTHERWISE)
            asked = [name for name in servers if not (name == OTHER and kind == "binary")]
            found: dict[str, list[float]] = {name: [] for name in (*asked, LOOP)}
            for number in range(rounds):
                order = [*asked, LOOP]
                for name in order[number % len(order) :] + order[: number % len(order)]:
                    if name == LOOP:
                        found[name].append(bare(content, images, seconds / 2))
                    else:
                        found[name].append(images * loaded(servers[name], request, connections, seconds)[0])
            yield kind, images, found


def part(found: dict[str, list[float]], of: str) -> float | None:
    """Return the median part that this build is of another in the same round."""
    if of not in found:
        return None
    return statistics.median(one / other for one, other in zip(found[TREE], found[of], strict=True))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--beside", type=Path, help="checkout of another build of orric")
    parser.add_argument("--mlserver", type=Path, help="folder for an environment with MLServer [a temporary one]")
    parser.add_argument("--without-mlserver", action="store_true")
    parser.add_argument("--images", type=int, nargs="+", default=[1, 8, 32, 64], help="of a request [1 8 32 64]")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of requests [json binary]")
    parser.add_argument("--rounds", type=int, default=5, help="in which all take turns [5]")
    parser.add_argument("--seconds", type=float, default=2.0, help="of load each time [2]")
    asked = parser.parse_args()
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # of all of them
    with ExitStack() as stack:
        servers = dict[str, str]()
        servers[TREE], state = stack.enter_context(build(ROOT))
        content = model_of(state, 1)
        if asked.beside:
            servers[BESIDE], state = stack.enter_context(build(asked.beside.resolve()))
            if model_of(state, 1) != content:
                print("note: the other build serves another file, which it exported itself")
        if not asked.without_mlserver:
            folder = asked.mlserver or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            servers[OTHER] = stack.enter_context(mlserver(installed(folder.resolve()), content))
        others = [name for name in (BESIDE, OTHER) if name in servers] + [LOOP]
        for name, address in servers.items():
            check_answers(name, address, content)
        print(f"images a second, medians of {asked.rounds} rounds of {asked.seconds:g} s; then this build as a part of")
        print(f"{'kind':>7}{'images':>7}{TREE:>12}" + "".join(f"{name:>11}" for name in (*others, *others)))
        for kind, images, found in measured(servers, content, asked.kinds, asked.images, asked.rounds, asked.seconds):
            line = f"{kind:>7}{images:7d}{statistics.median(found[TREE]):12,.0f}"
            for name in others:
                line += f"{statistics.median(found[name]):11,.0f}" if name in found else f"{'-':>11}"
            for name in others:
                ratio = part(found, name)
                line += f"{'-':>11}" if ratio is None else f"{ratio:11.2f}"
            print(line, flush=True)
    print("targets: binary no less than 1.00 of the build beside it; JSON at 32 and 64 images at least 2.00 of it and")
    print("more than 1.00 of MLServer, and at 32 at least 0.60 of the bare loop")


if __name__ == "__main__":
    main()
