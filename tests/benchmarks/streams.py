"""Report what many retraining streams, and many slots, cost the simulator: beside an older build, and how it grows.

usage: python tests/benchmarks/streams.py [--against e0bfa46] [--slots 1000000]      (about fifteen minutes)

Every stream retrains in every slot from the second on, beside some 20 requests, and each is done at another time: the
dear case. Both builds take turns, each in a process of its own, compiled beforehand. An older build that is slow with
many streams is given fewer slots, and what is compared is the time of a stream in a slot.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import orric
from orric.scenario import Gpu, Stream

ROOT = Path(__file__).resolve().parents[2]
PER_SLOT, SLOT_S, MACS_PER_S = 20, 60.0, 1e9
# Parts of a stream's part of the GPU: what serving and retraining get, and what they need.
SERVING, RETRAINING, SERVING_NEEDS, RETRAINING_NEEDS = 0.4, 0.5, 0.2, 0.3
STREAMS, SLOTS = (30, 100, 300, 1000), (1_000, 10_000, 100_000, 1_000_000)
SHARINGS = ("fluid", "fluid, lending", "weighted", "priority")
OLD_SHARINGS = SHARINGS[:2]
# Slots of the older build by streams: it must not take hours.
SLOTS_TIMED, OLD_SLOTS = 20, {30: 20, 100: 20, 300: 6, 1000: 3}
ROUNDS, TIMES, EXPONENT, EXPONENT_OF_SLOTS = 3, 20, 1.1, 1.05
FEW, FEW_STREAMS = 3, 100


class All:
    """Retrains every stream in every slot, each at another pace."""

    name = "all"

    def reset(self, task: Any, rng: np.random.Generator) -> None:
        """Decide once: every slot is alike."""
        count = len(task.streams)
        paces = RETRAINING * (1 + 0.2 * (np.arange(count) / count))
        paces *= RETRAINING / paces.mean() / count
        self._answer = orric.Allocation(
            tuple(
                orric.StreamAllocation("all", "whole", inference_share=SERVING / count, retraining_share=float(pace))
                for pace in paces
            )
        )

    def decide(self, slot: Any) -> orric.Allocation:
        """Return that."""
        return self._answer

    def observe(self, record: Any) -> None:
        """Learn nothing."""


def scenario(folder: Path, streams: int, slots: int, sharing: str, per_slot: int) -> orric.Scenario:
    """Return a scenario with so many streams on a GPU that is as many times as large."""
    path = folder / "profile.toml"
    macs = SLOT_S * MACS_PER_S / per_slot
    orric.Profile(
        name="plain",
        best_accuracy=0.9,
        slope_floor=0.01,
        retraining=(
            orric.RetrainingConfiguration(name="none", profit=0.0, cost_macs=0.0),
            orric.RetrainingConfiguration(name="all", profit=1.0, cost_macs=RETRAINING_NEEDS * macs),
        ),
        inference=(orric.InferenceConfiguration(name="whole", profit=1.0, cost_macs=SERVING_NEEDS * macs),),
        curve=orric.Exponential(c=0.9, a=0.3, k=3.0),
    ).save(path)
    shared = {"sharing": {"model": sharing}} if sharing in ("weighted", "priority") else {}
    return orric.Scenario(
        name="streams",
        slots=slots,
        slot_s=SLOT_S,
        allocators=("inference-only",),
        spare="inference" if sharing == "fluid, lending" else "idle",
        gpu=(Gpu(name="gpu", macs_per_s=MACS_PER_S * streams, budget={"kind": "constant", "fraction": 1.0}, **shared),),
        stream=tuple(
            Stream(
                name=f"stream-{k}",
                profile=str(path),
                requests={"kind": "constant", "per_slot": per_slot},
                arrivals="poisson",
            )
            for k in range(streams)
        ),
    )


def once(streams: int, slots: int, sharing: str, per_slot: int) -> None:
    """Print the processor's seconds of one simulation after a small one, which compiles, and what it retrained."""
    with tempfile.TemporaryDirectory() as folder:
        orric.simulate(scenario(Path(folder), 2, 3, sharing, per_slot), All(), seed=1)
        subject = scenario(Path(folder), streams, slots, sharing, per_slot)
        # Of the processor: nothing waits here, and others may use the same cores.
        begun = time.process_time()
        result = orric.simulate(subject, All(), seed=1)
        seconds = time.process_time() - begun
    retrained = float(result.columns["retrained"].sum()) / (streams * max(slots - 1, 1))
    print(json.dumps({"seconds": seconds, "retrained": retrained}))


