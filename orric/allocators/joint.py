"""ORRIC for many streams under the budgets of one or several GPUs: one multiple-choice knapsack per slot and GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from orric.allocators.base import Allocator, Array, Slot, StreamTask, Task
from orric.allocators.knapsack import Classes, Selection
from orric.allocators.orric import Orric, future_weights, retraining_scale
from orric.allocators.ranges import Ranges
from orric.configuration import Allocation, InferenceConfiguration, RetrainingConfiguration, StreamAllocation
from orric.exceptions import ScenarioError
from orric.learning import LearningExtent
from orric.objective import feasible, feasible_together
from orric.records import Observation


class JointOrric(Allocator):
    """Decide as ORRIC does for all streams of a GPU at once, by one knapsack per slot; proved competitive.

    In every slot and on every GPU it maximises sum_k D_k (V_t^k A^T_i(k) + W_t^k A^I_j(k)) under
    sum_k D_k (C^T_i(k) + C^I_j(k)) <= C(t): a multiple-choice knapsack of 2 K classes, solved to within `gap` of the
    best. ORRIC's guarantee holds for all streams together, times (1 - gap). One stream alone is decided as by `Orric`.
    Streams stay on their GPUs. Requests that leave a stream's range widen it, see `Ranges`.

    O(K (M + N)) per slot, with a merge of slopes that are sorted once; see `Classes.select`.

    Args:
        gap: How near to the best is near enough, (bound - value) / bound, in [0, 1); 0 asks for the best, for up to
            some dozens of streams.

    Attributes:
        gaps: Of the last decision the gap reached on each GPU; NaN where not even the cheapest pairs fit.

    Raises:
        ScenarioError: The gap is not in [0, 1).
    """

    name: ClassVar[str] = "orric-joint"

    def __init__(self, gap: float = 1e-6) -> None:
        self.gap = self._part("gap", gap)
        self.gaps: tuple[float, ...] = ()

    def _part(self, option: str, value: float) -> float:
        """Refuse an option that is no part of something, 0 included and 1 not."""
        if not 0 <= value < 1:
            raise ScenarioError(f"allocator {self.name!r}: {option}", f"found {value:g}", f"give a {option} in [0, 1)")
        return value

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self.gaps = ()
        places = np.array([task.gpus.index(stream.gpu) for stream in task.streams])
        self._answers, self._ranges = Answers(task.streams), Ranges(task.streams)
        # One stream alone is ORRIC's own problem, solved by its staircase in microseconds.
        self._alone = Orric() if len(task.streams) == 1 and len(task.gpus) == 1 else None
        if self._alone is not None:
            self._alone.reset(task, rng)
        self._groups = [(gpu, self._together(np.flatnonzero(places == gpu))) for gpu in sorted(set(places.tolist()))]

    def _together(self, streams: Array) -> StreamsTogether:
        """Return some of the task's streams, given by their indices, as one budget has them."""
        return StreamsTogether(self.task.streams, streams, self.task.horizon, self._ranges)

    def observe(self, record: Observation) -> None:
        self._ranges.observe(record)
        if self._alone is not None:
            self._alone.observe(record)

    def decide(self, slot: Slot) -> Allocation:
        if self._alone is not None:
            fits = feasible(slot.requests[0], 0.0, self.task.streams[0].cheapest_macs, slot.budgets_macs[0])
            self.gaps = (0.0 if fits else float("nan"),)
            return self._alone.decide(slot)
        requests = np.array(slot.requests)
        retraining, inference = np.zeros(len(requests), np.intp), np.zeros(len(requests), np.intp)
        gaps, unfit = [0.0] * len(slot.budgets_macs), []
        for gpu, group in self._groups:
            found = self.solve(group, slot, requests, slot.budgets_macs[gpu])
            if found is None:
                unfit.append(self.task.gpus[gpu])
                gaps[gpu] = float("nan")
                continue
            half = len(group.streams)
            retraining[group.streams], inference[group.streams] = found.items[:half], found.items[half:]
            gaps[gpu] = found.gap
        self.gaps = tuple(gaps)
        if unfit:
            return Allocation(self._answers.of(retraining, inference), f"no pairs fit on {', '.join(unfit[:3])}")
        return Allocation(self._answers.of(retraining, inference), f"within {max(gaps):.2g} of the best")

    def solve(self, group: StreamsTogether, slot: Slot, requests: Array, budget_macs: float) -> Selection | None:
        """Choose for the streams of one GPU; None where not even the cheapest pairs fit."""
        return group.select(group.weights(slot.index, requests), requests, budget_macs, self.gap)


