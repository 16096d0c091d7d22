"""The offline optimum under window memory, whose state is the last w choices and does not fit one number.

Upper end: the extents are freed from the choices that make them, at a price per slot (a Lagrangian relaxation).
With x_t free in its range and prices pi_t for x_t = sum_s omega_ts A_s, (P) is at most

    sum_t max over options i and extents x of  R_ti f_t(x) - pi_t x + A_ti sum_{u>t} pi_u omega_ut

for every choice of prices, slot by slot. Prices are improved by subgradient steps of Polyak's length.
Lower end: local search over single slots.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.competitive.problem import OfflineProblem
from orric.exceptions import extra

with extra("sim"):
    from orric.competitive.relaxation import compiled, value_at

Array = np.ndarray[Any, Any]
STEPS = 600


def price_bound(
    problem: OfflineProblem, gap: float, tables: tuple[Array, Array, Array, Array]
) -> tuple[float, Array, float, dict[str, Array], str]:
    """Enclose the optimum for any memory; made for windows.

    Args:
        problem: The offline problem.
        gap: Relative width at which to stop.
        tables: From `curve_tables`.

    Returns:
        Value of the best path, its options, upper bound, the prices as evidence, and why the gap is not met.
    """
    slots = len(problem.counts)
    begins, ends, mass = windows(problem.requests, problem.memory.slots or slots)
    low, high = _reach(problem, begins, ends, mass)
    lower, chosen = -1.0, np.zeros(slots, np.int64)
    upper, best_prices = np.inf, np.zeros(slots)
    every = np.arange(slots)

    def climb(start: Array) -> None:
        nonlocal lower, chosen
        path = start.copy()
        _climb(path, problem.gains, problem.rewards, problem.counts, problem.requests, begins, ends, mass, *tables)
        value = float(problem.correct(path).sum())
        if value > lower:
            lower, chosen = value, path

    climb(np.zeros(slots, np.int64))
    climb(problem.counts - 1)
    extents = problem.memory.extents(problem.requests, problem.gains[every, chosen])[:-1]
    prices = problem.rewards[every, chosen] * np.array(
        [float(curve.slope(extent)) for curve, extent in zip(problem.curves, extents, strict=True)]
    )
    for step in range(STEPS):
        bound, options, places = priced(problem, prices, begins, ends, mass, low, high, tables)
        if bound < upper:
            upper, best_prices = bound, prices.copy()
        if step % 50 == 0:
            climb(options)
        if upper - lower <= gap * upper:
            break
        mismatch = problem.memory.extents(problem.requests, problem.gains[every, options])[:-1] - places
        length = float(mismatch @ mismatch)
        if length <= 1e-30:
            break
        # Polyak's length, shortened as the steps go on because the lower end is not the dual optimum.
        prices = prices - mismatch * ((bound - lower) / length) * (1 - step / STEPS)
    reason = "a Lagrangian bound is all there is under window memory; what it leaves is partly a duality gap"
    return lower, chosen, upper, {"prices": best_prices}, reason


def windows(requests: Array, width: int) -> tuple[Array, Array, Array]:
    """Return which past slots make up the extent before each slot: [begin, end) and their requests, shape (T,).

    A slot without requests leaves the extent as it was before.
    """
    slots = len(requests)
    last = np.maximum.accumulate(np.where(requests > 0, np.arange(slots), -1))
    ends = np.concatenate([[0], last[:-1] + 1])
    begins = np.maximum(ends - width, 0)
    mass = np.array([requests[begin:end].sum() for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)])
    return begins, ends, mass


def _reach(problem: OfflineProblem, begins: Array, ends: Array, mass: Array) -> tuple[Array, Array]:
    every = np.arange(len(ends))
    answer = []
    for gains in (problem.gains[:, 0], problem.gains[every, problem.counts - 1]):
        total = np.concatenate([[0.0], np.cumsum(problem.requests * gains)])
        answer.append(np.divide(total[ends] - total[begins], mass, out=np.zeros(len(ends)), where=mass > 0))
    most = float(problem.gains.max())
    # Differences of running sums lose digits; a range a hair too wide is still a valid one.
    hair = 1e-9 * most
    return np.clip(answer[0] - hair, 0, most), np.clip(answer[1] + hair, 0, most)


def priced(
    problem: OfflineProblem,
    prices: Array,
    begins: Array,
    ends: Array,
    mass: Array,
    low: Array,
    high: Array,
    tables: tuple[Array, Array, Array, Array],
) -> tuple[float, Array, Array]:
    """Return the bound under some prices, and the option and extent of every slot that make it."""
    table_begins, table_x, table_y, which = tables
    slots = len(prices)
    pay = np.divide(prices, mass, out=np.zeros(slots), where=mass > 0)
    spread = np.zeros(slots + 1)
    np.add.at(spread, begins, np.where(ends > begins, pay, 0))
    np.subtract.at(spread, ends, np.where(ends > begins, pay, 0))
    later = problem.requests * np.cumsum(spread)[:-1]
    worth, place = np.zeros(problem.gains.shape), np.zeros(problem.gains.shape)
    for table in range(len(table_begins) - 1):
        points = slice(table_begins[table], table_begins[table + 1])
        x, y = table_x[points], table_y[points]
        rows = np.flatnonzero(which == table)
        reward, price = problem.rewards[rows], prices[rows, None]
        # The best extent of a concave, piecewise linear curve is the point where R f' falls through the price.
        fall = np.searchsorted(-np.diff(y) / np.diff(x), -price / np.maximum(reward, 1e-300), side="left")
        best = np.clip(x[fall], low[rows, None], high[rows, None])
        worth[rows] = reward * np.interp(best, x, y) - price * best
        place[rows] = best
    total = worth + problem.gains * later[:, None]
    total[np.arange(total.shape[1])[None, :] >= problem.counts[:, None]] = -np.inf
    options = total.argmax(axis=1)
    every = np.arange(slots)
    size = float((np.abs(worth[every, options]) + np.abs(problem.gains[every, options] * later)).sum())
    bound = float(total[every, options].sum()) + size * (2.0**-44 + 8 * slots * 2.0**-53)
    return bound, options, place[every, options]


@compiled
def _climb(
    path: Array,
    gains: Array,
    rewards: Array,
    counts: Array,
    requests: Array,
    begins: Array,
    ends: Array,
    mass: Array,
    tables: Array,
    table_x: Array,
    table_y: Array,
    which: Array,
) -> None:
    """Improve a path in place by changing one slot's option at a time until no change helps."""
    horizon = len(path)
    # Slots whose extent a slot takes part in: contiguous, because ends and begins ascend.
    first, stop = np.full(horizon, horizon), np.zeros(horizon, np.int64)
    extents, now = np.zeros(horizon), np.zeros(horizon)
    for t in range(horizon):
        for s in range(begins[t], ends[t]):
            first[s] = min(first[s], t)
            stop[s] = t + 1
            extents[t] += requests[s] * gains[s, path[s]]
        if mass[t] > 0:
            extents[t] /= mass[t]
        now[t] = value_at(table_x, table_y, tables[which[t]], tables[which[t] + 1] - 1, extents[t])
    for _ in range(50):
        improved = False
        for s in range(horizon):
            best, best_gain = path[s], 1e-12 * abs(rewards[s, 0])
            for i in range(counts[s]):
                if i == path[s]:
                    continue
                change = requests[s] * (gains[s, i] - gains[s, path[s]])
                gain = (rewards[s, i] - rewards[s, path[s]]) * now[s]
                for t in range(first[s], stop[s]):
                    then = value_at(
                        table_x, table_y, tables[which[t]], tables[which[t] + 1] - 1, extents[t] + change / mass[t]
                    )
                    gain += rewards[t, path[t]] * (then - now[t])
                if gain > best_gain:
                    best, best_gain = i, gain
            if best != path[s]:
                change = requests[s] * (gains[s, best] - gains[s, path[s]])
                for t in range(first[s], stop[s]):
                    extents[t] += change / mass[t]
                    now[t] = value_at(table_x, table_y, tables[which[t]], tables[which[t] + 1] - 1, extents[t])
                path[s] = best
                improved = True
        if not improved:
            return
