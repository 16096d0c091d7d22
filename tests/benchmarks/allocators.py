"""Compare every allocator on every scenario, by the learning curve: 30 seeds, common random numbers, 95 % intervals.

usage: python tests/benchmarks/allocators.py [--seeds N] [--scenarios NAME ...] [--output FILE]

All allocators see the same requests, budgets, drift and faults of a seed, so differences are taken seed by seed. What
is done stands in FILE (JSON lines); a run that was interrupted goes on from there. Twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import orric
from orric.allocators import ALLOCATORS
from orric.comparison import simulate_line
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("quickstart", "table3-fog", "edge-server", "cameras", "rush-hour", "night")
WRAPPED = ("adwin+orric-guided", "page-hinkley+orric-guided", "kswin+orric-guided", "gain+orric-guided")
FIGURES = ("mean_accuracy", "worst_stream_accuracy", "latency_p99_s", "late", "energy_wh", "decision_ms")
OURS = ("orric-guided", "orric-joint", "orric")


def measure(scenario: str, allocator: str, seed: int) -> dict[str, Any]:
    """Simulate one allocator on one scenario with one seed, by the learning curve."""
    loaded = orric.load_scenario(ROOT / f"simulations/{scenario}.toml").with_accuracy("curve", scenario)
    result = simulate_line(loaded, "curve", allocator, seed)
    summary = result.summary()
    return {
        "scenario": scenario,
        "allocator": allocator,
        "seed": seed,
        "mean_accuracy": 100 * summary["mean_accuracy"],
        "worst_stream_accuracy": 100 * summary["worst_stream_accuracy"],
        "latency_p99_s": summary["latency_p99_s"],
        # Whoever is shed has not been served in time either.
        "late": 100 * (summary["late"] + summary["shed"]) / summary["requests"],
        "energy_wh": None if summary["energy_j"] is None else summary["energy_j"] / 3600,
        "decision_ms": 1e3 * result.seconds_deciding / loaded.slots,
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % confidence interval (Student's t)."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def shown(rows: list[dict[str, Any]], figure: str) -> str:
    """Write a figure with its interval."""
    values = [row[figure] for row in rows]
    if None in values:
        return "-"
    mean, half = interval(values)
    return f"{mean:.3f}" if figure == "decision_ms" else f"{mean:.2f} ± {half:.2f}"


def table(rows: list[dict[str, Any]], scenario: str) -> None:
    """Print the table of one scenario, best mean accuracy first, and how ORRIC compares."""
    by_allocator: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["scenario"] == scenario:
            by_allocator.setdefault(row["allocator"], []).append(row)
    for found in by_allocator.values():
        found.sort(key=lambda row: row["seed"])
    order = sorted(by_allocator, key=lambda name: -float(np.mean([row["mean_accuracy"] for row in by_allocator[name]])))
    seeds = len(next(iter(by_allocator.values())))
    print(f"\n### {scenario}, {seeds} seeds\n")
    headings = (
        "mean accuracy (%) | worst stream's (%) | p99 latency (s) | late or shed (%) | energy (Wh) | decision (ms)"
    )
    print(f"| allocator | {headings} |")
    print("|---|---|---|---|---|---|---|")
    for name in order:
        print(f"| {name} | " + " | ".join(shown(by_allocator[name], figure) for figure in FIGURES) + " |")
    for ours in OURS:
        verdicts: dict[str, list[str]] = {"beats": [], "ties with": [], "loses to": []}
        for name in order:
            if name == ours or name in WRAPPED:
                continue
            pairs = zip(by_allocator[ours], by_allocator[name], strict=True)
            mean, half = interval([one["mean_accuracy"] - other["mean_accuracy"] for one, other in pairs])
            verdict = "ties with" if abs(mean) <= max(half, 0.05) else "beats" if mean > 0 else "loses to"
            verdicts[verdict].append(name if verdict == "ties with" else f"{name} ({mean:+.2f} ± {half:.2f})")
        print(f"\n**{ours}** " + "; ".join(f"{word} {', '.join(names)}" for word, names in verdicts.items() if names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--scenarios", nargs="+", default=SCENARIOS, choices=SCENARIOS)
    parser.add_argument("--output", type=Path, default=Path("allocators.jsonl"))
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    text = given.output.read_text() if given.output.exists() else ""
    # An interrupted run may have left half a line.
    given.output.write_text(text[: text.rfind("\n") + 1])
    rows = [json.loads(line) for line in given.output.read_text().splitlines()]
    done = {(row["scenario"], row["allocator"], row["seed"]) for row in rows}
    wanted = [
        (scenario, allocator, seed)
        for scenario in given.scenarios
        for seed in range(1, given.seeds + 1)
        for allocator in (*ALLOCATORS, *WRAPPED)
    ]
    left = [one for one in wanted if one not in done]
    with given.output.open("a") as file:
        for number, (_, row) in enumerate(in_parallel(measure, left, given.jobs), start=1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            print(f"\r{number} of {len(left)}: {row['scenario']}, {row['allocator']}, seed {row['seed']}" + 20 * " ",
                  end="", file=sys.stderr)  # fmt: skip
    meant = set(wanted)
    rows = [row for row in rows if (row["scenario"], row["allocator"], row["seed"]) in meant]
    for scenario in given.scenarios:
        table(rows, scenario)


if __name__ == "__main__":
    main()
