"""Check ORRIC's theorem for answers that count by their deadline, on many small instances, each solved exactly.

usage: python tests/benchmarks/theorems_in_time.py [--instances 100000] [--seed 1] [--jobs 2]   (some minutes)

As `theorems.py`, on its instances of at most six slots, with in-time parts: of any kind, some none and some all;
falling with what a pair costs; alike for all pairs of a slot; every third time few different ones, so that there are
ties.
Checked are ORRIC; ORRIC that decides by parts that are off; ORRIC with V_t anywhere up to the chord's; Inference-Only;
and, on instances of two and three streams, the best joint choice of every slot. Then the same with planted faults, in
which violations must be found. The status is 1 when a theorem is violated or a fault goes unnoticed.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

import orric
from orric.allocators.base import Indices
from orric.allocators.orric import future_weights, profit_floor, slot_weights
from orric.competitive.bounds import Bounds
from orric.configuration import undominated
from orric.objective import long_term_accuracy
from orric.randomness import generator
from orric.slot_model import profits_in_time
from orric.workers import in_parallel

if __package__:
    from . import theorems
else:  # run as a script
    import theorems

Array = np.ndarray[Any, Any]
MOST_SLOTS = 6
KINDS = ("any", "falling", "alike")
UNIFORM = ("wide", "biting", "close", "uneven, close")
# Of telling instances, D_min and D_max taken as equal.
LEAST_ALPHA = 1e-2


class Case(NamedTuple):
    """One instance.

    Attributes:
        profile: Configurations and curve.
        trace: Requests and budgets.
        in_time: q_t(i, j), shape (T, M, N).
        estimates: What is taken for it, off by `error` at most.
        error: The largest error.
        chord: Where V_t lies between ORRIC's and the chord's, shape (T,), in [0, 1].
    """

    profile: orric.Profile
    trace: orric.Trace
    in_time: Array
    estimates: Array
    error: float
    chord: Array


class Shape(NamedTuple):
    """What of an instance stays while its numbers are varied; see `theorems.Shape`."""

    plain: theorems.Shape
    kind: str
    coarse: bool

    @classmethod
    def drawn(cls, family: str, rng: np.random.Generator) -> Shape:
        """Draw a shape of a family."""
        plain = theorems.Shape.drawn(family, rng)
        plain = plain._replace(slots=min(plain.slots, MOST_SLOTS))
        return cls(plain, KINDS[int(rng.integers(len(KINDS)))], bool(rng.random() < 1 / 3))

    @property
    def pairs(self) -> tuple[int, int, int]:
        """T, M and N, before dominated configurations are removed."""
        return self.plain.slots, self.plain.retraining, self.plain.inference

    @property
    def size(self) -> int:
        """Number of coordinates of a point."""
        return sum(self.plain.parts.values()) + 2 * int(np.prod(self.pairs)) + 2 * self.plain.slots + 1

    def instance(self, point: Array) -> Case:
        """Return the instance of a point."""
        sizes = [sum(self.plain.parts.values()), *[int(np.prod(self.pairs))] * 2, *[self.plain.slots] * 2]
        given, parts, off, load, chord, error = np.split(point, np.cumsum(sizes))
        profile, trace = self.plain.instance(given)
        retraining, inference = undominated(profile.retraining), undominated(profile.inference)
        cut = np.s_[:, : len(retraining), : len(inference)]
        parts, off = parts.reshape(self.pairs)[cut], off.reshape(self.pairs)[cut]
        if self.kind == "alike":
            parts = np.broadcast_to(parts[:, :1, :1], parts.shape)
        elif self.kind == "falling":
            costs = np.add.outer([one.cost_macs for one in retraining], [one.cost_macs for one in inference])
            part = np.clip(1 - load[:, None, None] * costs / (costs.max() or 1.0), 0, 1)
            parts = part ** (0.2 + 3 * parts[:, :1, :1])
        in_time = np.clip(1.6 * parts - 0.2, 0, 1)
        if self.coarse:
            in_time = np.round(4 * in_time) / 4
        largest = 0.1 * float(error[0]) ** 3
        estimates = np.clip(in_time + largest * np.clip(4 * off - 2, -1, 1), 0, 1)
        return Case(profile, trace, in_time, estimates, largest, chord)


class Estimating(orric.Orric):
    """ORRIC that takes other parts than are true."""

    name: ClassVar[str] = "estimating"

    def __init__(self, case: Case) -> None:
        self.case = case

    def choose_in_time(
        self, slots: Array, requests: Array, budgets_macs: Array, in_time: Array
    ) -> tuple[Indices, Indices]:
        return super().choose_in_time(slots, requests, budgets_macs, self.case.estimates[slots - 1])

    def weights(self, task: orric.Task) -> tuple[Array, Array]:
        (stream,) = task.streams
        _, offered = profits_in_time(stream, self.case.trace, self.case.estimates)
        floor = profit_floor(stream, offered, self.case.error * stream.inference[-1].profit)
        return slot_weights(replace(stream, least_profit=floor), task.horizon)


class Chord(orric.Orric):
    """ORRIC with V_t anywhere from its own up to what the chord of the learning curve grants."""

    name: ClassVar[str] = "chord"

    def __init__(self, case: Case) -> None:
        self.case = case

    def weights(self, task: orric.Task) -> tuple[Array, Array]:
        (stream,) = task.streams
        most, profile = stream.retraining[-1].profit, self.case.profile
        curves = profile.curves_for([None] * task.horizon, [None] * task.horizon)
        start = min(float(curve(0.0)) for curve in curves)
        chord = min((float(curve(most)) - float(curve(0.0))) / most for curve in curves) if most else 0.0
        future = stream.least_requests / stream.most_requests * future_weights(task.horizon, stream.memory)
        least = stream.slope_floor + self.case.chord * (stream.best_accuracy / start * chord - stream.slope_floor)
        _, serving = slot_weights(stream, task.horizon)
        # The floor of `profit_floor`, for these V_t.
        _, offered = profits_in_time(stream, self.case.trace, self.case.in_time)
        by_retraining = offered.max(axis=2)
        dearest = by_retraining[np.arange(task.horizon), np.isfinite(by_retraining).sum(axis=1) - 1]
        best = by_retraining.max(axis=1) / (1 + least * future * most / serving)
        return least * future * float(np.maximum(dearest, best).min()), serving


class Unheeding(orric.Orric):
    """Decides as if every answer were in time: a fault."""

    name: ClassVar[str] = "unheeding"

    def choose_in_time(
        self, slots: Array, requests: Array, budgets_macs: Array, in_time: Array
    ) -> tuple[Indices, Indices]:
        return self.choose(slots, requests, budgets_macs)


class Stretched(orric.Orric):
    """Takes V_t too large by the square of D_max / D_min: a fault."""

    name: ClassVar[str] = "stretched"

    def weights(self, task: orric.Task) -> tuple[Array, Array]:
        retraining, inference = super().weights(task)
        return retraining * (task.streams[0].most_requests / task.streams[0].least_requests) ** 2, inference


class MostForLeast(orric.Orric):
    """Takes A^I_max for the floor in V_t, as if all that is to come were in time: a fault."""

    name: ClassVar[str] = "most-for-least"

    def weights(self, task: orric.Task) -> tuple[Array, Array]:
        stream = task.streams[0]
        return slot_weights(replace(stream, least_profit=stream.inference[-1].profit), task.horizon)


def _with_error(case: Case, proved: Bounds) -> float:
    """Return the bound of decisions by estimates that are off."""
    return orric.bounds(case.profile, case.trace, case.estimates, case.error).theorem4


def _theorem2(case: Case, proved: Bounds) -> float:
    """Return Inference-Only's bound; where most is in time beside retraining there is none."""
    return 0.0 if any(doubt.startswith("Theorem 2") for doubt in proved.doubts) else proved.theorem2


