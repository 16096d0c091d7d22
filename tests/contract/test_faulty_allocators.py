"""Allocators that misbehave: what they do is told by name and slot, alike in both engines, and harms nobody else."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orric
from orric.allocators.base import SingleStreamAllocator
from orric.comparison import Failure, compare
from orric.records import Result

from ..builders import build_profile, build_scenario, build_task

SLOTS, AT = 12, 7
Engine = Callable[[orric.Allocator], Result]
PLAIN = orric.Allocation((orric.StreamAllocation("r0", "i0"),))


@pytest.fixture(params=["slot model", "simulator"])
def engine(request: pytest.FixtureRequest, profile_path: Path) -> Engine:
    """Run an allocator for twelve slots, of which each admits the cheapest pairs only."""
    if request.param == "simulator":
        scenario = build_scenario(profile_path, slots=SLOTS, budget={"kind": "constant", "fraction": 0.25})
        return lambda allocator: orric.simulate(scenario, allocator)
    trace = orric.Trace(requests=[500] * SLOTS, budget_macs=[2e9] * SLOTS)
    return lambda allocator: orric.evaluate(build_profile(), trace, allocator)


class Faulty(orric.Allocator):
    """Choose the cheapest pair, but do whatever it was made for at a slot, at a reset or at an observation."""

    name = "faulty"

    def __init__(self, at_slot: Any = None, at_reset: Any = None, at_record: Any = None) -> None:
        self.at_slot, self.at_reset, self.at_record = at_slot, at_reset, at_record

    def reset(self, task: orric.Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        if self.at_reset:
            self.at_reset(task)

    def decide(self, slot: orric.Slot) -> Any:
        return self.at_slot(slot) if self.at_slot and slot.index == AT else PLAIN

    def observe(self, record: orric.Observation) -> None:
        if self.at_record and record.slot == AT:
            self.at_record(record)


class FaultyAtOnce(SingleStreamAllocator):
    """Choose the cheapest pair by arrays, but let a function have its way with them first."""

    name = "faulty"

    def __init__(self, meddle: Any) -> None:
        self.meddle = meddle

    def choose(self, slots: Any, requests: Any, budgets_macs: Any) -> Any:
        answer = self.meddle(slots, requests, budgets_macs)
        nothing = np.zeros(len(slots), int)
        return (nothing, nothing) if answer is None else answer


class FaultyAnswers(orric.InferenceOnly):
    """Answer for all slots at once with whatever it was made for."""

    name = "faulty"

    def __init__(self, answers: Any) -> None:
        self.answers = answers

    def decide_all(self, requests: Any, budgets_macs: Any) -> Any:
        return self.answers


def fail(error: BaseException) -> Any:
    """Raise an error from within an expression."""
    raise error


def allocating(*pair: Any, streams: int = 1, **shares: Any) -> Callable[[Any], orric.Allocation]:
    """Return a decision for any slot."""
    return lambda slot: orric.Allocation((orric.StreamAllocation(*pair, **shares),) * streams)


def told(engine: Engine, allocator: orric.Allocator) -> orric.AllocatorError:
    """Return the error that an allocator ends with; it is one line that survives pickling."""
    with pytest.raises(orric.AllocatorError) as caught:
        engine(allocator)
    error = caught.value
    assert isinstance(error, orric.ScenarioError)
    assert "\n" not in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args) == (orric.AllocatorError, str(error), error.args)
    return error


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (allocating("r3", "i2"), "exceeds the budget of 2e+09 MACs by a pair that costs 7e+09; choose a pair that"),
        (allocating("r11", "i0"), "names the unknown retraining configuration 'r11'; did you mean 'r1'?"),
        (allocating("r0", "i9"), "names the unknown inference configuration 'i9'; known: i0, i1, i2"),
        (allocating("r0", 3), "names the inference configuration by the int 3; give its name"),
        (allocating(["r0"], "i0"), "names the retraining configuration by a list of 1; give its name"),
        (allocating("r0", "i0", streams=2), "gives a tuple of 2 as streams; give a tuple of 1 orric.StreamAllocation"),
        (allocating("r0", "i0", streams=0), "gives a tuple of 0 as streams; give a tuple of 1 orric.StreamAllocation"),
        (allocating("r0", "i0", inference_share="all"), "gives the str 'all' as a share; give a number from 0 to 1"),
        (allocating("r0", "i0", gpu="gpu7"), "names the unknown GPU 'gpu7'; did you mean 'gpu0'?"),
        (lambda slot: orric.Allocation("r0"), "gives the str 'r0' as streams"),
        (lambda slot: orric.Allocation(("r0",)), "gives the str 'r0' as the allocation of a stream"),
        (lambda slot: orric.Allocation(PLAIN.streams, None), "gives None as reason; give a text"),
        (lambda slot: None, "answers None; return an orric.Allocation"),
        (lambda slot: ("r0", "i0"), "answers a tuple of 2; return an orric.Allocation"),
        (lambda slot: PLAIN.streams[0], "answers a StreamAllocation; return an orric.Allocation"),
    ],
)
def test_a_wrong_answer_is_told_by_name_and_slot(engine: Engine, answer: Any, message: str) -> None:
    error = told(engine, Faulty(answer))
    assert str(error).startswith(f"allocator 'faulty', slot 7: {message}")
    assert error.args[:2] == ("faulty", 7)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"inference_share": 2}, "gives the share 2; give shares from 0 to 1"),
        ({"retraining_share": float("nan")}, "gives the share nan; give shares from 0 to 1"),
        ({"inference_share": 0.3}, "gives shares that sum to 0.3, beyond the budget of 0.25 of the GPU"),
    ],
)
def test_wrong_shares_are_told_by_the_simulator(profile_path: Path, shares: dict[str, float], message: str) -> None:
    scenario = build_scenario(profile_path, budget={"kind": "constant", "fraction": 0.25})
    error = told(lambda allocator: orric.simulate(scenario, allocator), Faulty(allocating("r0", "i0", **shares)))
    assert str(error).startswith(f"allocator 'faulty', slot 7: {message}")


class OddError(Exception):
    """An error of the allocator's own making."""


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (ValueError("no idea"), "ValueError: no idea"),
        (ValueError("two\n  lines"), "ValueError: two lines"),
        (KeyError("x"), "KeyError: 'x'"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (AssertionError("word " * 500), f"AssertionError: {'word ' * 56}..."),
        (OddError("mine"), "tests.contract.test_faulty_allocators.OddError: mine"),
        (orric.BudgetError(1, 2.0, 3.0), "orric.exceptions.BudgetError: slot 1: the budget of 2 MACs"),
    ],
)
@pytest.mark.parametrize("where", ["at_slot", "at_record", "at_reset"])
def test_what_is_raised_is_told_with_its_type_and_text(
    engine: Engine, where: str, raised: Exception, text: str
) -> None:
    if where == "at_reset" and isinstance(raised, orric.OrricError):
        # By such an error an allocator refuses a task, so it is heard as it is.
        with pytest.raises(type(raised)) as refused:
            engine(Faulty(at_reset=lambda given: fail(raised)))
        assert refused.value is raised
        return
    error = told(engine, Faulty(**{where: lambda given: fail(raised)}))
    when = "before slot 1" if where == "at_reset" else "slot 7"
    assert str(error).startswith(f"allocator 'faulty', {when}: raised {text}")
    assert "; mend the allocator (test_faulty_allocators.py:" in str(error)
    assert error.__cause__ is raised


