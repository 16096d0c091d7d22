"""Report how quickly and how closely the offline optimum is enclosed, beside a solver of mixed-integer programs.

usage: python tests/benchmarks/optimum.py [--largest T] [--highs-seconds S]      (about fifteen minutes on two cores)

Three families, all with six retraining and four inference configurations and 200 to 2,000 requests a slot. In "spread"
a slot's budget lies anywhere between the cheapest and the dearest pair. In "forced" it pays for the best retraining or
for the best inference and never for both, half of each is worth little, and the curve is such that either may be right.
In "graded" the budgets are alike, but profits grow evenly with costs, so there are many good compromises.

Under memory of a window, of one, three and five slots, "window" has six retraining and six inference configurations and
budgets that leave all six compromises in every slot, so that the states are as many as they can be.

The mixed-integer program is solved by HiGHS. Slot t has a binary z_ti per option (the best inference beside each
retraining configuration), x_{t+1} = k_t x_t + w_t sum_i A_i z_ti, and maximises sum_ti R_ti y_ti, where y_ti stands for
z_ti f(x_t): y_ti <= F z_ti and sum_i y_ti <= u_t, with u_t below tangents of f. The tangents run above f by 2e-6 at
most, so its bound is one of the optimum but for that and for the solver's own tolerances; its gap is measured from the
bound to what its allocations earn by the true curve.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

import orric
from orric.competitive import relaxation
from orric.competitive.optimum import MOST_POINTS, curve_tables
from orric.competitive.problem import OfflineProblem
from orric.competitive.window import windows
from orric.learning import LearningExtent

ROOT = Path(__file__).resolve().parents[2]
SIZES = (10, 30, 100, 300, 1000, 3000, 10_000, 30_000, 100_000, 1_000_000)
WIDTHS, WINDOW_SIZES = (1, 3, 5), (10, 30, 100, 1000, 10_000)
COSTS = (0.0, 1.0, 2.0, 3.0, 5.0, 10.0), (1.0, 3.0, 6.0, 10.0)
EVEN = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0), (0.6, 0.75, 0.9, 1.0)
LITTLE = (0.0, 0.01, 0.04, 0.09, 0.25, 1.0), (0.1, 0.14, 0.38, 1.0)
# Profits, a and k of the curve .9 - a exp(-k x), and budget per request.
FAMILIES = {
    "spread": (EVEN, 0.5, 3.0, (1.0, 20.0)),
    "forced": (LITTLE, 0.8, 1.0, (11.0, 12.0)),
    "graded": (EVEN, 0.5, 3.0, (9.0, 12.0)),
}
TANGENTS = 300
# Slots, asked gap, most seconds, most memory in GB.
TARGETS = (
    (1000, 1e-5, 1.0, None),
    (10_000, 1e-4, 10.0, 1.0),
    (100_000, 1e-4, 10.0, 1.0),
    (1_000_000, 1e-4, 120.0, 2.0),
)


def instance(family: str, slots: int) -> tuple[orric.Profile, orric.Trace]:
    """Return the instance of a family and a size."""
    if family.startswith("window"):
        return windowed(int(family.removeprefix("window")), slots)
    (retraining, inference), a, k, budgets = FAMILIES[family]
    profile = orric.Profile(
        name=family,
        best_accuracy=0.9,
        slope_floor=1e-3,
        retraining=tuple(
            orric.RetrainingConfiguration(name=f"r{n}", profit=profit, cost_macs=cost)
            for n, (profit, cost) in enumerate(zip(retraining, COSTS[0], strict=True))
        ),
        inference=tuple(
            orric.InferenceConfiguration(name=f"i{n}", profit=profit, cost_macs=cost)
            for n, (profit, cost) in enumerate(zip(inference, COSTS[1], strict=True))
        ),
        curve=orric.Exponential(c=0.9, a=a, k=k),
    )
    rng = np.random.default_rng(1)
    requests = rng.integers(200, 2001, slots).astype(float)
    return profile, orric.Trace(requests=requests, budget_macs=requests * rng.uniform(*budgets, slots))


def windowed(width: int, slots: int) -> tuple[orric.Profile, orric.Trace]:
    """Return an instance whose every slot leaves six options, under memory of a window."""
    parts = np.linspace(0.0, 1.0, 6).tolist()
    profile = orric.Profile(
        name="window",
        best_accuracy=0.9,
        slope_floor=1e-3,
        retraining=tuple(
            orric.RetrainingConfiguration(name=f"r{n}", profit=part**2, cost_macs=10 * part)
            for n, part in enumerate(parts)
        ),
        inference=tuple(
            orric.InferenceConfiguration(name=f"i{n}", profit=0.1 + 0.9 * part**1.5, cost_macs=1 + 10 * part)
            for n, part in enumerate(parts)
        ),
        curve=orric.Exponential(c=0.9, a=0.8, k=1.0),
        memory=LearningExtent(kind="window", slots=width),
    )
    rng = np.random.default_rng(1)
    requests = rng.integers(200, 2001, slots).astype(float)
    return profile, orric.Trace(requests=requests, budget_macs=requests * rng.uniform(11.0, 12.0, slots))


def asked(slots: int) -> float:
    """Return the gap to ask for."""
    return 1e-5 if slots <= 1000 else 1e-4


def enclosed(family: str, slots: int) -> dict[str, Any]:
    """Enclose the optimum of an instance."""
    given = instance(family, slots)
    best = orric.offline_optimum(*given, 1e-9 if given[0].memory.kind == "window" else asked(slots))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    begun = time.perf_counter()
    checks = orric.verify(best.certificate).checks if given[0].memory.kind == "window" else 0
    return {
        "verifying": time.perf_counter() - begun,
        "checks": checks,
        "seconds": best.seconds,
        "gap": best.gap,
        "points": len(best.certificate.evidence.get("extents", ())),
        "memory": memory,
        "reason": best.reason,
        "lower": best.lower,
        "upper": best.upper,
    }


def enveloped(family: str, slots: int) -> dict[str, Any]:
    """Bound an instance by concave functions only, to a tenth of the asked gap or as closely as memory allows."""
    problem = OfflineProblem.of(*instance(family, slots))
    keep, weight = problem.transition()
    low, high = problem.reach(keep, weight)
    most = float(problem.gains.max())
    tables = curve_tables(problem.curves, most, asked(slots))
    tolerance = np.full(2 * slots, asked(slots) / 10 * float(problem.rewards[:, 0].sum()) / slots)
    while True:
        starts, _, bounds = relaxation.bound_backward(
            low, high, keep, weight, problem.gains, problem.rewards, problem.counts, *tables, most,
            np.arange(slots + 1) * 2, np.stack([low, high], axis=1).ravel(), tolerance, True, MOST_POINTS,
        )  # fmt: skip
        if starts[0] == 0:
            return {"upper": float(bounds[0])}
        tolerance *= 4


@dataclass
class Rows:
    """Rows of a sparse matrix of constraints, lower <= row <= upper."""

    columns: int
    entries: list[tuple[int, int, float]]
    lower: list[float]
    upper: list[float]

    def add(self, entries: list[tuple[int, float]], lower: float, upper: float) -> None:
        """Append a row."""
        self.entries += [(len(self.lower), column, value) for column, value in entries]
        self.lower.append(lower)
        self.upper.append(upper)

    def constraint(self) -> LinearConstraint:
        """Return all rows."""
        row, column, value = (np.array(part) for part in zip(*self.entries, strict=True))
        matrix = sparse.csr_matrix((value, (row, column)), shape=(len(self.lower), self.columns))
        return LinearConstraint(matrix, np.array(self.lower), np.array(self.upper))


def tangents(curve: orric.Exponential, low: float, high: float) -> list[tuple[float, float]]:
    """Return heights at 0 and slopes of tangents whose minimum is above the curve by 2e-6 at most, within a range."""
    # All are off by the same between one and the next: they are as dense as the root of the curve's bend.
    part = np.arange(TANGENTS + 1) / TANGENTS * -np.expm1(-curve.k / 2)
    places = -2 / curve.k * np.log1p(-part)
    first, last = np.searchsorted(places, low, side="right") - 1, np.searchsorted(places, high)
    places = places[max(first, 0) : last + 1]
    heights, slopes = curve(places), curve.slope(places)
    return list(zip((heights - slopes * places).tolist(), slopes.tolist(), strict=True))


def programmed(family: str, slots: int, seconds: float) -> dict[str, Any]:
    """Solve the mixed-integer program of an instance by HiGHS."""
    profile, trace = instance(family, slots)
    problem = OfflineProblem.of(profile, trace)
    window = profile.memory.kind == "window"
    if window:
        begins, ends, mass = windows(problem.requests, profile.memory.slots or slots)
        low, high = np.zeros(slots), np.full(slots, float(problem.gains.max()))
    else:
        keep, weight = problem.transition()
        low, high = problem.reach(keep, weight)
    first = np.concatenate([[0], np.cumsum(problem.counts)])
    options = int(first[-1])
    z, y, x, u = 0, options, 2 * options, 2 * options + slots
    columns = 2 * options + 2 * slots
    top = float(profile.curve(1.0))
    rows = Rows(columns, [], [], [])
    for t in range(slots):
        own = range(int(first[t]), int(first[t + 1]))
        rows.add([(z + o, 1.0) for o in own], 1.0, 1.0)
        for o in own:
            rows.add([(y + o, 1.0), (z + o, -top)], -np.inf, 0.0)
        rows.add([(y + o, 1.0) for o in own] + [(u + t, -1.0)], -np.inf, 0.0)
        for height, slope in tangents(profile.curve, low[t], high[t]):
            rows.add([(u + t, 1.0), (x + t, -slope)], -np.inf, height)
        if window:
            past = [
                (z + int(first[s]) + i, -float(problem.requests[s] / mass[t] * problem.gains[s, i]))
                for s in range(begins[t], ends[t])
                for i in range(int(problem.counts[s]))
            ]
            rows.add([(x + t, 1.0), *past], 0.0, 0.0)
        elif t + 1 < slots:
            gains = weight[t] * problem.gains[t]
            mixed = [(z + o, -float(gains[o - own.start])) for o in own]
            rows.add([(x + t + 1, 1.0), (x + t, -float(keep[t])), *mixed], 0.0, 0.0)
    cost = np.zeros(columns)
    cost[y : y + options] = -np.concatenate([problem.rewards[t, : problem.counts[t]] for t in range(slots)])
    scale = -cost.sum() / slots
    least, most = np.zeros(columns), np.full(columns, top)
    most[:options], most[x : x + slots] = 1.0, high
    least[x : x + slots] = low
    begun = time.perf_counter()
    answer = milp(
        cost / scale,
        integrality=np.concatenate([np.ones(options), np.zeros(columns - options)]),
        bounds=Bounds(least, most),
        constraints=rows.constraint(),
        options={"time_limit": seconds, "mip_rel_gap": asked(slots)},
    )
    taken = time.perf_counter() - begun
    bound = None if answer.mip_dual_bound is None else -answer.mip_dual_bound * scale
    value = None
    if answer.x is not None:
        chosen = [int(np.argmax(answer.x[first[t] : first[t + 1]])) for t in range(slots)]
        value = float(problem.correct(np.array(chosen)).sum())
    return {"seconds": taken, "status": int(answer.status), "upper": bound, "value": value}


def apart(task: str, *arguments: Any) -> dict[str, Any]:
    """Do a task in a process of its own, so that its memory is its own; say so where it does not come back."""
    command = [sys.executable, __file__, "--task", json.dumps([task, *arguments])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def highs_cells(found: dict[str, Any], best: dict[str, Any]) -> str:
    """Write what HiGHS came to: seconds, its own interval's gap, and how far its allocations are behind."""
    if "failed" in found or found["upper"] is None or found["value"] is None:
        return f"{found.get('seconds', float('nan')):10.1f}   nothing found"
    gap = (found["upper"] - found["value"]) / found["upper"]
    behind = max(1 - found["value"] / best["upper"], 0.0)
    stopped = "  (time limit)" if found["status"] == 1 else ""
    return f"{found['seconds']:10.1f}{gap:10.1e}{behind:10.1e}{stopped}"


