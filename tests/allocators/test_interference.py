"""Plans where serving is slowed down while retraining is under way."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import orric
from orric.allocators.base import Slot, StreamTask, Task
from orric.allocators.interference import InterferingChoices, timely_streams
from orric.allocators.timely import LEVELS, Demand, Learnt
from orric.devices import Device
from orric.timeliness import ArrivalProcess, Timeliness

from ..builders import INFERENCE, RETRAINING, inference_of, retraining_of

SLOT_S, CAPACITY, SLOWDOWN = 10.0, 1e9, 1.6
ROWS = np.arange(2)


def stream(name: str, deadline_s: float = 1.0, slope_floor: float = 0.2) -> StreamTask:
    """Return a stream of about a hundred requests in a slot."""
    each_s = tuple(cost * SLOT_S / CAPACITY for _, cost in INFERENCE)
    return StreamTask(
        name, retraining_of(RETRAINING), inference_of(INFERENCE), best_accuracy=0.9, slope_floor=slope_floor,
        least_requests=100.0, most_requests=100.0,
        timeliness=Timeliness(SLOT_S, deadline_s, ArrivalProcess("poisson"), (0.0,) * 3, each_s),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_the_best_is_that_of_all_with_retraining_and_of_all_without(seed: int) -> None:
    rng = np.random.default_rng(seed)
    streams, device = (stream("one", 0.3), stream("other", 2.0)), Device("priority", slowdown=SLOWDOWN)
    requests, budget_macs = rng.uniform(20, 150, 2), CAPACITY * float(rng.uniform(0.6, 1.0))
    demand = Demand(requests, budget_macs, np.zeros(2), Learnt.nothing(2))
    choices = timely_streams(streams, device, CAPACITY).choices(demand)
    assert isinstance(choices, InterferingChoices)
    weights, best = rng.uniform(0.1, 1.0, 4), -1.0
    learning, serving = (np.array([list(one) for one in pairs]) for pairs in (RETRAINING, INFERENCE))
    for i0, i1, j0, j1 in product(range(4), range(4), range(3), range(3)):
        i, j = np.array([i0, i1]), np.array([j0, j1])
        slowed = SLOWDOWN if i.any() else 1.0
        loads = requests * serving[j, 1] * slowed / budget_macs
        if loads.sum() + (requests * learning[i, 1]).sum() / budget_macs > 1:
            continue
        level = min(one for one in LEVELS if one >= loads.sum())
        speeds = budget_macs / CAPACITY * (1 - (level - loads)) / slowed
        parts = [
            float(one.timeliness.part(j[k], speeds[k], requests[k]))  # type: ignore[union-attr]
            for k, one in enumerate(streams)
        ]
        worth = weights[:2] * learning[i, 0] + weights[2:] * serving[j, 0] * parts
        best = max(best, float((requests * worth).sum()))
    plan = choices.best(weights, 0.0)
    assert plan.value == pytest.approx(best, rel=1e-9)
    assert choices.bound(weights) >= best * (1 - 1e-9)
    assert choices.value(plan, weights) == pytest.approx(plan.value)
    assert choices.plan(plan.retraining, plan.inference, requests, weights).value == pytest.approx(plan.value)


@pytest.mark.parametrize("name", ["orric-joint", "orric-guided"])
@pytest.mark.parametrize("sharing", ["weighted", "priority"])
def test_retraining_leaves_serving_what_it_takes_beside_it(name: str, sharing: str) -> None:
    streams, often = (stream("one"), stream("other")), 0
    allocator = orric.make_allocator(name)
    task = Task(40, streams, capacities_macs=(CAPACITY,), devices=(Device(sharing, slowdown=SLOWDOWN),))  # type: ignore[arg-type]
    allocator.reset(task, np.random.default_rng(1))
    learning, serving = (
        {one.name: one.cost_macs for one in kind} for kind in (streams[0].retraining, streams[0].inference)
    )
    for load in np.linspace(0.1, 0.9, 9):
        requests = (float(load * CAPACITY / 2 / 1e6),) * 2
        decided = allocator.decide(Slot(1, (CAPACITY,), requests)).streams
        trained = sum(asked * learning[one.retraining] for asked, one in zip(requests, decided, strict=True))
        served = sum(asked * serving[one.inference] for asked, one in zip(requests, decided, strict=True))
        assert trained == 0 or trained + SLOWDOWN * served <= CAPACITY * (1 + 1e-9)
        often += trained > 0
    assert often > 0


def test_who_is_served_while_nobody_retrains_is_as_fast_as_without_interference() -> None:
    streams, demand = (
        (stream("one"), stream("other")),
        Demand(np.full(2, 100.0), CAPACITY, np.zeros(2), Learnt.nothing(2)),
    )
    device, nobody, somebody = Device("weighted", slowdown=SLOWDOWN), np.array([0, 0]), np.array([0, 1])
    told, plain = (timely_streams(streams, one, CAPACITY) for one in (device, replace(device, slowdown=1.0)))
    given = np.array([1, 1]), np.full(2, 0.5), demand
    assert told.beside(nobody).speeds(*given) == pytest.approx(plain.beside(nobody).speeds(*given))
    # Of the other's 0.2 of the GPU becomes 0.32.
    assert told.beside(somebody).speeds(*given) == pytest.approx([0.68 / SLOWDOWN] * 2)


def test_nobody_retrains_in_grains_that_are_longer_than_deadlines() -> None:
    for grain_s, retrains in ((0.0, True), (0.01, True), (4.0, False)):
        task = Task(
            40,
            (stream("one"), stream("other")),
            capacities_macs=(CAPACITY,),
            devices=(Device("priority", grain_s=grain_s),),
        )
        allocator = orric.JointOrric()
        allocator.reset(task, np.random.default_rng(1))
        decided = allocator.decide(Slot(1, (CAPACITY,), (20.0, 20.0))).streams
        assert any(one.retraining != "r0" for one in decided) == retrains
