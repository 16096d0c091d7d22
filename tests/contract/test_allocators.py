"""What every allocator must do for one stream, whoever wrote it: the tests run over all that there are."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import orric
from orric.allocators.base import SingleStreamAllocator
from orric.objective import feasible

from ..builders import INFERENCE, RETRAINING, build_profile, build_task, random_trace
from .problems import Problem, begun, every_allocator, every_single_stream_allocator, observation, single


def costs(task: orric.Task, allocation: orric.Allocation) -> tuple[float, float]:
    """Return the costs of an allocation, and fail when it names an unknown configuration."""
    stream, decided = task.streams[0], allocation.streams[0]
    assert len(allocation.streams) == len(task.streams)
    retraining = {one.name: one.cost_macs for one in stream.retraining}
    inference = {one.name: one.cost_macs for one in stream.inference}
    assert decided.retraining in retraining
    assert decided.inference in inference
    return retraining[decided.retraining], inference[decided.inference]


@every_allocator
@settings(max_examples=150)
@given(drawn=single())
def test_budget_is_respected_and_an_infeasible_slot_gets_the_cheapest_pair(name: str, drawn: Problem) -> None:
    task, slots = drawn
    stream = task.streams[0]
    allocator = begun(name, task)
    for slot in slots:
        allocation = allocator.decide(slot)
        retraining, inference = costs(task, allocation)
        assert isinstance(allocation.reason, str)
        if slot.requests[0] * stream.cheapest_macs <= slot.budgets_macs[0]:
            assert slot.requests[0] * (retraining + inference) <= slot.budgets_macs[0]
        else:
            assert (retraining, inference) == (stream.retraining[0].cost_macs, stream.inference[0].cost_macs)
        allocator.observe(observation(slot))


@every_single_stream_allocator
@settings(max_examples=150)
@given(drawn=single())
def test_deciding_all_slots_at_once_is_deciding_one_by_one(name: str, drawn: Problem) -> None:
    task, slots = drawn
    allocator = begun(name, task)
    assert isinstance(allocator, SingleStreamAllocator)
    requests = np.array([slot.requests[0] for slot in slots])
    budgets = np.array([slot.budgets_macs[0] for slot in slots])
    requests.setflags(write=False)
    budgets.setflags(write=False)
    at_once = [allocation.streams for allocation in allocator.decide_all(requests, budgets)]
    assert at_once == [allocator.decide(slot).streams for slot in slots]


@every_allocator
@settings(max_examples=50)
@given(drawn=single())
def test_reset_begins_anew_and_replayed_records_restore_the_state(name: str, drawn: Problem) -> None:
    task, slots = drawn

    def run(allocator: orric.Allocator) -> list[orric.Allocation]:
        decisions = []
        for slot in slots:
            decisions.append(allocator.decide(slot))
            allocator.observe(observation(slot))
        return decisions

    allocator = begun(name, task)
    first = run(allocator)
    allocator.reset(task, np.random.default_rng(1))
    allocator.reset(task, np.random.default_rng(1))
    assert run(allocator) == first
    assert run(begun(name, task)) == first

    restarted = begun(name, task)
    for slot in slots[:-1]:
        restarted.observe(observation(slot))
    assert restarted.decide(slots[-1]) == first[-1]


@every_allocator
@pytest.mark.parametrize("after_reset", [False, True])
def test_pickled_allocator_decides_alike(name: str, after_reset: bool) -> None:
    task = build_task(6)
    slots = [orric.Slot(t, (1000 * (1e6 + t * 2e6),), (1000.0,)) for t in range(1, 7)]
    allocator = begun(name, task) if after_reset else orric.make_allocator(name)
    copied = pickle.loads(pickle.dumps(allocator))
    if not after_reset:
        for one in (allocator, copied):
            one.reset(task, np.random.default_rng(1))
    assert [copied.decide(slot) for slot in slots] == [allocator.decide(slot) for slot in slots]


@every_allocator
def test_task_and_slot_are_left_as_they_were(name: str) -> None:
    task = build_task(4)
    before = copy.deepcopy(task)
    allocator = begun(name, task)
    for index in range(1, 5):
        slot = orric.Slot(index, (7e9,), (1000.0,))
        as_given = copy.deepcopy(slot)
        allocator.decide(slot)
        allocator.observe(observation(slot, None))
        assert slot == as_given
    assert task == before


@every_allocator
def test_decisions_draw_no_global_randomness(name: str) -> None:
    before = np.random.get_state()  # noqa: NPY002  # it is this state that must stay
    allocator = begun(name, build_task(3))
    allocator.decide(orric.Slot(1, (7e9,), (1000.0,)))
    after = np.random.get_state()  # noqa: NPY002
    assert before[0] == after[0]
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]


@every_single_stream_allocator
def test_curve_is_never_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two profiles that differ in the curve alone get the same decisions."""
    # Agreement with the teacher, by which an allocator may go, follows from the curve: here nothing is labelled.
    monkeypatch.setattr(orric.Profile, "sampling_ratio", lambda profile, retraining: 0.0)
    trace = random_trace(5)
    curves = (orric.Exponential(c=0.85, a=0.35, k=3.0), orric.Tabulated(x=(0.0, 1.0), y=(0.2, 0.21)))
    first, second = (orric.evaluate(build_profile(curve=curve), trace, orric.make_allocator(name)) for curve in curves)
    assert first.allocations == second.allocations
    assert first.value != second.value


