"""How long joint ORRIC takes to decide, and how near to the best its decisions are.

    python tests/benchmarks/joint.py [--most STREAMS]

Streams with 6 retraining and 4 inference configurations each, all different; budgets from the cheapest pairs to the
dearest; requests within a factor of 10, or heavy-tailed (Pareto, shape 1.2). One core.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

import orric
from orric.allocators.base import StreamTask, Task
from orric.configuration import InferenceConfiguration, RetrainingConfiguration

ROOT = Path(__file__).resolve().parents[2]
SLOTS = 1000
DECISIONS = {1: 1000, 10: 1000, 100: 1000, 1000: 1000, 10_000: 200, 100_000: 30}


def stream(rng: np.random.Generator, number: int, retraining: int = 6, inference: int = 4) -> StreamTask:
    """Return a stream with random configurations: costs of the order of the CIFAR-10 models."""
    profits = np.concatenate([[0.0], np.sort(rng.uniform(0.05, 1.0, retraining - 1))])
    costs = np.concatenate([[0.0], np.sort(rng.uniform(1e6, 4e7, retraining - 1))])
    serving, serving_costs = np.sort(rng.uniform(0.3, 1.0, inference)), np.sort(rng.uniform(1e6, 8e6, inference))
    return StreamTask(
        name=f"stream-{number}",
        retraining=tuple(
            RetrainingConfiguration(name=f"r{i}", profit=float(p), cost_macs=float(c))
            for i, (p, c) in enumerate(zip(profits, costs, strict=True))
        ),
        inference=tuple(
            InferenceConfiguration(name=f"i{j}", profit=float(p), cost_macs=float(c))
            for j, (p, c) in enumerate(zip(serving, serving_costs, strict=True))
        ),
        best_accuracy=float(rng.uniform(0.6, 0.95)),
        slope_floor=float(rng.uniform(0.01, 0.3)),
        least_requests=100.0,
        most_requests=1000.0,
    )


def slots(rng: np.random.Generator, task: Task, count: int, heavy: bool) -> list[orric.Slot]:
    """Draw slots of all ages, with budgets from the cheapest to the dearest pairs."""
    cheapest = np.array([one.cheapest_macs for one in task.streams])
    dearest = np.array([one.retraining[-1].cost_macs + one.inference[-1].cost_macs for one in task.streams])
    found = []
    for number in range(count):
        size = len(task.streams)
        requests = 100 * (rng.pareto(1.2, size) + 1) if heavy else rng.uniform(100, 1000, size)
        least, most = float(requests @ cheapest), float(requests @ dearest)
        budget = least * (1 + 1e-9) + (most - least) * float(rng.uniform()) ** 2
        found.append(orric.Slot(1 + number * SLOTS // count, (budget,), tuple(requests.tolist())))
    return found


def measure(task: Task, told: list[orric.Slot]) -> tuple[list[float], list[float]]:
    """Return the seconds and the gaps of decisions, after warm-up."""
    allocator = orric.JointOrric()
    allocator.reset(task, np.random.default_rng(1))
    for slot in told[:10]:
        allocator.decide(slot)
    seconds, gaps = [], []
    for slot in told:
        begun = time.perf_counter()
        allocator.decide(slot)
        seconds.append(time.perf_counter() - begun)
        gaps.append(allocator.gaps[0])
    return seconds, gaps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=100_000, help="the largest number of streams")
    most = parser.parse_args().most
    rng = np.random.default_rng(1)
    print("requests      streams  decisions  median (ms)  99 % (ms)  us per stream  gap: median     largest")
    for heavy in (False, True):
        medians = {}
        for count, decisions in DECISIONS.items():
            if count > most:
                continue
            task = Task(SLOTS, tuple(stream(rng, number) for number in range(count)))
            seconds, gaps = measure(task, slots(rng, task, decisions, heavy))
            medians[count] = statistics.median(seconds)
            print(
                f"{'heavy-tailed' if heavy else 'within 10:1 '} {count:8,} {decisions:10,} "
                f"{medians[count] * 1e3:12.3f} "
                f"{float(np.quantile(seconds, 0.99)) * 1e3:10.3f} {medians[count] / count * 1e6:14.2f} "
                f"{statistics.median(gaps):12.1e} {max(gaps):11.1e}",
                flush=True,
            )
        large = [count for count in medians if count >= 1000]
        if len(large) > 1:
            growth = np.polyfit(np.log(large), np.log([medians[count] for count in large]), 1)[0]
            print(f"              from 1,000 streams on the time grows as (number of streams)^{growth:.2f}")
    print("\nexact mode, up to some dozens of streams (requests within 10:1)")
    print("configurations     streams  decisions  median (ms)  largest (ms)")
    profile = orric.Profile.load(ROOT / "traces/profiles/digits.toml")
    for alike in (False, True):
        for count in (3, 6, 12, 24, 48)[: 4 if alike else 5]:
            streams = [stream(rng, number) for number in range(count)]
            if alike:
                # Whole numbers of requests of one profile: many choices cost nearly the same.
                streams = [StreamTask.of(profile, 100.0, 1000.0, f"stream-{number}") for number in range(count)]
            task = Task(SLOTS, tuple(streams))
            allocator = orric.ExactJointOrric()
            allocator.reset(task, np.random.default_rng(1))
            seconds = []
            for slot in slots(rng, task, 20 if alike else 100, heavy=False):
                told = orric.Slot(slot.index, slot.budgets_macs, tuple(np.ceil(slot.requests).tolist()))
                begun = time.perf_counter()
                allocator.decide(told if alike else slot)
                seconds.append(time.perf_counter() - begun)
                assert np.isnan(allocator.gaps[0]) or allocator.gaps[0] <= 1e-12
            print(
                f"{'all of one profile' if alike else 'all different     '} {count:7} {len(seconds):10} "
                f"{statistics.median(seconds) * 1e3:12.2f} {max(seconds) * 1e3:13.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
