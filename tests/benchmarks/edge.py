"""Report what the daemon serves, beside a bare loop, while it retrains, over a thousand swaps, and under drift.

usage: python tests/benchmarks/edge.py [throughput] [retraining] [swaps] [soak] [drift] [deadline] [demo] [--slots 40]
                                       [--data FOLDER]
(all: some twenty minutes; FOLDER: CIFAR-10 in a published layout)

throughput: images per second over loopback, from a process of its own, as a part of what the same ONNX Runtime session
gives in a bare loop; the two take turns. retraining: the 99th percentile of latencies beside retraining and swaps, and
idle. swaps: a thousand of them under load; every answer is compared with what its version gives. soak: memory and file
handles over 360 accelerated slots with a swap in each. drift: true accuracy with and without retraining, beside the
simulator's own real loop. deadline: the part of a load that is answered within 100 ms by the client's clock, with
retraining (nice, and idle) and without, and the true accuracy beside the simulator's, on the digits and, with --data,
on CIFAR-10. demo: how long `make edge-demo` takes beside two processes that are always busy, as a multiple of its quiet
time, and what it names as failed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from scipy.stats import linregress
from scipy.stats import t as student_t

from orric.edge.serving import Model
from orric.retraining.accuracy import drifted
from orric.vision.datasets import digits, to_input

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "simulations"))
from deadline import deadline  # noqa: E402, F401
from edge_demo import BUDGET_MACS, PER_SLOT, SEVERITIES, Client, daemon, drive  # noqa: E402
from inference_load import CPU, bare, binary, loaded, model_of  # noqa: E402

PARTS = ("throughput", "retraining", "swaps", "soak", "drift", "deadline", "demo")
ROUNDS, SECONDS = 5, 3.0
# Images of a request, connections, and the target: a part of the bare loop, or requests per second.
LOADS = ((64, 4, 0.8), (32, 4, 0.6), (1, 32, 2000.0))
# Of the soak: blocks that a slope is taken from, and the growth a swap below which it is none: a unit (a MiB, a file
# handle) in an hour of slots of a minute.
BLOCKS, FLAT = 12, 1 / 60


@contextmanager
def running(slot_s: float = 3600.0, **changes: str) -> Iterator[tuple[str, str, Path]]:
    """Run a daemon on the digits; yield its address, token and state folder."""
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder), slot_s, 1000, **changes) as (address, token):
        yield address, token, Path(folder)


def throughput() -> None:
    """Compare the daemon with a bare loop."""
    print("throughput over loopback, client in a process of its own, medians of five rounds that take turns")
    print(
        f"{'images':>7}{'requests/s':>12}{'images/s':>11}{'bare loop':>11}{'part':>7}{'p50 ms':>8}{'p99 ms':>8}  target"
    )
    with running() as (address, _, folder):
        content = model_of(folder, 1)
        for images, connections, target in LOADS:
            request = binary(images)
            rounds = [
                (bare(content, images, SECONDS), *loaded(address, request, connections, SECONDS)) for _ in range(ROUNDS)
            ]
            alone, rate, p50, p99 = (statistics.median(column) for column in zip(*rounds, strict=True))
            wanted = f"{target:.0%} of the loop" if target < 1 else f"{target:,.0f} requests/s"
            print(
                f"{images:7d}{rate:12,.0f}{rate * images:11,.0f}{alone:11,.0f}{rate * images / alone:7.0%}"
                f"{1e3 * p50:8.2f}{1e3 * p99:8.2f}  target {wanted}",
                flush=True,
            )


def retraining() -> None:
    """Compare latencies idle and beside retraining."""
    with running() as (address, _, _folder):
        idle = [loaded(address, binary(4), 2, SECONDS) for _ in range(3)]
    with running(slot_s=2.0, BUDGET__MACS_PER_S="1e12", SAMPLES__MOST="400") as (address, token, _folder):
        busy = [loaded(address, binary(4), 2, 12.0) for _ in range(3)]
        found = Client(address, token).status()
    for name, rounds in (("idle", idle), ("retraining in every slot", busy)):
        rate, p50, p99 = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"4 images a request, {name}: {rate:,.0f} requests/s, p50 {1e3 * p50:.2f} ms, p99 {1e3 * p99:.2f} ms")
    print(f"  {found['swaps']} swaps and {sum(found['failures'].values())} failures meanwhile")


def swaps(number: int = 1000) -> None:
    """Swap between two versions under load, and compare every answer with what its version gives."""
    images = drifted(digits(), 1, 1, 32, "fog", 4)[0]
    with running(slot_s=1.0, BUDGET__MACS_PER_S="2e10", SAMPLES__MOST="200") as (address, token, folder):
        client = Client(address, token)
        while client.status()["serving"] < 2:
            client.classify(images)
        client.ask("POST", "/v1/pin", b"{}")
        versions = sorted(int(path.name) for path in (folder / "store/versions").glob("[0-9]*"))[-2:]
        expected = {}
        for version in versions:
            model = Model.open(model_of(folder, version), version, CPU, 1, (32,))
            expected[version] = model.session.run(None, {model.name: to_input(images, 32)})[0]
        apart = float(np.abs(expected[versions[0]] - expected[versions[1]]).max())
        # The slot's resolution must stay, as the answers are compared: a paused daemon serves at the full one.
        client.ask("POST", "/v1/pause")
        done, wrong, answers = threading.Event(), [], []

        def asks() -> None:
            mine = Client(address)
            while not done.is_set():
                outputs, version = mine.classify(images)
                answers.append(version)
                if float(np.abs(outputs - expected[version]).max()) > 1e-4:
                    wrong.append(version)

        threads = [threading.Thread(target=asks) for _ in range(3)]
        for thread in threads:
            thread.start()
        begun = time.perf_counter()
        for count in range(number):
            client.ask("POST", "/v1/pin", json.dumps({"version": versions[count % 2]}).encode())
        took = time.perf_counter() - begun
        done.set()
        for thread in threads:
            thread.join()
    print(
        f"{number:,} swaps in {took:.1f} s under load: {len(answers):,} answers of versions {sorted(set(answers))}, "
        f"{len(wrong)} wrong, none failed (the two are up to {apart:.2g} apart)"
    )


def soak(slots: int = 330, slot_s: float = 1.0) -> None:
    """Watch memory and file handles of a daemon that retrains and swaps in every slot: hours of slots of a minute."""
    told = (("daemon", "MiB", 2**20), ("retraining process", "MiB", 2**20), ("file handles", "", 1), ("threads", "", 1))
    # An episode of an hour, so that what is kept of one, as its journal is, has reached its most in the first third.
    # Few samples and no stepping back, so that a slot is long enough for a retraining beside whatever else runs here.
    given = {"HORIZON_SLOTS": "60", "BUDGET__MACS_PER_S": "2e11", "SAMPLES__MOST": "64", "RETRAINING__NICE": "0"}
    with running(slot_s=slot_s, **given) as (address, token, _folder):
        client, rows = Client(address, token), list[tuple[float, ...]]()
        process = next(child for child in psutil.Process().children() if "serve" in child.cmdline())
        images = drifted(digits(), 1, 1, 20, "fog", 4)[0]
        found = client.status()
        while found["slot"] <= slots:
            seen = []
            for _ in range(8):
                client.classify(images)
                memory = sum(child.memory_info().rss for child in process.children(recursive=True))
                seen.append((process.memory_info().rss, memory, process.num_fds(), process.num_threads()))
                time.sleep(slot_s / 8)
            # Memory goes up and down while a slot retrains; what leaks raises the least of it too.
            rows.append((found["swaps"], *np.min([one[:2] for one in seen], 0), *np.max([one[2:] for one in seen], 0)))
            found = client.status()
    table = np.array(rows, float)[len(rows) // 3 :]
    half = len(table) // 2
    print(
        f"{slots} slots of {slot_s:g} s, {found['swaps']} swaps, {sum(found['failures'].values())} failures; the least"
        " memory and the most handles of a slot, medians of the second third and the last, and the growth a swap over"
        " both with its 95 % interval:"
    )
    for place, (name, unit, factor) in enumerate(told, start=1):
        column = table[:, place] / factor
        middle, last = np.median(column[:half]), np.median(column[half:])
        slope, apart = growth(table[:, 0], column)
        print(
            f"  {name}: {middle:.1f}, {last:.1f} {unit}, {slope:+.3f} +- {apart:.3f}".replace(" ,", ",")
            + f": {verdict(slope, apart)}"
        )


def growth(swaps: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return the slope of values over swaps, and half of its 95 % interval.

    From means of blocks: what a process holds wanders slowly, so that a value tells little that its neighbour does not.
    """
    blocks = [part for part in np.array_split(np.arange(len(values)), BLOCKS) if len(part)]
    x, y = (np.array([column[part].mean() for part in blocks]) for column in (swaps, values))
    fit = linregress(x, y)
    return float(fit.slope), float(student_t.ppf(0.975, len(blocks) - 2) * fit.stderr)


