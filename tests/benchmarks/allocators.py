"""Compare every allocator on every scenario, by the learning curve: common random numbers, 95 % intervals.

usage: python tests/benchmarks/allocators.py [--former] [--version NAME] [--seeds N] [--scenarios NAME ...]
                                             [--output FILE]

All allocators see the same requests, budgets, drift and faults of a seed, so differences are taken seed by seed. What
is done stands in FILE (JSON lines); a run that was interrupted goes on from there. Five minutes on two idle cores, with
--former ten.

With --former every scenario also runs as it was when counts were given and nobody shared: the count of a slot is given,
every GPU is a hard partition, and who comes last is turned away; beside it, once more with weights on every GPU where
one of them is shared otherwise. Told is which allocators changed places. --version shows the tables of another version,
"partitioned" being the shipped one in hard partitions: what of a change is due to sharing, and what to arrivals.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import orric
from orric.allocators import ALLOCATORS
from orric.comparison import simulate_line
from orric.scenario.gpu import Fluid, Weighted
from orric.statistics import difference_p, holm, mean_interval
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ("quickstart", "table3-fog", "edge-server", "cameras", "rush-hour", "night")
WRAPPED = ("adwin+orric-guided", "page-hinkley+orric-guided", "kswin+orric-guided", "gain+orric-guided")
NAMES = (*ALLOCATORS, *WRAPPED)
FATES = ("late", "shed", "abandoned", "lost", "waiting")
RANKED = {"in_time_accuracy": "in-time accuracy", "mean_accuracy": "accuracy over all answers"}
FIGURES = {
    "in_time_accuracy": "in-time accuracy (%)",
    "mean_accuracy": "accuracy, late ones too (%)",
    "worst_stream_accuracy": "worst stream's (%)",
    **{fate: f"{fate} (%)" for fate in FATES},
    "overloaded": "runs overloaded",
    "latency_p99_s": "p99 latency of the served (s)",
    "energy_wh": "energy (Wh)",
}
OURS = ("orric-guided", "orric-joint", "orric")
# Points of accuracy and places below which nobody is ahead of anybody.
LEVEL_POINTS, LEAST_PLACES = 0.05, 1.0

# Of every allocator, one row for each seed.
Rows = dict[str, list[dict[str, Any]]]


def former(scenario: orric.Scenario) -> orric.Scenario:
    """Return a scenario as the version before had it: counts given, GPUs partitioned, the last ones turned away."""
    streams = []
    for stream in scenario.stream:
        requests = stream.requests
        if hasattr(requests, "count"):
            requests = requests.model_copy(update={"count": "exact"})
        streams.append(stream.model_copy(update={"requests": requests, "shed": "newest"}))
    return shared(scenario.model_copy(update={"stream": tuple(streams)}), Fluid())


def shared(scenario: orric.Scenario, sharing: Fluid | Weighted) -> orric.Scenario:
    """Return a scenario with every GPU shared alike."""
    gpus = tuple(gpu.model_copy(update={"sharing": sharing}) for gpu in scenario.gpu)
    return scenario.model_copy(update={"gpu": gpus})


VERSIONS = {
    "shipped": lambda scenario: scenario,
    "former": former,
    "weighted": lambda scenario: shared(scenario, Weighted()),
    "partitioned": lambda scenario: shared(scenario, Fluid()),
}


def load(scenario: str) -> orric.Scenario:
    """Load a shipped scenario, with the learning curve."""
    return orric.load_scenario(ROOT / f"simulations/{scenario}.toml").with_accuracy("curve", scenario)


def present(scenario: str) -> str:
    """Say which version has weights on every GPU: the shipped one, where that is so already."""
    loaded = load(scenario)
    return "shipped" if VERSIONS["weighted"](loaded) == loaded else "weighted"


def measure(scenario: str, version: str, allocator: str, seed: int) -> dict[str, Any]:
    """Simulate one allocator on one scenario with one seed, by the learning curve."""
    subject = VERSIONS[version](load(scenario))
    summary = simulate_line(subject, "curve", allocator, seed).summary()
    return {
        "scenario": scenario,
        "version": version,
        "allocator": allocator,
        "seed": seed,
        "requests": summary["requests"],
        **{name: 100 * summary[name] for name in (*RANKED, "worst_stream_accuracy")},
        **{fate: 100 * summary[fate] / summary["requests"] for fate in FATES},
        "overloaded": summary["overloaded"],
        "latency_p99_s": summary["latency_p99_s"],
        "energy_wh": None if summary["energy_j"] is None else summary["energy_j"] / 3600,
    }


def values(rows: Rows, name: str, figure: str) -> np.ndarray[Any, Any]:
    """Return a figure of an allocator, shape (seeds,)."""
    return np.array([row[figure] for row in rows[name]])


def order(rows: Rows, figure: str) -> list[str]:
    """Name the allocators, best first."""
    return sorted(rows, key=lambda name: (-round(float(values(rows, name, figure).mean()), 2), NAMES.index(name)))


def shown(rows: list[dict[str, Any]], figure: str) -> str:
    """Write a figure with its interval."""
    found = [row[figure] for row in rows]
    if None in found:
        return "-"
    if figure == "overloaded":
        return f"{sum(found)}"
    one = mean_interval(found)
    return f"{one.mean:.2f} ± {one.half_width:.2f}"


def ahead(rows: Rows, one: str, other: str, figure: str) -> int:
    """Say who is ahead beyond chance and by more than a trifle: 1, -1, or 0 where nobody is."""
    found = mean_interval(values(rows, one, figure) - values(rows, other, figure))
    certain = abs(found.mean) > max(found.half_width, LEVEL_POINTS)
    return int(np.sign(found.mean)) * certain


def table(rows: Rows, scenario: str) -> None:
    """Print the table of one scenario, best in-time accuracy first, and how ORRIC compares."""
    seeds = len(next(iter(rows.values())))
    told = [
        figure
        for figure in FIGURES
        if figure not in (*FATES, "overloaded", "energy_wh")
        or any(row[figure] for found in rows.values() for row in found)
    ]
    print(f"\n## {scenario}, {seeds} seeds\n")
    print("| allocator | " + " | ".join(FIGURES[figure] for figure in told) + " |")
    print("|---" * (len(told) + 1) + "|")
    for name in order(rows, "in_time_accuracy"):
        print(f"| {name} | " + " | ".join(shown(rows[name], figure) for figure in told) + " |")
    none = [figure for figure in (*FATES, "overloaded") if figure not in told]
    print(f"\nNone {', '.join(none)}." if none else "")
    for ours, (figure, title) in product(OURS, RANKED.items()):
        verdicts: dict[str, list[str]] = {"ahead of": [], "level with": [], "behind": []}
        for name in order(rows, figure):
            if name != ours and name not in WRAPPED:
                found = mean_interval(values(rows, ours, figure) - values(rows, name, figure))
                word = ("level with", "ahead of", "behind")[ahead(rows, ours, name, figure)]
                by = "" if word == "level with" else f" ({found.mean:+.2f} ± {found.half_width:.2f})"
                verdicts[word].append(name + by)
        said = "; ".join(f"{word} {', '.join(names)}" for word, names in verdicts.items() if names)
        print(f"\n`{ours}` by {title}: {said}.")


def changes(before: Rows, now: Rows, scenario: str) -> list[str]:
    """Print both rankings of a scenario and who changed places by more than chance; return them in short."""
    cells = [scenario]
    for figure, title in RANKED.items():
        means = [[float(values(rows, name, figure).mean()) for name in NAMES] for rows in (before, now)]
        tau = stats.kendalltau(*np.round(means, 2)).statistic
        # Places seed by seed, best first; whoever is level to a hundredth of a point shares a place.
        places = [
            stats.rankdata(-np.round([values(rows, name, figure) for name in NAMES], 2), axis=0)
            for rows in (before, now)
        ]
        moved = dict(zip(NAMES, map(mean_interval, places[0] - places[1]), strict=True))
        chances = dict(zip(NAMES, holm([difference_p(one) for one in places[0] - places[1]]), strict=True))
        certain = [name for name in NAMES if chances[name] < 0.05 and abs(moved[name].mean) >= LEAST_PLACES]
        print(f"\n### {scenario}: former against present, by {title}\n")
        print("| place | former | % | present | % | places gained |")
        print("|---|---|---|---|---|---|")
        for place, (one, other) in enumerate(zip(order(before, figure), order(now, figure), strict=True), start=1):
            gained = f"{moved[other].mean:+.1f} ± {moved[other].half_width:.1f}" if other in certain else ""
            print(
                f"| {place} | {one} | {values(before, one, figure).mean():.2f} "
                f"| {other} | {values(now, other, figure).mean():.2f} | {gained} |"
            )
        pairs = [
            (ahead(before, one, other, figure), ahead(now, one, other, figure), one, other)
            for one, other in combinations(NAMES, 2)
        ]
        turned = [(one, other) if after > 0 else (other, one) for past, after, one, other in pairs if past * after < 0]
        print(f"\nKendall's tau {tau:.2f}; of {len(pairs)} pairs {len(turned)} turned round, beyond chance both times.")
        for winner in order(now, figure):
            losers = [other for one, other in turned if one == winner]
            if losers:
                print(f"- {winner} is now before {', '.join(losers)}")
        cells += [f"{tau:.2f}", f"{len(turned)} of {len(pairs)}", f"{len(certain)} of {len(NAMES)}"]
    return cells


def gather(wanted: Sequence[tuple[str, str, str, int]], output: Path, jobs: int | None) -> list[dict[str, Any]]:
    """Measure what is not in the file yet, and return the rows that are wanted."""
    text = output.read_text() if output.exists() else ""
    # An interrupted run may have left half a line.
    output.write_text(text[: text.rfind("\n") + 1])
    rows = [json.loads(line) for line in output.read_text().splitlines()]

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row.get(name) for name in ("scenario", "version", "allocator", "seed"))

    done = {key(row) for row in rows}
    left = [one for one in wanted if one not in done]
    with output.open("a") as file:
        for number, (_, row) in enumerate(in_parallel(measure, left, jobs), start=1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            said = f"{number} of {len(left)}: {row['scenario']}, {row['allocator']}, seed {row['seed']}"
            print(f"\r{said:80}", end="", file=sys.stderr)
    meant = set(wanted)
    return [row for row in rows if key(row) in meant]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--former", action="store_true", help="run them as the version before had them, too")
    parser.add_argument("--version", default="shipped", choices=VERSIONS, help="of which to show the tables")
    parser.add_argument("--scenarios", nargs="+", default=SCENARIOS, choices=SCENARIOS)
    parser.add_argument("--output", type=Path, default=Path("allocators.jsonl"))
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    versions = {
        scenario: dict.fromkeys((given.version, *(("former", present(scenario)) if given.former else ())))
        for scenario in given.scenarios
    }
    # Seed by seed, so that a run that is cut short has whole comparisons.
    wanted = [
        (scenario, version, allocator, seed)
        for seed in range(1, given.seeds + 1)
        for scenario in given.scenarios
        for version in versions[scenario]
        for allocator in NAMES
    ]
    found: dict[tuple[str, str], Rows] = {}
    for row in sorted(gather(wanted, given.output, given.jobs), key=lambda row: row["seed"]):
        found.setdefault((row["scenario"], row["version"]), {}).setdefault(row["allocator"], []).append(row)
    short = []
    for scenario in given.scenarios:
        table(found[scenario, given.version], f"{scenario}, {given.version}")
        if given.former:
            short.append(changes(found[scenario, "former"], found[scenario, present(scenario)], scenario))
    if short:
        print("\n## Former against present\n")
        headings = [
            f"{title}: {what}" for title in RANKED.values() for what in ("tau", "pairs turned round", "who moved")
        ]
        print("| scenario | " + " | ".join(headings) + " |")
        print("|---" * (len(headings) + 1) + "|")
        for cells in short:
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
