"""Report how far the predicted in-time part of a stream's requests is from the simulated one.

usage: python tests/benchmarks/timeliness.py [--seeds N] [--slower PART] [--output PICTURE] [--table CSV]
       (a minute on two cores)

One stream on half a GPU, a hard partition. The grid: six loads, four kinds of arrivals, batches of at most 1, 8 and 32,
three deadlines. D(t) is drawn evenly within 20 % of its mean, and then outcome of the arrivals, so that the load goes
up and down and queues are carried from slot to slot. A full batch takes as long as its requests take to come at load 1.
Where the load is 1 or more, as many requests may wait as are served in four fifths of the deadline; else all would soon
be late. In every slot the allocator is told the mean of D(t), and what waits; it says which part will be in time, and
learns from 20 slots. Then follow 40 slots of test. A point is the mean over all seeds of what was said of their slots
of test, and of what was; the last two columns compare run by run, where chance has its part. With `--slower 0.2` the
stream is served a fifth slower than is thought.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import orric
from orric.allocators.base import Allocator, Slot
from orric.comparison import simulate
from orric.configuration import Allocation, StreamAllocation
from orric.records import Observation
from orric.timeliness import FACTORS, ArrivalProcess, Correction, Timeliness
from orric.workers import in_parallel

Array = np.ndarray[Any, Any]
LOADS = (0.3, 0.5, 0.7, 0.85, 1.0, 1.2)
ARRIVALS: dict[str, dict[str, Any]] = {
    "poisson": {"kind": "poisson"},
    "bursty, mild": {"kind": "bursty", "ratio": 3.0, "burst_s": 2.0, "calm_s": 8.0},
    "bursty, strong": {"kind": "bursty", "ratio": 10.0, "burst_s": 1.0, "calm_s": 9.0},
    "gamma": {"kind": "gamma", "variation": 2.0},
}
BATCHES = (1, 8, 32)
# In times of a full batch, or in parts of a slot.
DEADLINES = {"tight": (2.0, 0.0), "middle": (6.0, 0.0), "long": (0.0, 0.1)}
SLOT_S, SHARE = 60.0, 0.5
# Of a request in a full batch, at the share; and how many times that the fixed part of a batch is, where there is one.
SERVICE_S, FIXED = 0.02, 4.0
TAUGHT, TESTED = 20, 40
UNSERVED = 0.8


@dataclass(frozen=True)
class Point:
    """A point of the grid."""

    load: float
    arrivals: str
    most: int
    deadline: str

    @property
    def batch_s(self) -> float:
        """What a full batch takes."""
        return SERVICE_S * self.most

    @property
    def timeliness(self) -> Timeliness:
        """What an allocator knows of it."""
        fixed_s = FIXED * SERVICE_S * SHARE * (self.most > 1)
        each_s = SERVICE_S * SHARE - fixed_s / self.most
        times, part = DEADLINES[self.deadline]
        deadline_s = times * self.batch_s + part * SLOT_S
        return Timeliness(
            slot_s=SLOT_S,
            deadline_s=deadline_s,
            arrivals=ArrivalProcess(drawn=True, **ARRIVALS[self.arrivals]),
            fixed_s=(fixed_s,),
            each_s=(each_s,),
            most=self.most,
            wait_s=self.batch_s / 2 if self.most > 1 else 0.0,
            queue_limit=max(round(UNSERVED * deadline_s / SERVICE_S), 1) if self.load >= 1 else np.inf,
        )

    @property
    def requests(self) -> float:
        """Of a slot, on average."""
        return self.load * SLOT_S / SERVICE_S


def scenario(point: Point, means: Array, folder: Path) -> orric.Scenario:
    """Return the scenario of a point, whose profile and means of D(t) are written to a folder."""
    told = point.timeliness
    orric.Trace(means, np.ones(len(means))).save(folder / "requests.csv")
    profile = folder / "profile.toml"
    profile.write_text(
        'format = 1\nname = "one"\nbest_accuracy = 0.9\nslope_floor = 0.01\n'
        '[[retraining]]\nname = "none"\nprofit = 0.0\ncost_macs = 0.0\n'
        '[[retraining]]\nname = "all"\nprofit = 1.0\ncost_macs = 1.0\n'
        '[[inference]]\nname = "one"\nprofit = 1.0\ncost_macs = 1.0\n'
        f'[[batch_latency]]\ninference = "one"\nfixed_s = {told.fixed_s[0]!r}\neach_s = {told.each_s[0]!r}\n'
        '[curve]\nform = "exponential"\nc = 0.8\na = 0.2\nk = 1.0\n'
    )
    arrivals = {name: value for name, value in ARRIVALS[point.arrivals].items() if name != "kind"}
    kind = told.arrivals.kind
    stream: dict[str, Any] = {
        "name": "one",
        "profile": str(profile),
        "requests": {"csv": str(folder / "requests.csv"), "count": "drawn"},
        "arrivals": kind,
        "batch": {"most": told.most, "wait_s": told.wait_s},
        "deadline_s": told.deadline_s,
    }
    if arrivals:
        stream["burst" if kind == "bursty" else kind] = arrivals
    if np.isfinite(told.queue_limit):
        stream["queue_limit"] = int(told.queue_limit)
    return orric.Scenario(
        name="timeliness",
        slots=TAUGHT + TESTED,
        slot_s=SLOT_S,
        allocators=("inference-only",),
        spare="idle",
        gpu=(
            {
                "macs_per_s": 1e9,
                "budget": {"kind": "constant", "fraction": 1.0},
                "sharing": {"model": "fluid"},
            },
        ),
        stream=(stream,),
    )


class Foretelling(Allocator):
    """Gives inference its share, says which part will be in time, and learns from what was.

    Args:
        timeliness: Of the stream.
        means: Of D(t), shape (T,).
        speed: What the share is thought to be worth.
    """

    name = "foretelling"

    def __init__(self, timeliness: Timeliness, means: Array, speed: float) -> None:
        self.timeliness, self.means, self.speed = timeliness, means, speed
        self.correction, self.waiting = Correction(), 0.0
        self.before: list[float] = []
        self.after: list[float] = []
        self.came: list[float] = []
        self.in_time: list[float] = []

    def decide(self, slot: Slot) -> Allocation:
        requests = float(self.means[slot.index - 1])
        self.before.append(float(self.timeliness.part(0, self.speed, requests, self.waiting)))
        self.after.append(float(self.correction.part(self.timeliness, 0, self.speed, requests, self.waiting)))
        return Allocation((StreamAllocation("none", "one", SHARE, 0.0),))

    def observe(self, record: Observation) -> None:
        if record.slot <= TAUGHT:
            foretold = self.timeliness.part(0, self.speed * FACTORS, record.requests, self.waiting)
            in_time = (record.served - record.late) / max(record.requests, 1.0)
            self.correction.observe(foretold, in_time, record.requests)
        self.waiting += record.requests - record.served - record.shed
        self.came.append(record.requests)
        self.in_time.append(record.served - record.late)


def measure(point: Point, slower: float, seed: int) -> tuple[Point, tuple[float, float, float]]:
    """Return the parts that were foretold before and after learning, and the part that was, over the slots of test."""
    low, high = round(0.8 * point.requests), round(1.2 * point.requests)
    means = np.random.default_rng(22).integers(low, high, TAUGHT + TESTED, endpoint=True).astype(float)
    teller = Foretelling(point.timeliness, means, SHARE / (1 - slower))
    with tempfile.TemporaryDirectory() as folder:
        simulate(scenario(point, means, Path(folder)), teller, seed=seed)
    before, after, came, in_time = (
        np.array(one[TAUGHT:]) for one in (teller.before, teller.after, teller.came, teller.in_time)
    )
    parts = np.array([before @ came, after @ came, in_time.sum()]) / came.sum()
    return point, (float(parts[0]), float(parts[1]), float(parts[2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--slower", type=float, default=0.0, help="by which part than is thought")
    parser.add_argument("--output", type=Path, help="draw the figure, too (PNG)")
    parser.add_argument("--table", type=Path, help="write a row for each point (CSV)")
    given = parser.parse_args()
    points = [Point(*one) for one in itertools.product(LOADS, ARRIVALS, BATCHES, DEADLINES)]
    calls = [(point, given.slower, seed) for point in points for seed in range(1, given.seeds + 1)]
    found: dict[Point, list[tuple[float, float, float]]] = {point: [] for point in points}
    for _, (point, parts) in in_parallel(measure, calls):
        found[point].append(parts)
    # Foretold before, after, each shape (points, seeds), and what is true of each point.
    tables = np.array([sorted(found[point]) for point in points])
    before, after, was = (100 * tables[:, :, column] for column in range(3))
    truth = was.mean(axis=1)
    errors = {
        "before": np.abs(before.mean(axis=1) - truth),
        "after": np.abs(after.mean(axis=1) - truth),
        "before, run": np.abs(before - was).mean(axis=1),
        "after, run": np.abs(after - was).mean(axis=1),
    }
    print(f"{len(points)} points, {given.seeds} seeds: mean absolute error of the part in time, in points (per cent)")
    print(f"{'':18}{'points':>8}" + "".join(f"{name:>13}" for name in errors) + f"{'in time, %':>13}")

    def line(name: str, which: Any) -> None:
        cells = "".join(f"{one[which].mean():>13.2f}" for one in errors.values())
        print(f"{name:18}{int(np.sum(which)):>8}{cells}{truth[which].mean():>13.1f}")

    line("all", np.ones(len(points), bool))
    for axis in ("load", "arrivals", "most", "deadline"):
        values = [getattr(point, axis) for point in points]
        for value in dict.fromkeys(values):
            words = value if axis == "arrivals" else f"{axis} {value}"
            line(words, np.array([one == value for one in values]))
    if given.table is not None:
        with given.table.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["load", "arrivals", "most", "deadline_s", "in_time", "before", "after"])
            for k, point in enumerate(points):
                numbers = (truth[k], before[k].mean(), after[k].mean())
                rows.writerow(
                    [point.load, point.arrivals, point.most, f"{point.timeliness.deadline_s:g}"]
                    + [f"{one:.2f}" for one in numbers]
                )
    if given.output is not None:
        draw(points, truth, before.mean(axis=1), after.mean(axis=1), given.output)


def draw(points: list[Point], truth: Any, before: Any, after: Any, output: Path) -> None:
    """Draw what was foretold over what was."""
    from orric.report.canvas import clean, figure_of, title

    marks = {"poisson": ("#0072B2", "o"), "bursty, mild": ("#009E73", "s"), "bursty, strong": ("#D55E00", "^")}
    marks["gamma"] = ("#CC79A7", "D")
    figure = figure_of(4.6)
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, foretold, words in ((left, before, "before the first slot"), (right, after, f"after {TAUGHT} slots")):
        axes.plot([0, 100], [0, 100], color="#8a8a8a", linewidth=1)
        for kind, (colour, marker) in marks.items():
            which = np.array([point.arrivals == kind for point in points])
            axes.plot(
                truth[which], foretold[which], linestyle="", marker=marker, color=colour, alpha=0.7, markersize=4.5,
                label=kind,
            )  # fmt: skip
        axes.set_xlabel(f"Answered in time, simulated (% of requests)\n{words}")
        clean(axes)
    left.set_ylabel("Foretold (% of requests)")
    left.legend(frameon=False, fontsize=8.5, loc="upper left")
    errors = [np.abs(one - truth).mean() for one in (before, after)]
    title(
        figure,
        f"The part in time is foretold to {errors[0]:.1f} points before the first slot, and to {errors[1]:.1f} after "
        f"{TAUGHT} slots",
    )
    figure.savefig(output, dpi=150)


if __name__ == "__main__":
    main()
