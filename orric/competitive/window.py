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

from orric.competitive.problem import HAIR, OfflineProblem
from orric.exceptions import extra

with extra("sim"):
    from orric.competitive.relaxation import Tables, value_at
    from orric.compiled import compiled

Array = np.ndarray[Any, Any]
STEPS = 600


def price_bound(
    problem: OfflineProblem, gap: float, tables: Tables
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
    lower, chosen = -np.inf, np.zeros(slots, np.int64)
    upper, best_prices = np.inf, np.zeros(slots)
    every = np.arange(slots)

    def climb(start: Array) -> None:
        nonlocal lower, chosen
        path = start.copy()
        _climb(path, problem.gains, problem.rewards, problem.counts, problem.requests, begins, ends, mass, *tables)
        value = problem.value(path)
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
        if length <= (1e-12 * problem.gains.max()) ** 2:
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
    """Return the least and the largest extent before each slot, a hair wider than they are; shape (T,) each."""
    every = np.arange(len(ends))
    low, high = np.zeros(len(ends)), np.zeros(len(ends))
    for side, gains in ((low, problem.gains[:, 0]), (high, problem.gains[every, problem.counts - 1])):
        gained = problem.requests * gains
        for slot in np.flatnonzero(mass).tolist():
            side[slot] = gained[begins[slot] : ends[slot]].sum() / mass[slot]
    return low * (1 - HAIR), np.minimum(high * (1 + HAIR), problem.gains.max())


def priced(
    problem: OfflineProblem,
    prices: Array,
    begins: Array,
    ends: Array,
    mass: Array,
    low: Array,
    high: Array,
    tables: Tables,
) -> tuple[float, Array, Array]:
    """Return the bound under some prices, and the option and extent of every slot that make it."""
    table_begins, table_x, table_y, table_s, which = tables
    slots = len(prices)
    pay = np.divide(prices, mass, out=np.zeros(slots), where=mass > 0)
    # Ends and begins ascend, so the slots whose extent a slot takes part in are a range. Its sum is taken anew each
    # time: in differences of running sums the largest windows would drown the smallest.
    every = np.arange(slots)
    first, stop = np.searchsorted(ends, every, side="right"), np.searchsorted(begins, every, side="right")
    sums = np.add.reduceat(np.append(pay, 0.0), np.stack([np.minimum(first, stop), stop], axis=1).ravel())[::2]
    later = problem.requests * np.where(first < stop, sums, 0.0)
    worth, place = np.zeros(problem.gains.shape), np.zeros(problem.gains.shape)
    for table in range(len(table_begins) - 1):
        points = slice(table_begins[table], table_begins[table + 1])
        x, y = table_x[points], table_y[points]
        rows = np.flatnonzero(which == table)
        reward, price = problem.rewards[rows], prices[rows, None]
        # The best extent of a concave, piecewise linear curve is the point where R f' falls through the price.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            fall = np.searchsorted(-table_s[points][:-1], -price / reward, side="left")
        best = np.clip(x[fall], low[rows, None], high[rows, None])
        worth[rows] = reward * np.interp(best, x, y) - price * best
        place[rows] = best
    total = worth + problem.gains * later[:, None]
    total[np.arange(total.shape[1])[None, :] >= problem.counts[:, None]] = -np.inf
    options = total.argmax(axis=1)
    # Rounding is relative to the terms, which may cancel; and the checker is not sure of a slope's last digits.
    most = float(problem.gains.max())
    terms = problem.rewards[:, 0] * table_y[table_begins[which + 1] - 1] + most * (np.abs(prices) + np.abs(later))
    unsure = terms.sum() * (2.0**-44 + slots * 2.0**-49) + np.abs(prices) @ (high - low) * 2.0**-37
    bound = float(total[every, options].sum() + unsure)
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
    table_s: Array,
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