def test_an_error_from_reset_that_refuses_a_task_is_left_as_it_is(engine: Engine) -> None:
    refusal = orric.ScenarioError("allocator 'faulty'", "asked for too much")
    with pytest.raises(orric.ScenarioError) as caught:
        engine(Faulty(at_reset=lambda task: fail(refusal)))
    assert caught.value is refusal


def test_errors_of_the_engines_are_not_blamed_on_the_allocator(profile_path: Path) -> None:
    trace = orric.Trace(requests=[500] * 2, budget_macs=[2e9, 1e6])
    with pytest.raises(orric.BudgetError, match="slot 2: the budget of 1e"):
        orric.evaluate(build_profile(), trace, Faulty())
    scenario = build_scenario(profile_path, overload="error", budget={"kind": "constant", "fraction": 0.01})
    with pytest.raises(orric.BudgetError, match="slot 1: the budget of 8e"):
        orric.simulate(scenario, Faulty())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_ends_it(engine: Engine, stop: type[BaseException]) -> None:
    with pytest.raises(stop):
        engine(Faulty(lambda slot: fail(stop())))


def assign(thing: Any, name: str, value: Any) -> None:
    """Change an attribute as anybody would."""
    setattr(thing, name, value)


@pytest.mark.parametrize(
    ("where", "change"),
    [
        ("at_slot", lambda slot: assign(slot, "requests", (0.0,))),
        ("at_slot", lambda slot: slot.budgets_macs.__setitem__(0, 1e12)),
        ("at_record", lambda record: assign(record, "served", 0.0)),
        ("at_reset", lambda task: assign(task, "horizon", 1)),
        ("at_reset", lambda task: assign(task.streams[0], "best_accuracy", 1.0)),
        ("at_reset", lambda task: assign(task.streams[0].retraining[1], "cost_macs", 0.0)),
        ("at_reset", lambda task: assign(task.streams[0].memory, "kind", "window")),
        ("at_reset", lambda task: task.streams[0].inference.clear()),
    ],
)
def test_changing_the_input_fails_and_is_told(engine: Engine, where: str, change: Any) -> None:
    when = "before slot 1" if where == "at_reset" else "slot 7"
    assert str(told(engine, Faulty(**{where: change}))).startswith(f"allocator 'faulty', {when}: raised ")


