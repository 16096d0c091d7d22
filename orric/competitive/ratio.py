"""The measured competitive ratio as an interval, regret, and the slots that lost it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.competitive.exact import exact_optimum
from orric.exceptions import ScenarioError
from orric.records import Result
from orric.slot_model import evaluate

if TYPE_CHECKING:
    from orric.allocators.base import Allocator
    from orric.competitive.optimum import OfflineOptimum
    from orric.profile import Profile
    from orric.trace import Trace

Array = np.ndarray[Any, Any]

# Up to so many paths, following them all is quicker than enclosing the optimum.
FEW_PATHS = 1e6


@dataclass(frozen=True, eq=False)
class CompetitiveRatio:
    """What an allocator earned of the offline optimum.

    Attributes:
        low: Its value divided by the upper end of the optimum.
        high: Its value divided by the lower end, at most 1.
        regret: Least and largest regret (optimum minus value), in correct requests.
        losses: What the optimum's allocations earn more than the allocator's, slot by slot, shape (T,); negative
            where the allocator is ahead, for instance while the optimum retrains for later.
    """

    low: float
    high: float
    regret: tuple[float, float]
    losses: Array


def competitive_ratio(result: Result, best: OfflineOptimum) -> CompetitiveRatio:
    """Compare a result of the slot model with the offline optimum of the same profile and trace.

    Where the optimum is of right answers in time, so is the result's value here.

    Raises:
        ScenarioError: The two are of different traces, or of different in-time parts.

    >>> import orric
    >>> profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    >>> trace = orric.Trace(requests=[1000] * 20, budget_macs=[5e10] * 20)
    >>> best = orric.offline_optimum(profile, trace, gap=1e-6)
    >>> ratio = competitive_ratio(orric.evaluate(profile, trace, orric.Orric()), best)
    >>> 0.9 < ratio.low <= ratio.high <= 1
    True
    """
    claimed = best.certificate.claim["trace"]
    if not all(np.array_equal(result.columns[name], claimed[name]) for name in ("requests", "budget_macs")):
        raise ScenarioError(
            "competitive ratio", "the result and the optimum are of different traces", "use the same one"
        )
    earned = _earned(result, best)
    value = float(earned.sum())
    return CompetitiveRatio(
        low=value / best.upper if best.upper > 0 else 1.0,
        # Rounding aside, nobody earns more than the optimum.
        high=min(value / best.lower, 1.0) if best.lower > 0 else 1.0,
        regret=(max(best.lower - value, 0.0), max(best.upper - value, 0.0)),
        losses=best.correct - earned,
    )


def _earned(result: Result, best: OfflineOptimum) -> Array:
    """Return what each slot earns in the optimum's sense: right answers, or right ones in time; shape (T,)."""
    columns, given = result.columns, best.certificate.claim.get("in_time")
    if given is None:
        return columns["correct"]
    i, j = ([given[kind].index(name) for name in columns[kind].tolist()] for kind in ("retraining", "inference"))
    parts = np.array(given["parts"])[np.arange(len(i)), i, j]
    timely = np.minimum(parts * columns["requests"], columns["served"])
    if not np.allclose(columns["late"], columns["served"] - timely, rtol=1e-9, atol=1e-9):
        found = "the result and the optimum are of different in-time parts"
        raise ScenarioError("competitive ratio", found, "give both the same")
    return columns["correct_in_time"]


def span_in_words(low: float, high: float, digits: int = 4) -> str:
    """Write an interval, its ends rounded outwards.

    >>> span_in_words(0.93121, 0.93123), span_in_words(0.25, 0.25)
    ('0.9312 to 0.9313', '0.2500')
    """
    scale = 10**digits
    # What is exact but for rounding is not widened.
    ends = math.floor(low * scale + 1e-6) / scale, math.ceil(high * scale - 1e-6) / scale
    return " to ".join(dict.fromkeys(f"{end:.{digits}f}" for end in ends))


def quick_ratio(
    profile: Profile,
    trace: Trace,
    allocator: Allocator,
    *,
    seeds: Sequence[int] = (0,),
    gap: float = 1e-5,
    in_time: Any = None,
) -> float:
    """Return an upper end of the competitive ratio, quickly.

    For searches, which ask many times; `competitive_ratio` gives the interval. The optimum is exact for few slots,
    else a lower end within `gap` (under window memory within whatever can be had). With in-time parts late answers do
    not count, and where none can be in time the ratio is 1. Of several seeds the mean value counts, as of an allocator
    against an adversary who does not see its draws.
    """
    results = [evaluate(profile, trace, allocator, seed=seed, in_time=in_time) for seed in seeds]
    value = math.fsum(result.columns["correct_in_time"].sum() for result in results) / len(results)
    if trace.slots * math.log(len(profile.retraining)) <= math.log(FEW_PATHS):
        best = exact_optimum(profile, trace, in_time=in_time)[0]
    else:
        from orric.competitive.optimum import offline_optimum

        best = offline_optimum(profile, trace, gap, in_time=in_time).lower
    return value / best if best > 0 else 1.0
