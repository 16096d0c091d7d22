"""Streams under one budget, as ORRIC weighs them, and the answers that they may get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orric.allocators.base import Array, StreamTask, Task
from orric.allocators.interference import timely_streams
from orric.allocators.knapsack import Classes, Rows, Selection
from orric.allocators.orric import future_weights, retraining_scale
from orric.allocators.ranges import Ranges
from orric.allocators.timely import Choices, Demand, Plan, TimelyStreams
from orric.configuration import InferenceConfiguration, RetrainingConfiguration, StreamAllocation
from orric.learning import LearningExtent
from orric.objective import feasible_together


class StreamsTogether:
    """Streams under one budget, as ORRIC weighs them.

    Args:
        task: Of all streams.
        streams: Indices of those meant, at least one, shape (n,).
        gpu: Index of the GPU whose budget it is; None for one pooled of several.
        ranges: Of all streams of the task.

    Attributes:
        alpha: That of Theorem 4 for all of them, by their declared ranges and in-time parts of 1: the mean of
            L A^T_max D_min^2 A^I_min / (F D_max^2 A^I_max), weighted by F A^I_max D_max.
        least: What serving them earns at the least in a slot, in ORRIC's weights, were all of it in time.
        timely: How they are served in time; None where no stream has a deadline, or where nobody knows the GPU.
    """

    def __init__(self, task: Task, streams: Array, gpu: int | None, ranges: Ranges) -> None:
        self.streams, self.gpu, self.name, self._ranges = streams, gpu or 0, task.gpus[gpu or 0], ranges
        meant = [task.streams[k] for k in streams.tolist()]
        self.timely: TimelyStreams | None = None
        known = gpu is not None and task.devices and task.capacities_macs
        if known and any(one.timeliness is not None and one.timeliness.deadline_s < np.inf for one in meant):
            assert gpu is not None
            here = [_served_by(one, task.capacities_macs[gpu] / _at_home(task, one)) for one in meant]
            self.timely = timely_streams(here, task.devices[gpu], task.capacities_macs[gpu])
        memories: dict[LearningExtent, int] = {}
        self._memory = np.array([memories.setdefault(one.memory, len(memories)) for one in meant], np.intp)
        # h_t of every memory that occurs, shape (memories, T).
        self._future = np.array([future_weights(task.horizon, one) for one in memories])
        self._scales = np.array([retraining_scale(one) for one in meant])
        self._serving = np.array([one.best_accuracy for one in meant])
        self._first_serving = self._serving - np.array([one.slope_floor * one.retraining[-1].profit for one in meant])
        self._cheapest = np.array([one.cheapest_macs for one in meant])
        most = [one.best_accuracy * one.inference[-1].profit * one.most_requests for one in meant]
        rising = [
            scale * one.retraining[-1].profit * one.least_requests
            for scale, one in zip(self._scales, meant, strict=True)
        ]
        self.alpha = float(sum(rising) / sum(most))
        self.least = float(sum(one.least_requests * one.best_accuracy * one.inference[0].profit for one in meant))
        groups = np.concatenate([self._memory, np.full(len(meant), len(memories))])
        items = [_items(one.retraining) for one in meant] + [_items(one.inference) for one in meant]
        self.classes = Classes(Rows.of_kinds(items), groups, np.concatenate([self._scales, self._serving]))

    def weights(self, slot: int, requests: Array) -> Array:
        """Return V_t of all streams and then W_t of all, shape (2 n,).

        Args:
            slot: Index from 1.
            requests: D(t) of these streams, shape (n,).
        """
        serving = self._first_serving if slot == 1 else self._serving
        scales = self._scales * self._ranges.narrowed(requests, self.streams)
        return np.concatenate([scales * self.future(slot), serving])

    def future(self, slot: int) -> Array:
        """Return h_t of every stream, shape (n,)."""
        found: Array = self._future[self._memory, min(slot, self._future.shape[1]) - 1]
        return found

    def fit(self, requests: Array, budget_macs: float) -> bool:
        """Say whether the cheapest pairs fit the budget."""
        return feasible_together(requests, 0.0, self._cheapest, budget_macs)

    def choices(self, demand: Demand) -> Choices | None:
        """Return what there is to choose from; None where not even the cheapest pairs fit."""
        if not self.fit(demand.requests, demand.budget_macs):
            return None
        if self.timely is not None and demand.budget_macs > 0:
            return self.timely.choices(demand)
        return PlainChoices(self.classes, demand)

    def part_earned(self, plan: Plan, demand: Demand) -> float:
        """Return which part of what a plan's configurations would earn in all time it earns in time."""
        profits = self.classes.chosen_profits(np.concatenate([plan.retraining, plan.inference]))
        serving = demand.requests * self._serving
        whole = float((serving * profits[len(serving) :]).sum())
        return float((serving * plan.earned).sum()) / whole if whole else 1.0

    def costs(self, plan: Plan) -> Array:
        """Return what the pairs of a plan cost per request, shape (n,)."""
        costs = self.classes.chosen_costs(np.concatenate([plan.retraining, plan.inference]))
        half = len(self.streams)
        total: Array = costs[:half] + costs[half:]
        return total


