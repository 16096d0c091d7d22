"""What a report draws over the slots: of each stream, of all of them, and of each GPU, slot by slot or bin by bin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from orric.records import STAGES, Array, Result

# Per slot: mean of a bin.
COUNTS = ("requests", "waiting", "late", "shed", "gone")
# Over those whose end came in the slot, or that were answered in it: parts, of sums over a bin.
PARTS = ("accuracy", "in_time", "answered")
# Means of a bin weighted by the answered requests.
LATENCIES = ("p50_s", "p99_s")
USES = (*STAGES, "down", "budget")
# Drawn with the least and the greatest slot of a bin.
BANDED = ("requests", "waiting", "accuracy", "in_time", "answered", "p99_s")
# Of single slots only: which configuration was chosen.
CHOICES = ("retraining", "inference")


@dataclass(frozen=True)
class Series:
    """Several lines over the same slots.

    Attributes:
        values: By channel, shape (T, lines).
        weights: Of the channels that are no plain means: what a slot's value weighs in its bin, same shape.
        choices: Of `CHOICES` the names chosen, same shape; they are told of single slots only.
        names: Of each of these the names that there are; their places stand for them.
    """

    values: Mapping[str, Array]
    weights: Mapping[str, Array]
    choices: Mapping[str, Array] = field(default_factory=dict)
    names: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def slots(self) -> int:
        """How many slots there are."""
        return len(next(iter(self.values.values())))

    def binned(self, first: int, size: int, bins: int) -> dict[str, Array]:
        """Return means of bins, and of some channels the least and the greatest slot of each; shape (bins, lines).

        Args:
            first: Index of the first slot, from 0.
            size: Slots in a bin; the last one may have fewer.
            bins: How many bins.
        """
        last = min(first + size * bins, self.slots)
        edges = np.arange(0, last - first, size)
        found: dict[str, Array] = {}
        for name, whole in self.values.items():
            values = whole[first:last]
            if size == 1:
                found[name] = values
                continue
            known = np.isfinite(values)
            weights = np.where(known, self.weights[name][first:last] if name in self.weights else 1.0, 0.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                sums = np.add.reduceat(np.where(known, values, 0.0) * weights, edges, axis=0)
                found[name] = sums / np.add.reduceat(weights, edges, axis=0)
            if name in BANDED:
                found[f"{name}_low"] = np.fmin.reduceat(values, edges, axis=0)
                found[f"{name}_high"] = np.fmax.reduceat(values, edges, axis=0)
        for name, whole in self.choices.items() if size == 1 else ():
            chosen, places = whole[first:last], np.full(whole[first:last].shape, np.nan)
            for place, one in enumerate(self.names[name]):
                places[chosen == one] = place
            found[name] = places
        return found


def series_of_streams(result: Result, choices: Mapping[str, Sequence[str]]) -> Series:
    """Return the lines of every stream.

    Args:
        result: With one row per slot and stream.
        choices: Names of the configurations, retraining and inference.
    """
    rows = _rows(result)
    values, weights = _of_requests(rows)
    # Latencies are of those that were answered.
    for name, column in zip(LATENCIES, ("latency_p50_s", "latency_p99_s"), strict=True):
        values[name], weights[name] = rows[column], rows["served"]
    values.update(_uses(result, rows))
    return Series(values, weights, {name: rows[name] for name in CHOICES}, choices)


def series_of_all(result: Result) -> Series:
    """Return the one line of all streams together; its p99 is that of the stream that waits longest."""
    rows = _rows(result)
    summed = {name: rows[name].sum(axis=1, keepdims=True) for name in _NEEDED}
    values, weights = _of_requests(summed)
    median_s, served = rows["latency_p50_s"], np.where(np.isfinite(rows["latency_p50_s"]), rows["served"], 0.0)
    total = served.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        values["p50_s"] = (np.where(served > 0, median_s, 0.0) * served).sum(axis=1, keepdims=True) / total
    values["p99_s"] = np.fmax.reduce(rows["latency_p99_s"], axis=1, keepdims=True)
    return Series(values, {**weights, "p50_s": total, "p99_s": total})


def series_of_gpus(result: Result, capacities_macs: Mapping[str, float]) -> tuple[list[str], Series]:
    """Return the names of the GPUs and the lines of each; of a slot model one that all streams share.

    Args:
        result: With its GPUs' columns, or without.
        capacities_macs: What each GPU can do in a slot, by name; without it the budget is not drawn.
    """
    if not result.gpu_columns:
        rows = _rows(result)
        uses = {name: part.sum(axis=1, keepdims=True) for name, part in _uses(result, rows).items()}
        budgets = result.budgets_macs[:, None]
        return ["the budget"], Series({**uses, "down": 0 * budgets, "budget": budgets / _most(result)}, {})
    names = list(dict.fromkeys(result.gpu_columns["gpu"].tolist()))
    columns = {name: result.gpu_columns[name].reshape(-1, len(names)) for name in (*STAGES, "down", "budget_macs")}
    budgets = columns.pop("budget_macs") / np.array([capacities_macs.get(name, np.nan) for name in names])
    return names, Series({**columns, "budget": budgets}, {})


_NEEDED = ("requests", "served", "shed", "abandoned", "lost", "waiting", "late", "correct", "correct_in_time")


def _rows(result: Result) -> dict[str, Array]:
    """Return the columns with one row per slot, shape (T, streams)."""
    count = len(result.streams)
    return {name: values.reshape(-1, count) for name, values in result.columns.items()}


def _of_requests(rows: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return counts and parts, and what the parts weigh."""
    gone = rows["abandoned"] + rows["lost"]
    ended = rows["served"] + rows["shed"] + gone
    values = {name: rows[name] for name in COUNTS if name != "gone"} | {"gone": gone}
    with np.errstate(invalid="ignore", divide="ignore"):
        values["accuracy"] = rows["correct"] / ended
        values["in_time"] = rows["correct_in_time"] / ended
        values["answered"] = rows["correct"] / rows["served"]
    return values, {"accuracy": ended, "in_time": ended, "answered": rows["served"]}


def _uses(result: Result, rows: Mapping[str, Array]) -> dict[str, Array]:
    """Return what each stream used of its GPU; of the largest budget, where nobody measured the GPU."""
    if result.gpu_columns and all(name in rows for name in STAGES):
        return {name: rows[name] for name in STAGES}
    nothing, most = np.zeros_like(rows["requests"]), _most(result)
    spent = {"serving": rows["inference_macs"] / most, "training": rows["retraining_macs"] / most}
    return {name: spent.get(name, nothing) for name in STAGES}


def _most(result: Result) -> float:
    return float(result.budgets_macs.max(initial=0.0)) or 1.0
