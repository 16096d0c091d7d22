"""ORRIC, the online allocator with a proved competitive ratio, and the slot problem that it solves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Indices, SingleStreamAllocator, Slot, StreamTask, Task
from orric.allocators.ranges import Ranges
from orric.configuration import InferenceConfiguration, RetrainingConfiguration
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
    return task.slope_floor * (task.least_requests * task.inference[0].profit / task.most_requests)


def slot_weights(task: StreamTask, horizon: int) -> tuple[Array, Array]:
    """Return ORRIC's V_t and W_t for t = 1..T (INFOCOM 2024, Algorithm 1), shape (T,) each.

    V_t = L (D_min A^I_min / D_max) h_t; W_1 = F - L A^T_max and W_t = F for t > 1, with F the best accuracy.
    """
    inference_weights = np.full(horizon, task.best_accuracy)
    inference_weights[0] -= task.slope_floor * task.retraining[-1].profit
    return retraining_scale(task) * future_weights(horizon, task.memory), inference_weights


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
