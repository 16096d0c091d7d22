"""Search for the trace on which an allocator does worst against the offline optimum."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from orric.allocators import make_allocator
from orric.competitive.ranges import TraceRange
from orric.competitive.ratio import quick_ratio
from orric.configuration import undominated
from orric.exceptions import OrricError, ScenarioError
from orric.learning import Tabulated
from orric.profile import Profile
from orric.randomness import generator
from orric.slot_model import evaluate
from orric.statistics import Interval, mean_interval
from orric.trace import Trace
from orric.workers import in_parallel

Array = np.ndarray[Any, Any]

# Points of a searched curve, densest where learning curves bend.
CURVE_PIECES = 6
# Searched curves need so much accuracy to bend by: below it their slopes differ by little more than rounding.
LEAST_BEND = 1e-6
METHODS = ("blocks", "evolution")
# So many moves of blocks in a row for each coordinate, none of which gained, and another point is begun from.
PATIENCE = 20
# Runs of a randomised allocator, and as many more on the worst trace, that were not searched with.
SEEDS, FRESH_SEEDS = 16, 100
# Traces by which it is told whether an allocator draws at random.
TRACES = 4
MOVES = ("least", "most", "before", "after", "down", "up")


@dataclass(frozen=True)
class Search:
    """What is searched, and how long.

    Attributes:
        profile: Configurations, and the curve where it is not searched.
        ranges: The traces that may be tried.
        allocator: Registered name of the allocator.
        restarts: Independent searches; they take turns between resetting whole blocks of slots and differential
            evolution.
        evaluations: Ratios measured by each.
        curves: Search the curve too: increasing and concave with the profile's f(0), f(A^T_max), and a slope of
            at least L at A^T_max.
        constructions: Start from the proofs' constructions besides random points.
        seed: Of every random draw.
        seeds: Runs of an allocator that draws at random, whose mean counts; that of a single one is overfitted.
        gap: Of the optimum's interval while searching, where it is not solved exactly.
        in_time: Gives the in-time parts of a trace's requests and budgets, shape (T,) each, as `orric.evaluate` takes
            them: then right answers in time are counted. Workers are handed it, so let it be defined in a module.
    """

    profile: Profile
    ranges: TraceRange
    allocator: str
    restarts: int = 4
    evaluations: int = 20_000
    curves: bool = False
    constructions: bool = False
    seed: int = 0
    seeds: int = 1
    gap: float = 1e-5
    in_time: Callable[[Array, Array], Array] | None = None

    def __post_init__(self) -> None:
        self.ranges.check(self.profile)
        make_allocator(self.allocator)
        for name in ("restarts", "evaluations", "seeds"):
            if getattr(self, name) < 1:
                raise ScenarioError(name, f"found {getattr(self, name)}", "give 1 at least")
        if self.curves:
            most = undominated(self.profile.retraining)[-1].profit
            rise = float(self.profile.curve(most)) - float(self.profile.curve(0.0))
            if most == 0 or rise < self.profile.slope_floor * most + LEAST_BEND:
                found = f"f rises by {rise:g} up to A^T_max = {most:g}, hardly more than slope_floor (L) alone makes it"
                raise ScenarioError("curves", found, "lower slope_floor, or search traces only")

    @property
    def size(self) -> int:
        """Number of coordinates of a point."""
        return self.ranges.size + (CURVE_PIECES if self.curves else 0)

    def instance(self, point: Array) -> tuple[Profile, Trace]:
        """Return the profile and the trace of a point in the unit cube."""
        trace = self.ranges.trace(point[: self.ranges.size])
        if not self.curves:
            return self.profile, trace
        return with_curve(self.profile, point[self.ranges.size :]), trace

    @property
    def tried(self) -> range:
        """The seeds of the allocator's runs."""
        return range(self.seed, self.seed + self.seeds)

    def ratio(self, profile: Profile, trace: Trace, seeds: Sequence[int] | None = None) -> float:
        """Measure the allocator's ratio.

        Args:
            profile: Of the instance.
            trace: Of the instance.
            seeds: Of its runs, the mean of which counts; left out, those that are searched with.
        """
        allocator, parts = make_allocator(self.allocator), self.parts(trace)
        return quick_ratio(profile, trace, allocator, seeds=seeds or self.tried, gap=self.gap, in_time=parts)

    def on_other_seeds(self, profile: Profile, trace: Trace) -> Interval:
        """Return the mean ratio on an instance, with its interval, by runs of seeds that the search has not seen."""
        since = self.seed + self.seeds
        return mean_interval([self.ratio(profile, trace, [seed]) for seed in range(since, since + FRESH_SEEDS)])

    def parts(self, trace: Trace) -> Array | None:
        """Return the in-time parts of a trace; None where every answer counts."""
        return None if self.in_time is None else self.in_time(trace.requests, trace.budget_macs)


