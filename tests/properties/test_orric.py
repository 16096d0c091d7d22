"""ORRIC equals exhaustive search, and its theorems hold on every instance tried."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.allocators.orric import Weighted, exhaustive, future_weights, slot_weights, staircase
from orric.configuration import undominated
from orric.learning import LearningExtent
from orric.objective import feasible, long_term_accuracy

from ..builders import build_profile, build_task, inference_of, retraining_of

# Few distinct values make ties in profit and cost, and dominated configurations, common.
COARSE = st.integers(0, 6)
FINE = st.floats(0.01, 6.0, allow_subnormal=False)
RETRAINING_LISTS = st.lists(st.tuples(COARSE, COARSE), max_size=6) | st.lists(st.tuples(FINE, FINE), max_size=6)
INFERENCE_LISTS = st.lists(st.tuples(st.integers(1, 6), COARSE), min_size=1, max_size=6) | st.lists(
    st.tuples(FINE, FINE), min_size=1, max_size=6
)
WEIGHTS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 3.0]) | FINE
NUMBERS = st.tuples(st.integers(1, 4) | FINE, st.integers(0, 40) | st.floats(0.0, 60.0), WEIGHTS, WEIGHTS)


@settings(max_examples=10_000)
@given(drawn_r=RETRAINING_LISTS, drawn_i=INFERENCE_LISTS, numbers=NUMBERS, exact=st.integers(-1, 35))
def test_staircase_equals_exhaustive_search(
    drawn_r: list[tuple[float, float]], drawn_i: list[tuple[float, float]], numbers: tuple[float, ...], exact: int
) -> None:
    retraining = undominated(retraining_of([(0.0, 0.0), *drawn_r]))
    inference = undominated(inference_of(drawn_i))
    requests, budget, retraining_weight, inference_weight = numbers
    if exact >= 0:
        # A budget that is exactly what some pair costs.
        i, j = exact % len(retraining), exact // 6 % len(inference)
        budget = requests * (retraining[i].cost_macs + inference[j].cost_macs)
    checks = 0

    def fits(i: int, j: int) -> bool:
        nonlocal checks
        checks += 1
        return bool(feasible(requests, retraining[i].cost_macs, inference[j].cost_macs, budget))

    profits = [one.profit for one in retraining], [one.profit for one in inference]
    found = staircase(*profits, retraining_weight, inference_weight, fits)
    assert checks <= len(retraining) + len(inference)
    best = exhaustive(*profits, retraining_weight, inference_weight, fits)
    assert found == best
    fitting = [
        (retraining_weight * profits[0][i] + inference_weight * profits[1][j], i, j)
        for i in range(len(retraining))
        for j in range(len(inference))
        if fits(i, j)
    ]
    if found is None:
        assert not fitting
    else:
        score = retraining_weight * profits[0][found[0]] + inference_weight * profits[1][found[1]]
        assert score == max(fitting)[0]
        assert found[0] == min(i for value, i, _ in fitting if value == score)


def test_tie_in_the_last_slot_goes_to_less_retraining() -> None:
    assert staircase([0.0, 0.5, 1.0], [0.5, 1.0], 0.0, 1.0, lambda i, j: True) == (0, 1)


def test_no_pair_fits() -> None:
    assert staircase([0.0, 1.0], [0.5, 1.0], 1.0, 1.0, lambda i, j: False) is None
    assert exhaustive([0.0, 1.0], [0.5, 1.0], 1.0, 1.0, lambda i, j: False) is None


@pytest.mark.parametrize(("many_r", "many_i"), [(1, 1), (1, 7), (7, 1), (5, 9)])
def test_longest_walk_takes_no_more_checks_than_configurations(many_r: int, many_i: int) -> None:
    checks: list[tuple[int, int]] = []

    def fits(i: int, j: int) -> bool:
        checks.append((i, j))
        return i + j < max(many_r, many_i) - 1

    staircase(list(range(many_r)), list(range(1, many_i + 1)), 1.0, 1.0, fits)
    assert len(checks) <= many_r + many_i
    assert len(set(checks)) == len(checks)


class _Given(Weighted):
    """Weights as handed over, so that ties can be made on purpose."""

    name = "given"

    def __init__(self, retraining_weights: Sequence[float], inference_weights: Sequence[float]) -> None:
        self.given = np.array(retraining_weights, float), np.array(inference_weights, float)

    def weights(self, task: orric.Task) -> tuple[np.ndarray, np.ndarray]:
        return self.given


@settings(max_examples=300)
@given(
    drawn_r=RETRAINING_LISTS,
    drawn_i=INFERENCE_LISTS,
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 40), WEIGHTS, WEIGHTS), min_size=2, max_size=8),
)
def test_walking_all_staircases_in_step_is_walking_each(
    drawn_r: list[tuple[float, float]], drawn_i: list[tuple[float, float]], rows: list[tuple[float, ...]]
) -> None:
    requests, budgets, retraining_weights, inference_weights = (
        np.array(column, float) for column in zip(*rows, strict=True)
    )
    allocator = _Given(retraining_weights, inference_weights)
    allocator.reset(build_task(len(rows), [(0.0, 0.0), *drawn_r], drawn_i), np.random.default_rng(1))
    slots = np.arange(1, len(rows) + 1)
    at_once = np.array(allocator.choose(slots, requests, budgets))
    for k in range(len(rows)):
        alone = np.array(allocator.choose(slots[k : k + 1], requests[k : k + 1], budgets[k : k + 1]))
        assert at_once[:, k].tolist() == alone[:, 0].tolist()
        stream = allocator.task.streams[0]
        reference = exhaustive(
            [one.profit for one in stream.retraining],
            [one.profit for one in stream.inference],
            retraining_weights[k],
            inference_weights[k],
            lambda i, j, k=k, stream=stream: (
                requests[k] * (stream.retraining[i].cost_macs + stream.inference[j].cost_macs) <= budgets[k]
            ),
        )
        assert tuple(alone[:, 0].tolist()) == (reference or (0, 0))


MEMORIES = st.one_of(
    st.just(LearningExtent()),
    st.integers(1, 6).map(lambda slots: LearningExtent(kind="window", slots=slots)),
    st.floats(0.05, 0.95).map(lambda factor: LearningExtent(kind="decay", factor=factor)),
)


def plain_weight(slot: int, horizon: int, memory: LearningExtent) -> float:
    """Sum what model.md writes for one slot, term by term."""
    if memory.kind == "window":
        return math.fsum(1 / min(s, memory.slots) for s in range(slot, min(slot + memory.slots - 1, horizon - 1) + 1))
    if memory.kind == "decay":
        return math.fsum(
            memory.factor ** (s - slot) / math.fsum(memory.factor**k for k in range(s)) for s in range(slot, horizon)
        )
    return math.fsum(1 / s for s in range(slot, horizon))


@settings(max_examples=200)
@given(horizon=st.integers(1, 40), memory=MEMORIES)
def test_future_weights_are_the_sums_of_the_model(horizon: int, memory: LearningExtent) -> None:
    expected = [plain_weight(slot, horizon, memory) for slot in range(1, horizon + 1)]
    found = future_weights(horizon, memory)
    assert found.shape == (horizon,)
    assert found[-1] == 0.0
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@settings(max_examples=100)
@given(horizon=st.integers(2, 12), memory=MEMORIES, slot=st.integers(1, 12))
def test_future_weight_is_what_one_slot_adds_to_all_later_extents(
    horizon: int, memory: LearningExtent, slot: int
) -> None:
    slot = min(slot, horizon)
    profits = np.zeros(horizon)
    profits[slot - 1] = 1.0
    added = memory.extents(np.full(horizon, 7.0), profits)[:horizon].sum()
    assert future_weights(horizon, memory)[slot - 1] == pytest.approx(added, rel=1e-9, abs=1e-12)


def test_published_weights_by_hand() -> None:
    task = build_task(3, ((0.0, 0.0), (0.5, 1.0)), ((0.6, 1.0), (1.0, 2.0)), (100.0, 200.0))
    retraining_weights, inference_weights = slot_weights(task.streams[0], 3)
    # V_t = L D_min A^I_min / D_max h_t with h = 1 + 1/2, 1/2, 0.
    np.testing.assert_allclose(retraining_weights, [0.0045, 0.0015, 0.0])
    np.testing.assert_allclose(inference_weights, [0.9 - 0.01 * 0.5, 0.9, 0.9])


def instance(seed: int, memory: str) -> tuple[orric.Profile, orric.Trace]:
    """Draw an instance that is small enough for brute force and meets the theorems' assumptions."""
    rng = np.random.default_rng(seed)
    slots = int(rng.integers(2, 6)) if seed % 20 else 1
    profits = np.sort(rng.choice(np.arange(1, 11), rng.integers(1, 3), replace=False)) / 10
    costs = np.cumsum(rng.integers(1, 5, len(profits)))
    retraining = [(0.0, 0.0), *zip(profits.tolist(), costs.tolist(), strict=True)]
    inference = [
        (1.0, 6.0),
        *((int(rng.integers(1, 10)) / 10, int(rng.integers(1, 6))) for _ in range(rng.integers(0, 3))),
    ]
    gain = rng.uniform(0.02, 0.39)
    curve = orric.Exponential(c=rng.uniform(0.05, 0.6) + gain, a=gain, k=rng.uniform(0.1, 6.0))
    most = float(profits[-1])
    memories = {
        "uniform": LearningExtent(),
        "window": LearningExtent(kind="window", slots=int(rng.integers(1, slots + 1))),
        "decay": LearningExtent(kind="decay", factor=rng.uniform(0.05, 0.95)),
    }
    profile = build_profile(
        retraining,
        inference,
        curve=curve,
        best_accuracy=float(curve(most)) + rng.choice([0.0, 0.005]),
        slope_floor=curve.slope(most) * rng.choice([1.0, 0.5, 0.01]),
        memory=memories[memory],
    )
    requests = np.full(slots, 3.0) if seed % 2 else rng.integers(1, 10, slots).astype(float)
    stream = orric.StreamTask.of(profile, 1.0, 1.0)
    cheapest, dearest = stream.cheapest_macs, stream.retraining[-1].cost_macs + stream.inference[-1].cost_macs
    # Some slots have everything, some nothing to spare, most something in between.
    spread = np.clip(rng.uniform(-0.2, 1.2, slots), 0.0, 1.0)
    return profile, orric.Trace(
        requests=requests, budget_macs=requests * (cheapest + spread * (dearest - cheapest)) + 1e-9
    )


