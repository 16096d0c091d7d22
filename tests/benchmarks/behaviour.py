"""Report which heuristic ORRIC's behaviour equals where: the regimes that its paper names, measured.

usage: python tests/benchmarks/behaviour.py [--sweep simulations/sweeps/regimes.toml] [--seeds 30]      (seconds)

At every point of the sweep ORRIC and the heuristics decide the same slots. What is counted is the part of the slots in
which a heuristic names the very pair of configurations that ORRIC names.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from orric.allocators import make_allocator
from orric.allocators.base import SingleStreamAllocator
from orric.randomness import generator
from orric.sweep import Sweep
from orric.sweep.batch import Laid

ROOT = Path(__file__).resolve().parents[2]
HEURISTICS = ("inference-only", "inference-greedy", "retraining-greedy", "focus-shift")
SAME = 0.95


def choices(name: str, runs: list[Laid]) -> np.ndarray:
    """Return the pair that an allocator chooses in every slot of the runs, shape (2, slots)."""
    allocator = make_allocator(name)
    assert isinstance(allocator, SingleStreamAllocator)
    rngs = [generator(run.seed, "allocator") for run in runs]
    requests = np.concatenate([run.requests for run in runs])
    budgets = np.concatenate([run.budget_macs for run in runs])
    return np.array(allocator.choose_many([run.task for run in runs], rngs, requests, budgets))


def main() -> None:
    """Print a row for every point."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--sweep", type=Path, default=ROOT / "simulations/sweeps/regimes.toml")
    parser.add_argument("--seeds", type=int, default=30)
    asked = parser.parse_args()
    sweep = Sweep.load(asked.sweep)
    titles = [axis.title for axis in sweep.axis]
    print("".join(f"{title:>12}" for title in titles) + "".join(f"{name:>20}" for name in HEURISTICS) + "   equals")
    for point in range(len(sweep.points)):
        scenario = sweep.scenario_of(point)
        runs = [Laid.out(scenario, seed) for seed in range(1, asked.seeds + 1)]
        own = choices("orric", runs)
        same = {name: float((choices(name, runs) == own).all(axis=0).mean()) for name in HEURISTICS}
        equals = [name for name in HEURISTICS if same[name] >= SAME]
        labels = "".join(f"{value!s:>12}" for value in sweep.points.labels(point).values())
        print(labels + "".join(f"{100 * same[name]:18.1f} %" for name in HEURISTICS) + f"   {', '.join(equals) or '-'}")


if __name__ == "__main__":
    main()