def timed(build: Path, streams: int, slots: int, sharing: str, per_slot: int = PER_SLOT) -> float:
    """Return milliseconds of a stream in a slot of a build, in a process of its own."""
    command = [sys.executable, __file__, "--once", json.dumps([streams, slots, sharing, per_slot])]
    given = os.environ | {"PYTHONPATH": str(build)}
    found = json.loads(subprocess.run(command, env=given, check=True, capture_output=True, text=True).stdout)
    assert found["retrained"] > 0.99, f"every stream should retrain in every slot but the first: {found}"
    return float(found["seconds"]) / (streams * slots) * 1e3


def exponent(sizes: list[int], costs_ms: list[float]) -> float:
    """Return the power of the size with which the whole grows, where the cost of a part is given: by least squares."""
    return 1 + float(np.polyfit(np.log(sizes), np.log(costs_ms), 1)[0])


def report_streams(build: Path, target: Any) -> None:
    """Compare both builds over streams."""
    print("milliseconds of processor time of a stream in a slot, least of three")
    print(f"{'sharing':>16}{'streams':>9}{'this build':>12}{'older':>9}{'times':>8}  older measured over")
    for sharing in SHARINGS:
        mine = []
        for streams in STREAMS:
            new, old = [], []
            for _ in range(ROUNDS):
                new.append(timed(ROOT, streams, SLOTS_TIMED, sharing))
                if sharing in OLD_SHARINGS and (not old or streams <= FEW_STREAMS):
                    # The others take minutes; once will do for a factor of tens.
                    old.append(timed(build, streams, OLD_SLOTS[streams], sharing))
            mine.append(min(new))
            line = f"{sharing:>16}{streams:>9,}{mine[-1]:>12.3f}"
            if old:
                line += f"{min(old):>9.2f}{min(old) / mine[-1]:>8.1f}  {OLD_SLOTS[streams]} slots"
            print(line, flush=True)
        if old:
            ratio = min(old) / mine[-1]
            target(ratio >= TIMES, f"{sharing}: {STREAMS[-1]:,} streams {ratio:.1f} times as fast (target {TIMES})")
        power = exponent(list(STREAMS), mine)
        target(power <= EXPONENT, f"{sharing}: grows with the power {power:.2f} of the streams (target {EXPONENT})")


def report_slots(most: int, target: Any) -> None:
    """Tell how cost grows over slots."""
    print(f"\nmicroseconds of a slot of one stream, {FEW} requests each")
    sizes, costs = [size for size in SLOTS if size <= most], []
    for size in sizes:
        costs.append(timed(ROOT, 1, size, "fluid", FEW))
        print(f"{size:>12,} slots{costs[-1] * 1e3:>9.1f}", flush=True)
    power = exponent(sizes, costs)
    target(power <= EXPONENT_OF_SLOTS, f"grows with the power {power:.2f} of the slots (target {EXPONENT_OF_SLOTS})")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", default="e0bfa46", help="commit of the older build")
    parser.add_argument("--slots", type=int, default=SLOTS[-1], help="largest number of slots")
    parser.add_argument("--once", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        once(*json.loads(options.once))
        return
    reached = []

    def target(met: bool, text: str) -> None:
        reached.append(met)
        print(f"{'met    ' if met else 'MISSED '} {text}", flush=True)

    with tempfile.TemporaryDirectory() as name:
        build = Path(name) / "older"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(build), options.against], check=True, capture_output=True)
        try:
            report_streams(build, target)
        finally:
            subprocess.run([*git, "remove", "--force", str(build)], check=True)
    report_slots(options.slots, target)
    print("\nall targets met" if all(reached) else "\nsome targets were missed")


if __name__ == "__main__":
    main()
