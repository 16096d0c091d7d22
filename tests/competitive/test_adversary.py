"""Searches for worst traces: reproducible, never lost, against any allocator, and as low as enumeration on grids."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import orric
from orric.competitive.adversary import CURVE_PIECES, best_so_far, draws_at_random, restart, shrink, with_curve

from ..benchmarks import adversary as benchmark
from ..builders import build_profile

PROFILE = build_profile()
RANGES = orric.TraceRange(5, (100, 400), (400e6, 5.6e9))
UNIT = st.floats(0.0, 1.0)


def search(**changes) -> orric.Search:
    return orric.Search(**{"profile": PROFILE, "ranges": RANGES, "allocator": "orric", "evaluations": 200, **changes})


class Impatient(orric.InferenceOnly):
    """A third party's: retrains with all that is left over in the first slot only."""

    name = "impatient"

    def choose(self, slots, requests, budgets_macs):
        retraining, inference = super().choose(slots, requests, budgets_macs)
        left = budgets_macs - requests * self.inference_costs_macs[inference]
        fitting = requests[:, None] * self.retraining_costs_macs <= left[:, None]
        return np.where(slots == 1, fitting.sum(axis=1) - 1, retraining), inference


class Failing(orric.InferenceOnly):
    """A third party's: raises in the second slot when many ask."""

    name = "failing"

    def choose(self, slots, requests, budgets_macs):
        if ((slots == 2) & (requests > 250)).any():
            raise ZeroDivisionError("nothing to divide by")
        return super().choose(slots, requests, budgets_macs)


@pytest.fixture
def third_parties(monkeypatch):
    """Register the allocators above as an installed package would."""
    for one in (Impatient, Failing):
        monkeypatch.setitem(orric.ALLOCATORS, one.name, one)


@pytest.mark.parametrize("allocator", ["inference-only", "focus-shift"])
def test_the_answer_and_the_log_do_not_depend_on_the_number_of_workers(tmp_path, allocator):
    answers = []
    for jobs in (1, 2):
        folder = tmp_path / str(jobs)
        folder.mkdir()
        found = orric.search_worst_case(search(allocator=allocator, restarts=3), folder, jobs)
        logs = {path.name: path.read_bytes() for path in folder.iterdir()}
        answers.append((found.trace.requests.tolist(), found.trace.budget_macs.tolist(), found.ratio, logs))
        assert (found.evaluations, set(logs)) == (600, {f"restart-{n}.jsonl" for n in range(3)})
    assert answers[0] == answers[1]


def test_seeds_differ_and_are_repeated():
    ratios = [orric.search_worst_case(search(restarts=1, seed=seed), jobs=1).ratio for seed in (1, 2, 1)]
    assert ratios[0] == ratios[2] != ratios[1]


@pytest.mark.parametrize("changes", [{}, {"curves": True}, {"constructions": True}, {"evaluations": 1}])
@pytest.mark.parametrize("number", [0, 1])
def test_every_improvement_is_logged_and_lower_than_the_one_before(tmp_path, number, changes):
    asked = search(**changes)
    ratio, point, evaluations, improvements = restart(asked, number, str(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / f"restart-{number}.jsonl").read_text().splitlines()]
    assert len(lines) == improvements
    assert evaluations == asked.evaluations
    for name, ascending in (("evaluation", 1), ("ratio", -1)):
        assert (np.diff([line[name] for line in lines]) * ascending > 0).all()
    assert (lines[-1]["ratio"], lines[-1]["point"]) == (ratio, point)
    profile, trace = asked.instance(np.array(point))
    assert asked.ratio(profile, trace) == ratio
    assert asked.ranges.contains(trace)


@pytest.mark.parametrize("changes", [{}, {"curves": True}, {"ranges": orric.TraceRange(2, (1, 9), (4e8, 4e8), 2)}])
def test_the_best_so_far_is_the_result_even_with_a_half_written_line(tmp_path, changes):
    asked = search(restarts=3, **changes)
    assert best_so_far(asked, tmp_path) is None
    (tmp_path / "restart-9.jsonl").write_text('{"ratio": 0.')
    assert best_so_far(asked, tmp_path) is None
    found = orric.search_worst_case(asked, tmp_path, jobs=1)
    with (tmp_path / "restart-1.jsonl").open("a") as log:
        log.write('{"ratio": 0.01, "evaluation": 77, "point": [0.')
    again = best_so_far(asked, tmp_path)
    assert again is not None
    assert (again.ratio, again.improvements) == (found.ratio, found.improvements)
    assert again.evaluations <= found.evaluations
    assert again.profile == found.profile
    for name in ("requests", "budget_macs"):
        np.testing.assert_array_equal(getattr(again.trace, name), getattr(found.trace, name))


