"""Report how fast the simulator is, beside SimPy with a process per request, and how its cost grows.

usage: python tests/benchmarks/simulation.py [--requests 1000000] [--most 100000000]      (about two minutes)

GPUs are hard partitions, where a queue is solved by itself, or shared by weights, where all that share a GPU go through
one event loop; the targets are those of the former. Ratios are taken in one run. The simulator's time is that of
`orric.simulate` whole: arrivals, queue, latencies, records. SimPy's models are as lean as they can be written: arrivals
drawn beforehand, nothing recorded but latencies.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import simpy

import orric
from orric.scenario import Gpu, Stream

LOAD, SERVICE_S = 0.8, 0.001
MOST, WAIT_S, FIXED_S, EACH_S = 8, 0.004, 0.002, 0.0006
SIZES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
STREAMS, GPUS = (1, 10, 100, 1000), (1, 2, 4, 8, 16)
PLAIN, BATCHED, PER_SECOND, MEMORY_GB = 500, 200, 1e7, 1.0
PARTITION, SHARED = "fluid", "weighted"


def profile(path: Path) -> Path:
    """Write the profile that is served."""
    orric.Profile(
        name="plain",
        best_accuracy=0.9,
        slope_floor=0.01,
        retraining=(
            orric.RetrainingConfiguration(name="none", profit=0.0, cost_macs=0.0),
            orric.RetrainingConfiguration(name="all", profit=1.0, cost_macs=1e5),
        ),
        inference=(orric.InferenceConfiguration(name="whole", profit=1.0, cost_macs=1e6 * LOAD),),
        curve=orric.Exponential(c=0.9, a=0.3, k=3.0),
    ).save(path)
    return path


def scenario(
    folder: Path, requests: int, batched: bool = False, streams: int = 1, gpus: int = 1, slots: int = 10,
    sharing: str = PARTITION,
) -> orric.Scenario:  # fmt: skip
    """Return a scenario with so many requests in all, at a load of 0.8."""
    rate = LOAD / (SERVICE_S if not batched else FIXED_S / MOST + EACH_S)
    per_slot = max(requests // (slots * streams), 1)
    slot_s = per_slot / rate * streams / gpus
    path = folder / f"{batched}-{streams}-{gpus}.toml"
    each = SERVICE_S if not batched else EACH_S
    subject = orric.Profile.load(profile(folder / "profile.toml"))
    subject.model_copy(
        update={
            "batch_latency": (
                orric.profile.BatchLatency(inference="whole", fixed_s=FIXED_S if batched else 0.0, each_s=each),
            )
        }
    ).save(path)
    return orric.Scenario(
        name="benchmark",
        slots=slots,
        slot_s=slot_s,
        allocators=("inference-only",),
        spare="inference",
        gpu=tuple(
            Gpu(name=f"gpu{n}", macs_per_s=1e9, budget={"kind": "constant", "fraction": 1.0}, sharing=sharing)
            for n in range(gpus)
        ),
        stream=tuple(
            Stream(
                name=f"stream-{k}",
                profile=str(path),
                requests={"kind": "constant", "per_slot": per_slot},
                arrivals="poisson",
                gpu=f"gpu{k % gpus}",
                batch={"most": MOST, "wait_s": WAIT_S} if batched else {},
            )
            for k in range(streams)
        ),
    )


def simulated(folder: Path, *arguments: Any) -> tuple[float, float]:
    """Return the least of five times of the simulator, and its mean latency."""
    subject = scenario(folder, *arguments)
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        result = orric.simulate(subject, orric.InferenceOnly(), seed=1)
        times.append(time.perf_counter() - begun)
    return min(times), result.latency.mean_s


def plain(requests: int) -> tuple[float, float]:
    """Return time and mean latency of SimPy with a process per request and a resource."""
    environment, latencies = simpy.Environment(), []
    server = simpy.Resource(environment)
    gaps = np.random.default_rng(1).exponential(SERVICE_S / LOAD, requests).tolist()

    def request() -> Generator:
        arrival = environment.now
        with server.request() as turn:
            yield turn
            yield environment.timeout(SERVICE_S)
        latencies.append(environment.now - arrival)

    def source() -> Generator:
        for gap in gaps:
            yield environment.timeout(gap)
            environment.process(request())

    environment.process(source())
    begun = time.perf_counter()
    environment.run()
    return time.perf_counter() - begun, float(np.mean(latencies))


def batched(requests: int) -> tuple[float, float]:
    """Return time and mean latency of SimPy with a process per request and batches of them."""
    environment, latencies = simpy.Environment(), []
    rate = LOAD / (FIXED_S / MOST + EACH_S)
    gaps = np.random.default_rng(1).exponential(1 / rate, requests).tolist()
    waiting: list[tuple[float, simpy.Event]] = []
    came = [environment.event()]

    def request() -> Generator:
        arrival, done = environment.now, environment.event()
        waiting.append((arrival, done))
        if len(waiting) in (1, MOST):
            came[0].succeed()
            came[0] = environment.event()
        yield done
        latencies.append(environment.now - arrival)

    def source() -> Generator:
        for gap in gaps:
            yield environment.timeout(gap)
            environment.process(request())

    def serve() -> Generator:
        while True:
            while not waiting:
                yield came[0]
            while len(waiting) < MOST and environment.now < waiting[0][0] + WAIT_S:
                yield came[0] | environment.timeout(max(waiting[0][0] + WAIT_S - environment.now, 0.0))
                if waiting[0][0] + WAIT_S - environment.now < 1e-12:
                    break
            batch = waiting[:MOST]
            del waiting[:MOST]
            yield environment.timeout(FIXED_S + EACH_S * len(batch))
            for _, done in batch:
                done.succeed()

    environment.process(source())
    environment.process(serve())
    begun = time.perf_counter()
    environment.run()
    return time.perf_counter() - begun, float(np.mean(latencies))


def apart(*arguments: Any) -> dict[str, float]:
    """Simulate in a process of its own, so that memory is that of this run; return seconds and gigabytes."""
    command = [sys.executable, __file__, "--once", json.dumps(arguments)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def once(arguments: list[Any]) -> None:
    """Print the seconds and the memory of one simulation after a small one, which compiles."""
    with tempfile.TemporaryDirectory() as folder:
        simulated(Path(folder), 1000)
        subject = scenario(Path(folder), *arguments)
        begun = time.perf_counter()
        result = orric.simulate(subject, orric.InferenceOnly(), seed=1)
        seconds = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"seconds": seconds, "memory": memory, "served": float(result.columns["served"].sum())}))


def exponent(sizes: list[int], seconds: list[float]) -> float:
    """Return the exponent of growth between the last two sizes."""
    return math.log(seconds[-1] / seconds[-2]) / math.log(sizes[-1] / sizes[-2])


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000, help="of the comparison with SimPy")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest number of requests of the table")
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        once(json.loads(options.once))
        return
    reached = []

    def target(met: bool, text: str) -> None:
        reached.append(met)
        print(f"{'met    ' if met else 'MISSED '} {text}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begun = time.perf_counter()
        simulated(folder, 1000)
        print(f"first calls (compiled, or read from the cache): {time.perf_counter() - begun:.2f} s")
        for label, kind, model, wanted in (
            ("one by one", False, plain, PLAIN),
            (f"in batches of up to {MOST}", True, batched, BATCHED),
        ):
            # One slot, as SimPy's models know none.
            fast_s, fast_mean = simulated(folder, options.requests, kind, 1, 1, 1)
            slow_s, slow_mean = model(options.requests)
            ratio = slow_s / fast_s
            target(
                ratio >= wanted,
                f"{options.requests:,} requests {label}: {fast_s:.4f} s against {slow_s:.2f} s of SimPy, {ratio:,.0f} "
                f"times (target {wanted}); mean latency {fast_mean * 1e3:.3f} and {slow_mean * 1e3:.3f} ms",
            )
            shared_s, shared_mean = simulated(folder, options.requests, kind, 1, 1, 1, SHARED)
            print(
                f"        the same on a GPU that is shared by weights: {shared_s:.4f} s, {slow_s / shared_s:,.0f} "
                f"times; mean latency {shared_mean * 1e3:.3f} ms"
            )
            if not kind:
                rate = options.requests / fast_s
                target(rate >= PER_SECOND, f"{rate:.2e} requests per second and core (target {PER_SECOND:.0e})")
        print(f"\n{'requests':>12}{'seconds':>10}{'memory GB':>11}")
        sizes = [size for size in SIZES if size <= options.most]
        seconds = []
        for size in sizes:
            found = apart(size)
            seconds.append(found["seconds"])
            print(f"{size:>12,}{found['seconds']:>10.4f}{found['memory']:>11.2f}", flush=True)
        print(f"exponent of growth: {exponent(sizes, seconds):.2f}")
        target(
            found["memory"] < MEMORY_GB, f"{sizes[-1]:,} requests in {found['memory']:.2f} GB (target {MEMORY_GB} GB)"
        )
        for label, counts in (("streams", STREAMS), ("GPUs", GPUS)):
            for sharing in (PARTITION, SHARED):
                print(f"\n{label:>12}{'seconds':>10}{'memory GB':>11}      1,000,000 requests, {sharing}")
                seconds = []
                for count in counts:
                    streams, gpus = (count, 1) if label == "streams" else (GPUS[-1], count)
                    found = apart(1_000_000, False, streams, gpus, 10, sharing)
                    seconds.append(found["seconds"])
                    print(f"{count:>12,}{found['seconds']:>10.4f}{found['memory']:>11.2f}", flush=True)
                print(f"exponent of growth: {exponent(list(counts), seconds):.2f}")
    print("\nall targets met" if all(reached) else "\nsome targets were missed")


if __name__ == "__main__":
    main()