def force(thing: Any, name: str, value: Any) -> Any:
    """Change an attribute although it is frozen."""
    object.__setattr__(thing, name, value)
    return PLAIN


@pytest.mark.parametrize(
    ("where", "change", "message"),
    [
        ("at_slot", lambda slot: force(slot, "budgets_macs", (1e12,)), "slot 7: changes the Slot"),
        ("at_slot", lambda slot: force(slot, "requests", [0.0]), "slot 7: changes the Slot"),
        ("at_record", lambda record: force(record, "served", 0.0), "slot 7: changes the Observation"),
        ("at_reset", lambda task: force(task, "horizon", 1), "before slot 1: changes the Task"),
        (
            "at_reset",
            lambda task: force(task.streams[0].retraining[1], "cost_macs", 0.0),
            "before slot 1: changes the Task",
        ),
    ],
)
def test_changing_the_input_by_force_is_told(engine: Engine, where: str, change: Any, message: str) -> None:
    error = told(engine, Faulty(**{where: change}))
    assert str(error) == f"allocator 'faulty', {message} that it was given; leave what is given as it is"


def test_changing_the_task_by_force_later_is_told_at_the_end(engine: Engine) -> None:
    def change(slot: orric.Slot) -> orric.Allocation:
        decided: orric.Allocation = force(allocator.task.streams[0].inference[0], "cost_macs", 0.0)
        return decided

    allocator = Faulty(change)
    assert str(told(engine, allocator)).startswith("allocator 'faulty', slots 1 to 12: changes the Task")


@pytest.mark.parametrize("meddling", ["reset", "arrays"])
def test_nothing_that_an_allocator_does_to_its_input_reaches_another(meddling: str) -> None:
    profile, trace = build_profile(), orric.Trace(requests=[500] * SLOTS, budget_macs=[2e9] * SLOTS)
    before, requests = copy.deepcopy(profile), trace.requests.copy()
    expected = orric.evaluate(profile, trace, orric.Orric()).allocations

    def arrays(slots: Any, requests: Any, budgets_macs: Any) -> None:
        requests.base.setflags(write=True)
        requests.base[:] = 0.0

    def task(task: orric.Task) -> None:
        for configuration in (*task.streams[0].retraining, *task.streams[0].inference):
            force(configuration, "cost_macs", 0.0)

    allocator = FaultyAtOnce(arrays) if meddling == "arrays" else Faulty(at_reset=task)
    with pytest.raises(orric.AllocatorError) if meddling == "reset" else contextlib.nullcontext():
        orric.evaluate(profile, trace, allocator)
    assert profile == before
    assert np.array_equal(trace.requests, requests)
    assert orric.evaluate(profile, trace, orric.Orric()).allocations == expected