def _alpha_by_most(case: Case, proved: Bounds) -> float:
    """Return Theorem 4's bound with the largest profit where the least belongs: a fault."""
    least = proved.least_inference_profit
    alpha = proved.alpha * proved.most_inference_profit / least if least > 0 else 0.0
    return (1 + alpha) * proved.start_accuracy / proved.best_accuracy


# Every allocator with the bound that it is held to.
Held = tuple[Callable[[Case], orric.Allocator], Callable[[Case, Bounds], float]]
PROVED: dict[str, Held] = {
    "orric": (lambda case: orric.Orric(), lambda case, proved: proved.theorem4),
    "estimating": (Estimating, _with_error),
    "chord": (Chord, lambda case, proved: proved.theorem4),
    "inference-only": (lambda case: orric.InferenceOnly(), _theorem2),
}
FAULTS: dict[str, Held] = {
    "alpha-by-most": (lambda case: orric.Orric(), _alpha_by_most),
    "unheeding": (lambda case: Unheeding(), lambda case, proved: proved.theorem4),
    "stretched": (lambda case: Stretched(), lambda case, proved: proved.theorem4),
    "most-for-least": (lambda case: MostForLeast(), lambda case, proved: proved.theorem4),
    "error-ignored": (
        lambda case: Estimating(case._replace(error=0.0)),
        lambda case, proved: orric.bounds(case.profile, case.trace, case.estimates).theorem4,
    ),
}
ALLOCATORS = PROVED | FAULTS


