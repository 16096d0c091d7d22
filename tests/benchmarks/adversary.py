"""Report how low the adversary gets, beside the theorems, random traces and whole enumerations.

usage: python tests/benchmarks/adversary.py [--seed 0] [--jobs 2] [--random 100000]      (some minutes on two cores)
       python tests/benchmarks/adversary.py --methods      (each method at equal evaluations, nine minutes)

Everything is asked of the installed commands where there is one: `orric adversary` searches from random starts, and
`orric ratio` replays the traces that it saves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import orric
from orric.competitive.adversary import METHODS, restart
from orric.competitive.ratio import quick_ratio
from orric.competitive.study import ensemble
from orric.workers import in_parallel

ORRIC = [sys.executable, "-m", "orric"]
RETRAINING = ((0.0, 0.0), (0.1, 1.0), (0.3, 3.0), (1.0, 10.0))
INFERENCE = ((0.6, 1.0), (0.9, 2.0), (1.0, 4.0))
START, TOP, BEND = 0.5, 0.8, 3.0
SLOTS = 10
MOST_REQUESTS, FEWEST_REQUESTS = 400.0, 50.0
# Budgets reach from the cheapest to the dearest pair for the most requests.
BUDGETS = MOST_REQUESTS * 1.0, MOST_REQUESTS * 14.0
# Processor seconds that a search may take: 60 s on 2 cores.
SECONDS, CORES = 60, 2
RESTARTS, EVALUATIONS = 4, 10_000
SEEDS, HITS = 50, 0.95
METHOD_SEEDS, METHOD_EVALUATIONS = 9, 5_000
NAMES = ("inference-only", "orric")
# Ratios that differ by less are those of traces equally bad.
ROUNDING = 1e-12


def subject() -> orric.Profile:
    """Return the profile that is searched: f(0) = .5, F = f(1) = .8, exponential, L = f'(1)."""
    a = (TOP - START) / -math.expm1(-BEND)
    return orric.Profile(
        name="subject",
        # Rounding must not carry the curve above it.
        best_accuracy=TOP * (1 + 1e-15),
        slope_floor=a * BEND * math.exp(-BEND),
        retraining=tuple(
            orric.RetrainingConfiguration(name=f"r{n}" if n else "none", profit=profit, cost_macs=cost)
            for n, (profit, cost) in enumerate(RETRAINING)
        ),
        inference=tuple(
            orric.InferenceConfiguration(name=f"i{n}", profit=profit, cost_macs=cost)
            for n, (profit, cost) in enumerate(INFERENCE)
        ),
        curve=orric.Exponential(c=START + a, a=a, k=BEND),
    )


def theorem3(slots: int = SLOTS) -> float:
    """Return Theorem 3's ceiling for Inference-Only with equal requests."""
    return slots * START / (START + (slots - 1) * TOP)


class Grid(NamedTuple):
    """A range of traces small enough to try them all, and how many of them a search may measure.

    Attributes:
        ranges: The traces.
        evaluations: Ratios that each of the two restarts of a search asks for, those asked for again included.
    """

    ranges: orric.TraceRange
    evaluations: int

    @property
    def traces(self) -> int:
        """Number of traces."""
        assert self.ranges.levels is not None
        return int(self.ranges.levels**self.ranges.size)

    def __str__(self) -> str:
        return f"{self.ranges.slots} slots of {self.ranges.levels} levels, {self.traces:,} traces"


def _grid(slots: int, levels: int, evaluations: int, budgets: tuple[float, float] = BUDGETS) -> Grid:
    ranges = orric.TraceRange(slots, (FEWEST_REQUESTS, MOST_REQUESTS), budgets, levels=levels)
    return Grid(ranges, evaluations)


# With the whole range of budgets and two levels of it, ORRIC is optimal on every trace.
GRIDS = (_grid(3, 3, 200), _grid(4, 2, 90, (MOST_REQUESTS * 2, MOST_REQUESTS * 11)), _grid(4, 3, 600))


def enumerated(profile: orric.Profile, grid: Grid, name: str, first: int = 0, count: int | None = None) -> float:
    """Return the least ratio of all traces of a grid, or of so many from the first on."""
    levels = grid.ranges.levels
    assert levels is not None
    points = itertools.product((np.arange(levels) + 0.5) / levels, repeat=grid.ranges.size)
    chosen = itertools.islice(points, first, None if count is None else first + count)
    return min(quick_ratio(profile, grid.ranges.trace(np.array(point)), orric.make_allocator(name)) for point in chosen)


