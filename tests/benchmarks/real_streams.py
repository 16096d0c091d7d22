"""Every allocator on four CIFAR-10 streams with the real models: right answers in time, and over all answers.

usage: python tests/benchmarks/real_streams.py --data FOLDER [--seeds N] [--output FILE] [--jobs N]

FOLDER holds CIFAR-10 in a published layout. simulations/four-cameras.toml, every image classified, every retraining
run; whether an answer was right and in time is known request by request. What is done stands in FILE (JSON lines); a
run that was interrupted goes on from there. An hour on two cores with ten seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import orric
from orric.allocators import ALLOCATORS
from orric.comparison import simulate_line
from orric.statistics import mean_interval
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
# One needs a cloud, one several GPUs, one is another to the last digit.
NAMES = tuple(name for name in ALLOCATORS if name not in ("cloud-retraining", "orric-placing", "orric-exact"))
OURS = "orric-guided"


def measure(data: Path, allocator: str, seed: int) -> dict[str, Any]:
    """Run the real models under one allocator."""
    scenario = orric.load_scenario(ROOT / "simulations/four-cameras.toml").with_accuracy("onnx", "four-cameras")
    summary = simulate_line(scenario.with_data(data), "onnx", allocator, seed).summary()
    return {
        "allocator": allocator, "seed": seed, "in_time": 100 * summary["in_time_accuracy"],
        "all": 100 * summary["mean_accuracy"], "late": 100 * summary["late"] / summary["requests"],
        "worst": 100 * summary["worst_stream_accuracy"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("real_streams.jsonl"))
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    text = given.output.read_text() if given.output.exists() else ""
    # An interrupted run may have left half a line.
    given.output.write_text(text[: text.rfind("\n") + 1])
    rows = [json.loads(line) for line in given.output.read_text().splitlines()]
    done = {(row["allocator"], row["seed"]) for row in rows}
    left = [
        (given.data, name, seed) for seed in range(1, given.seeds + 1) for name in NAMES if (name, seed) not in done
    ]
    with given.output.open("a") as file:
        for number, (_, row) in enumerate(in_parallel(measure, left, given.jobs), start=1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            print(f"\r{number} of {len(left)}: {row['allocator']}, seed {row['seed']}{'':20}", end="", file=sys.stderr)
    by_name: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in NAMES}
    for row in rows:
        if row["allocator"] in by_name and row["seed"] <= given.seeds:
            by_name[row["allocator"]][row["seed"]] = row

    def column(name: str, figure: str) -> np.ndarray[Any, Any]:
        return np.array([by_name[name][seed][figure] for seed in sorted(by_name[name])])

    print(f"\nfour-cameras, real models, {given.seeds} seeds\n")
    print("| allocator | right and in time (%) | orric-guided less it | right, late ones too (%) | late (%) |")
    print("|---|---|---|---|---|")
    for name in sorted(NAMES, key=lambda one: -float(column(one, "in_time").mean())):
        mean, less = (
            mean_interval(column(name, "in_time")),
            mean_interval(column(OURS, "in_time") - column(name, "in_time")),
        )
        ahead = "" if name == OURS else f"{less.mean:+.1f} ± {less.half_width:.1f}"
        print(
            f"| `{name}` | {mean.mean:.1f} ± {mean.half_width:.1f} | {ahead} | {column(name, 'all').mean():.1f} | "
            f"{column(name, 'late').mean():.1f} |"
        )


if __name__ == "__main__":
    main()