@pytest.mark.parametrize("told", [orric.Task, orric.StreamTask, orric.Slot, orric.Observation])
def test_what_allocators_are_told_holds_neither_curve_nor_true_accuracy(told: Any) -> None:
    names = {entry.name for entry in dataclasses.fields(told)}
    assert not names & {"curve", "drift_curve", "profile", "accuracy", "correct"}


@every_allocator
def test_class_is_documented_and_named_as_registered(name: str) -> None:
    allocator = orric.make_allocator(name)
    assert len((type(allocator).__dict__.get("__doc__") or "").strip()) > 20
    if name in orric.ALLOCATORS:
        assert type(allocator) is orric.ALLOCATORS[name]
    assert allocator.name == name


@every_allocator
def test_slot_without_requests_or_budget_is_decided(name: str) -> None:
    task = build_task(3)
    for budget in (0.0, 5e9):
        costs(task, begun(name, task).decide(orric.Slot(2, (budget,), (0.0,))))
    trace = orric.Trace(requests=[0, 10, 0], budget_macs=[0.0, 1e9, 1e9])
    result = orric.evaluate(build_profile(), trace, orric.make_allocator(name))
    assert result.served.tolist() == [0.0, 10.0, 0.0]


@every_allocator
def test_horizon_of_one_slot(name: str) -> None:
    task = build_task(1)
    retraining, inference = costs(task, begun(name, task).decide(orric.Slot(1, (1000 * 4e6,), (1000.0,))))
    assert feasible(1000.0, retraining, inference, 1000 * 4e6)


@every_allocator
@pytest.mark.parametrize("count", [1.0, 3.0, 1000.0, 12345.0])
def test_only_pair_is_chosen_when_the_budget_is_exactly_its_cost(name: str, count: float) -> None:
    cost = 7.94e6 + 0.1
    profile = build_profile(((0.0, 0.0),), ((1.0, cost),))
    trace = orric.Trace(requests=[count], budget_macs=[count * cost])
    result = orric.evaluate(profile, trace, orric.make_allocator(name))
    assert result.shed.tolist() == [0.0]
    short = orric.Trace(requests=[count], budget_macs=[math.nextafter(count * cost, 0.0)])
    with pytest.raises(orric.BudgetError):
        orric.evaluate(profile, short, orric.make_allocator(name))


@pytest.mark.parametrize("name", ["inference-only", "student-only", "inference-greedy", "orric"])
@pytest.mark.parametrize("index", range(len(INFERENCE)))
def test_budget_of_exactly_an_inference_configuration_admits_it(name: str, index: int) -> None:
    cost = INFERENCE[index][1]
    decided = begun(name, build_task(9)).decide(orric.Slot(9, (777.0 * cost,), (777.0,))).streams[0]
    assert (decided.retraining, decided.inference) == ("r0", f"i{index}")
    if index:
        below = orric.Slot(9, (math.nextafter(777.0 * cost, 0.0),), (777.0,))
        assert begun(name, build_task(9)).decide(below).streams[0].inference == f"i{index - 1}"