def offline_optimum(profile: orric.Profile, trace: orric.Trace) -> float:
    """Try every sequence of decisions; beside a given retraining the best inference that fits is always best."""
    options = []
    for requests, budget in zip(trace.requests, trace.budget_macs, strict=True):
        fitting = [
            (one.profit, max(fit))
            for one in undominated(profile.retraining)
            if (fit := [j.profit for j in profile.inference if feasible(requests, one.cost_macs, j.cost_macs, budget)])
        ]
        options.append(fitting)
    curves = profile.curves_for([None] * trace.slots, [None] * trace.slots)
    best = 0.0
    for sequence in itertools.product(*options):
        retraining, inference = np.array(sequence).T
        correct, _ = long_term_accuracy(trace.requests, trace.requests, retraining, inference, curves, profile.memory)
        best = max(best, float(correct.sum()))
    return best


def theorem_4(profile: orric.Profile, trace: orric.Trace) -> tuple[float, float]:
    """Return both lower bounds of Theorem 4."""
    task = orric.StreamTask.of(profile, trace.least_requests, trace.most_requests)
    profits = [one.profit for one in task.inference]
    alpha = profile.slope_floor * profile.most_profit * task.least_requests**2 * profits[0]
    alpha /= profile.best_accuracy * task.most_requests**2 * profits[-1]
    ratio = float(profile.curve(0.0)) / profile.best_accuracy
    return (1 + alpha) * ratio, 1 / (1 / ratio - alpha)


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_theorems_2_and_4_hold_on_brute_forced_instances(first: int) -> None:
    for seed in range(first, first + 100):
        profile, trace = instance(seed, "uniform")
        optimum = offline_optimum(profile, trace)
        inference_only = orric.evaluate(profile, trace, orric.InferenceOnly()).value
        assert inference_only >= float(profile.curve(0.0)) / profile.best_accuracy * optimum * (1 - 1e-12), seed
        value = orric.evaluate(profile, trace, orric.Orric()).value
        bound, weaker = theorem_4(profile, trace)
        assert bound >= weaker - 1e-15, seed
        assert bound * optimum * (1 - 1e-12) <= value <= optimum * (1 + 1e-12), seed


