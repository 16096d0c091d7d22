"""The exact offline optimum of small instances, by label setting with dominance."""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.competitive.problem import OfflineProblem, Overload
from orric.exceptions import ScenarioError
from orric.profile import Profile
from orric.trace import Trace

Array = np.ndarray[Any, Any]

# Labels alive in one slot; beyond it an interval is the better answer.
MOST_LABELS = 2**22


def exact_optimum(
    profile: Profile, trace: Trace, *, overload: Overload = "error", in_time: Any = None
) -> tuple[float, list[dict[str, Any]]]:
    """Find the optimum of (P) and allocations that attain it.

    A label is a reachable state of the slot and the best value of any path to it; of two labels, one with no
    larger extent and no larger value is dropped, because V_t rises with x. The number of labels may still grow
    exponentially with the number of slots. Under window memory the state is the profits of the last w slots.

    Args:
        profile: Configurations, learning curve and memory.
        trace: Requests and budgets.
        overload: What becomes of a slot in which no pair fits.
        in_time: Which part of the requests each pair answers by the deadline, as in `orric.evaluate`: then late
            answers do not count.

    Returns:
        The value, exact up to floating-point rounding, and one {"slot", "stream", "retraining", "inference"} per
        slot.

    Raises:
        BudgetError: No pair fits the budget of a slot, and `overload` is "error".
        ScenarioError: The instance needs too many labels, or the in-time parts cannot be used.

    >>> import orric
    >>> profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    >>> trace = orric.Trace(requests=[1000, 1000], budget_macs=[8.636e10, 7.94e9])
    >>> value, allocations = exact_optimum(profile, trace)
    >>> [(step["retraining"], step["inference"]) for step in allocations]
    [('50%', '32px'), ('none', '32px')]
    """
    problem = OfflineProblem.of(profile, trace, overload, in_time)
    chosen = _by_profits(problem) if problem.memory.kind == "window" else _by_extent(problem)
    return float(problem.correct(chosen).sum()), problem.allocations(chosen)


def _by_extent(problem: OfflineProblem) -> Array:
    keep, weight = problem.transition()
    extents, values = np.zeros(1), np.zeros(1)
    history: list[tuple[Array, Array]] = []
    for t, curve in enumerate(problem.curves):
        options = int(problem.counts[t])
        gains, rewards = problem.gains[t, :options], problem.rewards[t, :options]
        places = (keep[t] * extents[:, None] + weight[t] * gains).ravel()
        worth = (values[:, None] + np.asarray(curve(extents))[:, None] * rewards).ravel()
        # From the largest extent down, a label must be worth more than every one before it.
        order = np.lexsort((-worth, -places))
        ahead = np.concatenate([[-np.inf], np.maximum.accumulate(worth[order])[:-1]])
        kept = order[worth[order] > ahead]
        _demand_few(len(kept), t)
        history.append((kept // options, kept % options))
        extents, values = places[kept], worth[kept]
    return _path(history, int(values.argmax()))


def _by_profits(problem: OfflineProblem) -> Array:
    assert problem.memory.slots is not None
    width = problem.memory.slots
    states: dict[tuple[int, ...], float] = {(): 0.0}
    history: list[tuple[Array, Array]] = []
    for t, curve in enumerate(problem.curves):
        best: dict[tuple[int, ...], tuple[float, int, int]] = {}
        for number, (state, value) in enumerate(states.items()):
            past = range(t - len(state), t)
            profits = np.array([problem.gains[s, i] for s, i in zip(past, state, strict=True)])
            extent = problem.memory.extents(problem.requests[past.start : t], profits)[-1]
            now = float(curve(extent))
            for i in range(int(problem.counts[t])):
                worth = value + now * float(problem.rewards[t, i])
                # Slots without requests do not move the extent, so they do not push others out of the state.
                ahead = _remembered((*state, i), problem.requests[: t + 1], width)
                if ahead not in best or worth > best[ahead][0]:
                    best[ahead] = (worth, number, i)
        _demand_few(len(best), t)
        states = {state: worth for state, (worth, _, _) in best.items()}
        history.append((np.array([b[1] for b in best.values()]), np.array([b[2] for b in best.values()])))
    return _path(history, int(np.argmax(list(states.values()))))


def _remembered(state: tuple[int, ...], requests: Array, width: int) -> tuple[int, ...]:
    """Cut a state to what later extents can still depend on: the window that ends with the last busy slot."""
    busy = np.flatnonzero(requests[len(requests) - len(state) :])
    idle = len(state) - 1 - int(busy[-1]) if busy.size else 0
    return state[-(width + idle) :]


def _path(history: list[tuple[Array, Array]], last: int) -> Array:
    chosen = np.zeros(len(history), np.int64)
    for t in range(len(history) - 1, -1, -1):
        parents, options = history[t]
        chosen[t] = options[last]
        last = int(parents[last])
    return chosen


def _demand_few(labels: int, t: int) -> None:
    if labels > MOST_LABELS:
        raise ScenarioError(
            f"slot {t + 1}", f"{labels:,} labels are alive", "the instance is too large to solve exactly; ask for a gap"
        )
