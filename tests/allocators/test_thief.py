"""Ekya's thief: what it believes, and what it allocates."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import orric
from orric.allocators.thief import trial_errors
from orric.learning import LearningExtent
from orric.objective import feasible_together
from orric.scenario import Gpu, Stream

from ..builders import build_profile, build_task, inference_of, random_trace, retraining_of, write_profile

NAMES = ("thief", "fair-share")


def agreed(slot: orric.Slot, task: orric.Task, agreement: float | None = 0.5) -> list[orric.Observation]:
    """Return what is told after a slot in which all went as allocated."""
    return [
        orric.Observation(slot.index, stream.name, requests, requests, 0.0, 0.0, 1.0, agreement)
        for stream, requests in zip(task.streams, slot.requests, strict=True)
    ]


def begun(allocator: orric.Allocator, task: orric.Task, seed: int = 1) -> orric.Allocator:
    """Return an allocator at the start of an episode."""
    allocator.reset(task, np.random.default_rng(seed))
    return allocator


def decisions(allocator: orric.Allocator, task: orric.Task, slots: list[orric.Slot]) -> list[orric.Allocation]:
    """Have slots decided one after another."""
    found = []
    for slot in slots:
        found.append(allocator.decide(slot))
        for one in agreed(slot, task, 0.3 + 0.05 * (slot.index % 9)):
            allocator.observe(one)
    return found


def several(rng: np.random.Generator, streams: int, gpus: int, capacities: bool = True) -> orric.Task:
    """Return a task of several streams on several GPUs, with random configurations."""
    made = []
    for k in range(streams):
        count = rng.integers(1, 6)
        retraining = [(0.0, 0.0), *zip(np.sort(rng.random(count)), np.sort(rng.uniform(1e5, 1e7, count)), strict=True)]
        inference = list(zip(np.sort(rng.uniform(0.3, 1.0, 3)), np.sort(rng.uniform(1e5, 5e6, 3)), strict=True))
        made.append(
            orric.StreamTask(
                name=f"stream-{k}",
                retraining=orric.configuration.undominated(retraining_of(retraining)),
                inference=orric.configuration.undominated(inference_of(inference)),
                best_accuracy=0.9,
                slope_floor=0.01,
                least_requests=1.0,
                most_requests=1000.0,
                gpu=f"gpu{rng.integers(gpus)}",
            )
        )
    names = tuple(f"gpu{n}" for n in range(gpus))
    return orric.Task(50, tuple(made), names, capacities_macs=(1e10,) * gpus if capacities else ())


def random_slots(rng: np.random.Generator, task: orric.Task, count: int) -> list[orric.Slot]:
    """Return slots of any load: idle streams, GPUs without budget, budgets that are met exactly, overload."""
    slots = []
    for index in range(1, count + 1):
        requests = np.where(rng.random(len(task.streams)) < 0.2, 0.0, rng.integers(1, 500, len(task.streams)))
        budgets = []
        for gpu in task.gpus:
            there = [k for k, stream in enumerate(task.streams) if stream.gpu == gpu]
            least = math.fsum(requests[k] * task.streams[k].cheapest_macs for k in there)
            exact = [least, np.nextafter(least, 0.0), 0.0, min(least * 1.3, 1e10), rng.uniform(0, 1e10)]
            budgets.append(float(exact[rng.integers(len(exact))]))
        slots.append(orric.Slot(index, tuple(budgets), tuple(requests.tolist())))
    return slots


# The allocator.


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(40))
def test_budgets_and_shares_fit_on_every_gpu(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    task = several(rng, int(rng.integers(1, 9)), int(rng.integers(1, 4)), seed % 4 > 0)
    allocator, fed = begun(orric.make_allocator(name), task), 0
    for slot in random_slots(rng, task, 8):
        decided = allocator.decide(slot).streams
        for gpu, budget_macs in zip(task.gpus, slot.budgets_macs, strict=True):
            there = [k for k, stream in enumerate(task.streams) if stream.gpu == gpu]
            requests = np.array([slot.requests[k] for k in there])
            cheapest = np.array([task.streams[k].cheapest_macs for k in there])
            costs = {
                kind: np.array(
                    [
                        next(
                            one.cost_macs
                            for one in getattr(task.streams[k], kind)
                            if one.name == getattr(decided[k], kind)
                        )
                        for k in there
                    ]
                )
                for kind in ("retraining", "inference")
            }
            if not feasible_together(requests, 0.0, cheapest, budget_macs):
                assert (costs["retraining"] + costs["inference"] == cheapest).all()
                assert all(decided[k].inference_share is None for k in there)
                continue
            assert feasible_together(requests, costs["retraining"], costs["inference"], budget_macs)
            if not task.capacities_macs or budget_macs <= 0:
                assert all(decided[k].inference_share is decided[k].retraining_share is None for k in there)
                continue
            serving = np.array([decided[k].inference_share for k in there])
            retraining = np.array([decided[k].retraining_share for k in there])
            assert math.fsum([*serving, *retraining]) <= budget_macs / 1e10
            # Every job can do in the slot what its configuration costs.
            assert (serving * 1e10 >= requests * costs["inference"] * (1 - 1e-11)).all()
            assert (retraining * 1e10 >= requests * costs["retraining"] * (1 - 1e-11)).all()
            assert (retraining[costs["retraining"] == 0] == 0).all()
            # And none could serve by a better one.
            for k, share, cost in zip(there, serving.tolist(), costs["inference"].tolist(), strict=True):
                better = [one.cost_macs for one in task.streams[k].inference if one.cost_macs > cost]
                assert all(slot.requests[k] * dearer > share * 1e10 for dearer in better)
            fed += len(there)
        for one in agreed(slot, task):
            allocator.observe(one)
    if task.capacities_macs and name == "thief":
        assert fed > 0


def test_fair_shares_are_those_without_stealing() -> None:
    rng = np.random.default_rng(2)
    task = several(rng, 5, 2)
    slots = random_slots(rng, task, 20)
    fair = decisions(begun(orric.FairShare(), task), task, slots)
    assert fair == decisions(begun(orric.Thief(steal=False), task), task, slots)
    assert [one.streams for one in fair] != [one.streams for one in decisions(begun(orric.Thief(), task), task, slots)]
    # Two streams without a wish to retrain get half of the budget each.
    task = orric.Task(9, (*build_task(9).streams, *several(rng, 1, 1).streams), ("gpu0",), capacities_macs=(1e10,))
    decided = begun(orric.FairShare(retraining="r0"), task).decide(orric.Slot(1, (8e9,), (10.0, 10.0))).streams
    assert [one.inference_share for one in decided] == pytest.approx([0.4, 0.4])
    assert [one.retraining_share for one in decided] == [0.0, 0.0]


def test_budget_that_misses_a_configuration_by_rounding_gets_the_next() -> None:
    exact = 777.0 * 4e6
    for budget_macs, chosen in ((exact, "i2"), (math.nextafter(exact, 0.0), "i1")):
        allocator = begun(orric.FairShare(retraining="r0"), build_task(9))
        assert allocator.decide(orric.Slot(1, (budget_macs,), (777.0,))).streams[0].inference == chosen


def test_fixed_configuration_is_the_only_one_to_retrain_by() -> None:
    trace = random_trace(1)
    free = orric.evaluate(build_profile(), trace, orric.Thief(noise=0.0))
    fixed = orric.evaluate(build_profile(), trace, orric.Thief(noise=0.0, retraining="r2"))
    assert set(free.retraining) > {"r0", "r2"}
    assert set(fixed.retraining) == {"r0", "r2"}


@pytest.mark.parametrize("noise", [0.058, 0.2])
def test_median_error_of_trials_is_as_asked_for(noise: float) -> None:
    errors = np.array([trial_errors(7, slot, noise, 10, 18) for slot in range(1, 201)]) - 1
    assert np.median(np.abs(errors)) == pytest.approx(noise, rel=0.02)
    assert np.median(errors) == pytest.approx(0, abs=noise / 50)
    # Every slot, stream and configuration has its own.
    assert len(np.unique(errors)) == errors.size
    assert trial_errors(7, 3, noise, 10, 18) == trial_errors(7, 3, noise, 10, 18) != trial_errors(8, 3, noise, 10, 18)


def test_noise_changes_decisions_and_none_is_exact() -> None:
    task = build_task(30)
    slots = [orric.Slot(t, (1000.0 * 9e6,), (1000.0,)) for t in range(1, 31)]
    exact, other = (decisions(begun(orric.Thief(noise=0.0), task, seed), task, slots) for seed in (1, 2))
    noisy, again, drawn_anew = (decisions(begun(orric.Thief(), task, seed), task, slots) for seed in (1, 1, 2))
    assert exact == other
    assert noisy == again
    assert noisy != exact
    assert noisy != drawn_anew


def constant_curves(task: orric.Task) -> list[list[orric.LearningCurve]]:
    """Return a learning curve for every stream, the same in every slot."""
    return [[orric.Exponential(c=0.85, a=0.4, k=2.0 + k)] * task.horizon for k in range(len(task.streams))]


@pytest.mark.parametrize("profiled", [False, True])
def test_replay_after_a_crash_restores_the_decisions(profiled: bool) -> None:
    rng = np.random.default_rng(3)
    task = several(rng, 4, 2)
    slots = random_slots(rng, task, 25)

    def fresh() -> orric.Allocator:
        thief = orric.Thief()
        return begun(thief.profiled_by(constant_curves(task)) if profiled else thief, task)

    whole = decisions(fresh(), task, slots)
    assert len({allocation.streams for allocation in whole}) > 15
    restarted = fresh()
    assert decisions(restarted, task, slots[:12]) == whole[:12]
    assert decisions(pickle.loads(pickle.dumps(restarted)), task, slots[12:]) == whole[12:]
    if not profiled:
        # What agreements tell is in the records alone.
        restarted = fresh()
        for slot in slots[:12]:
            for one in agreed(slot, task, 0.3 + 0.05 * (slot.index % 9)):
                restarted.observe(one)
        assert decisions(restarted, task, slots[12:]) == whole[12:]


def test_deciding_a_slot_again_gives_the_same() -> None:
    rng = np.random.default_rng(4)
    task = several(rng, 3, 1)
    allocator = begun(orric.Thief().profiled_by(constant_curves(task)), task)
    for slot in random_slots(rng, task, 10):
        assert allocator.decide(slot) == allocator.decide(slot)
        for one in agreed(slot, task):
            allocator.observe(one)


class Watched(orric.Exponential):
    """A curve that tells where it was read."""

    told: Callable[..., None]

    def __call__(self, extent: Any) -> Any:
        self.told(float(extent[0]))
        return super().__call__(extent)


@pytest.mark.parametrize(
    "memory", [LearningExtent(), LearningExtent(kind="window", slots=3), LearningExtent(kind="decay", factor=0.6)]
)
def test_thief_keeps_its_own_extent_and_reads_the_present_curve_only(memory: LearningExtent) -> None:
    task, rng, read = build_task(20, memory=memory), np.random.default_rng(6), []
    requests, gained, expected = [], [], []
    curves = [Watched(c=0.9, a=0.5, k=3.0, told=lambda extent, t=t: read.append((t, extent))) for t in range(1, 21)]
    allocator = begun(orric.Thief(noise=0.0).profiled_by([curves]), task)
    for t in range(1, 21):
        count, part = float(rng.integers(0, 900)), float(rng.choice([0.0, 0.5, 1.0]))
        decided = allocator.decide(orric.Slot(t, (5e9,), (count,))).streams[0].retraining
        expected.append(memory.extents(np.array(requests), np.array(gained))[-1])
        profit = next(one.profit for one in task.streams[0].retraining if one.name == decided)
        allocator.observe(orric.Observation(t, "stream-1", count, count, 0.0, 0.0, part, 0.5, retraining=decided))
        requests.append(count)
        gained.append(profit * part)
    # In every slot the curve of that slot alone is read.
    assert [t for t, _ in read] == list(range(1, 21))
    assert [extent for _, extent in read] == pytest.approx(expected, rel=1e-12)
    assert max(expected) > 0


def test_curves_stay_with_the_copy_that_got_them() -> None:
    task = build_task(5)
    slots = [orric.Slot(t, (1000.0 * 9e6,), (1000.0,)) for t in range(1, 6)]
    plain = orric.Thief(noise=0.0)
    # Flat curves promise nothing, so there is nothing to retrain for.
    flat = plain.profiled_by([[orric.Tabulated(x=(0.0, 1.0), y=(0.5, 0.5))] * 5])
    assert {one.streams[0].retraining for one in decisions(begun(flat, task), task, slots)} == {"r0"}
    assert {one.streams[0].retraining for one in decisions(begun(plain, task), task, slots)} != {"r0"}


def test_what_it_keeps_does_not_grow_with_the_slots() -> None:
    task = build_task(3000, memory=LearningExtent(kind="window", slots=20))
    sizes = {}
    for profiled in (False, True):
        curve = orric.Exponential(c=0.85, a=0.4, k=2.0)
        thief = orric.Thief().profiled_by([[curve] * 3000]) if profiled else orric.Thief()
        allocator = begun(thief, task)
        for t in range(1, 3001):
            slot = orric.Slot(t, (1000.0 * 9e6,), (1000.0,))
            allocator.decide(slot)
            allocator.observe(agreed(slot, task)[0])
            if t in (100, 3000):
                sizes[profiled, t] = len(pickle.dumps(allocator))
    assert sizes[False, 3000] <= sizes[False, 100] + 16
    assert sizes[True, 3000] <= sizes[True, 100] + 16


def test_student_once_good_is_looked_at_again() -> None:
    """Without labels its accuracy is forgotten, so it is retrained, and labelled, before long."""
    task = build_task(60)
    allocator, retrained = begun(orric.Thief(noise=0.0), task), []
    for t in range(1, 61):
        slot = orric.Slot(t, (1000.0 * 20e6,), (1000.0,))
        retrained.append(allocator.decide(slot).streams[0].retraining != "r0")
        allocator.observe(agreed(slot, task, 0.95 if retrained[-1] else None)[0])
    assert 3 <= sum(retrained) <= 57
    assert any(retrained[30:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delta": 0.0}, "the quantum delta is 0; give a part of the budget"),
        ({"delta": math.nan}, "the quantum delta is nan"),
        ({"delta": 1.5}, "the quantum delta is 1.5"),
        ({"rounds": 0}, "0 rounds; give at least 1, or steal=False"),
        ({"noise": -0.1}, "the noise is -0.1"),
        ({"noise": math.inf}, "the noise is inf"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(orric.ScenarioError, match="allocator 'thief'") as caught:
        orric.Thief(**options)
    assert message in str(caught.value)


def test_unknown_configuration_and_missing_curves_are_refused() -> None:
    with pytest.raises(orric.ScenarioError, match="no undominated retraining configuration 'r9'; known: r0, r1"):
        begun(orric.FairShare(retraining="r9"), build_task(3))
    for curves in ([], [[orric.Exponential(c=0.85, a=0.4, k=2.0)] * 2]):
        with pytest.raises(orric.ScenarioError, match="hand in one for every stream and slot"):
            begun(orric.Thief().profiled_by(curves), build_task(3))


# On a simulated server.


def two_streams(folder: Path, **changes: Any) -> orric.Scenario:
    """Return a scenario of two streams on one GPU, of which only the first drifts."""
    path = write_profile(build_profile(), folder / "profile.toml")
    given = {"requests": {"kind": "constant", "per_slot": 300}, "profile": str(path), "arrivals": "deterministic"}
    return orric.Scenario(
        name="two",
        slots=20,
        slot_s=8.0,
        allocators=("thief", "fair-share"),
        gpu=(Gpu(macs_per_s=1e9, budget={"kind": "constant", "fraction": 0.75}),),
        stream=(Stream(name="one", **given), Stream(name="other", **given)),
        **changes,
    )


class Recorded(orric.Thief):
    """A thief whose answers are kept, by whichever copy of it decides."""

    answers: list[orric.Allocation] = []  # noqa: RUF012  # shared on purpose
    tasks: list[orric.Task] = []  # noqa: RUF012

    def reset(self, task: orric.Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self.tasks.append(task)

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        self.answers.append(super().decide(slot))
        return self.answers[-1]


def test_shares_are_used_on_a_server_and_everything_completes(tmp_path: Path) -> None:
    Recorded.answers.clear()
    Recorded.tasks.clear()
    result = orric.simulate(two_streams(tmp_path), Recorded(), seed=1)
    assert Recorded.tasks[0].capacities_macs == (8e9,)
    shares = [(one.inference_share, one.retraining_share) for answer in Recorded.answers for one in answer.streams]
    assert all(serving > 0 and retraining is not None for serving, retraining in shares)
    assert max(sum(map(sum, shares[k : k + 2])) for k in range(0, 40, 2)) <= 0.75
    # The first slot has no samples of one before it.
    retrains = (result.columns["retraining"] != "r0") & (result.columns["slot"] > 1)
    assert retrains.sum() > 5
    assert (result.columns["retrained"][retrains] == 1.0).all()
    assert (result.columns["served"] == result.columns["requests"]).all()
    assert "quanta stolen" in result.columns["reason"][0]


def test_comparison_hands_the_curves_in_and_names_the_line(tmp_path: Path) -> None:
    scenario = two_streams(tmp_path)
    by_name = orric.comparison.simulate_line(scenario, "curve", "thief", 1)
    same = orric.simulate(scenario, orric.Thief(), seed=1)
    assert by_name.allocator == "thief"
    assert by_name.to_frame().equals(same.to_frame())
    without = orric.simulation.engine.simulate(
        scenario, orric.Thief(), orric.comparison.accuracy_models(scenario, "curve", 1), 1
    )
    assert without.allocations != by_name.allocations


def test_drift_without_a_curve_leaves_it_to_agreements(tmp_path: Path) -> None:
    scenario = two_streams(tmp_path)
    curve = {"corruption": "fog", "severity": 3, "curve": orric.Exponential(c=0.8, a=0.4, k=3.0)}
    profile = build_profile(drift_curve=(curve,))
    path = write_profile(profile, tmp_path / "profile.toml")
    drift = {"kind": "steps", "corruption": "fog", "severities": [1]}
    stream = Stream(name="one", profile=str(path), requests={"kind": "constant", "per_slot": 9}, drift=drift)
    other = scenario.model_copy(update={"stream": (stream,)})
    thief = orric.Thief()
    assert orric.comparison._profiled(other, thief, 1) is thief
    assert orric.comparison._profiled(scenario, thief, 1) is not thief