class PlainChoices(Choices):
    """Where nobody has a deadline: a pair earns the same however fast it is served.

    Args:
        classes: Retraining of all streams and then inference of all.
        demand: What is asked of them.
    """

    def __init__(self, classes: Classes, demand: Demand) -> None:
        super().__init__(demand)
        self._classes, self._sizes = classes, np.concatenate([demand.requests, demand.requests])

    def bound(self, weights: Array) -> float:
        return self._classes.bound(weights, self._sizes, self.demand.budget_macs)

    def best(self, weights: Array, gap: float) -> Plan:
        half = len(self.requests)
        found = self._classes.select(weights, self._sizes, self.demand.budget_macs, gap, self._keeps)
        if found is None:
            # The cheapest pairs fit, if only by less than rounding.
            found = self._classes.least(weights, self._sizes)
        earned = self._classes.chosen_profits(found.items)[half:]
        return Plan(found.items[:half], found.items[half:], earned, found.value, found.bound)

    def plan(self, retraining: Array, inference: Array, shares: Array, weights: Array) -> Plan:
        profits = self._classes.chosen_profits(np.concatenate([retraining, inference]))
        value = float((self._sizes * weights * profits).sum())
        return Plan(retraining, inference, profits[len(self.requests) :], value, value)

    def value(self, plan: Plan, weights: Array) -> float:
        return self.plan(plan.retraining, plan.inference, plan.earned, weights).value

    def _keeps(self, found: Selection) -> bool:
        """Say whether a selection keeps to the budget."""
        costs, half = self._classes.chosen_costs(found.items), len(self.requests)
        return feasible_together(self.requests, costs[:half], costs[half:], self.demand.budget_macs)


class Answers:
    """Every allocation that a stream may get, made once: an answer without shares is a lookup.

    Args:
        streams: The streams of a task.
        gpus: GPUs that an answer may name; None for answers that name none.
    """

    def __init__(self, streams: Sequence[StreamTask], gpus: Sequence[str | None] = (None,)) -> None:
        blocks: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
        table: list[StreamAllocation] = []
        begins, widths = [], []
        for stream in streams:
            names = tuple(one.name for one in stream.retraining), tuple(one.name for one in stream.inference)
            if names not in blocks:
                blocks[names] = len(table)
                table += [StreamAllocation(i, j, gpu=gpu) for i in names[0] for j in names[1] for gpu in gpus]
            begins.append(blocks[names])
            widths.append(len(names[1]))
        self._begins, self._widths, self._gpus = np.array(begins), np.array(widths), len(gpus)
        self._table = np.empty(len(table), object)
        self._table[:] = table

    def of(self, plans: Sequence[tuple[Array, Plan | None]], gpus: Array | None = None) -> tuple[StreamAllocation, ...]:
        """Return the allocations of all streams.

        Args:
            plans: Of every GPU the indices of its streams and their plan; None for the cheapest pairs.
            gpus: Index of the GPU that each answer names, shape (K,).
        """
        count = len(self._begins)
        retraining, inference = np.zeros(count, np.intp), np.zeros(count, np.intp)
        shared: list[tuple[Array, Plan]] = []
        for streams, plan in plans:
            if plan is not None:
                retraining[streams], inference[streams] = plan.retraining, plan.inference
                if plan.inference_shares is not None:
                    shared.append((streams, plan))
        places = self._begins + (retraining * self._widths + inference) * self._gpus + (0 if gpus is None else gpus)
        found = self._table[places]
        for streams, plan in shared:
            assert plan.inference_shares is not None
            assert plan.retraining_shares is not None
            given = zip(streams.tolist(), plan.inference_shares.tolist(), plan.retraining_shares.tolist(), strict=True)
            for k, serving, labelling in given:
                one = found[k]
                found[k] = StreamAllocation(one.retraining, one.inference, serving, labelling, gpu=one.gpu)
        return tuple(found.tolist())


def _at_home(task: Task, stream: StreamTask) -> float:
    """Return what the GPU on which a stream is at home does in a slot."""
    return task.capacities_macs[task.gpus.index(stream.gpu)]


def _served_by(stream: StreamTask, quicker: float) -> StreamTask:
    """Return a stream as a GPU serves it that is so many times as quick as the one at home."""
    told = stream.timeliness
    if told is None or quicker == 1:
        return stream
    fixed_s, each_s = (tuple(one / quicker for one in times_s) for times_s in (told.fixed_s, told.each_s))
    return replace(stream, timeliness=replace(told, fixed_s=fixed_s, each_s=each_s))


def _items(
    configurations: Sequence[RetrainingConfiguration] | Sequence[InferenceConfiguration],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(one.profit for one in configurations), tuple(one.cost_macs for one in configurations)