def test_an_ended_search_leaves_what_it_had_found(tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    whole.mkdir()
    restart(search(), 0, str(whole))
    measured = orric.Search.ratio
    left = iter(range(50))

    def ratio(self, profile, trace):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return measured(self, profile, trace)

    monkeypatch.setattr(orric.Search, "ratio", ratio)
    with pytest.raises(KeyboardInterrupt):
        orric.search_worst_case(search(restarts=1), tmp_path, jobs=1)
    lines = (whole / "restart-0.jsonl").read_text().splitlines()
    so_far = (tmp_path / "restart-0.jsonl").read_text().splitlines()
    assert 0 < len(so_far) < len(lines)
    assert so_far == lines[: len(so_far)]


def test_starting_from_the_proofs_is_never_worse_than_they_are():
    asked = search(allocator="inference-only", constructions=True, evaluations=40)
    ratio, _, _, _ = restart(asked, 0, None)
    points = RANGES.constructions(PROFILE)
    assert ratio <= min(asked.ratio(PROFILE, RANGES.trace(point)) for point in points)


def test_progress_tells_the_least_ratio_of_the_restarts_done():
    told = []
    found = orric.search_worst_case(search(restarts=3), jobs=1, progress=lambda *both: told.append(both))
    assert [done for done, _ in told] == [1, 2, 3]
    ratios = [ratio for _, ratio in told]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == found.ratio


@pytest.mark.usefixtures("third_parties")
def test_a_third_party_s_allocator_can_be_searched():
    found = orric.search_worst_case(search(allocator="impatient", restarts=2), jobs=1)
    value = orric.evaluate(found.profile, found.trace, Impatient()).value
    assert found.ratio == pytest.approx(value / orric.exact_optimum(found.profile, found.trace)[0], rel=1e-12)
    alone = orric.search_worst_case(search(allocator="inference-only", restarts=2), jobs=1)
    assert alone.ratio < found.ratio < 1


@pytest.mark.usefixtures("third_parties")
@pytest.mark.parametrize("number", [0, 1])
def test_an_allocator_that_fails_during_a_search_is_named_with_its_slot(number):
    # Both methods wrap what they call, and one of them takes a ValueError for a mistake of its own.
    with pytest.raises(orric.AllocatorError, match=r"'failing', slot 2: raised ZeroDivisionError"):
        restart(search(allocator="failing"), number, None)


@st.composite
def profiles(draw):
    """Draw a profile with room for other curves above L."""
    most, start = draw(st.floats(0.05, 1.0)), draw(st.floats(0.01, 0.9))
    rise = draw(st.floats(1e-5, 0.99 - start)) if start < 0.98 else 0.01
    rate = draw(st.floats(1e-3, 20.0))
    a = rise / -np.expm1(-rate)
    end = start + rise
    floor = draw(st.floats(0.01, 0.9)) * rise / most
    return build_profile(
        ((0.0, 0.0), (most, 1e6)),
        curve=orric.Exponential(c=start + a, a=a, k=rate / most),
        best_accuracy=min(end * (1 + 1e-9), 1.0),
        slope_floor=floor,
    )


@settings(max_examples=300)
@given(profiles(), st.lists(UNIT | st.sampled_from([0.0, 1.0]), min_size=CURVE_PIECES, max_size=CURVE_PIECES))
def test_searched_curves_keep_the_theorems_assumptions(profile, weights):
    most, found = profile.most_profit, with_curve(profile, np.array(weights)).curve
    for end in (0.0, most):
        assert float(found(end)) == pytest.approx(float(profile.curve(end)), rel=1e-12)
    slopes = np.diff(found.y) / np.diff(found.x)
    assert (slopes > 0).all()
    assert (np.diff(slopes) <= 1e-12 * slopes[0]).all()
    assert found.slope_before(most) >= profile.slope_floor * (1 - 1e-9)
    trace = orric.Trace(requests=[10.0, 10.0], budget_macs=[1e8, 1e8])
    assert not orric.bounds(with_curve(profile, np.array(weights)), trace).doubts or profile.best_accuracy > found(most)


@pytest.mark.parametrize("rise", [0.0, 1e-9])
def test_curves_without_room_above_the_slope_floor_are_refused(rise):
    profile = build_profile(curve=orric.Tabulated(x=(0.0, 1.0), y=(0.5, 0.6 + rise)), slope_floor=0.1)
    with pytest.raises(orric.ScenarioError, match="hardly more than slope_floor"):
        search(profile=profile, curves=True)


def test_searching_curves_too_finds_worse_cases_within_the_bounds():
    asked = search(allocator="inference-only", restarts=2, evaluations=600, curves=True, constructions=True)
    found = orric.search_worst_case(asked, jobs=1)
    alone = orric.search_worst_case(search(allocator="inference-only", restarts=2, evaluations=600), jobs=1)
    assert orric.bounds(found.profile, found.trace).theorem2 <= found.ratio <= alone.ratio * (1 + 1e-3)
    assert found.profile.curve.form == "tabulated"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"restarts": 0}, "restarts: found 0"),
        ({"evaluations": 0}, "evaluations: found 0"),
        ({"allocator": "oric"}, "did you mean 'orric'"),
        ({"ranges": orric.TraceRange(2, (100, 400), (1e6, 1e9))}, "no slot is overloaded"),
    ],
)
def test_unusable_searches_are_refused(changes, told):
    with pytest.raises(orric.ScenarioError, match=told):
        search(**changes)