def checked(case: Case, proved: Bounds, names: Sequence[str]) -> dict[str, theorems.Checked]:
    """Compare allocators with their bounds by the exact optimum of right answers in time."""
    optimum, _ = orric.exact_optimum(case.profile, case.trace, in_time=case.in_time)
    found = {}
    for name in names:
        allocator, bound = ALLOCATORS[name]
        result = orric.evaluate(case.profile, case.trace, allocator(case), in_time=case.in_time)
        earned = float(result.columns["correct_in_time"].sum())
        ratio = earned / optimum if optimum > 0 else 1.0
        if ratio > 1 + theorems.TOLERANCE:
            raise AssertionError(f"{name} earns {ratio!r} of what is meant to be the optimum")
        found[name] = theorems.Checked(ratio, bound(case, proved))
    return found


def batch(seed: int, family: str, names: Sequence[str], number: int, size: int) -> dict[str, theorems.Tally]:
    """Draw half a batch of instances, and climb from the worst of them for the rest; see `theorems.batch`.

    Margins are those of telling instances, on which Theorem 4 says more than Theorem 2, and it climbs among them: where
    next to nothing is in time in some slot, or known of the slope, both are attained, and that is found at once.
    """
    rng = generator(seed, "adversary", list(theorems.FAMILIES).index(family), number)
    tallies = {name: theorems.Tally() for name in names}
    target = names[number % len(names)]
    best: tuple[float, Shape, Array] | None = None
    drawn = 0
    while drawn < size:
        if best is None or 2 * drawn < size:
            shape = Shape.drawn(family, rng)
            point = rng.random(shape.size)
        else:
            shape, point = best[1], theorems.mutated(best[2], rng)
        case = shape.instance(point)
        proved = orric.bounds(case.profile, case.trace, case.in_time)
        if theorems.FAMILIES[family].biting and proved.alpha < theorems.BITING:
            continue
        drawn += 1
        telling = proved.alpha * (proved.most_requests / proved.least_requests) ** 2 >= LEAST_ALPHA
        for name, one in checked(case, proved, names).items():
            margins = (one.ratio - one.bound, one.room) if telling or one.violated else (math.inf, math.inf)
            tallies[name].merge(theorems.Tally(1, telling, one.violated, *margins, one.ratio))
            if name == target and telling and (best is None or one.room <= best[0]):
                best = one.room, shape, point
    return tallies


