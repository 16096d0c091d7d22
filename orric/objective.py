"""The one definition of long-term accuracy, and the one feasibility test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

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
