"""The multiple-choice knapsack against brute force and HiGHS: exact where asked, honest about its gap elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import Bounds, LinearConstraint, milp

from orric.allocators import knapsack
from orric.allocators.knapsack import Classes, Rows, hull


class Instance:
    """A random problem: `count` streams with retraining and inference, or classes given one by one."""

    def __init__(self, items, groups, scales, weights, sizes):
        self.items, self.weights, self.sizes = items, weights, sizes
        self.classes = Classes(Rows.of_kinds(items), groups, scales)
        self.values = [w * d * np.array(p) for w, d, (p, _) in zip(weights, sizes, items, strict=True)]
        self.costs = [d * np.array(c) for d, (_, c) in zip(sizes, items, strict=True)]
        self.least = sum(float(costs[0]) for costs in self.costs)
        self.most = sum(float(costs[-1]) for costs in self.costs)

    @classmethod
    def random(cls, rng, streams, most_items=(5, 4), tail=None, whole=False):
        items = []
        for most, scale in zip(most_items, (40.0, 8.0), strict=True):
            for _ in range(streams):
                count = int(rng.integers(1, most + 1))
                costs = np.sort(rng.uniform(0, scale, count))
                costs = np.unique(np.ceil(costs)) if whole else costs
                profits = np.sort(rng.uniform(0.05, 1, len(costs)))
                items.append((tuple(profits.tolist()), tuple(costs.tolist())))
        requests = rng.uniform(100, 1000, streams) if tail is None else (rng.pareto(tail, streams) + 1) * 100
        requests = np.floor(requests) if whole else requests
        scales = np.concatenate([rng.uniform(0.01, 0.5, streams), rng.uniform(0.5, 0.9, streams)])
        groups = np.repeat([0, 1], streams)
        factor = rng.choice([0.0, 1.0, rng.uniform(0, 4)])
        weights = scales * np.where(groups == 0, factor, 1.0)
        return cls(items, groups, scales, weights, np.concatenate([requests, requests]))

    def best(self, budget):
        """Try everything, dropping only what does not fit."""
        rest = self.least
        values, costs = np.zeros(1), np.zeros(1)
        for more_values, more_costs in zip(self.values, self.costs, strict=True):
            rest -= more_costs[0]
            values, costs = (values[:, None] + more_values).ravel(), (costs[:, None] + more_costs).ravel()
            fits = costs + rest <= budget * (1 + 1e-12)
            values, costs = values[fits], costs[fits]
        return float(values[costs <= budget].max())

    def check(self, found, budget):
        """Refuse a selection that is not what it says it is."""
        chosen = list(enumerate(found.items.tolist()))
        assert math.fsum(self.costs[k][i] for k, i in chosen) == pytest.approx(found.spent, rel=1e-12)
        assert math.fsum(self.values[k][i] for k, i in chosen) == pytest.approx(found.value, rel=1e-12)
        assert found.spent <= budget * (1 + 1e-12)
        assert found.value <= found.bound


@pytest.mark.parametrize("block", range(10))
def test_exact_mode_equals_brute_force_on_5000_instances(block):
    rng = np.random.default_rng(block)
    exact = 0
    for number in range(500):
        one = Instance.random(rng, int(rng.integers(1, 4)), tail=[None, 1.2][number % 2], whole=number % 3 == 0)
        budget = one.least + (one.most - one.least) * float(rng.uniform(0, 1.1))
        if number % 3 == 0:
            # Whole costs and a whole budget: many selections spend it to the last unit.
            budget = float(round(budget))
            budget = max(budget, one.least)
        best, found = one.best(budget), one.classes.select(one.weights, one.sizes, budget)
        one.check(found, budget)
        assert found.value == pytest.approx(best, rel=1e-11)
        assert found.gap <= 1e-12
        near = one.classes.select(one.weights, one.sizes, budget, gap=0.02)
        one.check(near, budget)
        assert near.value >= best * (1 - near.gap) * (1 - 1e-12)
        assert near.bound >= best * (1 - 1e-12)
        assert near.gap <= 0.02 + 1e-12
        exact += near.value < best * (1 - 1e-9)
    # The fast mode is put to the test only where it is not exact by luck.
    assert exact > 10


def test_bound_holds_where_states_are_dropped(monkeypatch):
    rng = np.random.default_rng(1)
    short = 0
    for _ in range(300):
        one = Instance.random(rng, 8, whole=True)
        budget = one.least + (one.most - one.least) * float(rng.uniform(0, 1))
        best = one.classes.select(one.weights, one.sizes, budget).value
        with monkeypatch.context() as patched:
            patched.setattr(knapsack, "STATES", 2)
            found = one.classes.select(one.weights, one.sizes, budget, gap=1e-9)
        one.check(found, budget)
        assert found.bound >= best * (1 - 1e-12)
        short += found.value < best * (1 - 1e-9)
    assert short > 3


@pytest.mark.parametrize("tail", [None, 1.2])
@pytest.mark.parametrize("streams", [24, 100])
def test_larger_instances_equal_highs(streams, tail):
    rng = np.random.default_rng(streams)
    for _ in range(4):
        one = Instance.random(rng, streams, (6, 4), tail)
        budget = one.least + (one.most - one.least) * float(rng.uniform(0.05, 0.8))
        values, costs = np.concatenate(one.values), np.concatenate(one.costs)
        owners = np.repeat(np.arange(len(one.items)), [len(costs) for costs in one.costs])
        picks = np.zeros((len(one.items), len(values)))
        picks[owners, np.arange(len(values))] = 1
        solved = milp(
            -values,
            constraints=[LinearConstraint(picks, 1, 1), LinearConstraint(costs[None], -np.inf, budget)],
            integrality=np.ones(len(values)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0},
        )
        exact = one.classes.select(one.weights, one.sizes, budget)
        one.check(exact, budget)
        assert exact.value == pytest.approx(-solved.fun, rel=1e-9)
        fast = one.classes.select(one.weights, one.sizes, budget, gap=1e-4)
        one.check(fast, budget)
        assert fast.value >= exact.value * (1 - fast.gap)


@pytest.mark.parametrize(("tail", "most"), [(None, 1e-3), (1.2, 1e-2)])
@pytest.mark.parametrize("streams", [100, 316, 1000])
def test_gap_is_small_for_many_streams(streams, tail, most):
    rng = np.random.default_rng(streams)
    for _ in range(40):
        one = Instance.random(rng, streams, (6, 4), tail)
        budget = one.least + (one.most - one.least) * float(rng.uniform(0, 1)) ** 2
        found = one.classes.select(one.weights, one.sizes, budget, gap=1e-4)
        one.check(found, budget)
        assert found.gap < most


def test_streams_that_are_all_alike_do_not_tie_the_search_up():
    """Equal streams leave a part of the budget that no exchange can use; the gap is what it is."""
    retraining = ((0.0, 0.5, 1.0), (0.0, 3.0, 7.0))
    inference = ((0.7, 1.0), (1.0, 4.0))
    for streams in (30, 300, 3000):
        items = [retraining] * streams + [inference] * streams
        scales = np.concatenate([np.full(streams, 0.3), np.full(streams, 0.9)])
        classes = Classes(Rows.of_kinds(items), np.repeat([0, 1], streams), scales)
        found = classes.select(scales, np.full(2 * streams, 10.0), 47.3 * streams, gap=1e-4)
        assert found.gap < 1e-3
        assert found.spent <= 47.3 * streams


@settings(max_examples=300)
@given(
    rises=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20)), min_size=0, max_size=7),
    start=st.integers(0, 3),
)
def test_hull_is_the_least_concave_curve_over_the_items(rises, start):
    profits, costs = [float(start)], [0.0]
    for rise, run in rises:
        profits.append(profits[-1] + rise)
        costs.append(costs[-1] + run)
    vertices = hull(profits, costs)
    assert vertices[0] == 0
    assert vertices[-1] == len(profits) - 1
    on_hull = np.interp(costs, [costs[k] for k in vertices], [profits[k] for k in vertices])
    assert (on_hull >= np.array(profits) - 1e-9).all()
    slopes = np.diff([profits[k] for k in vertices]) / np.diff([costs[k] for k in vertices])
    assert (np.diff(slopes) < 0).all()


def test_nothing_fits():
    classes = Classes(Rows.of_kinds([((0.0, 1.0), (1.0, 2.0))]), np.zeros(1, np.intp), np.ones(1))
    assert classes.select(np.ones(1), np.ones(1), 0.5) is None
    found = classes.select(np.ones(1), np.ones(1), 1.0)
    assert found.items.tolist() == [0]


def test_what_is_worth_nothing_is_not_bought():
    classes = Classes(Rows.of_kinds([((0.0, 1.0), (0.0, 2.0)), ((0.5, 1.0), (1.0, 2.0))]), np.array([0, 1]), np.ones(2))
    assert classes.select(np.array([0.0, 1.0]), np.ones(2), 10.0).items.tolist() == [0, 1]


def test_no_requests_no_trouble():
    rng = np.random.default_rng(4)
    one = Instance.random(rng, 5)
    sizes = one.sizes.copy()
    sizes[[1, 6]] = 0.0
    found = one.classes.select(one.weights, sizes, one.most / 2)
    assert found.spent <= one.most / 2
    assert one.classes.select(one.weights, np.zeros(10), 0.0).value == 0.0
