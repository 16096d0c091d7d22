"""What every allocator must do for many streams on several GPUs; one that knows a single stream splits budgets."""

from __future__ import annotations

import copy
import math
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

import orric
from orric.allocators.split import for_task
from orric.objective import feasible_together

from ..builders import build_scenario, build_task
from .problems import Problem, begun, every_allocator, long, observations, run, several

Costs = list[tuple[float, float]]


def costs(task: orric.Task, allocation: orric.Allocation) -> Costs:
    """Return what the pair of each stream costs per request, and fail when one of its names is unknown."""
    assert len(allocation.streams) == len(task.streams)
    found = []
    for stream, one in zip(task.streams, allocation.streams, strict=True):
        retraining = {each.name: each.cost_macs for each in stream.retraining}
        inference = {each.name: each.cost_macs for each in stream.inference}
        found.append((retraining[one.retraining], inference[one.inference]))
    return found


def fitting(slot: orric.Slot, there: list[int], per_request: Costs, budget_macs: float) -> bool:
    """Say whether the pairs of some streams fit a budget together."""
    chosen = np.array([per_request[k] for k in there]).reshape(-1, 2)
    return feasible_together(np.array([slot.requests[k] for k in there]), chosen[:, 0], chosen[:, 1], budget_macs)


def check(task: orric.Task, slot: orric.Slot, allocation: orric.Allocation) -> None:
    """Assert that an allocation fits every GPU, and is the cheapest where nothing does."""
    per_request = costs(task, allocation)
    cheapest = [(one.retraining[0].cost_macs, one.inference[0].cost_macs) for one in task.streams]
    for gpu, budget_macs in zip(task.gpus, slot.budgets_macs, strict=True):
        placed = [k for k, one in enumerate(task.streams) if one.gpu == gpu]
        there = [k for k, one in enumerate(allocation.streams) if (one.gpu or task.streams[k].gpu) == gpu]
        shares = [
            share
            for k in there
            for share in (allocation.streams[k].retraining_share, allocation.streams[k].inference_share)
            if share is not None
        ]
        assert all(0 <= share <= 1 for share in shares)
        assert math.fsum(shares) <= 1 + 1e-9
        if fitting(slot, there, cheapest, budget_macs):
            assert fitting(slot, there, per_request, budget_macs)
        else:
            assert not fitting(slot, placed, cheapest, budget_macs), "moved to where the cheapest pairs do not fit"
            # What nobody asks for costs nothing, whatever its name.
            assert all(per_request[k] == cheapest[k] for k in there if slot.requests[k] > 0)


@every_allocator
@settings(max_examples=100)
@given(drawn=several())
def test_budgets_are_respected_and_an_infeasible_gpu_gets_the_cheapest_pairs(name: str, drawn: Problem) -> None:
    task, slots = drawn
    allocator = begun(name, task)
    for slot in slots:
        allocation = allocator.decide(slot)
        assert isinstance(allocation.reason, str)
        check(task, slot, allocation)
        for record in observations(task, slot):
            allocator.observe(record)


@every_allocator
def test_budgets_are_respected_all_along_an_episode(name: str) -> None:
    task, slots = long()
    for slot, allocation in zip(slots, run(begun(name, task), task, slots), strict=True):
        check(task, slot, allocation)


@every_allocator
def test_input_is_left_as_it_was(name: str) -> None:
    task, slots = long()
    told = [record for slot in slots for record in observations(task, slot)]
    before = copy.deepcopy((task, slots, told))
    allocator = begun(name, task)
    for slot in slots:
        allocator.decide(slot)
        for record in told:
            if record.slot == slot.index:
                allocator.observe(record)
    assert (task, slots, told) == before


@every_allocator
def test_reset_begins_anew_and_the_seed_decides(name: str) -> None:
    task, slots = long()
    allocator = begun(name, task)
    first = run(allocator, task, slots)
    other = long(slots=9, streams=3)
    allocator.reset(other[0], np.random.default_rng(2))
    run(allocator, *other)
    allocator.reset(task, np.random.default_rng(1))
    assert run(allocator, task, slots) == first
    assert run(begun(name, task), task, slots) == first