def test_a_list_of_streams_may_be_used_again(engine: Engine) -> None:
    """What an allocator does to its answer later changes nothing that it has decided."""
    streams = [orric.StreamAllocation("r0", "i0")]

    class Reusing(Faulty):
        """Change the list that its last answer holds."""

        def decide(self, slot: orric.Slot) -> Any:
            streams[0] = orric.StreamAllocation("r0", "i0" if slot.index % 2 else "i1")
            return orric.Allocation(streams)  # type: ignore[arg-type]

    assert engine(Reusing()).inference.tolist() == ["i0", "i1"] * (SLOTS // 2)


def double(slots: Any, requests: Any, budgets_macs: Any) -> None:
    budgets_macs *= 2


def unlock(slots: Any, requests: Any, budgets_macs: Any) -> None:
    budgets_macs.setflags(write=True)


def number(slots: Any, requests: Any, budgets_macs: Any) -> None:
    slots[:] = 1


@pytest.mark.parametrize("meddle", [double, unlock, number])
def test_changing_the_arrays_fails_and_is_told(engine: Engine, meddle: Any) -> None:
    error = told(engine, FaultyAtOnce(meddle))
    assert str(error).startswith("allocator 'faulty', slot 1: raised ValueError: ")


def test_arrays_handed_to_decide_all_stay_writable_for_the_caller() -> None:
    requests, budgets = np.full(3, 500.0), np.full(3, 2e9)
    allocator = FaultyAtOnce(lambda slots, requests, budgets_macs: None)
    allocator.reset(build_task(3), np.random.default_rng(1))
    allocator.decide_all(requests, budgets)
    assert requests.flags.writeable
    assert budgets.flags.writeable
    allocator.meddle = double
    with pytest.raises(ValueError, match="read-only"):
        allocator.decide_all(requests, budgets)
    assert budgets.tolist() == [2e9] * 3


def test_the_slot_is_found_of_an_error_in_all_slots_at_once(engine: Engine) -> None:
    def meddle(slots: Any, requests: Any, budgets_macs: Any) -> None:
        if AT in slots:
            raise IndexError("out of bounds")

    error = told(engine, FaultyAtOnce(meddle))
    assert str(error).startswith("allocator 'faulty', slot 7: raised IndexError: out of bounds; mend the allocator (")
    assert isinstance(error.__cause__, IndexError)


@pytest.mark.parametrize("alone", [None, OddError()])
def test_an_error_that_no_single_slot_shows_is_told_of_all(alone: Exception | None) -> None:
    def meddle(slots: Any, requests: Any, budgets_macs: Any) -> None:
        if len(slots) > 1:
            raise IndexError("out of bounds")
        if alone:
            raise alone

    trace = orric.Trace(requests=[500] * SLOTS, budget_macs=[2e9] * SLOTS)
    error = told(lambda allocator: orric.evaluate(build_profile(), trace, allocator), FaultyAtOnce(meddle))
    assert str(error).startswith("allocator 'faulty', slots 1 to 12: raised IndexError: out of bounds; mend")


@pytest.mark.parametrize("answer", [7, {"r0": "i0"}, np.zeros((3, 12), int), [[0] * 12]])
def test_what_are_not_two_arrays_is_refused(engine: Engine, answer: Any) -> None:
    error = told(engine, FaultyAtOnce(lambda slots, requests, budgets_macs: answer))
    assert str(error).startswith(f"allocator 'faulty', slot 1: chooses by {type(answer).__name__}")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (None, "slots 1 to 12: answers None; return a list of 12 allocations"),
        ([PLAIN] * 3, "slots 1 to 12: answers a list of 3; return a list of 12 allocations"),
        ([PLAIN] * 6 + [None] * 6, "slot 7: answers None; return an orric.Allocation"),
        ([PLAIN] * 6 + [allocating("r3", "i2")(None)] * 6, "slot 7: exceeds the budget"),
        ([PLAIN] * 6 + [allocating("r0", "j0")(None)] * 6, "slot 7: names the unknown inference configuration 'j0'"),
    ],
)
def test_wrong_answers_for_all_slots_at_once_are_told(answers: Any, message: str) -> None:
    trace = orric.Trace(requests=[500] * SLOTS, budget_macs=[2e9] * SLOTS)
    error = told(lambda one: orric.evaluate(build_profile(), trace, one), FaultyAnswers(answers))
    assert str(error).startswith(f"allocator 'faulty', {message}")


