"""Accuracy against what it costs: one point per result, with the interval that one run's own slots give."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from orric.records import Array, Result
from orric.report.facts import leading, leading_name
from orric.statistics import mean_interval

MOST_BATCHES, LEAST_SLOTS = 20, 20
# By key: heading, key of the summary, factor.
COSTS = {
    "macs_per_request": "compute per request, inference and retraining (MACs)",
    "latency_p99_s": "p99 latency of the answered (s)",
    "energy_j": "energy (J)",
}


def batches_of(slots: int) -> int:
    """Return into how many parts a run is cut for its interval, 0 where it is too short."""
    return 0 if slots < LEAST_SLOTS else min(MOST_BATCHES, slots // 2)


def points(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Place every result: its leading measure and its costs, each with an interval from batch means where it has one.

    Args:
        results: One row per slot and stream.
    """
    right = "correct_in_time" if leading_name(results) == "in-time accuracy" else "correct"
    found = []
    for result in results:
        summary, rows = result.summary(), result.columns
        macs = rows["retraining_macs"] + rows["inference_macs"]
        costs: dict[str, Any] = {}
        for key in COSTS:
            value = summary[key]
            costs[key] = None if value is None or not math.isfinite(value) else [value, value, value]
        if costs["macs_per_request"]:
            costs["macs_per_request"] = _with_interval(
                costs["macs_per_request"][0], _ratios(result, macs, rows["requests"])
            )
        if costs["energy_j"]:
            energy = _sums(result.gpu_columns["energy_j"], len(result.columns["slot"]) // len(result.streams))
            costs["energy_j"] = _with_interval(costs["energy_j"][0], energy * len(energy))
        accuracy = leading(result)
        place = _with_interval(accuracy, _ratios(result, rows[right], rows["requests"]))
        found.append({"accuracy": place if math.isfinite(accuracy) else None, **costs})
    return found


def front(places: Sequence[Mapping[str, Any]], key: str, eligible: Callable[[int], bool]) -> list[int]:
    """Return the places that no other beats in accuracy and in a cost at once, from the cheapest on.

    Args:
        places: From `points`.
        key: Of the cost.
        eligible: Says which places may be on the front.
    """
    known = [n for n, one in enumerate(places) if one["accuracy"] and one[key] and eligible(n)]
    order = sorted(known, key=lambda n: (places[n][key][0], -places[n]["accuracy"][0]))
    best, found = -math.inf, []
    for n in order:
        if places[n]["accuracy"][0] > best:
            best = places[n]["accuracy"][0]
            found.append(n)
    return found


def _with_interval(value: float, batches: Array) -> list[float]:
    """Return a value and the ends of its interval: as far off as the batches' own mean has them."""
    interval = mean_interval(batches)
    if not math.isfinite(interval.half_width):
        return [value, value, value]
    return [value, max(value - interval.half_width, 0.0), value + interval.half_width]


def _sums(values: Array, slots: int) -> Array:
    """Return the sums over each batch of slots; no batches where there are too few slots."""
    count = batches_of(slots)
    by_slot = values.reshape(slots, -1).sum(axis=1)
    edges = np.arange(count) * slots // max(count, 1)
    sums: Array = np.add.reduceat(by_slot, edges) if count else np.zeros(0)
    return sums


def _ratios(result: Result, above: Array, below: Array) -> Array:
    slots = len(result.columns["slot"]) // len(result.streams)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios: Array = _sums(above, slots) / _sums(below, slots)
    return ratios