@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.05])
@pytest.mark.parametrize("allocator", ["orric", "inference-only", "focus-shift"])
def test_shrinking_keeps_the_ratio_within_the_tolerance_and_the_trace_within_its_ranges(allocator, tolerance):
    asked = search(allocator=allocator, ranges=RANGES.with_slots(7))
    for seed in range(4):
        trace = asked.ranges.trace(np.random.default_rng(seed).random(asked.size))
        before = asked.ratio(PROFILE, trace)
        small, ratio = shrink(asked, PROFILE, trace, tolerance)
        assert ratio == asked.ratio(PROFILE, small) <= before * (1 + tolerance)
        assert small.slots <= trace.slots
        assert asked.ranges.contains(small)


def test_shrinking_leaves_out_what_does_not_matter_and_rounds_the_rest():
    # Inference-Only loses most where it is late, so few slots and the ends of the ranges are as bad as all this.
    ranges = orric.TraceRange(6, (100, 999), (1e9, 2e10))
    trace = orric.Trace(requests=[612, 613, 611, 614, 612, 613], budget_macs=[1.23456789e10] * 6)
    small, _ = shrink(search(allocator="inference-only", ranges=ranges), PROFILE, trace, 0.1)
    assert small.slots < 6
    numbers = [*small.requests.tolist(), *small.budget_macs.tolist()]
    assert all(
        number == float(f"{number:.1g}") or number in (*ranges.requests, *ranges.budget_macs) for number in numbers
    )


@pytest.mark.parametrize("grid", benchmark.GRIDS[:2], ids=str)
@pytest.mark.parametrize("allocator", benchmark.NAMES)
def test_on_a_grid_searches_reach_the_worst_trace(grid, allocator):
    # `tests/benchmarks/adversary.py` does the same with 50 seeds, and on a larger grid.
    found = benchmark.hits(benchmark.subject(), grid, allocator, range(10), jobs=1)
    assert found.measured < grid.traces / 2
    assert found.hits >= 9


@pytest.mark.parametrize("fewest", [benchmark.MOST_REQUESTS, benchmark.FEWEST_REQUESTS])
def test_inference_only_is_brought_to_theorem_3_or_below(fewest):
    ranges = orric.TraceRange(benchmark.SLOTS, (fewest, benchmark.MOST_REQUESTS), benchmark.BUDGETS)
    asked = orric.Search(benchmark.subject(), ranges, "inference-only", restarts=1, evaluations=2000)
    found = orric.search_worst_case(asked, jobs=1)
    assert found.ratio <= benchmark.theorem3() * (1.01 if fewest == benchmark.MOST_REQUESTS else 1 - 1e-3)
    assert found.ratio >= orric.bounds(found.profile, found.trace).theorem2


def test_an_allocator_that_draws_at_random_is_known_by_its_decisions() -> None:
    drawing = [name for name in sorted(orric.ALLOCATORS) if draws_at_random(PROFILE, RANGES, name)]
    # The thief estimates with noise of its own, and who shares fairly by its estimates does, too.
    assert drawing == ["fair-share", "random", "thief"]


def test_the_mean_of_several_runs_is_not_overfitted() -> None:
    """The ratio that was found holds on other seeds, which that of a single one does not."""
    asked = search(allocator="random", evaluations=1500, restarts=2, seeds=16)
    found = orric.search_worst_case(asked, jobs=1)
    runs = [asked.ratio(found.profile, found.trace, [seed]) for seed in asked.tried]
    assert found.ratio == pytest.approx(np.mean(runs), rel=1e-12)
    fresh = asked.on_other_seeds(found.profile, found.trace)
    single = search(allocator="random", evaluations=1500, restarts=2)
    alone = orric.search_worst_case(single, jobs=1)
    elsewhere = single.on_other_seeds(alone.profile, alone.trace)
    assert fresh.mean - found.ratio < (elsewhere.mean - alone.ratio) / 2
    assert alone.ratio < elsewhere.low
