"""How long joint ORRIC takes to decide, and how near to the best its decisions are.

    python tests/benchmarks/joint.py [--most STREAMS]

Streams with 6 retraining and 4 inference configurations each, all different; budgets from the cheapest pairs to the
dearest; requests within a factor of 10, or heavy-tailed (Pareto, shape 1.2). One core. Then 1,000 streams of two
profiles, of which three in four have one of three deadlines, told of them and not, turn by turn: what a decision by
right answers in time takes, and what learning from a whole slot does.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import replace
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


def timely_task(count: int, sharing: str) -> Task:
    """Return streams of two profiles with deadlines on one GPU."""
    profiles = [orric.Profile.load(ROOT / f"traces/profiles/{name}.toml") for name in ("digits", "cifar10-weather")]
    streams, macs_per_s = [], 3e7 * count
    for k in range(count):
        one = StreamTask.of(profiles[k % 2], 100.0, 1000.0, f"stream-{k}")
        each_s = tuple(it.cost_macs / macs_per_s for it in one.inference)
        told = orric.Timeliness(
            60.0, (2.0, 5.0, 30.0, float("inf"))[k % 4], orric.ArrivalProcess("poisson", True), (0.0,) * len(each_s),
            each_s,
        )  # fmt: skip
        streams.append(replace(one, timeliness=told))
    device = orric.Device("weighted") if sharing == "weighted" else orric.Device("fluid")
    return Task(60, tuple(streams), capacities_macs=(macs_per_s * 60,), devices=(device,))


def decided(allocator: orric.Allocator, task: Task, rng: np.random.Generator, index: int) -> tuple[float, float]:
    """Decide a slot, observe it, and return the seconds that the decision took, and the last observation."""
    requests = rng.uniform(100, 1000, len(task.streams))
    budget = task.capacities_macs[0] * float(rng.uniform(0.7, 1.0))
    told = orric.Slot(index, (budget,), tuple(requests.tolist()), (0.0,) * len(requests))
    begun = time.perf_counter()
    answer = allocator.decide(told)
    seconds = time.perf_counter() - begun
    for stream_, one, count in zip(task.streams, answer.streams, requests.tolist(), strict=True):
        came = count * float(rng.uniform(0.8, 1.2))
        begun = time.perf_counter()
        allocator.observe(
            orric.Observation(
                index, stream_.name, came, came, came * 0.02, 0.0, 1.0, 0.8, retraining=one.retraining,
                inference=one.inference, inference_share=one.inference_share, budget_macs=budget, told=count,
            )
        )  # fmt: skip
    return seconds, time.perf_counter() - begun


def deadlines(count: int) -> None:
    """Print what decisions take that heed deadlines, beside those that do not."""
    print(f"\n{count:,} streams, three in four with a deadline: median (ms) of 40 decisions")
    print("allocator        sharing     told of deadlines  told of none  learning from a slot  told of none")
    for sharing in ("weighted", "fluid"):
        task = timely_task(count, sharing)
        for made in (orric.JointOrric, orric.GuidedOrric):
            both = [(made(), task), (made(), replace(task, devices=()))]
            taken: list[list[tuple[float, float]]] = [[], []]
            for allocator, told in both:
                allocator.reset(told, np.random.default_rng(1))
            for index in range(1, 46):
                for number, (allocator, told) in enumerate(both):
                    taken[number].append(decided(allocator, told, np.random.default_rng(index), index))
            # The first ones make tables.
            medians = [[statistics.median(column) * 1e3 for column in zip(*one[5:], strict=True)] for one in taken]
            print(
                f"{both[0][0].name:16} {sharing:10} {medians[0][0]:18.1f} {medians[1][0]:13.1f} {medians[0][1]:21.1f} "
                f"{medians[1][1]:13.1f}",
                flush=True,
            )


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
    deadlines(min(most, 1000))
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