def main() -> None:
    """Print one row per family and size, and the figures beside their targets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="largest number of slots")
    parser.add_argument("--highs-seconds", type=float, default=60.0, help="time limit of the mixed-integer solver")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.task:
        task, *arguments = json.loads(given.task)
        print(json.dumps({"enclosed": enclosed, "enveloped": enveloped, "programmed": programmed}[task](*arguments)))
        return
    # Compiled code is kept on disk, so every later process finds it there.
    apart("enclosed", "forced", 10)
    header = f"{'T':>7}{'asked':>9}{'gap':>10}{'seconds':>10}{'points':>12}{'memory GB':>11}{'envelope gap':>14}"
    met = []
    for family in FAMILIES:
        print(f"\n{family}\n{header}{'HiGHS s':>10}{'its gap':>10}{'behind':>10}", flush=True)
        finished = True
        for slots in [size for size in SIZES if size <= given.largest]:
            best = apart("enclosed", family, slots)
            if "failed" in best:
                print(f"{slots:7}{asked(slots):9.0e}  {best['failed']}", flush=True)
                continue
            envelope = apart("enveloped", family, slots)
            loose = (envelope["upper"] - best["lower"]) / envelope["upper"] if "upper" in envelope else float("nan")
            row = f"{slots:7}{asked(slots):9.0e}{best['gap']:10.1e}{best['seconds']:10.3f}{best['points']:12,}"
            row += f"{best['memory']:11.2f}{loose:14.1e}"
            if finished and given.highs_seconds > 0:
                found = apart("programmed", family, slots, given.highs_seconds)
                row += highs_cells(found, best)
                # What it cannot finish at one size it will not at a larger one.
                finished = found.get("status") == 0
            print(row + (f"\n        {best['reason']}" if best["reason"] else ""), flush=True)
            met += [(family, best, target) for target in TARGETS if target[0] == slots]
    print(
        f"\nwindow\n{'w':>3}{'T':>8}{'gap':>10}{'seconds':>10}{'verifying':>11}{'transitions':>14}{'memory GB':>11}",
        end="",
    )
    print(f"{'HiGHS s':>10}{'its gap':>10}{'behind':>10}", flush=True)
    for width in WIDTHS:
        finished = True
        for slots in [size for size in WINDOW_SIZES if size <= given.largest]:
            best = apart("enclosed", f"window{width}", slots)
            row = f"{width:3}{slots:8}{best['gap']:10.1e}{best['seconds']:10.3f}{best['verifying']:11.3f}"
            row += f"{best['checks']:14,}{best['memory']:11.2f}"
            if finished and given.highs_seconds > 0:
                found = apart("programmed", f"window{width}", slots, given.highs_seconds)
                row += highs_cells(found, best)
                finished = found.get("status") == 0
            print(row, flush=True)
    print()
    for family, best, (slots, gap, seconds, memory) in met:
        limits = f"gap {gap:.0e} in {seconds:g} s" + (f" and {memory:g} GB" if memory else "")
        reached = f"{best['gap']:.1e} in {best['seconds']:.2f} s and {best['memory']:.2f} GB"
        print(f"{family}, T = {slots:,}: {reached}   target {limits}")


if __name__ == "__main__":
    main()
