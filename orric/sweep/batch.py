"""Many runs of the slot model at once: what `orric.evaluate` gives, without a Python object per slot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.allocators.base import Array, SingleStreamAllocator, StreamTask, Task
from orric.exceptions import BudgetError
from orric.objective import feasible, servable
from orric.profile import Profile
from orric.randomness import generator
from orric.scenario import Scenario


@dataclass(frozen=True)
class Laid:
    """What a run is about, laid out over its slots.

    Attributes:
        profile: Configurations, curves and memory.
        overload: "error" or "shed", as in `orric.evaluate`.
        seed: Of the run.
        requests: D(t), shape (T,).
        budget_macs: C(t), shape (T,).
        corruptions: Of each slot, length T.
        severities: Of each slot, shape (T,).
    """

    profile: Profile
    overload: str
    seed: int
    requests: Array
    budget_macs: Array
    corruptions: tuple[str, ...]
    severities: Array

    @classmethod
    def out(cls, scenario: Scenario, seed: int) -> Laid:
        """Lay a scenario of one stream and one GPU out; see `Scenario.trace`."""
        drift = scenario.stream[0].drift.by_slot(scenario.slots, seed)
        return cls(
            scenario.profile,
            scenario.overload,
            seed,
            scenario.requests(seed),
            scenario.budgets_macs(seed),
            drift.corruptions,
            drift.severities,
        )

    @property
    def task(self) -> Task:
        """What an allocator is told first: what `orric.evaluate` tells it."""
        least, most = float(self.requests.min()), float(self.requests.max())
        return Task(len(self.requests), (StreamTask.of(self.profile, least, most),))


@dataclass(frozen=True)
class Evaluated:
    """What came of runs laid end to end.

    Attributes:
        figures: For each run the figures of `Result.summary` that the slot model knows, and "retrained", the part of
            the slots in which it retrained; where overload is "error", the error of a slot whose budget is below the
            cheapest pair.
        lengths: Slots of each run.
        columns: Of all slots, as in `Result.columns`, each of the sum of the lengths; configurations by their index.
    """

    figures: list[dict[str, Any] | BudgetError]
    lengths: Array
    columns: dict[str, Array]


def evaluate_together(runs: Sequence[Laid], allocator: SingleStreamAllocator) -> Evaluated:
    """Evaluate runs of one profile, laid end to end.

    Args:
        runs: All of the same profile object; their horizons may differ.
        allocator: Decides all of them.
    """
    profile, tasks = runs[0].profile, [run.task for run in runs]
    stream = tasks[0].streams[0]
    lengths = np.array([len(run.requests) for run in runs])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    requests = np.concatenate([run.requests for run in runs])
    budgets = np.concatenate([run.budget_macs for run in runs])
    fitting = feasible(requests, 0.0, stream.cheapest_macs, budgets)
    served = servable(requests, stream.inference[0].cost_macs, budgets)
    rngs = [generator(run.seed, "allocator") for run in runs]
    retraining, inference = allocator.choose_many(tasks, rngs, requests, budgets)
    # Where nothing fits there is one defined outcome: the cheapest pair, of which a part is shed.
    retraining, inference = np.where(fitting, retraining, 0), np.where(fitting, inference, 0)
    profits = np.array([one.profit for one in stream.retraining])[retraining]
    retraining_macs = requests * np.array([one.cost_macs for one in stream.retraining])[retraining]
    inference_macs = served * np.array([one.cost_macs for one in stream.inference])[inference]
    extents = np.concatenate(
        [
            profile.memory.extents(requests[start : start + length], profits[start : start + length])[:-1]
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]
    )
    factors = np.array([one.profit for one in stream.inference])[inference]
    correct = _accuracies(profile, runs, extents) * factors * served
    last = np.concatenate([run.severities == run.severities[-1] for run in runs])

    def total(values: Array) -> Array:
        return np.asarray(np.add.reduceat(values, starts))

    sums = {
        "value": [float(correct[start : start + length].sum()) for start, length in zip(starts, lengths, strict=True)],
        "requests": total(requests), "served": total(served), "shed": total(requests - served),
        "retraining_macs": total(retraining_macs), "inference_macs": total(inference_macs), "budget": total(budgets),
        "last_correct": total(np.where(last, correct, 0.0)), "last_requests": total(np.where(last, requests, 0.0)),
        "retrained": total((retraining_macs > 0).astype(float)) / lengths,
    }  # fmt: skip
    short = np.add.reduceat(~fitting, starts) > 0
    found: list[dict[str, Any] | BudgetError] = []
    for number, run in enumerate(runs):
        if short[number] and run.overload == "error":
            slot = int(np.flatnonzero(~fitting[starts[number] :])[0])
            asked = float(run.requests[slot] * stream.cheapest_macs)
            found.append(BudgetError(slot + 1, float(run.budget_macs[slot]), asked))
            continue
        one = {name: float(values[number]) for name, values in sums.items()}
        used = one["retraining_macs"] + one["inference_macs"]
        accuracy = one["value"] / (one["requests"] or 1.0)
        found.append(
            {
                "mean_accuracy": accuracy,
                "worst_stream_accuracy": accuracy if one["requests"] else None,
                "worst_stream_in_time_accuracy": accuracy if one["requests"] else None,
                "last_severity_accuracy": one["last_correct"] / max(one["last_requests"], 1.0),
                "requests": one["requests"],
                "in_time_accuracy": accuracy,
                "served": one["served"],
                "answered": one["served"] / one["requests"] if one["requests"] else None,
                "in_time": one["served"],
                "shed": one["shed"],
                **dict.fromkeys(("late", "abandoned", "lost", "waiting", "overloaded"), 0.0),
                "budget_used": used / one["budget"] if one["budget"] else 0.0,
                "retraining_part": one["retraining_macs"] / used if used else 0.0,
                "macs_per_request": used / (one["requests"] or 1.0),
                "retrained": one["retrained"],
            }
        )
    columns = {
        "requests": requests, "budget_macs": budgets, "retraining": retraining, "inference": inference,
        "retraining_macs": retraining_macs, "inference_macs": inference_macs, "extent": extents, "served": served,
        "shed": requests - served, "correct": correct, "correct_in_time": correct,
    }  # fmt: skip
    return Evaluated(found, lengths, columns)


def _accuracies(profile: Profile, runs: Sequence[Laid], extents: Array) -> Array:
    """Return f_t(x_t) in every slot of all runs, one call of a curve for each drift."""
    numbers: dict[tuple[str, int], int] = {}
    parts = []
    for run in runs:
        names, severities = run.corruptions, run.severities
        if len(set(names)) == 1:
            known = {
                int(level): numbers.setdefault((names[0], int(level)), len(numbers)) for level in np.unique(severities)
            }
            levels = np.array([known.get(level, -1) for level in range(6)])
            parts.append(levels[severities])
        else:
            pairs = zip(names, severities.tolist(), strict=True)
            parts.append(np.array([numbers.setdefault(pair, len(numbers)) for pair in pairs]))
    drifts = np.concatenate(parts)
    accuracies = np.empty(len(extents))
    for (name, severity), number in numbers.items():
        chosen = drifts == number
        (curve,) = profile.curves_for([name], [severity])
        accuracies[chosen] = curve(extents[chosen])
    return accuracies