class Together:
    """Two or three streams of two configurations each under one budget, for two or three slots.

    Attributes:
        gap: How far from the best a slot's joint choice may be.
    """

    def __init__(self, seed: int, number: int) -> None:
        rng = generator(seed, "ensemble", number)
        self.slots = int(rng.integers(2, 4))
        count = 2 if self.slots == 3 else int(rng.integers(2, 4))
        self.gap, error = float(rng.choice([0.0, 0.05, 0.3])), float(rng.choice([0.0, 0.02]))
        memory = None
        self.cases: list[Case] = []
        while len(self.cases) < count:
            shape = Shape.drawn(str(rng.choice(UNIFORM)), rng)
            plain = shape.plain._replace(slots=self.slots, retraining=2, inference=2)
            memory = memory or theorems.Shape.drawn(str(rng.choice(["wide", "window", "decay"])), rng).memory
            shape = shape._replace(plain=plain._replace(memory=memory))
            case = shape.instance(rng.random(shape.size))
            if case.profile.most_profit == 0 or len(undominated(case.profile.inference)) < 2:
                continue
            # Some pairs are hardly ever in time; none is never, or nothing would be proved.
            parts = 0.3 + 0.7 * case.in_time
            off = np.clip(parts + error * rng.choice([-1.0, 1.0], parts.shape), 0, 1)
            self.cases.append(case._replace(in_time=parts, estimates=off, error=error))
        costs = [self._costs(case) for case in self.cases]
        least, most = (sum(pick(one, axis=1) for one in costs) for pick in (np.min, np.max))
        self.budgets = least + (most - least) * rng.uniform(0, 1.05, self.slots)
        # Every joint choice, by the number of each stream's pair.
        self.choices = np.array(list(itertools.product(range(4), repeat=count)))
        spent = sum(one[:, self.choices[:, k]] for k, one in enumerate(costs))
        self.fits = spent <= self.budgets[:, None]

    @staticmethod
    def _costs(case: Case) -> Array:
        """Return what each pair costs in each slot, shape (T, 4)."""
        each = np.add.outer(
            [one.cost_macs for one in undominated(case.profile.retraining)],
            [one.cost_macs for one in undominated(case.profile.inference)],
        )
        return case.trace.requests[:, None] * each.ravel()

    @staticmethod
    def _profits(case: Case, parts: Array) -> tuple[Array, Array]:
        """Return A^T, shape (4,), and a_t, shape (T, 4), of each pair."""
        retraining = [one.profit for one in undominated(case.profile.retraining)]
        inference = np.array([one.profit for one in undominated(case.profile.inference)])
        return np.repeat(retraining, len(inference)), (inference * parts).reshape(len(parts), -1)

    def values(self, case: Case, pairs: Array) -> Array:
        """Return what sequences of a stream's pairs earn, shape (n,) of shape (n, T)."""
        retraining, inference = self._profits(case, case.in_time)
        requests = case.trace.requests
        curves = case.profile.curves_for([None] * self.slots, [None] * self.slots)
        _, moved = zip(
            *(
                long_term_accuracy(requests, requests, unit, unit, curves, case.profile.memory)
                for unit in np.eye(self.slots)
            ),
            strict=True,
        )
        # Extents are linear in the profits.
        extents = retraining[pairs] @ np.array(moved)
        accuracies = np.stack([np.asarray(curve(extents[:, t])) for t, curve in enumerate(curves)], axis=1)
        earned: Array = (accuracies * inference[np.arange(self.slots), pairs] * requests).sum(axis=1)
        return earned

    def checked(self) -> theorems.Checked:
        """Compare the best joint choices, or choices as bad as the gap allows, with the best sequence of all."""
        open_to = [np.flatnonzero(fits) for fits in self.fits]
        every = np.stack([one.ravel() for one in np.meshgrid(*open_to, indexing="ij")], axis=1)
        optimum = sum(self.values(case, self.choices[every, k]) for k, case in enumerate(self.cases)).max()
        each = [
            orric.bounds(case.profile, orric.Trace(case.trace.requests, self.budgets), case.estimates, case.error)
            for case in self.cases
        ]
        worth = np.zeros((self.slots, len(self.choices)))
        for k, (case, proved) in enumerate(zip(self.cases, each, strict=True)):
            stream = orric.StreamTask.of(case.profile, proved.least_requests, proved.most_requests)
            stream = replace(stream, least_profit=proved.least_shared_profit)
            retraining, inference = self._profits(case, case.estimates)
            weights, serving = slot_weights(stream, self.slots)
            score = weights[:, None] * retraining + serving[:, None] * inference
            worth += (case.trace.requests[:, None] * score)[:, self.choices[:, k]]
        chosen = []
        for t, options in enumerate(open_to):
            score = worth[t, options]
            near = np.flatnonzero(score >= (1 - self.gap) * score.max())
            chosen.append(options[near[score[near].argmin()]])
        path = self.choices[chosen]
        value = sum(float(self.values(case, path[None, :, k])[0]) for k, case in enumerate(self.cases))
        return theorems.Checked(value / optimum, orric.joint_bound(each, self.gap))