@pytest.mark.parametrize("memory", ["window", "decay"])
@pytest.mark.parametrize("first", range(0, 300, 100))
def test_theorem_4_holds_with_the_weights_adapted_to_window_and_decay(first: int, memory: str) -> None:
    for seed in range(first, first + 100):
        profile, trace = instance(seed, memory)
        value, optimum = orric.evaluate(profile, trace, orric.Orric()).value, offline_optimum(profile, trace)
        assert theorem_4(profile, trace)[0] * optimum * (1 - 1e-12) <= value <= optimum * (1 + 1e-12), seed


def test_orric_is_sometimes_not_optimal_and_inference_only_often() -> None:
    """The instances are hard enough for the bounds to mean something."""
    behind = {"orric": 0, "inference-only": 0}
    for seed in range(100):
        profile, trace = instance(seed, "uniform")
        optimum = offline_optimum(profile, trace)
        for name in behind:
            behind[name] += orric.evaluate(profile, trace, orric.make_allocator(name)).value < 0.999 * optimum
    assert behind["orric"] >= 10
    assert behind["inference-only"] >= 30


def test_brute_force_finds_the_better_order_by_hand() -> None:
    """One unit of budget to spare in slot 1: retraining there lifts slot 2."""
    profile = build_profile(
        ((0.0, 0.0), (1.0, 1.0)),
        ((0.5, 1.0), (1.0, 2.0)),
        curve=orric.Tabulated(x=(0.0, 1.0), y=(0.4, 0.8)),
        slope_floor=0.1,
    )
    trace = orric.Trace(requests=[10, 10], budget_macs=[20, 20])
    # (retrain, cheap) then (none, best): 10 (0.4 x 0.5 + 0.8 x 1).
    assert offline_optimum(profile, trace) == pytest.approx(10.0)