def draws_at_random(profile: Profile, ranges: TraceRange, allocator: str) -> bool:
    """Say whether an allocator draws at random: by another seed it decides otherwise on one of several traces.

    Args:
        profile: Configurations and curve.
        ranges: The traces that may be tried.
        allocator: Its registered name.
    """
    for point in generator(0, "adversary").random((TRACES, ranges.size)):
        trace = ranges.trace(point)
        first, other = (
            evaluate(profile, trace, make_allocator(allocator), overload="shed", seed=seed).allocations
            for seed in (0, 1)
        )
        if first != other:
            return True
    return False


@dataclass(frozen=True, eq=False)
class WorstCase:
    """The worst instance that a search found.

    Attributes:
        profile: With the searched curve, where curves were searched.
        trace: The trace.
        ratio: The allocator's value over the lower end of the optimum.
        evaluations: Ratios measured altogether.
        improvements: How often a better one was found, over all restarts.
    """

    profile: Profile
    trace: Trace
    ratio: float
    evaluations: int
    improvements: int


def with_curve(profile: Profile, weights: Array) -> Profile:
    """Replace a profile's curve by one within the theorems' assumptions.

    Args:
        profile: Gives f(0), f(A^T_max) and L.
        weights: Shape (CURVE_PIECES,), in [0, 1]: how much steeper each piece is than the next one.

    Returns:
        The profile with a tabulated curve, increasing and concave, of slope L at least.
    """
    most = undominated(profile.retraining)[-1].profit
    start, end, floor = float(profile.curve(0.0)), float(profile.curve(most)), profile.slope_floor
    x = most * (np.arange(CURVE_PIECES + 1) / CURVE_PIECES) ** 2
    width = np.diff(x)
    # Slopes above L fall from piece to piece; their sum of rises is what L alone leaves.
    steeper = np.cumsum((np.clip(weights, 0, 1) ** 3 + 1e-6)[::-1])[::-1]
    steeper *= (end - start - floor * most) / float((steeper * width).sum())
    y = start + np.concatenate([[0.0], np.cumsum((steeper + floor) * width)])
    y[-1] = end
    curve = Tabulated(x=tuple(x.tolist()), y=tuple(y.tolist()))
    return profile.model_copy(update={"curve": curve, "drift_curve": ()})


def search_worst_case(
    search: Search,
    folder: Path | None = None,
    jobs: int | None = None,
    progress: Callable[[int, float], object] = lambda done, ratio: None,
) -> WorstCase:
    """Run a search's restarts, and return the worst instance of all.

    The answer depends on the search alone, not on the number of workers.

    Args:
        search: What to search.
        folder: Where every restart writes each improvement as it finds it: `restart-N.jsonl`, one line each, from
            which `best_so_far` takes the worst instance of a search that was interrupted.
        jobs: Worker processes.
        progress: Called with the number of restarts done and the least ratio so far.

    >>> import orric
    >>> profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    >>> ranges = orric.TraceRange(slots=3, requests=(100, 400), budget_macs=(4e9, 4e10), levels=2)
    >>> worst = search_worst_case(orric.Search(profile, ranges, "inference-only", restarts=1, evaluations=200))
    >>> worst.trace.requests.tolist()
    [100.0, 400.0, 400.0]
    """
    answers: dict[int, tuple[float, list[float], int, int]] = {}
    calls = [(search, number, str(folder) if folder else None) for number in range(search.restarts)]
    for number, answer in in_parallel(restart, calls, jobs):
        answers[number] = answer
        progress(len(answers), min(ratio for ratio, *_ in answers.values()))
    ratio, point, _, _ = min(answers[number] for number in sorted(answers))
    evaluations = sum(answer[2] for answer in answers.values())
    improvements = sum(answer[3] for answer in answers.values())
    return WorstCase(*search.instance(np.array(point)), ratio, evaluations, improvements)


def best_so_far(search: Search, folder: Path) -> WorstCase | None:
    """Return the worst instance that the restarts have written to a folder, or None when there is none.

    Its evaluations are those up to the last improvement of each restart.
    """
    last, improvements = [], 0
    for path in folder.glob("restart-*.jsonl"):
        # A worker that was ended while writing leaves half a line.
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        if lines := whole.splitlines():
            last.append(json.loads(lines[-1]))
            improvements += len(lines)
    if not last:
        return None
    # Equal ratios are told apart as by `search_worst_case`.
    worst = min(last, key=lambda line: (line["ratio"], line["point"]))
    instance = search.instance(np.array(worst["point"]))
    return WorstCase(*instance, worst["ratio"], sum(line["evaluation"] for line in last), improvements)


