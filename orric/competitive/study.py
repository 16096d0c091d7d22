"""Competitive ratios over many traces: a seeded ensemble, and horizons from short to long."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from orric.allocators import make_allocator
from orric.competitive.adversary import Search, restart
from orric.competitive.bounds import Bounds, bounds
from orric.competitive.optimum import offline_optimum
from orric.competitive.problem import Overload
from orric.competitive.ranges import TraceRange
from orric.competitive.ratio import competitive_ratio
from orric.exceptions import OrricError
from orric.profile import Profile
from orric.randomness import generator
from orric.slot_model import evaluate
from orric.trace import Trace
from orric.workers import in_parallel

Array = np.ndarray[Any, Any]
Span = tuple[float, float]

# Traces per call to a worker: enough to be worth the call, few enough to show progress.
BATCH = 50
# Runs of equal slots in the traces that are searched for long horizons.
RUNS = 10


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Ratios of several allocators over the same traces.

    Attributes:
        low: Low ends by allocator, shape (traces,) each.
        high: High ends, likewise.
        failed: What went wrong, by allocator; such an allocator has no ratios.
    """

    low: dict[str, Array]
    high: dict[str, Array]
    failed: dict[str, OrricError]


def ends_of(found: Ensemble) -> dict[str, dict[str, Any]]:
    """Return every allocator's worst ratio with the number of its trace, from 0, and its mean, as plain values."""
    return {
        name: {
            "worst": {"low": float(found.low[name][n]), "high": float(found.high[name][n]), "number": n},
            "mean": {"low": float(found.low[name].mean()), "high": float(found.high[name].mean())},
        }
        for name in found.high
        for n in [int(found.high[name].argmin())]
    }


@dataclass(frozen=True)
class Horizon:
    """What is proved and measured for one number of slots.

    Attributes:
        slots: T.
        proved: The theorems' bounds.
        worst: Ratio [low, high] of the worst trace tried, by allocator.
    """

    slots: int
    proved: Bounds
    worst: dict[str, Span]


def measured(
    profile: Profile, traces: Sequence[Trace], names: Sequence[str], gap: float, overload: Overload, seed: int
) -> tuple[list[dict[str, Span]], dict[str, OrricError]]:
    """Measure every allocator on every trace; return the ratios and what failed."""
    rows: list[dict[str, Span]] = []
    failed: dict[str, OrricError] = {}
    for trace in traces:
        best = offline_optimum(profile, trace, gap, overload=overload)
        row = {}
        for name in names:
            if name in failed:
                continue
            try:
                result = evaluate(profile, trace, make_allocator(name), overload=overload, seed=seed)
            except OrricError as error:
                failed[name] = error
                continue
            ratio = competitive_ratio(result, best)
            row[name] = (ratio.low, ratio.high)
        rows.append(row)
    return rows, failed


def drawn_trace(ranges: TraceRange, seed: int, number: int) -> Trace:
    """Return a trace of an ensemble; it depends on the seed and its number, from 0, alone."""
    return ranges.trace(generator(seed, "ensemble", number).random(ranges.size))


def _drawn(
    profile: Profile, ranges: TraceRange, names: Sequence[str], seed: int, numbers: range, gap: float
) -> tuple[list[dict[str, Span]], dict[str, OrricError]]:
    traces = [drawn_trace(ranges, seed, number) for number in numbers]
    return measured(profile, traces, names, gap, "error", seed)


def ensemble(
    profile: Profile,
    ranges: TraceRange,
    names: Sequence[str],
    count: int,
    *,
    seed: int = 0,
    gap: float = 1e-5,
    jobs: int | None = None,
    progress: Callable[[float], object] = lambda part: None,
) -> Ensemble:
    """Measure allocators on random traces, requests and budgets uniform within their ranges.

    Args:
        profile: Configurations and curve.
        ranges: Of the traces.
        names: Of the allocators.
        count: Number of traces.
        seed: Trace n depends on it and on n alone.
        gap: Of the optimum's interval.
        jobs: Worker processes; the answer does not depend on them.
        progress: Called with the share of the traces done.
    """
    ranges.check(profile)
    batches = [range(begin, min(begin + BATCH, count)) for begin in range(0, count, BATCH)]
    answers: dict[int, tuple[list[dict[str, Span]], dict[str, OrricError]]] = {}
    calls = [(profile, ranges, tuple(names), seed, batch, gap) for batch in batches]
    for number, answer in in_parallel(_drawn, calls, jobs):
        answers[number] = answer
        progress(len(answers) / len(batches))
    failed = {name: error for n in sorted(answers, reverse=True) for name, error in answers[n][1].items()}
    rows = [row for n in sorted(answers) for row in answers[n][0]]
    ends = [{name: np.array([row[name][k] for row in rows]) for name in names if name not in failed} for k in (0, 1)]
    return Ensemble(ends[0], ends[1], failed)


def horizons(
    profile: Profile,
    ranges: TraceRange,
    slots: Sequence[int],
    names: Sequence[str] = ("orric", "inference-only"),
    *,
    evaluations: int = 200,
    seed: int = 0,
    gap: float = 1e-5,
    jobs: int | None = None,
    progress: Callable[[float], object] = lambda part: None,
) -> list[Horizon]:
    """Search the worst ratio of every allocator, horizon by horizon.

    The search starts from the proofs' constructions and tries traces of at most `RUNS` runs of equal slots, so that
    long horizons are searched as thoroughly as short ones.

    Args:
        profile: Configurations and curve.
        ranges: Of requests and budgets; its number of slots is not used.
        slots: The horizons T.
        names: Of the allocators.
        evaluations: Ratios measured per horizon and allocator.
        seed: Of the searches.
        gap: Of the optimum's interval.
        jobs: Worker processes.
        progress: Called with the share of the work done.
    """
    ranges.check(profile)
    calls = [(profile, ranges.with_slots(horizon), tuple(names), evaluations, seed, gap) for horizon in slots]
    # The longest first, so that no worker is left with it at the end.
    order = sorted(range(len(calls)), key=lambda n: -slots[n])
    answers: dict[int, Horizon] = {}
    for number, answer in in_parallel(_horizon, [calls[n] for n in order], jobs):
        answers[order[number]] = answer
        progress(len(answers) / len(calls))
    return [answers[n] for n in range(len(calls))]


def worst_ratio(
    profile: Profile, ranges: TraceRange, name: str, evaluations: int, *, seed: int = 0, gap: float = 1e-5
) -> Span:
    """Search one allocator's worst ratio from the proofs' constructions; return it as an interval.

    Args:
        profile: Configurations and curve.
        ranges: The traces; of at most `RUNS` runs of equal slots.
        name: Of the allocator.
        evaluations: Ratios measured.
        seed: Of the search.
        gap: Of the optimum's interval for the worst trace.
    """
    coarse = replace(ranges, runs=RUNS)
    search = Search(profile, coarse, name, 1, evaluations, constructions=True, seed=seed, gap=max(gap, 1e-4))
    _, point, _, _ = restart(search, 0, None)
    rows, failed = measured(profile, [coarse.trace(np.array(point))], [name], gap, "error", seed)
    if failed:
        raise failed[name]
    return rows[0][name]


def _horizon(
    profile: Profile, ranges: TraceRange, names: Sequence[str], evaluations: int, seed: int, gap: float
) -> Horizon:
    worst = {name: worst_ratio(profile, ranges, name, evaluations, seed=seed, gap=gap) for name in names}
    # The theorems speak of the whole range of requests, whichever trace was the worst.
    return Horizon(ranges.slots, bounds(profile, ranges.extreme()), worst)