def together(seed: int, first: int, count: int) -> theorems.Tally:
    """Check instances of several streams."""
    tally = theorems.Tally()
    for number in range(first, first + count):
        one = Together(seed, number).checked()
        tally.merge(theorems.Tally(1, 1, one.violated, one.ratio - one.bound, one.room, one.ratio))
    return tally


def planned(instances: int) -> list[theorems.Part]:
    """Divide a number of instances among families: two thirds have the paper's memory."""
    others = [name for name in theorems.FAMILIES if name not in UNIFORM]
    parts = [theorems.Part(family, tuple(PROVED), round(instances * 2 / 3 / len(UNIFORM))) for family in UNIFORM]
    return parts + [theorems.Part(name, tuple(PROVED), round(instances / 3 / len(others))) for name in others]


def tallied(
    parts: Sequence[theorems.Part], seed: int, jobs: int | None, progress: bool = False
) -> list[dict[str, theorems.Tally]]:
    """Check all parts; the answer does not depend on the number of worker processes."""
    owners, calls = [], []
    for place, part in enumerate(parts):
        for number, begin in enumerate(range(0, part.instances, theorems.BATCH)):
            owners.append(place)
            calls.append((seed, part.family, part.names, number, min(theorems.BATCH, part.instances - begin)))
    answers: dict[int, dict[str, theorems.Tally]] = {}
    for index, answer in in_parallel(batch, calls, jobs):
        answers[index] = answer
        if progress:
            print(f"\r{len(answers) / len(calls):6.1%}", end="\r", file=sys.stderr, flush=True)
    found: list[dict[str, theorems.Tally]] = [{name: theorems.Tally() for name in part.names} for part in parts]
    for index in range(len(calls)):
        for name, tally in answers[index].items():
            found[owners[index]][name].merge(tally)
    return found


def shown(family: str, name: str, tally: theorems.Tally) -> None:
    """Print a row."""
    counts = f"{tally.instances:11,}{tally.biting / tally.instances:13.1%}{tally.violations:12,}"
    print(f"{family:16}{name:16}{counts}{tally.margin:14.6f}{tally.room:12.6f}{tally.ratio:12.6f}", flush=True)


def main() -> int:
    """Print all figures; return 1 when a theorem is violated or a fault goes unnoticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--instances", type=int, default=100_000, help="instances of one stream; of several a tenth")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, help="worker processes; the figures do not depend on them")
    given = parser.parse_args()
    heads = f"{'instances':>11}{'telling':>13}{'violations':>12}{'margin':>14}{'room':>12}{'least ratio':>12}"
    print(f"right answers in time against exact optima, seed {given.seed}\n\n{'family':16}{'allocator':16}{heads}")
    parts, violations, noticed = planned(given.instances), 0, dict.fromkeys(FAULTS, 0)
    for part, tallies in zip(parts, tallied(parts, given.seed, given.jobs, progress=True), strict=True):
        for name, tally in tallies.items():
            violations += tally.violations
            shown(part.family, name, tally)
    calls = [(given.seed, first, 500) for first in range(0, given.instances // 10, 500)]
    several = theorems.Tally()
    for _, tally in in_parallel(together, calls, given.jobs):
        several.merge(tally)
    shown("all memories", "several streams", several)
    violations += several.violations
    print("\nthe same with planted faults, which must be noticed")
    faulty = [theorems.Part(family, (name,), 3 * theorems.BATCH) for name in FAULTS for family in UNIFORM[2:]]
    for part, tallies in zip(faulty, tallied(faulty, given.seed, given.jobs, progress=True), strict=True):
        for name, tally in tallies.items():
            noticed[name] += tally.violations
            shown(part.family, name, tally)
    for name, count in noticed.items():
        print(f"{name}: {f'{count:,} violations' if count else 'NOT NOTICED'}")
    checks = sum(part.instances for part in parts)
    print(f"\n{checks:,} instances of one stream, {several.instances:,} of several: {violations} violations")
    return int(violations > 0 or not all(noticed.values()))


if __name__ == "__main__":
    sys.exit(main())