class _SpentError(Exception):
    """The evaluations of a restart are used up."""


class _FailedError(Exception):
    """A ratio cannot be measured; SciPy would take the `ValueError` that says why for one of its own.

    Attributes:
        error: What says why.
    """

    def __init__(self, error: OrricError) -> None:
        super().__init__(error)
        self.error = error


def restart(search: Search, number: int, folder: str | None) -> tuple[float, list[float], int, int]:
    """Run one search; return the least ratio, its point, and the numbers of evaluations and improvements."""
    from scipy.optimize import differential_evolution

    rng = generator(search.seed, "adversary", number)
    best: tuple[float, Array] = (math.inf, np.zeros(search.size))
    count = improvements = 0
    log = (Path(folder) / f"restart-{number}.jsonl").open("w", encoding="utf-8") if folder else None
    known: dict[bytes, float] = {}

    def measured(point: Array) -> float:
        nonlocal best, count, improvements
        if count >= search.evaluations:
            raise _SpentError
        count += 1
        profile, trace = search.instance(point)
        given = trace.requests, trace.budget_macs, point[search.ranges.size :]
        # Long traces would fill the memory.
        key = blake2b(b"".join(values.tobytes() for values in given), digest_size=16).digest()
        if key not in known:
            try:
                known[key] = search.ratio(profile, trace)
            except OrricError as error:
                raise _FailedError(error) from error
        ratio = known[key]
        if ratio < best[0]:
            best, improvements = (ratio, np.array(point)), improvements + 1
            if log:
                log.write(json.dumps({"ratio": ratio, "evaluation": count, "point": best[1].tolist()}) + "\n")
                log.flush()
        return ratio

    limits: Any = [(0.0, 1.0)] * search.size
    starts = np.zeros((0, search.size))
    if search.constructions:
        given = search.ranges.constructions(search.profile)
        starts = np.hstack([given, np.full((len(given), search.size - given.shape[1]), 0.5)])
    try:
        for start in starts:
            measured(start)
        # A part is kept for descending, more of it on a grid, where a descent ends soon and can be begun again. Each
        # global search uses what it is given and is begun again if it ends early.
        share = search.evaluations - search.evaluations // (5 if search.ranges.levels is None else 2)
        while count < share:
            if METHODS[number % len(METHODS)] == "blocks":
                begin = starts[int(rng.integers(len(starts)))] if len(starts) else rng.random(search.size)
                _reset_blocks(search, measured, begin, rng, lambda: share - count)
            else:
                population = rng.random((max(4 * search.size, 20), search.size))
                population = np.vstack([starts, population[len(starts) :]]) if len(starts) < len(population) else starts
                differential_evolution(
                    measured, limits, init=population, rng=rng, polish=False, tol=1e-6, mutation=(0.4, 0.9),
                    maxiter=max((share - count) // len(population) - 1, 1),
                )  # fmt: skip
        _descend(search, measured, *best, rng)
        while True:
            # Begun a few coordinates away, some descents end lower.
            point = np.array(best[1])
            moved = rng.choice(search.size, size=min(1 + int(rng.geometric(0.5)), search.size), replace=False)
            point[moved] = rng.random(len(moved))
            _descend(search, measured, measured(point), point, rng)
    except _SpentError:
        pass
    except _FailedError as failed:
        raise failed.error from failed.error.__cause__
    finally:
        if log:
            log.close()
    return best[0], best[1].tolist(), count, improvements


def _reset_blocks(
    search: Search, measured: Callable[[Array], float], point: Array, rng: np.random.Generator, left: Callable[[], int]
) -> None:
    """Reset whole blocks of slots, and keep what is no better for the allocator, until none of many does it any harm.

    What hurts an allocator are courses of many slots, a rush after a lull, and hardly ever a single slot.

    Args:
        search: What is searched.
        measured: Measures a point.
        point: To begin from, shape (size,).
        rng: Draws the moves.
        left: Returns how many points may yet be measured.
    """
    half, value, stale = search.ranges.size // 2, measured(point), 0
    while stale < PATIENCE * search.size and left() > 0:
        moved = point.copy()
        width = min(int(rng.geometric(min(4 / half, 1.0))), half)
        # Requests, budgets, or both of the same slots.
        for column in ((0,), (1,), (0, 1))[int(rng.integers(3))]:
            place = column * half + int(rng.integers(half - width + 1))
            first = int(rng.integers(half - width + 1)) + column * half
            kinds = (rng.random(), float(rng.integers(2)), rng.random(width), moved[place : place + width].copy())
            moved[first : first + width] = kinds[int(rng.integers(len(kinds)))]
        if search.size > 2 * half and rng.random() < 1 / 3:
            moved[2 * half + int(rng.integers(search.size - 2 * half))] = rng.random()
        ratio = measured(moved)
        stale = 0 if ratio < value else stale + 1
        if ratio <= value:
            point, value = moved, ratio


def _descend(
    search: Search, measured: Callable[[Array], float], value: float, point: Array, rng: np.random.Generator
) -> None:
    """Go down from a point by moves that worst cases have in common, in ever smaller steps; on a grid, in its steps."""
    levels, size = search.ranges.levels, search.ranges.size
    step, least, margin = 0.25, 1e-4, np.zeros(search.size)
    if levels is not None:
        # In the middle of its level, a coordinate is a whole step from the next level.
        step, least, margin[:size] = 1 / levels, 1 / levels, 0.5 / levels
        point = np.array(point)
        point[:size] = (np.minimum(np.floor(point[:size] * levels), levels - 1) + 0.5) / levels
    together = [(half, kind) for half in (slice(size // 2), slice(size // 2, size)) for kind in ("down", "up")]
    while step >= least:
        before = value
        each = [(int(k), kind) for k in rng.permutation(search.size) for kind in MOVES]
        for place, kind in [*each, *together]:
            moved = np.clip(_moved(point, place, kind, step), margin, 1 - margin)
            if not np.array_equal(moved, point) and (ratio := measured(moved)) < value:
                point, value = moved, ratio
        if value >= before * (1 - 1e-9):
            step /= 2


def _moved(point: Array, place: Any, kind: str, step: float) -> Array:
    """Move a coordinate to an end of its range, to its neighbour's value, or by a step; a slice by steps only."""
    moved = point.copy()
    if kind in ("least", "most"):
        moved[place] = float(kind == "most")
    elif kind in ("before", "after"):
        moved[place] = point[(place + (1 if kind == "after" else -1)) % len(point)]
    else:
        moved[place] += step if kind == "up" else -step
    return moved


def shrink(
    search: Search,
    profile: Profile,
    trace: Trace,
    tolerance: float,
    progress: Callable[[str], object] = lambda what: None,
) -> tuple[Trace, float]:
    """Make a trace shorter and its numbers rounder without raising its ratio by more than a tolerance.

    Slots are left out, numbers are made equal to their neighbour's, and rounded to as few digits as the ratio
    bears; whatever keeps the ratio within (1 + tolerance) of the given trace's stays.

    Args:
        search: What was searched; ranges still hold.
        profile: The profile of the worst case.
        trace: The worst trace.
        tolerance: Relative, say 1e-3.
        progress: Told what is being tried.

    Returns:
        The trace and its ratio.
    """
    ratio = search.ratio(profile, trace)
    limit = ratio * (1 + tolerance)
    kept = {"requests": trace.requests.copy(), "budget_macs": trace.budget_macs.copy()}

    def holds(**changed: Array) -> bool:
        nonlocal kept, ratio
        candidate = _trace({**kept, **changed})
        if not search.ranges.contains(candidate):
            return False
        measured = search.ratio(profile, candidate)
        if measured > limit:
            return False
        kept, ratio = {**kept, **changed}, measured
        return True

    progress("leaving out slots")
    width = max(trace.slots // 2, 1)
    while width >= 1:
        begin = 0
        while begin < len(kept["requests"]) > width:
            rest = np.delete(np.arange(len(kept["requests"])), slice(begin, begin + width))
            if not rest.size or not holds(**{name: values[rest] for name, values in kept.items()}):
                begin += width
        width //= 2
    progress("rounding numbers")
    for slot in range(len(kept["requests"])):
        for name, ends in (("requests", search.ranges.requests), ("budget_macs", search.ranges.budget_macs)):
            number = float(kept[name][slot])
            simpler = [float(kept[name][slot - 1])] if slot else []
            simpler += [*ends, *(float(f"{number:.{digits}g}") for digits in (1, 2, 3, 4))]
            for candidate in simpler:
                changed = kept[name].copy()
                changed[slot] = candidate
                if candidate == number or holds(**{name: changed}):
                    break
    return _trace(kept), ratio


def _trace(columns: dict[str, Array]) -> Trace:
    return Trace(requests=columns["requests"], budget_macs=columns["budget_macs"])
