"""Who answers most requests rightly and in time: every allocator at its own best headroom, paired by seeds.

usage: python tests/benchmarks/in_time.py [--seeds N] [--scenarios NAME ...] [--sharing priority] [--output FILE]
                                          [--jobs N]

By the learning curve, on the shipped scenarios that have deadlines and on four that `drawn.py` draws. `orric-guided`
runs without headroom, whatever the scenario has. Every other allocator that stays on the edge runs with headrooms of 0,
0.2, 0.5, 1 and 2, and counts with whichever gives the highest mean; so do `orric-guided`, `thief` and `fair-share` told
of no deadlines. Past ten seeds each goes on with the two headrooms that were best for it over the first ten. What is
done stands in FILE (JSON lines); a run that was interrupted goes on from there. Two hours on two idle cores with 30
seeds.

With --sharing priority every GPU serves first and retrains while nobody is served; told is then how many requests are
late, beside those of inference-only, and what is lost in accuracy over all answers.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import drawn
import numpy as np

import orric
from orric.allocators import ALLOCATORS
from orric.comparison import simulate_line
from orric.scenario.gpu import Priority
from orric.statistics import mean_interval
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("edge-server", "rush-hour", "cameras", "quickstart", "night")
SCENARIOS = (*SHIPPED, *(f"drawn-{number}" for number in range(1, drawn.COUNT + 1)))
HEADROOMS = (0.0, 0.2, 0.5, 1.0, 2.0)
# Over how many seeds every headroom is tried, and how many of them go on from there.
TRIED, KEPT = 10, 2
OURS, BLIND = "orric-guided", "orric-guided, told of no deadlines"
# Whom deadlines may serve worse counts in either form.
UNTOLD = {
    BLIND: "orric-guided",
    "thief, told of no deadlines": "thief",
    "fair-share, told of no deadlines": "fair-share",
}
# Those that retrain elsewhere, and one that is another to the last digit.
LEFT_OUT = ("cloud-retraining", "orric-exact")
OTHERS = (*(name for name in ALLOCATORS if name not in (*LEFT_OUT, OURS)), *UNTOLD)
# What was asked of the default allocator.
ASKED = {"edge-server": 89.0, "rush-hour": 82.0, "cameras": 87.0, "quickstart": 90.0, "night": 97.5}


def untold(name: str) -> orric.Allocator:
    """Return an allocator that is told of no deadlines."""
    told: Any = type(orric.make_allocator(name))

    class Untold(told):
        def reset(self, task: orric.Task, rng: np.random.Generator) -> None:
            super().reset(replace(task, devices=()), rng)

    return Untold()


def load(scenario: str) -> orric.Scenario:
    """Load a scenario, with the learning curve."""
    if scenario in SHIPPED:
        file = ROOT / f"simulations/{scenario}.toml"
    else:
        # Such scenarios name this checkout's profiles: each checkout has its own.
        folder = Path(tempfile.gettempdir()) / f"orric-drawn-{drawn.SEED}-{crc32(str(ROOT).encode()):08x}"
        file = folder / f"{scenario}.toml"
        if not file.exists():
            drawn.write(folder)
    return orric.load_scenario(file).with_accuracy("curve", scenario)


def measure(scenario: str, sharing: str, allocator: str, headroom: float | None, seed: int) -> dict[str, Any]:
    """Simulate one allocator on one scenario with one seed."""
    subject = load(scenario)
    if headroom is not None:
        streams = tuple(one.model_copy(update={"headroom": headroom}) for one in subject.stream)
        subject = subject.model_copy(update={"stream": streams})
    if sharing == "priority":
        gpus = tuple(gpu.model_copy(update={"sharing": Priority(model="priority")}) for gpu in subject.gpu)
        subject = subject.model_copy(update={"gpu": gpus})
    if allocator in UNTOLD:
        result = orric.simulate(subject, untold(UNTOLD[allocator]), seed=seed)
    else:
        result = simulate_line(subject, "curve", allocator, seed)
    summary = result.summary()
    return {
        "scenario": scenario, "sharing": sharing, "allocator": allocator, "headroom": headroom, "seed": seed,
        "in_time": 100 * summary["in_time_accuracy"], "all": 100 * summary["mean_accuracy"],
        "late": 100 * summary["late"] / summary["requests"],
    }  # fmt: skip


Call = tuple[str, str, str, float | None, int]
# Of every allocator and headroom, one row for each seed.
Rows = dict[tuple[str, float | None], list[dict[str, Any]]]


def gather(wanted: Sequence[Call], output: Path, jobs: int | None) -> list[dict[str, Any]]:
    """Measure what is not in the file yet, and return the rows that are wanted."""
    text = output.read_text() if output.exists() else ""
    # An interrupted run may have left half a line.
    output.write_text(text[: text.rfind("\n") + 1])
    rows = [json.loads(line) for line in output.read_text().splitlines()]

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in ("scenario", "sharing", "allocator", "headroom", "seed"))

    done = {key(row) for row in rows}
    left = [one for one in wanted if one not in done]
    with output.open("a") as file:
        for number, (_, row) in enumerate(in_parallel(measure, left, jobs), start=1):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            said = f"{number} of {len(left)}: {row['scenario']}, {row['allocator']}, seed {row['seed']}"
            print(f"\r{said:90}", end="", file=sys.stderr)
    meant = set(wanted)
    return [row for row in rows if key(row) in meant]


def column(rows: list[dict[str, Any]], figure: str) -> np.ndarray[Any, Any]:
    """Return a figure, seed by seed."""
    return np.array([row[figure] for row in sorted(rows, key=lambda row: row["seed"])])


def ranked(rows: dict[float, list[dict[str, Any]]]) -> list[float]:
    """Return the headrooms of an allocator, the highest mean in time first."""
    return sorted(rows, key=lambda part: -float(column(rows[part], "in_time").mean()))


def by_configuration(rows: list[dict[str, Any]]) -> dict[tuple[str, str], Rows]:
    """Sort rows by scenario and sharing, then by allocator and headroom."""
    found: dict[tuple[str, str], Rows] = {}
    for row in rows:
        of = found.setdefault((row["scenario"], row["sharing"]), {})
        of.setdefault((row["allocator"], row["headroom"]), []).append(row)
    return found


def table(scenario: str, rows: Rows) -> str:
    """Print the table of a scenario, best first; return in a line how the default allocator fares."""
    ours = rows[OURS, 0.0]
    best: dict[str, tuple[float, list[dict[str, Any]]]] = {OURS: (0.0, ours)}
    for name in OTHERS:
        whole = {part: rows[name, part] for part in HEADROOMS if len(rows[name, part]) == len(ours)}
        part = ranked(whole)[0]
        best[name] = (part, whole[part])
    print(f"\n## {scenario}, {len(ours)} seeds\n")
    print("| allocator | best headroom | right and in time (%) | ours less it | over all answers (%) | late (%) |")
    print("|---|---|---|---|---|---|")
    level, behind = [], []
    for name, (part, found) in sorted(best.items(), key=lambda one: -float(column(one[1][1], "in_time").mean())):
        mean = mean_interval(column(found, "in_time"))
        less = mean_interval(column(ours, "in_time") - column(found, "in_time"))
        if name != OURS and less.low <= 0:
            (behind if less.high < 0 else level).append(name)
        print(
            f"| {name} | {part} | {mean.mean:.2f} ± {mean.half_width:.2f} | "
            f"{'' if name == OURS else f'{less.mean:+.2f} ± {less.half_width:.2f}'} | "
            f"{column(found, 'all').mean():.2f} | {column(found, 'late').mean():.2f} |"
        )
    mean = mean_interval(column(ours, "in_time"))
    asked = f", asked {ASKED[scenario]:g}" if scenario in ASKED else ""
    return (
        f"{scenario}: {mean.mean:.2f} ± {mean.half_width:.2f}{asked}; level with {', '.join(level) or 'nobody'}; "
        f"behind {', '.join(behind) or 'nobody'}"
    )


def priority(scenario: str, first: Rows, before: Rows) -> str:
    """Say how many requests are late where inference goes first, and what that costs in accuracy."""
    ours, serving = first[OURS, 0.0], first["inference-only", None]
    late, alone = (float(column(rows, "late").mean()) for rows in (ours, serving))
    lost = mean_interval(column(before[BLIND, None], "all") - column(ours, "all"))
    return (
        f"{scenario}: late {late:.2f} % (inference-only {alone:.2f} %), in time {column(ours, 'in_time').mean():.2f}, "
        f"over all answers {column(ours, 'all').mean():.2f}; told of no deadlines, on GPUs shared as the scenario has "
        f"them, {lost.mean:+.2f} ± {lost.half_width:.2f} beside it"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--scenarios", nargs="+", default=SCENARIOS, choices=SCENARIOS)
    parser.add_argument("--sharing", choices=("shipped", "priority"), default="shipped")
    parser.add_argument("--output", type=Path, default=Path("in_time.jsonl"))
    parser.add_argument("--jobs", type=int)
    given = parser.parse_args()
    scenarios = given.scenarios
    if given.sharing == "priority":
        asked = (("priority", OURS, 0.0), ("priority", "inference-only", None), ("shipped", BLIND, None))
        calls = [(one, *what, 1 + at) for one in scenarios for what in asked for at in range(given.seeds)]
        found = by_configuration(gather(calls, given.output, given.jobs))
        said = [priority(one, found[one, "priority"], found[one, "shipped"]) for one in scenarios]
    else:
        said = []
        for one in scenarios:
            calls = [(one, "shipped", OURS, 0.0, 1 + at) for at in range(given.seeds)]
            for name in OTHERS:
                calls += [
                    (one, "shipped", name, part, 1 + at) for part in HEADROOMS for at in range(min(TRIED, given.seeds))
                ]
            rows = by_configuration(gather(calls, given.output, given.jobs))[one, "shipped"]
            if given.seeds > TRIED:
                for name in OTHERS:
                    kept = ranked({part: rows[name, part] for part in HEADROOMS})[:KEPT]
                    calls += [(one, "shipped", name, part, 1 + at) for part in kept for at in range(TRIED, given.seeds)]
                rows = by_configuration(gather(calls, given.output, given.jobs))[one, "shipped"]
            said.append(table(one, rows))
    print("\n" + "\n".join(said))


if __name__ == "__main__":
    main()