class ExactJointOrric(JointOrric):
    """Joint ORRIC that solves every slot to the best, for up to some dozens of streams.

    As `JointOrric` with gap 0. Its search may take seconds per slot where many streams have the same configurations
    and requests that differ a little.
    """

    name: ClassVar[str] = "orric-exact"

    def __init__(self) -> None:
        super().__init__(gap=0.0)


class StreamsTogether:
    """Streams under one budget, as ORRIC weighs them.

    Args:
        all_streams: The streams of a task.
        streams: Indices of those meant, at least one, shape (n,).
        horizon: T.
        ranges: Of all streams of the task.
    """

    def __init__(self, all_streams: Sequence[StreamTask], streams: Array, horizon: int, ranges: Ranges) -> None:
        self.streams, self._ranges = streams, ranges
        meant = [all_streams[k] for k in streams.tolist()]
        memories: dict[LearningExtent, int] = {}
        self._memory = np.array([memories.setdefault(one.memory, len(memories)) for one in meant], np.intp)
        # h_t of every memory that occurs, shape (memories, T).
        self._future = np.array([future_weights(horizon, one) for one in memories])
        self._scales = np.array([retraining_scale(one) for one in meant])
        self._serving = np.array([one.best_accuracy for one in meant])
        self._first_serving = self._serving - np.array([one.slope_floor * one.retraining[-1].profit for one in meant])
        self._cheapest = np.array([one.cheapest_macs for one in meant])
        groups = np.concatenate([self._memory, np.full(len(meant), len(memories))])
        items = [_items(one.retraining) for one in meant] + [_items(one.inference) for one in meant]
        self._classes = Classes(items, groups, np.concatenate([self._scales, self._serving]))

    def weights(self, slot: int, requests: Array) -> Array:
        """Return V_t of all streams and then W_t of all, shape (2 n,).

        Args:
            slot: Index from 1.
            requests: D(t) of all streams of the task, shape (K,).
        """
        serving = self._first_serving if slot == 1 else self._serving
        scales = self._scales * self._ranges.narrowed(requests[self.streams], self.streams)
        return np.concatenate([scales * self.future(slot), serving])

    def future(self, slot: int) -> Array:
        """Return h_t of every stream, shape (n,)."""
        found: Array = self._future[self._memory, min(slot, self._future.shape[1]) - 1]
        return found

    def value(self, found: Selection, weights: Array, requests: Array) -> float:
        """Return what a selection is worth by some weights."""
        mine = requests[self.streams]
        profits = self._classes.chosen_profits(found.items)
        return float((np.concatenate([mine, mine]) * weights * profits).sum())

    def select(self, weights: Array, requests: Array, budget_macs: float, gap: float) -> Selection | None:
        """Choose retraining for all streams and then inference for all, as good as `gap` asks.

        Args:
            weights: V_t of all streams and then W_t of all, shape (2 n,).
            requests: D(t) of all streams of the task, shape (K,).
            budget_macs: C(t).
            gap: See `Classes.select`.

        Returns:
            The selection, which fits by `feasible_together`; None where not even the cheapest pairs do.
        """
        mine = requests[self.streams]
        if not feasible_together(mine, 0.0, self._cheapest, budget_macs):
            return None
        sizes = np.concatenate([mine, mine])
        found = self._classes.select(weights, sizes, budget_macs, gap, lambda one: self.fits(one, mine, budget_macs))
        # The cheapest pairs fit, if only by less than rounding.
        return self._classes.least(weights, sizes) if found is None else found

    def fits(self, found: Selection, requests: Array, budget_macs: float) -> bool:
        """Say whether a selection keeps to a budget."""
        costs = self._classes.chosen_costs(found.items)
        half = len(requests)
        return feasible_together(requests, costs[:half], costs[half:], budget_macs)

    def costs(self, found: Selection) -> Array:
        """Return what the pairs of a selection cost per request, shape (n,)."""
        costs = self._classes.chosen_costs(found.items)
        half = len(self.streams)
        total: Array = costs[:half] + costs[half:]
        return total


class Answers:
    """Every allocation that a stream may get, made once: an answer is a lookup.

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

    def of(self, retraining: Array, inference: Array, gpus: Array | int = 0) -> tuple[StreamAllocation, ...]:
        """Return the allocations of all streams by the indices of what was chosen, shape (K,) each."""
        places = self._begins + (retraining * self._widths + inference) * self._gpus + gpus
        return tuple(self._table[places].tolist())


def _items(
    configurations: Sequence[RetrainingConfiguration] | Sequence[InferenceConfiguration],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(one.profit for one in configurations), tuple(one.cost_macs for one in configurations)
