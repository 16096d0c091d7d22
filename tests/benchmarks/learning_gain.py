"""Report what real retraining gains on the drifting digits stream, over three seeds.

usage: python tests/benchmarks/learning_gain.py      (about three minutes on two cores)

The quickstart's scenario under contrast and under fog: ORRIC's real retraining against the frozen student
(inference-only) and against refreshing the batch-norm statistics alone at ORRIC's own allocation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import orric
from orric.comparison import simulate_line
from orric.drift import Steps
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (1, 2, 3)
TARGETS = {"contrast": 15.0, "fog": 10.0}
OVER_STATISTICS = 5.0
LINES = ("orric", "inference-only", "batch-norm-only")


def accuracy(corruption: str, line: str, seed: int) -> float:
    """Return the mean accuracy of one line in percent."""
    scenario = orric.load_scenario(ROOT / "simulations/quickstart.toml")
    stream = scenario.stream[0].model_copy(update={"drift": Steps(corruption=corruption)})
    drifting = scenario.model_copy(update={"stream": (stream,)})
    return 100 * simulate_line(drifting, "onnx", line, seed).mean_accuracy


def main() -> None:
    """Print one row per corruption and seed, and the smallest gains beside the targets."""
    work = [(corruption, line, seed) for corruption in TARGETS for seed in SEEDS for line in LINES]
    found = {work[index]: measured for index, measured in in_parallel(accuracy, work)}
    print(f"{'corruption':12}{'seed':>5}" + "".join(f"{line:>18}" for line in LINES) + f"{'gain':>8}{'over stat.':>12}")
    for corruption, target in TARGETS.items():
        gains = []
        for seed in SEEDS:
            retrained, frozen, refreshed = (found[corruption, line, seed] for line in LINES)
            gains.append((retrained - frozen, retrained - refreshed))
            row = "".join(f"{value:18.2f}" for value in (retrained, frozen, refreshed))
            print(f"{corruption:12}{seed:5}{row}{gains[-1][0]:+8.2f}{gains[-1][1]:+12.2f}")
        least = np.min(gains, axis=0)
        print(
            f"{corruption}: smallest gain {least[0]:.2f} points (target {target:g}), "
            f"over statistics alone {least[1]:.2f} (target {OVER_STATISTICS:g})"
        )


if __name__ == "__main__":
    main()
