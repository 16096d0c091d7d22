"""The one definition of long-term accuracy, and the one feasibility test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from orric.exceptions import ScenarioError
from orric.learning import LearningCurve, LearningExtent

Array = np.ndarray[Any, Any]


def feasible(requests: Any, retraining_cost_macs: Any, inference_cost_macs: Any, budget_macs: Any) -> Any:
    """Say whether D(t) (C^T_i + C^I_j) <= C(t), the budget constraint of (P); scalars or arrays.

    It is computed in this form everywhere: dividing by D(t) first would disagree on exact budgets.

    >>> feasible(1000, 0.0, 7.94e6, 7.94e9)
    True
    """
    return requests * (retraining_cost_macs + inference_cost_macs) <= budget_macs


def feasible_together(requests: Any, retraining_cost_macs: Any, inference_cost_macs: Any, budget_macs: float) -> bool:
    """Say whether sum_k D_k(t) (C^T_k + C^I_k) <= C(t), the budget that several streams share; arrays of shape (K,).

    The sum is rounded once, so it does not depend on the order; for one stream this is `feasible`.

    >>> feasible_together(np.array([1000, 500]), np.array([0.0, 2e6]), np.array([8e6, 8e6]), 13e9)
    True
    """
    return math.fsum((requests * (retraining_cost_macs + inference_cost_macs)).tolist()) <= budget_macs


def servable(requests: Any, inference_cost_macs: Any, budget_macs: Any) -> Array:
    """Return how many of D(t) requests a budget serves beside no retraining: all, or else a whole number of them.

    It is the largest number that `feasible` admits; scalars or arrays.

    >>> float(servable(1000, 7.94e6, 7.94e8))
    100.0
    """
    # What costs next to nothing is served whole, whatever its quotient.
    with np.errstate(all="ignore"):
        count = np.floor(np.divide(budget_macs, inference_cost_macs))
        # The quotient is rounded: of a budget just below or at a multiple it may fall on the wrong side of it.
        count = count + feasible(count + 1, 0.0, inference_cost_macs, budget_macs)
        count = count - np.logical_not(feasible(count, 0.0, inference_cost_macs, budget_macs))
    served: Array = np.where(feasible(requests, 0.0, inference_cost_macs, budget_macs), requests, count)
    return served


def in_time_parts(given: Any, slots: int, retraining: int, inference: int) -> Array:
    """Check in-time parts: which part of D(t) is answered by the deadline when slot t is split by the pair (i, j).

    Args:
        given: Anything that numpy makes an array of, in the order of the undominated configurations.
        slots: T.
        retraining: M, the number of undominated retraining configurations.
        inference: N, likewise.

    Returns:
        A copy that cannot be written to, shape (T, M, N).

    Raises:
        ScenarioError: The shape is another one, or a value is not in [0, 1].

    >>> in_time_parts([[[0.5, 1]]], 1, 1, 2).tolist()
    [[[0.5, 1.0]]]
    """
    try:
        parts = np.array(given, float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ScenarioError("in_time", f"is no array of numbers ({error})", "give numbers from 0 to 1") from None
    if parts.shape != (slots, retraining, inference):
        wanted = f"({slots}, {retraining}, {inference}): slots, undominated retraining and inference configurations"
        raise ScenarioError("in_time", f"has the shape {parts.shape}", f"give the shape {wanted}")
    wrong = np.argwhere(~((parts >= 0) & (parts <= 1)))
    if wrong.size:
        slot, i, j = wrong[0].tolist()
        where = f"in_time, slot {slot + 1}, pair ({i}, {j})"
        raise ScenarioError(where, f"found {parts[slot, i, j]:g}", "give parts of the requests, from 0 to 1")
    parts.setflags(write=False)
    return parts


def offered_profits(
    requests: Array,
    budgets_macs: Array,
    retraining_costs_macs: Array,
    inference_costs_macs: Array,
    inference_profits: Array,
    in_time: Array,
) -> Array:
    """Return what an answer is worth in each slot by each pair, a_t(i, j) = A^I_j q_t(i, j). O(T M N).

    In a slot in which no pair fits only the cheapest remains, and what is shed is not in time.

    Args:
        requests: D(t), shape (T,).
        budgets_macs: C(t), shape (T,).
        retraining_costs_macs: C^T, ascending, shape (M,).
        inference_costs_macs: C^I, ascending, shape (N,).
        inference_profits: A^I, shape (N,).
        in_time: q_t(i, j), shape (T, M, N).

    Returns:
        Shape (T, M, N); minus infinity where a pair does not fit.
    """
    costs = retraining_costs_macs[:, None], inference_costs_macs
    fits = feasible(requests[:, None, None], *costs, budgets_macs[:, None, None])
    profits: Array = np.where(fits, inference_profits * in_time, -np.inf)
    blocked = np.flatnonzero(~fits[:, 0, 0])
    served = servable(requests[blocked], inference_costs_macs[0], budgets_macs[blocked])
    part = np.minimum(in_time[blocked, 0, 0], served / requests[blocked])
    profits[blocked, 0, 0] = inference_profits[0] * part
    return profits


def long_term_accuracy(
    requests: Array,
    served: Array,
    retraining_profits: Array,
    inference_profits: Array,
    curves: Sequence[LearningCurve],
    memory: LearningExtent,
) -> tuple[Array, Array]:
    """Evaluate the objective (P) slot by slot: f_t(x_t) A^I_{j(t)} D(t).

    Complexity O(T).

    Args:
        requests: D(t), shape (T,).
        served: Requests that were not shed, shape (T,); the shed ones score 0.
        retraining_profits: A^T_{i(t)}, shape (T,).
        inference_profits: A^I_{j(t)}, shape (T,).
        curves: f_t for every slot, length T.
        memory: How x_t follows from the past.

    Returns:
        The expected number of correct requests per slot, whose sum is (P), and x_1 .. x_T; each shape (T,).
    """
    extents = memory.extents(requests, retraining_profits)[:-1]
    accuracies = np.empty(len(extents))
    distinct = {id(curve): curve for curve in curves}
    if len(distinct) == 1:
        accuracies[:] = curves[0](extents)
    else:
        keys = np.array([id(curve) for curve in curves])
        for key, curve in distinct.items():
            accuracies[keys == key] = curve(extents[keys == key])
    return accuracies * inference_profits * served, extents