def verdict(slope: float, apart: float) -> str:
    """Say in words whether a slope is none."""
    if slope + apart < FLAT:
        return "flat"
    return "grows" if slope > apart else f"no growth seen, {slope + apart:.3f} at most"


def drift(slots: int = 25, slot_s: float = 2.0) -> None:
    """Compare true accuracies under fog that thickens: with and without retraining, and as the simulator has it."""
    import orric
    from orric.comparison import simulate_line

    found = {}
    for name in ("orric", "inference-only"):
        with running(slot_s=slot_s, ALLOCATOR=f'"{name}"') as (address, token, _folder):
            rows = drive(Client(address, token), slots)
        found[name] = float(np.mean([accuracy for accuracy, _ in rows]))
    scenario = orric.Scenario(
        name="edge", slots=slots, slot_s=slot_s, allocators=("orric",), accuracy={"model": "onnx"},
        gpu=({"macs_per_s": BUDGET_MACS / slot_s, "budget": {"kind": "constant", "fraction": 1.0}},),
        stream=(
            {
                "name": "digits", "profile": str(ROOT / "traces/profiles/digits.toml"),
                "requests": {"kind": "constant", "per_slot": PER_SLOT}, "arrivals": "deterministic",
                "forecast": "last",
                "drift": {"kind": "steps", "corruption": "fog", "severities": tuple(range(1, SEVERITIES + 1))},
            },
        ),
    )  # fmt: skip
    print(f"{slots} slots of {PER_SLOT} images under fog that thickens, true accuracy:")
    for name in ("orric", "inference-only"):
        told = float(simulate_line(scenario, "onnx", name, 1).summary()["mean_accuracy"])
        apart = 100 * (found[name] - told)
        print(f"  {name:15} daemon {found[name]:.2%}, simulator {told:.2%}, {apart:+.2f} points apart (target 2)")


def demo(slots: int = 40) -> None:
    """Time the demonstration quiet, and beside two processes that are always busy."""
    command = [sys.executable, str(ROOT / "simulations/edge_demo.py"), "--slots", str(slots)]
    took = {}
    for name, busy in (("quiet", 0), ("beside two busy processes", 2)):
        load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            begun = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            took[name] = time.perf_counter() - begun
        finally:
            for one in load:
                one.kill()
                one.wait()
        _, *told = done.stdout[done.stdout.index("right answers:") - 1 :].splitlines()
        print(f"edge-demo of {slots} slots of 3 s, {name}: {took[name]:.1f} s")
        print("\n".join(f"  {line}" for line in told), flush=True)
    quiet, beside = took.values()
    print(f"  {beside / quiet:.2f} times the quiet time (target 1.5)")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)} [all]")
    parser.add_argument("--slots", type=int, default=40, help="of the demo [40]")
    parser.add_argument("--data", type=Path, help="CIFAR-10, for deadline")
    asked = parser.parse_args()
    given = {"demo": [asked.slots], "deadline": [asked.data]}
    for part in asked.parts or PARTS:
        globals()[part](*given.get(part, []))


if __name__ == "__main__":
    main()
