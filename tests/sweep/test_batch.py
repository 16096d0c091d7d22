"""Many runs at once are what each of them is alone."""

from __future__ import annotations

import numpy as np
import pytest

import orric
from orric.allocators import ALLOCATORS, make_allocator
from orric.allocators.base import SingleStreamAllocator, Task
from orric.randomness import generator
from orric.records import Result
from orric.sweep import Sweep
from orric.sweep.batch import Laid, evaluate_together
from orric.sweep.plan import Chunk
from orric.sweep.runs import computed

from ..builders import ROOT, build_task, random_trace

OPEN_LOOP = [name for name, kind in ALLOCATORS.items() if issubclass(kind, SingleStreamAllocator)]
MEMORIES = [{"kind": "uniform"}, {"kind": "window", "slots": 3}, {"kind": "decay", "factor": 0.7}]


def alone(sweep: Sweep, point: int, allocator: str, seed: int) -> Result:
    """Evaluate a run by the plain function."""
    scenario = sweep.scenario_of(point)
    return orric.evaluate(
        scenario.profile, scenario.trace(seed), make_allocator(allocator), overload=scenario.overload, seed=seed
    )  # fmt: skip


@pytest.mark.parametrize("allocator", OPEN_LOOP)
def test_runs_laid_end_to_end_equal_plain_ones(write, allocator: str) -> None:
    axes = [
        {"key": "slots", "values": [1, 7, 40]},
        {"key": "profile.memory", "values": MEMORIES, "labels": ["uniform", "window", "decay"]},
        {"key": "gpu.1.budget.low", "name": "low", "values": [0.0, 0.6]},
        {"key": "stream.1.requests.low", "name": "least", "values": [0, 900]},
    ]
    sweep = Sweep.load(write(axis=axes))
    chunk = Chunk(allocator, range(len(sweep.points)), (1, 5))
    rows = iter(computed(sweep, chunk).rows)
    for point in chunk.points:
        for seed in chunk.seeds:
            result, row = alone(sweep, point, allocator, seed), next(rows)
            assert row["error"] == ""
            retrained = float((result.columns["retraining_macs"] > 0).mean())
            expected = {**result.summary(), "retrained": retrained, "overloaded": 0.0}
            for name in row.keys() & expected.keys():
                assert row[name] == (None if expected[name] is None else pytest.approx(expected[name], rel=1e-12)), name
            assert row["mean_accuracy"] == expected["mean_accuracy"], "to the last digit"


def test_drifts_that_change_corruption_on_the_way(write) -> None:
    drifts = [
        {"kind": "steps", "corruptions": ["fog", "contrast"], "severities": [1, 5]},
        {"kind": "random-walk", "corruption": "brightness", "low": 1, "high": 5, "move": 0.5, "start": 2},
    ]
    axes = [{"key": "stream.1.drift", "values": drifts, "labels": ["turns", "walk"]}]
    sweep = Sweep.load(write(scenario=str(ROOT / "simulations/quickstart.toml"), axis=axes))
    chunk = Chunk("orric", range(2), (1, 2))
    found = [row["mean_accuracy"] for row in computed(sweep, chunk).rows]
    expected = [alone(sweep, point, "orric", seed).mean_accuracy for point in chunk.points for seed in chunk.seeds]
    assert found == expected


@pytest.mark.parametrize("allocator", OPEN_LOOP)
def test_choosing_for_many_tasks_is_choosing_for_each(allocator: str) -> None:
    tasks, traces = [], []
    for seed in range(6):
        trace = random_trace(seed, slots=5 + 7 * seed)
        task = build_task(horizon=trace.slots)
        tasks.append(Task(trace.slots, task.streams))
        traces.append(trace)
    rngs = [generator(seed, "allocator") for seed in range(6)]
    requests, budgets = (np.concatenate([getattr(one, name) for one in traces]) for name in ("requests", "budget_macs"))
    many = make_allocator(allocator).choose_many(tasks, rngs, requests, budgets)
    start = 0
    for seed, (task, trace) in enumerate(zip(tasks, traces, strict=True)):
        one = make_allocator(allocator)
        one.reset(task, generator(seed, "allocator"))
        expected = one.choose(np.arange(1, trace.slots + 1), trace.requests, trace.budget_macs)
        for found, wanted in zip(many, expected, strict=True):
            assert np.array_equal(found[start : start + trace.slots], wanted)
        start += trace.slots


def test_a_budget_below_the_cheapest_pair_is_the_error_of_its_run_alone(sweep: Sweep) -> None:
    scenario = sweep.scenario_of(3)
    starved = scenario.model_copy(
        update={"gpu": (scenario.gpu[0].model_copy(update={"macs_per_s": 3e8}),), "overload": "error"}
    )
    runs = [Laid.out(starved, seed) for seed in range(1, 9)]
    found = evaluate_together(runs, make_allocator("orric")).figures
    failed = [isinstance(one, orric.BudgetError) for one in found]
    assert any(failed)
    assert not all(failed)
    for run, one in zip(runs, found, strict=True):
        trace = starved.trace(run.seed)
        if isinstance(one, orric.BudgetError):
            with pytest.raises(orric.BudgetError) as caught:
                orric.evaluate(run.profile, trace, orric.Orric())
            assert str(caught.value) == str(one)
        else:
            assert one["mean_accuracy"] == orric.evaluate(run.profile, trace, orric.Orric()).mean_accuracy