def least_of_all(profile: orric.Profile, grid: Grid, name: str, jobs: int) -> float:
    """Return the least ratio of all traces of a grid, tried in worker processes."""
    share = -(-grid.traces // jobs)
    calls = [(profile, grid, name, first, share) for first in range(0, grid.traces, share)]
    return min(ratio for _, ratio in in_parallel(enumerated, calls, jobs))


def searched(profile: orric.Profile, grid: Grid, name: str, seed: int) -> tuple[float, int]:
    """Return the least ratio that a search of two restarts finds on a grid, and the number of traces it measured."""
    measured = set()

    class Counted(orric.Search):
        def ratio(self, profile: orric.Profile, trace: orric.Trace) -> float:
            measured.add((*trace.requests.tolist(), *trace.budget_macs.tolist()))
            return super().ratio(profile, trace)

    search = Counted(profile, grid.ranges, name, restarts=2, evaluations=grid.evaluations, seed=seed)
    return min(restart(search, number, None)[0] for number in range(2)), len(measured)


class Hits(NamedTuple):
    """How often searches reached the worst trace of a grid.

    Attributes:
        least: The ratio of the worst trace.
        hits: So many searches reached it.
        seeds: Of so many.
        measured: Traces that they measured, on average.
    """

    least: float
    hits: int
    seeds: int
    measured: float


def hits(profile: orric.Profile, grid: Grid, name: str, seeds: Sequence[int], jobs: int) -> Hits:
    """Search a grid with every seed, and compare with what all of its traces come to."""
    least = least_of_all(profile, grid, name, jobs)
    calls = [(profile, grid, name, seed) for seed in seeds]
    found = [answer for _, answer in in_parallel(searched, calls, jobs)]
    reached = sum(ratio <= least * (1 + ROUNDING) for ratio, _ in found)
    return Hits(least, reached, len(seeds), float(np.mean([count for _, count in found])))


@dataclass(frozen=True)
class Found:
    """What `orric adversary` found.

    Attributes:
        low: Low end of the ratio.
        high: High end.
        slots: Of the trace after shrinking.
        unshrunk: Ratio before shrinking.
        seconds: Processor seconds it took, start and workers included.
        wall_s: Seconds that went by.
        replay: The command that replays the trace.
    """

    low: float
    high: float
    slots: int
    unshrunk: float
    seconds: float
    wall_s: float
    replay: list[str]


def asked(command: Sequence[Any]) -> Any:
    """Run an orric command; return the JSON object it prints."""
    answer = subprocess.run([*ORRIC, *map(str, command), "--json"], capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"orric {command[0]} ended with status {answer.returncode}: {answer.stderr}")
    return json.loads(answer.stdout)


def command_found(folder: Path, name: str, fewest: float, seed: int, jobs: int, evaluations: int) -> Found:
    """Search by `orric adversary` from random starts, requests lying between `fewest` and the most."""
    profile, trace = folder / "subject.toml", folder / f"{name}-{fewest:g}.csv"
    subject().save(profile)
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = asked(
        ["adversary", "--profile", profile, "--allocator", name, "--slots", SLOTS, "--seed", seed, "--jobs", jobs,
         "--requests", f"{fewest:g}:{MOST_REQUESTS:g}", "--budget-macs", f"{BUDGETS[0]:g}:{BUDGETS[1]:g}",
         "--restarts", RESTARTS, "--evaluations", evaluations, "--output", trace]
    )  # fmt: skip
    ended, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    options = ["--profile", profile, "--trace", trace, "--allocator", name, "--seed", seed]
    ratio = answer["ratio"]
    return Found(
        ratio["low"], ratio["high"], answer["slots"], answer["ratio_before_shrinking"], seconds, ended - begun,
        ["ratio", *map(str, options)],
    )  # fmt: skip


class Row(NamedTuple):
    """One line of the report."""

    what: str
    figure: str
    target: str
    met: bool


def against_theorem3(found: dict[float, Found]) -> Iterator[Row]:
    """Compare what was found for Inference-Only with Theorem 3's value."""
    equal, varying = found[MOST_REQUESTS], found[FEWEST_REQUESTS]
    limit = 1.01 * theorem3()
    what = "Inference-Only, equal D: ratio"
    yield Row(what, f"{equal.high:.6f}", f"<= 1.01 x Theorem 3 = {limit:.6f}", equal.high <= limit)
    what = f"Inference-Only, D in {FEWEST_REQUESTS:g}..{MOST_REQUESTS:g}: ratio"
    yield Row(what, f"{varying.high:.6f}", f"< Theorem 3 = {theorem3():.6f}", varying.high < theorem3())


def against_random(name: str, fewest: float, found: Found, count: int, seed: int, jobs: int) -> Row:
    """Compare what was found with random traces of the same ranges."""
    ranges = orric.TraceRange(SLOTS, (fewest, MOST_REQUESTS), BUDGETS)
    low = ensemble(
        subject(), ranges, [name], count, seed=seed, jobs=jobs, progress=partial(progress, f"{count:,} random traces")
    ).low[name]
    target = f"< {low.min():.6f}, the least of {count:,} random traces"
    kind = "equal D" if fewest == MOST_REQUESTS else f"D in {fewest:g}..{MOST_REQUESTS:g}"
    return Row(f"{name}, {kind}: ratio", f"{found.high:.6f}", target, found.high < low.min())


def against_enumeration(grid: Grid, name: str, seed: int, jobs: int) -> Row:
    """Compare searches of a grid with all of its traces."""
    one = hits(subject(), grid, name, range(seed, seed + SEEDS), jobs)
    what = f"{name}, {grid}: worst ratio {one.least:.6f} reached"
    effort = f"by {one.hits} of {one.seeds} seeds, {2 * grid.evaluations} evaluations of {one.measured:.0f} traces each"
    return Row(what, effort, f">= {HITS:.0%}", one.hits >= HITS * one.seeds)


def within_time(name: str, fewest: float, found: Found) -> Row:
    """Compare the processor time of a search with what it may take."""
    what = f"{name}, D from {fewest:g}: search and shrinking, {RESTARTS} x {EVALUATIONS:,} evaluations"
    figure = f"{found.seconds:.1f} processor seconds in {found.wall_s:.1f} s"
    return Row(what, figure, f"<= {SECONDS} s x {CORES} cores", found.seconds <= SECONDS * CORES)


def replayed(name: str, fewest: float, found: Found) -> Row:
    """Replay a saved trace through `orric ratio`."""
    ratio = asked(found.replay)["ratio"]
    what = f"{name}, D from {fewest:g}: saved trace of {found.slots} slots replays to"
    figure = f"{ratio['low']:.9f} to {ratio['high']:.9f}"
    target = f"{found.low:.9f} to {found.high:.9f}"
    return Row(what, figure, target, (ratio["low"], ratio["high"]) == (found.low, found.high))


def progress(what: str, part: float) -> None:
    """Show progress on standard error."""
    if sys.stderr.isatty():
        print(f"\r{what} {part:6.1%}" if part < 1 else "\r" + " " * 40 + "\r", end="", file=sys.stderr, flush=True)


def one_method(profile: orric.Profile, slots: int, number: int, constructions: bool, seed: int) -> float:
    """Return the least ratio of ORRIC that a single restart finds; its number says by which method."""
    ranges = orric.TraceRange(slots, (FEWEST_REQUESTS, MOST_REQUESTS), BUDGETS)
    search = orric.Search(
        profile, ranges, "orric", evaluations=METHOD_EVALUATIONS, constructions=constructions, seed=seed
    )
    return restart(search, number, None)[0]


def print_methods(seed: int, jobs: int) -> None:
    """Print the median over seeds of what each method finds, from random starts and from the proofs' constructions."""
    print(f"worst ratio of ORRIC, median of {METHOD_SEEDS} seeds, {METHOD_EVALUATIONS:,} evaluations each")
    for slots, (number, method), constructions in itertools.product((10, 20), enumerate(METHODS), (False, True)):
        calls = [(subject(), slots, number, constructions, one) for one in range(seed, seed + METHOD_SEEDS)]
        found = [ratio for _, ratio in in_parallel(one_method, calls, jobs)]
        starts = "from proofs" if constructions else "random starts"
        print(
            f"{slots} slots, {method}, {starts}: {np.median(found):.4f} ({min(found):.4f} to {max(found):.4f})",
            flush=True,
        )


def rows(seed: int, jobs: int, random: int) -> Iterator[Row]:
    """Measure everything, one row at a time."""
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, dict[float, Found]] = {
            name: {
                fewest: command_found(Path(folder), name, fewest, seed, jobs, EVALUATIONS)
                for fewest in (MOST_REQUESTS, FEWEST_REQUESTS)
            }
            for name in NAMES
        }
        yield from against_theorem3(found["inference-only"])
        cases = [(name, fewest, one) for name, both in found.items() for fewest, one in both.items()]
        each: Callable[[str, float, Found], Row]
        for each in (within_time, replayed):
            yield from (each(*case) for case in cases)
        for fewest, one in found["orric"].items():
            yield against_random("orric", fewest, one, random, seed, jobs)
        for grid, name in itertools.product(GRIDS, NAMES):
            yield against_enumeration(grid, name, seed, jobs)


def main() -> int:
    """Print every figure beside its target; return 1 when one is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=CORES, help="worker processes; no figure but time depends on them")
    parser.add_argument("--random", type=int, default=100_000, help="random traces that ORRIC's worst is held against")
    parser.add_argument("--methods", action="store_true", help="compare the methods instead")
    given = parser.parse_args()
    if given.methods:
        print_methods(given.seed, given.jobs)
        return 0
    print(
        f"f(0) = {START}, F = {TOP}, exponential; T = {SLOTS}, budgets from the cheapest pair to the dearest; random "
        f"starts, seed {given.seed}, {given.jobs} workers"
    )
    missed = 0
    for row in rows(given.seed, given.jobs, given.random):
        missed += not row.met
        print(f"{'met   ' if row.met else 'MISSED'}  {row.what}: {row.figure}   (target {row.target})", flush=True)
    print(f"{missed} targets missed" if missed else "all targets met")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
