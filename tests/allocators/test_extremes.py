"""Deadlines where little is there: one configuration, no requests, more than fits, more planned than expected."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import orric
from orric.allocators.base import Slot, StreamTask, Task
from orric.allocators.ranges import Ranges
from orric.allocators.timely import Demand, Learnt
from orric.allocators.together import StreamsTogether
from orric.devices import Device
from orric.timeliness import ArrivalProcess, Timeliness

from ..builders import INFERENCE, RETRAINING, Pairs, inference_of, retraining_of

SLOT_S, CAPACITY = 10.0, 1e10
DEVICES = [
    Device("weighted"), Device("priority"), Device("fluid"), Device("saturating", fixed=0.3),
    Device("time-slice", round_s=0.1, switch_s=0.001),
]  # fmt: skip


def stream(
    name: str, retraining: Pairs = RETRAINING, inference: Pairs = INFERENCE, deadline_s: float = 2.0, **changes: Any
) -> StreamTask:
    """Return a stream that expects 100 requests in every slot, with a deadline."""
    each_s = tuple(cost * SLOT_S / CAPACITY for _, cost in inference)
    timeliness = Timeliness(SLOT_S, deadline_s, ArrivalProcess("poisson"), (0.0,) * len(inference), each_s)
    values: dict[str, Any] = {"least_requests": 100.0, "most_requests": 100.0, "slope_floor": 0.01, **changes}
    return StreamTask(
        name, retraining_of(retraining), inference_of(inference), best_accuracy=0.9, timeliness=timeliness, **values
    )


def task_of(*streams: StreamTask, device: Device) -> Task:
    """Return a task of 6 slots on one GPU."""
    return Task(6, streams, capacities_macs=(CAPACITY,), devices=(device,))


def begun(name: str, task: Task) -> orric.Allocator:
    """Return an allocator at the beginning of an episode."""
    allocator = orric.make_allocator(name)
    allocator.reset(task, np.random.default_rng(1))
    return allocator


@pytest.mark.parametrize("device", DEVICES)
def test_more_streams_without_a_choice_than_arrays_have_axes(device: Device) -> None:
    task = task_of(*(stream(f"s{k}", RETRAINING[:1], INFERENCE[:1]) for k in range(70)), device=device)
    decided = begun("orric-guided", task).decide(Slot(1, (CAPACITY,), (100.0,) * 70)).streams
    shares = [one.inference_share for one in decided if one.inference_share is not None]
    assert min(shares) > 0.5 / 70
    assert sum(shares) == pytest.approx(1.0)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("requests", [(0.0, 0.0), (100.0, 0.0), (0.0, 100.0)])
@pytest.mark.filterwarnings("error")
def test_unlike_streams_without_requests_are_planned_without_a_warning(
    device: Device, requests: tuple[float, float]
) -> None:
    task = task_of(stream("much"), stream("little", RETRAINING[:2], INFERENCE[:1]), device=device)
    decided = begun("orric-guided", task).decide(Slot(1, (CAPACITY,), requests)).streams
    shares = [part for one in decided for part in (one.inference_share, one.retraining_share) if part is not None]
    assert len(shares) == 4
    assert sum(shares) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["orric-joint", "orric-guided", "orric-placing"])
@pytest.mark.parametrize("device", DEVICES)
def test_whoever_is_not_expected_finds_a_share_all_the_same(name: str, device: Device) -> None:
    task = task_of(stream("there", RETRAINING[:1]), stream("maybe", RETRAINING[:1]), device=device)
    there, maybe = begun(name, task).decide(Slot(1, (CAPACITY,), (100.0, 0.0))).streams
    assert there.inference_share is not None
    assert maybe.inference_share is not None
    # The cheapest configuration costs a quarter of the dearest, and nothing of what is needed is taken away.
    assert 0.01 < maybe.inference_share <= 0.2 * (1 + 1e-9)
    assert there.inference_share > 0.5
    assert there.inference_share + maybe.inference_share == pytest.approx(1.0)


def observation(stream: StreamTask, decided: orric.StreamAllocation, requests: float, told: float) -> orric.Observation:
    """Return what is observed where all are answered in time."""
    return orric.Observation(
        1, stream.name, requests, requests, 0.0, 0.0, 1.0, None, retraining=decided.retraining,
        inference=decided.inference, inference_share=decided.inference_share, budget_macs=CAPACITY, told=told,
    )  # fmt: skip


@pytest.mark.parametrize("device", [Device("weighted"), Device("fluid")])
def test_overloaded_slots_say_nothing_about_speed(device: Device) -> None:
    # Three times as many as can be served by the cheapest configuration; who was shed at once kept nobody waiting.
    task = task_of(stream("one", deadline_s=0.01), stream("other", deadline_s=0.01), device=device)
    allocator = orric.JointOrric()
    allocator.reset(task, np.random.default_rng(1))
    told, came = 1.5 * CAPACITY / 1e6, 0.5 * CAPACITY / 1e6
    for one in task.streams:
        allocator.observe(observation(one, orric.StreamAllocation("r0", "i0"), came, told))
    allocator.decide(Slot(2, (CAPACITY,), (100.0, 100.0)))
    assert allocator._lessons.learnt.factors.tolist() == [1.0, 1.0]
    assert allocator._lessons.learnt.shifts.tolist() == [0.0, 0.0]


def test_the_bank_weighs_by_the_ranges_that_slots_tell() -> None:
    # Slots tell three times as many as are expected to come; what came is no reason to weigh retraining less.
    headroom: dict[str, Any] = {"headroom": 2.0, "least_requests": 300.0, "most_requests": 300.0, "slope_floor": 0.3}
    task = task_of(stream("one", **headroom), stream("other", **headroom), device=Device("weighted"))
    allocator = orric.GuidedOrric(give_up=0.0)
    allocator.reset(task, np.random.default_rng(1))
    requests, budget_macs = np.array([100.0, 100.0]), 1.4e9
    chosen = orric.StreamAllocation("r0", "i0", 0.5, 0.0)
    for one in task.streams:
        allocator.observe(replace(observation(one, chosen, 100.0, 300.0), budget_macs=budget_macs))
    allocator.decide(Slot(2, (CAPACITY,), (300.0, 300.0)))
    group = StreamsTogether(task, np.arange(2), 0, Ranges(task.streams))
    weights = group.weights(1, np.array([300.0, 300.0]))
    choices = group.choices(Demand(requests, budget_macs, np.zeros(2), Learnt.nothing(2)))
    assert choices is not None
    nothing = np.zeros(2, np.intp)
    taken = choices.plan(nothing, nothing, np.full(2, 0.5), weights)
    best = choices.best(weights, 1e-6)
    assert best.retraining.any()
    assert allocator._banks[0] == pytest.approx(taken.value - best.value)
