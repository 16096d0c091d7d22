"""ORRIC, the online allocator with a proved competitive ratio, and the slot problem that it solves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Indices, SingleStreamAllocator, Slot, StreamTask, Task
from orric.allocators.interference import timely_streams
from orric.allocators.ranges import Ranges
from orric.allocators.timely import Demand, Learnt, TimelyStreams
from orric.configuration import Allocation, InferenceConfiguration, RetrainingConfiguration, StreamAllocation
from orric.learning import LearningExtent
from orric.objective import feasible
from orric.records import Observation


def future_weights(horizon: int, memory: LearningExtent) -> Array:
    """Return how much one unit of profit in slot t adds to the learning extents of all later slots.

    Uniform memory (the paper's h_t): sum_{s=t}^{T-1} 1/s. Window w: sum_{s=t}^{min(t+w-1, T-1)} 1/min(s, w).
    Decay d: sum_{s=t}^{T-1} d^(s-t) / sum_{k<s} d^k. For requests that are the same in every slot.
    Complexity O(T).

    Args:
        horizon: T.
        memory: The learning extent's memory.

    Returns:
        Shape (T,); the last entry is 0, because retraining in the last slot serves nobody.

    >>> future_weights(3, LearningExtent()).tolist()
    [1.5, 0.5, 0.0]
    """
    weights = np.zeros(horizon)
    slots = np.arange(1, horizon)
    if memory.kind == "uniform":
        # Summed from the small end, so that the sums of long horizons keep their digits.
        weights[:-1] = np.cumsum(1 / slots[::-1])[::-1]
    elif memory.kind == "window":
        assert memory.slots is not None
        terms: Array = 1 / np.minimum(slots, memory.slots)
        total = np.concatenate([[0.0], np.cumsum(terms)])
        ends = np.minimum(slots + memory.slots - 1, horizon - 1)
        weights[:-1] = total[ends] - total[slots - 1]
    else:
        assert memory.factor is not None
        terms = (1 - memory.factor) / (1 - memory.factor**slots)
        for slot in range(horizon - 2, -1, -1):
            weights[slot] = terms[slot] + memory.factor * weights[slot + 1]
    return weights


def retraining_scale(task: StreamTask) -> float:
    """Return V_t / h_t = L D_min A^I_min / D_max, what a unit of learning extent is worth at the least."""
    least = task.inference[0].profit if task.least_profit is None else task.least_profit
    return task.slope_floor * (task.least_requests * least / task.most_requests)


def slot_weights(task: StreamTask, horizon: int) -> tuple[Array, Array]:
    """Return ORRIC's V_t and W_t for t = 1..T (INFOCOM 2024, Algorithm 1), shape (T,) each.

    V_t = L (D_min A^I_min / D_max) h_t; W_1 = F - L A^T_max and W_t = F for t > 1, with F the best accuracy.
    """
    inference_weights = np.full(horizon, task.best_accuracy)
    inference_weights[0] -= task.slope_floor * task.retraining[-1].profit
    return retraining_scale(task) * future_weights(horizon, task.memory), inference_weights


def profit_floor(task: StreamTask, offered: Array, error: float = 0.0) -> float:
    """Return b, which takes the place of A^I_min in V_t and in alpha where answers count by their deadline.

    It is the largest b for which the proof of Theorem 4 holds (background, competitive ratios): in no slot does ORRIC
    with this b take a pair that is worth less, and an optimum that does gains nothing by it. That is so where the best
    that fits beside the dearest retraining is worth b, and where the best of all is worth a little more than b.
    Complexity O(T M N).

    Args:
        task: Of the stream; its `least_profit` is not used.
        offered: a_t(i, j) by which it decides, minus infinity where a pair does not fit, shape (T, M, N); NaN in slots
            without requests, which do not count.
        error: By how much they may be off.

    Returns:
        At least 0. No pair may be in time at all, and then nothing is known of what retraining is worth.
    """
    by_retraining = offered.max(axis=2)
    dearest = np.isfinite(by_retraining).sum(axis=1) - 1
    beside_dearest = np.take_along_axis(by_retraining, np.maximum(dearest, 0)[:, None], axis=1)[:, 0]
    retraining_weights, inference_weights = slot_weights(replace(task, least_profit=1.0), len(offered))
    lowered = 1 + retraining_weights * task.retraining[-1].profit / inference_weights
    floors = np.maximum(beside_dearest - error, (by_retraining.max(axis=1) - error) / lowered)
    return max(float(np.nanmin(floors)), 0.0)


def staircase(
    retraining_profits: Sequence[float] | Array,
    inference_profits: Sequence[float] | Array,
    retraining_weight: float,
    inference_weight: float,
    fits: Callable[[int, int], bool],
) -> tuple[int, int] | None:
    """Solve one slot: maximise V A^T_i + W A^I_j over the pairs that fit (INFOCOM 2024, Algorithm 2).

    Walk from the cheapest retraining and the best inference: a pair that fits is scored and i goes up,
    one that does not sends j down. At most M + N feasibility checks. Ties go to the pair visited first.

    Args:
        retraining_profits: A^T, ascending, as the costs behind `fits` are.
        inference_profits: A^I, ascending.
        retraining_weight: V, at least 0.
        inference_weight: W, above 0.
        fits: Whether the pair (i, j) fits the budget.

    Returns:
        The best pair (i, j), or None when no pair fits.

    >>> costs = [0.0, 2.0], [1.0, 2.0, 4.0]
    >>> staircase([0.0, 1.0], [0.5, 0.8, 1.0], 0.3, 1.0, lambda i, j: costs[0][i] + costs[1][j] <= 4.0)
    (1, 1)
    """
    best, best_score = None, -np.inf
    i, j = 0, len(inference_profits) - 1
    while i < len(retraining_profits) and j >= 0:
        if fits(i, j):
            score = retraining_weight * retraining_profits[i] + inference_weight * inference_profits[j]
            if score > best_score:
                best, best_score = (i, j), score
            i += 1
        else:
            j -= 1
    return best


def exhaustive(
    retraining_profits: Sequence[float] | Array,
    inference_profits: Sequence[float] | Array,
    retraining_weight: float,
    inference_weight: float,
    fits: Callable[[int, int], bool],
) -> tuple[int, int] | None:
    """Solve one slot by trying all M N pairs: the plain reference that `staircase` must equal, ties included."""
    pairs = [
        (retraining_weight * retraining_profits[i] + inference_weight * inference_profits[j], -i, j)
        for i in range(len(retraining_profits))
        for j in range(len(inference_profits))
        if fits(i, j)
    ]
    if not pairs:
        return None
    _, i, j = max(pairs)
    return -i, j


class Weighted(SingleStreamAllocator):
    """An allocator that maximises V_t A^T_i + W_t A^I_j in every slot, for weights set at reset.

    Attributes:
        retraining_weights: V_t, shape (T,).
        inference_weights: W_t, shape (T,).
    """

    retraining_weights: Array
    inference_weights: Array

    def choose(self, slots: Array, requests: Array, budgets_macs: Array) -> tuple[Indices, Indices]:
        """Walk the staircases of all slots in step; see `staircase`. Complexity O(M + N) array operations."""
        slots = np.minimum(slots, self.task.horizon) - 1
        if len(slots) == 1:
            return self._choose_one(int(slots[0]), float(requests[0]), float(budgets_macs[0]))
        return self._walk(self.retraining_weights[slots], self.inference_weights[slots], requests, budgets_macs)

    def choose_in_time(
        self, slots: Array, requests: Array, budgets_macs: Array, in_time: Array
    ) -> tuple[Indices, Indices]:
        """Maximise V_t A^T_i + W_t A^I_j q_t(i, j), over all pairs at once. O(n M N).

        Fewer requests may be in time by a dearer inference configuration, so the staircase, which looks at the best
        that fits only, could miss the best pair. Ties go to less retraining, then to the better inference.
        """
        slots = np.minimum(slots, self.task.horizon) - 1
        i, j = np.arange(len(self.retraining_profits))[:, None], np.arange(len(self.inference_profits))
        retraining_weights = self.retraining_weights[slots, None, None]
        inference_weights = self.inference_weights[slots, None, None]
        scores = retraining_weights * self.retraining_profits[i] + inference_weights * (
            self.inference_profits * in_time
        )
        fits = self.affordable(requests[:, None, None], budgets_macs[:, None, None], i, j)
        scores = np.where(fits, scores, -np.inf)[:, :, ::-1].reshape(len(slots), -1)
        best_i, below = np.divmod(scores.argmax(axis=1), len(j))
        return best_i, np.where(fits[:, 0, 0], len(j) - 1 - below, 0)

    def choose_many(
        self, tasks: Sequence[Task], rngs: Sequence[np.random.Generator], requests: Array, budgets_macs: Array
    ) -> tuple[Indices, Indices]:
        self.reset(tasks[0], rngs[0])
        retraining_weights, inference_weights = zip(*map(self.weights, tasks), strict=True)
        return self._walk(
            np.concatenate(retraining_weights), np.concatenate(inference_weights), requests, budgets_macs
        )  # fmt: skip

    def _walk(
        self, retraining_weights: Array, inference_weights: Array, requests: Array, budgets_macs: Array
    ) -> tuple[Indices, Indices]:
        """Walk the staircases of slots of any tasks, whose weights are given, in step."""
        slots = len(requests)
        best_i, best_j = np.zeros(slots, np.intp), np.zeros(slots, np.intp)
        best_score = np.full(slots, -np.inf)
        i, j = np.zeros(slots, np.intp), np.full(slots, len(self.inference_profits) - 1)
        for _ in range(len(self.retraining_profits) + len(self.inference_profits)):
            walking = (i < len(self.retraining_profits)) & (j >= 0)
            at_i, at_j = np.minimum(i, len(self.retraining_profits) - 1), np.maximum(j, 0)
            fits = walking & self.affordable(requests, budgets_macs, at_i, at_j)
            score = (
                retraining_weights * self.retraining_profits[at_i] + inference_weights * self.inference_profits[at_j]
            )
            better = fits & (score > best_score)
            best_i[better], best_j[better], best_score[better] = at_i[better], at_j[better], score[better]
            i += fits
            j -= walking & ~fits
        return best_i, best_j

    def _choose_one(self, slot: int, requests: float, budget_macs: float) -> tuple[Indices, Indices]:
        """Walk one staircase without arrays, in microseconds."""
        retraining, inference = self._costs
        pair = staircase(
            self._profits[0],
            self._profits[1],
            float(self.retraining_weights[slot]) * self.narrowed(requests),
            float(self.inference_weights[slot]),
            lambda i, j: bool(feasible(requests, retraining[i], inference[j], budget_macs)),
        )
        i, j = pair or (0, 0)
        return np.array([i]), np.array([j])

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._costs = self.retraining_costs_macs.tolist(), self.inference_costs_macs.tolist()
        self._profits = self.retraining_profits.tolist(), self.inference_profits.tolist()
        self.retraining_weights, self.inference_weights = self.weights(task)

    def narrowed(self, requests: float) -> float:
        """Return what V_t is multiplied by where a slot is decided by itself.

        Args:
            requests: D(t).
        """
        return 1.0

    def weights(self, task: Task) -> tuple[Array, Array]:
        """Return V_t and W_t, shape (T,) each."""
        raise NotImplementedError


class Orric(Weighted):
    """Weigh retraining by the least it adds to later slots; proved competitive (ORRIC, INFOCOM 2024).

    Per slot it maximises V_t A^T_i + W_t A^I_j under the budget, where V_t values what retraining now adds to
    all later slots at the least. O(M + N) per slot. With window or decay memory the weights are adapted, see
    `future_weights`. Ties go to less retraining. Slot by slot, V_t falls when requests leave the range of the task
    (`Ranges`); all at once, the task's range holds.

    Where it is told which part of the requests each pair answers by the deadline, A^I_j counts by that part; the
    guarantee stands (background, competitive ratios). So it does where the task tells of a deadline and of how the GPU
    is shared; shares are then given, too. O(M N) in both cases.

    >>> from orric import InferenceConfiguration, RetrainingConfiguration
    >>> stream = StreamTask(
    ...     "camera",
    ...     (RetrainingConfiguration(name="none", profit=0, cost_macs=0),
    ...      RetrainingConfiguration(name="10%", profit=0.1, cost_macs=3e6)),
    ...     (InferenceConfiguration(name="32px", profit=1, cost_macs=8e6),),
    ...     best_accuracy=0.8, slope_floor=0.01, least_requests=1000, most_requests=1000)
    >>> allocator = Orric()
    >>> allocator.reset(Task(horizon=2, streams=(stream,)), np.random.default_rng(1))
    >>> allocator.decide(Slot(1, (11e9,), (1000,))).streams[0].retraining
    '10%'
    >>> allocator.decide(Slot(2, (11e9,), (1000,))).streams[0].retraining
    'none'
    """

    name: ClassVar[str] = "orric"

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._ranges = Ranges(task.streams)
        told, known = task.streams[0].timeliness, task.devices and task.capacities_macs
        self._timely: TimelyStreams | None = None
        if known and told is not None and told.deadline_s < np.inf:
            self._timely = timely_streams(task.streams, task.devices[0], task.capacities_macs[0])

    def decide(self, slot: Slot) -> Allocation:
        if self._timely is None or slot.in_time:
            return super().decide(slot)
        stream, requests = self.task.streams[0], np.array(slot.requests)
        demand = Demand(requests, slot.budgets_macs[0], np.array(slot.backlogs or (0.0,)), Learnt.nothing(1))
        index, i, j = min(slot.index, self.task.horizon) - 1, 0, 0
        shares: tuple[float | None, float | None] = (None, None)
        if slot.budgets_macs[0] > 0 and feasible(requests[0], 0.0, stream.cheapest_macs, slot.budgets_macs[0]):
            worth = self.retraining_weights[index] * self.narrowed(slot.requests[0]), self.inference_weights[index]
            plan = self._timely.choices(demand).best(np.array(worth), 0.0)
            assert plan.inference_shares is not None
            assert plan.retraining_shares is not None
            i, j = int(plan.retraining[0]), int(plan.inference[0])
            shares = float(plan.inference_shares[0]), float(plan.retraining_shares[0])
        retraining, inference = stream.retraining[i], stream.inference[j]
        one = StreamAllocation(retraining.name, inference.name, *shares)
        return Allocation((one,), self.reason(slot, retraining, inference))

    def observe(self, record: Observation) -> None:
        self._ranges.observe(record)

    def narrowed(self, requests: float) -> float:
        return self._ranges.narrowed_alone(requests)

    def weights(self, task: Task) -> tuple[Array, Array]:
        return slot_weights(task.streams[0], task.horizon)

    def reason(self, slot: Slot, retraining: RetrainingConfiguration, inference: InferenceConfiguration) -> str:
        index = min(slot.index, self.task.horizon) - 1
        worth = self.retraining_weights[index] * self.narrowed(slot.requests[0]) * retraining.profit
        serving = self.inference_weights[index] * inference.profit
        if slot.in_time:
            stream = self.task.streams[0]
            serving *= slot.in_time[0][stream.retraining.index(retraining)][stream.inference.index(inference)]
        return f"{super().reason(slot, retraining, inference)}; retraining worth {worth:.2g}, serving {serving:.2g}"


class FocusShift(Weighted):
    """Shift the focus from retraining to inference as the horizon nears (a heuristic of the ORRIC paper).

    The paper leaves the rule open. Here it maximises w_t A^T_i / A^T_max + (1 - w_t) A^I_j with
    w_t = h_t / h_1, where h_t = sum_{s=t}^{T-1} 1/s is the weight of the remaining slots: retraining alone
    counts in the first slot, inference alone in the last. O(M + N) per slot.
    """

    name: ClassVar[str] = "focus-shift"

    def weights(self, task: Task) -> tuple[Array, Array]:
        remaining = future_weights(task.horizon, LearningExtent())
        shift = remaining / remaining[0] if remaining[0] > 0 else remaining
        most = task.streams[0].retraining[-1].profit
        return shift / most if most > 0 else np.zeros_like(shift), 1 - shift