def test_lists_of_streams_for_all_slots_at_once_are_taken() -> None:
    trace = orric.Trace(requests=[500] * 2, budget_macs=[2e9] * 2)
    answers = [orric.Allocation([orric.StreamAllocation("r0", "i0")])] * 2  # type: ignore[arg-type]
    assert orric.evaluate(build_profile(), trace, FaultyAnswers(answers)).inference.tolist() == ["i0", "i0"]


def test_an_allocator_answers_for_those_that_it_asks(engine: Engine) -> None:
    class Outer(Faulty):
        """Leave every decision to another."""

        name = "outer"

        def reset(self, task: orric.Task, rng: np.random.Generator) -> None:
            self.inner = FaultyAtOnce(lambda slots, requests, budgets_macs: 7)
            self.inner.reset(task, rng)

        def decide(self, slot: orric.Slot) -> Any:
            return self.inner.decide(slot)

    assert str(told(engine, Outer())).startswith("allocator 'outer', slot 1: chooses by int")


def test_an_allocator_without_a_name_goes_by_its_class(engine: Engine) -> None:
    class Nameless(orric.Allocator):
        """Forget the name."""

        def decide(self, slot: orric.Slot) -> Any:
            return PLAIN if slot.index < AT else None

    assert str(told(engine, Nameless())).startswith("allocator 'Nameless', slot 7: answers None")


def register(monkeypatch: pytest.MonkeyPatch, **allocators: Any) -> None:
    """Put allocators into the table for the length of a test."""
    for name, allocator in allocators.items():
        monkeypatch.setitem(orric.ALLOCATORS, name, allocator)


def outcomes(scenario: orric.Scenario) -> dict[str, Result | Failure]:
    """Compare on the learning curve, in this process."""
    return {one.allocator: one for one in compare(scenario, ["curve"], 1, jobs=1)}


def test_a_comparison_goes_on_without_those_that_misbehave(profile_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = build_scenario(profile_path, allocators=("orric", "inference-only"))
    expected = outcomes(good)
    register(
        monkeypatch,
        breaking=lambda: Faulty(allocating("r3", "i2")),
        raising=lambda: Faulty(at_record=lambda record: fail(ValueError("no idea"))),
        unmade=lambda: fail(ValueError("no idea")),
        none=lambda: None,
    )
    names = ("breaking", "orric", "raising", "unmade", "none", "inference-only")
    found = outcomes(good.model_copy(update={"allocators": names, "gpu": build_scenario(profile_path).gpu}))
    messages = {name: str(one.error) for name, one in found.items() if isinstance(one, Failure)}
    assert {name: text.partition(": ")[0] for name, text in messages.items()} == {
        "breaking": "allocator 'breaking', slot 7",
        "raising": "allocator 'raising', slot 7",
        "unmade": "allocator 'unmade', before slot 1",
        "none": "allocator 'none', before slot 1",
    }
    assert "raised ValueError: no idea; mend the allocator (test_faulty_allocators.py:" in messages["unmade"]
    assert "is of the type NoneType; inherit from orric.Allocator" in messages["none"]
    for name, result in expected.items():
        other = found[name]
        assert isinstance(result, Result)
        assert isinstance(other, Result)
        assert other.to_frame().equals(result.to_frame())


def test_an_error_that_is_nobodys_fault_ends_a_comparison(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, overload="error", budget={"kind": "constant", "fraction": 0.01})
    with pytest.raises(orric.BudgetError):
        outcomes(scenario)