@pytest.mark.parametrize(
    "name", ["inference-greedy", "retraining-greedy", "knowledge-distillation", "focus-shift", "orric"]
)
def test_budget_of_exactly_the_dearest_pair_admits_it(name: str) -> None:
    dearest = 777.0 * (RETRAINING[-1][1] + INFERENCE[-1][1])
    allocator = begun(name, build_task(9))
    decided = allocator.decide(orric.Slot(2, (dearest,), (777.0,))).streams[0]
    assert (decided.retraining, decided.inference) == ("r3", "i2")
    short = allocator.decide(orric.Slot(2, (math.nextafter(dearest, 0.0),), (777.0,))).streams[0]
    assert (short.retraining, short.inference) != ("r3", "i2")


@pytest.mark.parametrize(
    ("name", "per_request", "pair"),
    [
        # Costs r: 0, 1, 3, 10 and i: 1, 2, 4, in millions.
        ("inference-only", 13.5e6, ("r0", "i2")),
        ("inference-greedy", 13.5e6, ("r2", "i2")),
        ("inference-greedy", 2.5e6, ("r0", "i1")),
        ("retraining-greedy", 13.5e6, ("r3", "i1")),
        ("retraining-greedy", 4.5e6, ("r2", "i0")),
        ("knowledge-distillation", 13.5e6, ("r3", "i1")),
        ("knowledge-distillation", 14e6, ("r3", "i2")),
    ],
)
def test_heuristics_by_hand(name: str, per_request: float, pair: tuple[str, str]) -> None:
    decided = begun(name, build_task(5)).decide(orric.Slot(1, (100 * per_request,), (100.0,))).streams[0]
    assert (decided.retraining, decided.inference) == pair


def test_focus_shifts_from_retraining_to_inference() -> None:
    allocator = begun("focus-shift", build_task(10))
    decided = [allocator.decide(orric.Slot(t, (100 * 11e6,), (100.0,))).streams[0] for t in (1, 10)]
    assert [(one.retraining, one.inference) for one in decided] == [("r3", "i0"), ("r0", "i2")]


@every_single_stream_allocator
def test_single_stream_allocators_refuse_several_streams(name: str) -> None:
    allocator = orric.make_allocator(name)
    task = build_task(3)
    with pytest.raises(orric.ScenarioError, match="2 streams"):
        allocator.reset(orric.Task(3, task.streams * 2), np.random.default_rng(1))


class Careless(SingleStreamAllocator):
    """Choose by whatever it was made with."""

    name = "careless"

    def __init__(self, retraining: Any, inference: Any) -> None:
        self.indices = retraining, inference

    def choose(self, slots: Any, requests: Any, budgets_macs: Any) -> Any:
        return tuple(np.resize(indices, np.shape(indices) and slots.shape) for indices in self.indices)


@pytest.mark.parametrize(
    ("retraining", "inference", "slot", "message"),
    [
        ([0], [0, 3], 2, "chooses the inference configuration of index 3; return indices from 0 to 2"),
        ([0, 1, -1], [0], 3, "chooses the retraining configuration of index -1; return indices from 0 to 3"),
        ([0], [1.0], 1, "chooses inference by an array of float64 of shape (3,); return integers of shape (3,)"),
        ([True], [0], 1, "chooses retraining by an array of bool"),
        (0, [0], 1, "chooses retraining by an array of int64 of shape ()"),
    ],
)
def test_what_is_no_index_is_refused(retraining: Any, inference: Any, slot: int, message: str) -> None:
    trace = orric.Trace(requests=[10] * 3, budget_macs=[2e8] * 3)
    with pytest.raises(orric.AllocatorError) as caught:
        orric.evaluate(build_profile(), trace, Careless(retraining, inference))
    assert str(caught.value).startswith(f"allocator 'careless', slot {slot}: ")
    assert message in str(caught.value)


def test_what_is_no_index_is_refused_slot_by_slot() -> None:
    allocator = Careless([0], [-1])
    allocator.reset(build_task(9), np.random.default_rng(1))
    with pytest.raises(orric.AllocatorError, match="allocator 'careless', slot 7: "):
        allocator.decide(orric.Slot(7, (2e8,), (10.0,)))


def test_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(orric.ScenarioError, match="did you mean 'inference-only'") as caught:
        orric.make_allocator("inferense-only")
    assert "\n" not in str(caught.value)