@every_allocator
@pytest.mark.parametrize("seen", [1, 17, 39])
def test_replayed_records_restore_the_state(name: str, seen: int) -> None:
    task, slots = long()
    whole = run(begun(name, task), task, slots)
    restarted = begun(name, task)
    for slot in slots[:seen]:
        for record in observations(task, slot):
            restarted.observe(record)
    assert run(restarted, task, slots[seen:]) == whole[seen:]


@every_allocator
@pytest.mark.parametrize("when", ["before reset", "after reset", "in the middle"])
def test_pickled_allocator_goes_on_alike(name: str, when: str) -> None:
    task, slots = long()
    allocator = for_task(orric.make_allocator(name), task) if when == "before reset" else begun(name, task)
    seen = 20 if when == "in the middle" else 0
    run(allocator, task, slots[:seen])
    copied = pickle.loads(pickle.dumps(allocator))
    if when == "before reset":
        for one in (allocator, copied):
            one.reset(task, np.random.default_rng(1))
    assert run(copied, task, slots[seen:]) == run(allocator, task, slots[seen:])


@every_allocator
def test_slots_without_requests_or_budget_are_decided(name: str) -> None:
    task, _ = long(slots=3)
    allocator = begun(name, task)
    for index, budget in enumerate((0.0, 1e9, 0.0), start=1):
        slot = orric.Slot(index, (budget,) * 3, (0.0,) * 5)
        check(task, slot, allocator.decide(slot))


@every_allocator
@pytest.mark.parametrize("overload", ["shed", "error"])
def test_an_overloaded_gpu_is_served_by_the_cheapest_pairs_or_refused(
    profile_path: Path, name: str, overload: str
) -> None:
    pytest.importorskip("simpy", reason="needs orric[sim]")
    # Two streams of 500 requests at 1e6 MACs or more, on 8e9 MACs: in every third slot or so they do not fit.
    scenario = build_scenario(
        profile_path, overload=overload, budget={"kind": "uniform", "low": 0.05, "high": 0.4}, allocators=("orric",)
    )
    streams = tuple(scenario.stream[0].model_copy(update={"name": f"camera-{k}"}) for k in range(2))
    scenario = scenario.model_copy(update={"stream": streams})
    if overload == "error":
        with pytest.raises(orric.BudgetError):
            orric.simulate(scenario, orric.make_allocator(name))
        return
    columns = orric.simulate(scenario, orric.make_allocator(name)).columns
    short = columns["budget_macs"] < 1000 * 1e6
    assert 0 < short.sum() < len(short)
    assert (columns["retraining"][short] == "r0").all()
    assert (columns["inference"][short] == "i0").all()
    assert columns["shed"][short].reshape(-1, 2).sum(axis=1).min() > 0
    assert columns["shed"][~short].sum() == 0


@every_allocator
def test_memory_is_bounded(name: str) -> None:
    """What an allocator holds, and what Python holds in all, does not grow from slot 1,000 to slot 100,000."""
    last = 100_000
    task = build_task(last)
    stream, allocator = task.streams[0], begun(name, task)
    retrains = {one.name for one in stream.retraining if one.cost_macs}
    # Drawn beforehand, and few: what surrounds the allocator must not grow either.
    agreements = np.random.default_rng(1).normal(0.7, 0.1, 997).clip(0, 1).tolist()
    sizes, blocks = [], []
    for index in range(1, last + 1):
        slot = orric.Slot(index, (2e6 + 1e7 * agreements[index % 991],), (1.0,))
        chosen = allocator.decide(slot).streams[0].retraining
        agreement = agreements[index % 997] if chosen in retrains else None
        allocator.observe(orric.Observation(index, "stream-1", 1.0, 1.0, 0.0, 0.0, 1.0, agreement))
        if index in (1_000, last):
            sizes.append(len(pickle.dumps(allocator)))
            blocks.append(sys.getallocatedblocks())
    assert sizes[1] - sizes[0] < 4_000, f"its pickle grew by {sizes[1] - sizes[0]} bytes"
    assert blocks[1] - blocks[0] < 3_000, f"memory grew by {blocks[1] - blocks[0]} blocks"
