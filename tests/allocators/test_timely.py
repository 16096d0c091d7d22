"""Decisions where streams have deadlines: the slot problem by brute force, shares, lessons, the bank."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.allocators import knapsack, timely
from orric.allocators.base import Slot, StreamTask, Task
from orric.allocators.knapsack import Rows, hull
from orric.allocators.ranges import Ranges
from orric.allocators.timely import LEVELS, ROOM, Demand, Learnt, PartitionedChoices, SharedChoices, TimelyStreams
from orric.allocators.together import StreamsTogether
from orric.configuration import InferenceConfiguration, RetrainingConfiguration
from orric.devices import Device
from orric.objective import feasible_together
from orric.timeliness import ArrivalProcess, Timeliness

RNG = np.random.default_rng
SLOT_S, CAPACITY = 60.0, 6e9


def stream(rng: np.random.Generator, name: str, deadline_s: float = 3.0, retraining: int = 3) -> StreamTask:
    """Return a stream with random configurations and a deadline."""
    profits, costs = np.sort(rng.uniform(0.05, 1.0, retraining - 1)), np.sort(rng.uniform(1e6, 2e7, retraining - 1))
    serving, serving_costs = np.sort(rng.uniform(0.3, 1.0, 3)), np.sort(rng.uniform(1e6, 8e6, 3))
    labels = zip([0.0, *profits.tolist()], [0.0, *costs.tolist()], strict=True)
    return StreamTask(
        name=name,
        retraining=tuple(
            RetrainingConfiguration(name=f"r{i}", profit=p, cost_macs=c) for i, (p, c) in enumerate(labels)
        ),
        inference=tuple(
            InferenceConfiguration(name=f"i{j}", profit=p, cost_macs=c)
            for j, (p, c) in enumerate(zip(serving.tolist(), serving_costs.tolist(), strict=True))
        ),
        best_accuracy=float(rng.uniform(0.6, 0.95)),
        slope_floor=float(rng.uniform(0.01, 0.3)),
        least_requests=100.0,
        most_requests=400.0,
        timeliness=Timeliness(
            SLOT_S, deadline_s, ArrivalProcess("poisson", True), (0.0,) * 3,
            tuple(cost * SLOT_S / CAPACITY for cost in serving_costs.tolist()),
        ),
    )  # fmt: skip


def several(rng: np.random.Generator, count: int, device: Device, horizon: int = 12) -> Task:
    """Return a task of several streams on one GPU."""
    streams = tuple(stream(rng, f"s{k}", float(rng.choice([0.5, 3.0, np.inf]))) for k in range(count))
    return Task(horizon, streams, capacities_macs=(CAPACITY,), devices=(device,))


def demand_of(rng: np.random.Generator, task: Task) -> Demand:
    """Draw a slot in which the cheapest pairs fit."""
    requests = rng.uniform(100, 400, len(task.streams))
    least = float(requests @ np.array([one.cheapest_macs for one in task.streams]))
    budget = min(least * float(rng.uniform(1.01, 4.0)), CAPACITY)
    return Demand(requests, max(budget, least * 1.001), np.zeros(len(requests)), Learnt.nothing(len(requests)))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_hulls_of_all_rows_at_once_are_those_of_each(seed: int) -> None:
    rng = RNG(seed)
    counts = rng.integers(1, 7, 5)
    costs, profits = np.full((5, 6), np.inf), np.full((5, 6), np.nan)
    for k, count in enumerate(counts.tolist()):
        costs[k, :count] = np.cumsum(rng.integers(1, 4, count))
        profits[k, :count] = np.cumsum(rng.integers(1, 4, count))
    found = Rows.of(profits, costs)
    for k, count in enumerate(counts.tolist()):
        vertices = hull(profits[k, :count].tolist(), costs[k, :count].tolist())
        mine = found.owners == k
        assert sorted(found.lows[mine].tolist()) == vertices[:-1]
        assert sorted(found.highs[mine].tolist()) == vertices[1:]


@pytest.mark.parametrize("seed", range(30))
def test_shared_gpu_is_planned_as_by_trying_all(seed: int) -> None:
    rng = RNG(seed)
    task = several(rng, 2, Device("weighted"))
    demand = demand_of(rng, task)
    group = TimelyStreams(task.streams, task.devices[0], CAPACITY)
    choices = group.choices(demand)
    assert isinstance(choices, SharedChoices)
    weights = rng.uniform(0.1, 1.0, 4)
    best, loads = -1.0, demand.requests[:, None] * group.costs / demand.budget_macs
    pool = demand.budget_macs / CAPACITY
    for level, *picked in product(LEVELS, range(3), range(3), range(3), range(3)):
        i, j = np.array(picked[:2]), np.array(picked[2:])
        mine = loads[[0, 1], j]
        costs = group.retraining_costs[[0, 1], i], group.costs[[0, 1], j]
        if mine.sum() > level or not feasible_together(demand.requests, *costs, demand.budget_macs):
            continue
        speeds = pool * np.maximum(1 - np.maximum(level - mine, 0), 0.02)
        parts = [
            float(task.streams[k].timeliness.part(j[k], speeds[k], demand.requests[k]))  # type: ignore[union-attr]
            for k in range(2)
        ]
        earned = weights[2:] * group.profits[[0, 1], j] * parts
        value = float((demand.requests * (weights[:2] * group.retraining_profits[[0, 1], i] + earned)).sum())
        best = max(best, value)
    assert choices.best(weights, 0.0).value == pytest.approx(best, rel=1e-9)
    # As many streams are planned: where a level is exceeded, what keeps to it is searched for, not solved for.
    group.few = ()
    plan = choices.best(weights, 0.0)
    assert best * 0.9 <= plan.value <= best * (1 + 1e-9) <= plan.bound * (1 + 2e-9)


@pytest.mark.parametrize(
    "device",
    [Device("fluid"), Device("saturating", fixed=0.6), Device("time-slice", round_s=0.2, switch_s=0.002)],
)
@pytest.mark.parametrize("seed", range(6))
def test_partition_is_planned_as_by_trying_all(seed: int, device: Device) -> None:
    rng = RNG(seed)
    task = several(rng, 2, device)
    demand = demand_of(rng, task)
    group = TimelyStreams(task.streams, device, CAPACITY)
    choices = group.choices(demand)
    assert isinstance(choices, PartitionedChoices)
    weights, pool, best = rng.uniform(0.1, 1.0, 4), demand.budget_macs / CAPACITY, -1.0
    work = demand.requests[:, None] * np.stack([group.retraining_costs, group.costs]) / CAPACITY
    for i0, i1, j0, j1, m0, m1 in product(range(3), range(3), range(3), range(3), range(len(ROOM)), range(len(ROOM))):
        i, j, m = np.array([i0, i1]), np.array([j0, j1]), np.array([m0, m1])
        labels = work[0, [0, 1], i]
        # Where little of a GPU is much of its speed, a share is yet what the work costs of the budget.
        labels = np.where(labels > 0, np.maximum(device.share(labels * 1.02), labels * 1.02), 0.0)
        serving = work[1, [0, 1], j] * np.array(ROOM)[m]
        serving = np.where(m > 0, np.maximum(device.share(serving), serving), serving)
        if labels.sum() + serving.sum() > pool:
            continue
        speeds = device.speed(np.minimum(serving, 1.0))
        parts = [
            float(task.streams[k].timeliness.part(j[k], speeds[k], demand.requests[k]))  # type: ignore[union-attr]
            for k in range(2)
        ]
        earned = weights[2:] * group.profits[[0, 1], j] * parts
        best = max(best, float((demand.requests * (weights[:2] * group.retraining_profits[[0, 1], i] + earned)).sum()))
    plan = choices.best(weights, 0.0)
    assert plan.value == pytest.approx(best, rel=1e-9)
    assert plan.bound >= best * (1 - 1e-9)
    # By the shares that it gives it is worth no less.
    assert plan.inference_shares is not None
    again = choices.plan(plan.retraining, plan.inference, plan.inference_shares, weights)
    assert again.value >= plan.value * (1 - 1e-9)


@pytest.mark.parametrize("name", ["orric-joint", "orric-guided"])
@pytest.mark.parametrize(
    "device",
    [Device("weighted"), Device("priority"), Device("fluid"), Device("time-slice", round_s=0.2, switch_s=0.002)],
)
def test_shares_keep_to_the_budget_and_retraining_has_one(name: str, device: Device) -> None:
    rng = RNG(3)
    task = several(rng, 4, device)
    allocator = orric.make_allocator(name)
    allocator.reset(task, RNG(1))
    for index in range(1, task.horizon + 1):
        demand = demand_of(rng, task)
        decided = allocator.decide(Slot(index, (demand.budget_macs,), tuple(demand.requests.tolist()))).streams
        macs = {one.name: one.cost_macs for one in (*task.streams[0].retraining, *task.streams[0].inference)}
        assert macs["r0"] == 0.0
        shares = [(one.retraining_share, one.inference_share) for one in decided]
        assert all(part is not None and part >= 0 for pair in shares for part in pair)
        total = sum(part for pair in shares for part in pair if part is not None)
        assert total <= demand.budget_macs / CAPACITY
        for one in decided:
            assert one.retraining_share is not None
            assert (one.retraining_share > 0) == (one.retraining != "r0")


def test_uploads_that_the_deadline_cuts_off_are_served_at_a_lower_resolution() -> None:
    """200 requests at once, 60 s of the GPU at the best resolution and 20 s at the cheapest: 30 s is the deadline."""
    told = stream(RNG(1), "camera")
    told = replace(
        told,
        inference=(
            InferenceConfiguration(name="small", profit=0.7, cost_macs=1e7),
            InferenceConfiguration(name="large", profit=1.0, cost_macs=3e7),
        ),
        timeliness=Timeliness(SLOT_S, 30.0, ArrivalProcess("upload"), (0.0, 0.0), (0.1, 0.3)),
    )
    late = Task(5, (told,), capacities_macs=(CAPACITY,), devices=(Device("weighted"),))
    never = replace(late, streams=(replace(told, timeliness=None),))
    answers = []
    for task in (late, never):
        allocator = orric.JointOrric()
        allocator.reset(task, RNG(1))
        answers.append(allocator.decide(Slot(1, (CAPACITY,), (200.0,))).streams[0].inference)
    assert answers == ["small", "large"]


def test_what_is_found_for_many_streams_is_near_the_bound() -> None:
    rng, lacking = RNG(9), []
    for _ in range(8):
        task = several(rng, 40, Device("weighted"))
        demand = demand_of(rng, replace(task, capacities_macs=(CAPACITY * 20,)))
        demand = replace(demand, budget_macs=float(demand.requests.sum() * rng.uniform(5e6, 1.5e7)))
        choices = TimelyStreams(task.streams, task.devices[0], CAPACITY * 20).choices(demand)
        weights = np.concatenate([rng.uniform(0.0, 1.0, 40), rng.uniform(0.6, 1.0, 40)])
        lacking.append(choices.best(weights, 1e-6).gap)
    assert max(lacking) < 0.08


def test_levels_of_many_streams_are_not_searched_for_what_they_leave_open(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, searched, most = RNG(9), list[int](), CAPACITY * 100
    run = knapsack._Search.run

    def counted(search: Any, found: Any) -> Any:
        searched.append(1)
        return run(search, found)

    monkeypatch.setattr(knapsack._Search, "run", counted)
    streams = several(rng, 300, Device("weighted")).streams
    requests = rng.uniform(100, 400, 300)
    demand = Demand(requests, float(requests.sum() * 8e6), np.zeros(300), Learnt.nothing(300))
    weights = np.concatenate([rng.uniform(0.0, 1.0, 300), rng.uniform(0.6, 1.0, 300)])
    choices = TimelyStreams(streams, Device("weighted"), most).choices(demand)
    rough, count = choices.best(weights, 1e-9), len(searched)
    monkeypatch.setattr(timely, "ROUGH", 0.0)
    assert rough.value >= choices.best(weights, 1e-9).value * (1 - 3e-4)
    assert count < len(searched) / 4


def test_streams_without_a_deadline_earn_whatever_their_speed() -> None:
    task = several(RNG(2), 1, Device("weighted"))
    told = replace(task.streams[0], timeliness=None)
    group = TimelyStreams((told, stream(RNG(3), "late", 1e-9)), Device("weighted"), CAPACITY)
    parts = group.parts_in_time(
        np.full((2, 3), 0.5), Demand(np.array([100.0, 100.0]), 3e9, np.zeros(2), Learnt.nothing(2))
    )
    assert parts.tolist() == [[1.0] * 3, [0.0] * 3]


def test_speeds_and_shares_are_each_other_turned_round() -> None:
    for device in (Device("fluid"), Device("saturating", fixed=0.3), Device("time-slice", round_s=0.2, switch_s=0.01)):
        speeds = np.array([0.1, 0.4, 0.9])
        assert device.speed(device.share(speeds)) == pytest.approx(speeds)


def observed(task: Task, slot: Slot, decided: orric.Allocation, rng: np.random.Generator) -> list[orric.Observation]:
    """Return what might be observed of a slot."""
    found = []
    for told, one, requests in zip(task.streams, decided.streams, slot.requests, strict=True):
        late = float(rng.uniform(0, 0.3)) * requests
        found.append(
            orric.Observation(
                slot.index, told.name, requests, requests, late, 0.0, 1.0, float(rng.uniform(0.3, 0.9)),
                retraining=one.retraining, inference=one.inference, inference_share=one.inference_share,
                budget_macs=slot.budgets_macs[0], told=requests * 1.2,
            )
        )  # fmt: skip
    return found


@pytest.mark.parametrize("name", ["orric-joint", "orric-guided"])
@pytest.mark.parametrize("device", [Device("weighted"), Device("fluid")])
def test_observations_alone_restore_what_was_learnt(name: str, device: Device) -> None:
    rng = RNG(4)
    task, seen = several(rng, 3, device), list[orric.Observation]()
    first = orric.make_allocator(name)
    first.reset(task, RNG(1))
    for index in range(1, task.horizon):
        demand = demand_of(rng, task)
        slot = Slot(index, (demand.budget_macs,), tuple(demand.requests.tolist()))
        for one in observed(task, slot, first.decide(slot), rng):
            first.observe(one)
            seen.append(one)
    restarted = orric.make_allocator(name)
    restarted.reset(task, RNG(1))
    for one in seen:
        restarted.observe(one)
    demand = demand_of(rng, task)
    last = Slot(task.horizon, (demand.budget_macs,), tuple(demand.requests.tolist()))
    assert restarted.decide(last) == first.decide(last)


@pytest.mark.parametrize("give_up", [0.0, 0.002, 0.05])
@pytest.mark.parametrize("deadlines", [False, True])
def test_over_an_episode_no_more_is_given_up_than_allowed(give_up: float, deadlines: bool) -> None:
    for seed in range(4):
        rng = RNG(seed)
        task = several(rng, 3, Device("weighted"), horizon=15)
        if not deadlines:
            task = replace(task, streams=tuple(replace(one, timeliness=None) for one in task.streams))
        allocator = orric.GuidedOrric(give_up=give_up)
        allocator.reset(task, RNG(1))
        group = StreamsTogether(task, np.arange(3), 0, Ranges(task.streams))
        earned = best = 0.0
        for index in range(1, task.horizon + 1):
            demand = demand_of(rng, task)
            slot = Slot(index, (demand.budget_macs,), tuple(demand.requests.tolist()))
            decided = allocator.decide(slot)
            weights = group.weights(index, demand.requests)
            choices = group.choices(replace(demand, learnt=allocator._lessons.learnt))
            assert choices is not None
            proved = choices.best(weights, 1e-6)
            earned += proved.bound * (1 - allocator.gaps[0])
            best += proved.value
            for one in observed(task, slot, decided, rng):
                allocator.observe(replace(one, late=0.0))
        assert earned >= best * (1 - give_up) * (1 - 1e-5)
