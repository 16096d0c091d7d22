"""Arrivals of a scenario: windows, slots, faults, forecasts, and what may be asked for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.scenario import Fault
from orric.simulation.arrivals import WINDOW, Arrivals

from ..builders import build_scenario
from .test_edges import csv

SLOTS, SLOT_S = 12, 8.0
RATE = {"kind": "rate", "per_s": 40.0}
DAY = {"kind": "day", "per_s": 40.0, "swing": 1.0, "period_s": 50.0, "peak_s": 10.0}
UNIFORM = {"kind": "uniform", "low": 0, "high": 500}
DRAWN = [{"requests": given, "arrivals": kind} for kind in ("poisson", "bursty", "gamma", "hawkes") for given in
         (RATE, DAY, {**UNIFORM, "count": "drawn"})]  # fmt: skip
GIVEN = [{"requests": UNIFORM, "arrivals": kind} for kind in ("upload", "deterministic", "poisson", "bursty")]
every_kind = pytest.mark.parametrize(
    "given", [*DRAWN, *GIVEN], ids=lambda given: f"{given['arrivals']}-{given['requests']['kind']}"
)


def arrivals_of(
    scenario: orric.Scenario, seed: int = 3, bursts: dict[int, float] | None = None, skews_s: Any = 0.0
) -> Arrivals:
    """Return the arrivals of the first stream, with factors of some slots and skews of all."""
    factors = np.ones(scenario.slots)
    for slot, factor in (bursts or {}).items():
        factors[slot - 1] = factor
    return Arrivals(scenario, 0, seed, factors, np.zeros(scenario.slots) + skews_s)


def by_slot(arrivals: Arrivals, scenario: orric.Scenario) -> list[np.ndarray]:
    """Return the times of each slot, having looked at every window."""
    found = []
    for slot in range(1, scenario.slots + 1):
        windows, begin_s = list(arrivals.windows(slot)), (slot - 1) * scenario.slot_s
        for end_s, times in windows:
            assert end_s > begin_s
            assert ((times >= begin_s) & (times < end_s)).all()
            assert (np.diff(times) >= 0).all()
            assert len(times) <= 3 * WINDOW
            begin_s = end_s
        assert begin_s == slot * scenario.slot_s
        found.append(np.concatenate([times for _, times in windows]))
    return found


@every_kind
@pytest.mark.parametrize("bursts", [{}, {4: 3.0, 5: 1.5}], ids=["plain", "burst"])
@pytest.mark.parametrize("skewed", [False, True], ids=["true", "skewed"])
def test_slots_hold_what_arrives_in_them(profile_path: Path, given: dict, bursts: dict, skewed: bool) -> None:
    scenario = build_scenario(profile_path, slots=SLOTS, slot_s=SLOT_S, **given)
    skews_s = np.array([0, 0, 7.0, 7, 7, 1, 1, 3, 0, 0, 5, 5]) if skewed else np.zeros(SLOTS)
    arrivals = arrivals_of(scenario, bursts=bursts, skews_s=skews_s)
    found = by_slot(arrivals, scenario)
    assert [len(times) for times in found] == arrivals.arrived.tolist()
    # Moving every request by hand, and looking where it then is.
    plain = by_slot(arrivals_of(scenario, bursts=bursts), scenario)
    moved = np.sort(np.concatenate([times + skew_s for times, skew_s in zip(plain, skews_s, strict=True)]))
    assert np.array_equal(np.concatenate(found), moved[moved < SLOTS * SLOT_S])
    assert min(map(len, (found[0], found[-1]))) > 0


@every_kind
def test_a_result_tells_what_arrived(profile_path: Path, given: dict) -> None:
    scenario = build_scenario(profile_path, slots=SLOTS, slot_s=SLOT_S, **given)
    result = orric.simulate(scenario, orric.Orric(), seed=5)
    assert result.requests.tolist() == scenario.requests(5).tolist() == scenario.trace(5).requests.tolist()
    assert result.requests.tolist() != scenario.requests(6).tolist()
    assert (scenario.requests(5) % 1 == 0).all()


@pytest.mark.parametrize("kind", ["poisson", "bursty", "gamma", "hawkes"])
@pytest.mark.parametrize("count", [False, True], ids=["rate", "count"])
def test_slots_of_any_length_see_the_same_arrivals(profile_path: Path, kind: str, count: bool) -> None:
    found = []
    for slot_s, slots in ((5.0, 1440), (3600.0, 2)):
        requests = {"kind": "constant", "per_slot": int(6 * slot_s), "count": "drawn"}
        scenario = build_scenario(
            profile_path, slots=slots, slot_s=slot_s, arrivals=kind,
            requests=requests if count else {"kind": "rate", "per_s": 6.0},
        )  # fmt: skip
        found.append(np.concatenate(by_slot(arrivals_of(scenario), scenario)))
    assert len(found[0]) > 30_000
    assert np.array_equal(*found)


def test_bursts_go_on_over_the_edges_of_slots_whose_counts_are_given(profile_path: Path) -> None:
    """The end of a slot and the begin of the next are in the same state more often than not."""
    scenario = build_scenario(
        profile_path, slots=4000, slot_s=8.0, arrivals="bursty", requests={"kind": "constant", "per_slot": 60},
        burst={"ratio": 50.0, "burst_s": 4.0, "calm_s": 4.0},
    )  # fmt: skip
    found = by_slot(arrivals_of(scenario), scenario)
    assert {len(times) for times in found} == {60}
    busy = np.array([[(times % 8.0 < 1.0).sum(), (times % 8.0 >= 7.0).sum()] for times in found]) > 6
    # The state a second later is the same with probability (1 + exp(-1 / 2)) / 2, or 0.80; of a chain that begins anew
    # it is 0.5.
    assert (busy[1:, 0] == busy[:-1, 1]).mean() > 0.67


def test_given_counts_of_bursts_leave_no_time_out(profile_path: Path) -> None:
    """Where calms are silent, a slot that lies in one entirely still gets its count."""
    scenario = build_scenario(
        profile_path, slots=300, arrivals="bursty", requests={"kind": "constant", "per_slot": 3},
        burst={"ratio": 1e308, "burst_s": 5.0, "calm_s": 50.0},
    )  # fmt: skip
    assert {len(times) for times in by_slot(arrivals_of(scenario), scenario)} == {3}


@pytest.mark.parametrize(("per_slot", "factor", "arrived"), [(100, 1.15, 115), (10, 1.25, 13), (7, 1.2, 8), (3, 2, 6)])
def test_a_burst_rounds_to_the_nearest(profile_path: Path, per_slot: int, factor: float, arrived: int) -> None:
    burst = Fault(kind="burst", stream="camera-1", slots=(2,), factor=float(factor))
    scenario = build_scenario(
        profile_path, requests={"kind": "constant", "per_slot": per_slot}, slots=3, fault=(burst,), arrivals="poisson"
    )
    result = orric.simulate(scenario, orric.InferenceOnly())
    assert result.requests.tolist() == [per_slot, arrived, per_slot]


def test_a_burst_multiplies_the_rate_of_a_drawn_count(profile_path: Path) -> None:
    scenario = build_scenario(profile_path, requests={"kind": "rate", "per_s": 500.0}, slots=9, arrivals="poisson")
    arrived = arrivals_of(scenario, bursts={5: 2.5}).arrived
    # Of a Poisson number: five standard deviations.
    assert abs(arrived[4] - 10_000) < 500
    assert (np.abs(np.delete(arrived, 4) - 4000) < 320).all()
    assert arrived[:4].tolist() == scenario.requests(3)[:4].tolist()


@pytest.mark.parametrize("forecast", ["last", "ewma"])
def test_forecasts_look_back_on_what_arrived(profile_path: Path, tmp_path: Path, forecast: str) -> None:
    """Evenly spread, a skew of 6.4 s of 8 s lets two of ten come, then 8 late ones with the next slot's fifth."""
    skew = Fault(kind="clock-skew", stream="camera-1", slots=(1,), skew_s=6.4)
    scenario = build_scenario(
        profile_path, slots=3, requests=csv(tmp_path, [10, 200, 10]), arrivals="deterministic", forecast=forecast,
        fault=(skew,),
    )  # fmt: skip
    result = orric.simulate(scenario, orric.InferenceOnly())
    assert result.requests.tolist() == [2, 48, 162]
    second = {"last": 2.0, "ewma": 0.3 * 2 + 0.7 * 10}[forecast]
    third = {"last": 48.0, "ewma": 0.3 * 48 + 0.7 * second}[forecast]
    assert result.forecast.tolist() == pytest.approx([10.0, second, third])


@pytest.mark.parametrize("skew_s", [0.0, 3.0])
@pytest.mark.parametrize("given", [*DRAWN[::3], GIVEN[2], GIVEN[3]], ids=lambda given: given["arrivals"])
def test_memory_does_not_grow_with_the_requests(profile_path: Path, given: dict, skew_s: float) -> None:
    counted = {"kind": "constant", "per_slot": 2_000_000}
    requests = {"kind": "rate", "per_s": 250_000.0} if given["requests"] is RATE else counted
    scenario = build_scenario(profile_path, slots=2, slot_s=8.0, arrivals=given["arrivals"], requests=requests)
    arrivals = arrivals_of(scenario, skews_s=skew_s)
    next(arrivals.windows(1))
    arrivals = arrivals_of(scenario, skews_s=skew_s)
    tracemalloc.start()
    total = sum(len(times) for slot in (1, 2) for _, times in arrivals.windows(slot))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total > 30 * WINDOW
    assert peak < 16 * 8 * WINDOW


def test_a_clock_set_right_keeps_no_more_than_it_must(profile_path: Path) -> None:
    scenario = build_scenario(
        profile_path, slots=3, slot_s=8.0, arrivals="poisson", requests={"kind": "constant", "per_slot": 400_000}
    )
    found = by_slot(arrivals_of(scenario, skews_s=np.array([3.0, 0.0, 0.0])), scenario)
    assert sum(map(len, found)) == 1_200_000


def test_drawn_counts_are_drawn_once(profile_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = build_scenario(profile_path, arrivals="hawkes", requests=RATE)
    found, passes = scenario.requests(1), []
    whole = orric.Scenario.process
    monkeypatch.setattr(orric.Scenario, "process", lambda *given: passes.append(given) or whole(*given))
    assert scenario.requests(1) is found
    assert scenario.model_copy(update={"seed": 7}).requests(1) is found
    assert not passes
    # What depends on something else is drawn anew.
    day = build_scenario(profile_path, arrivals="hawkes", requests=DAY).stream
    assert scenario.model_copy(update={"stream": day}).requests(1).tolist() != found.tolist()
    assert scenario.model_copy(update={"slot_s": 9.0}).requests(1).tolist() != found.tolist()
    assert len(passes) == 2
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_a_closed_loop_is_bounded_by_its_thinking(profile_path: Path) -> None:
    loop = {"kind": "closed", "clients": 20, "thinking_s": 5.0}
    scenario = build_scenario(profile_path, slots=2, slot_s=8.0, requests=loop, arrivals="closed", forecast="last")
    assert scenario.requests(1).tolist() == [32.0, 32.0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"arrivals": "upload", "requests": RATE}, "set arrivals to poisson, bursty, gamma, hawkes"),
        ({"arrivals": "deterministic", "requests": {**UNIFORM, "count": "drawn"}}, "or give exact counts"),
        ({"arrivals": "gamma", "requests": UNIFORM}, 'set count = "drawn"'),
        ({"arrivals": "hawkes", "requests": UNIFORM}, "cannot be had with a given count"),
        ({"arrivals": "poisson", "gamma": {"variation": 2.0}}, 'gamma belongs to arrivals = "gamma"'),
        ({"arrivals": "poisson", "hawkes": {"branching": 0.5}}, 'hawkes belongs to arrivals = "hawkes"'),
        ({"arrivals": "hawkes", "requests": RATE, "hawkes": {"branching": 1.0}}, "less than 1"),
        ({"arrivals": "hawkes", "requests": RATE, "hawkes": {"decay_s": 0.0}}, "greater than 0"),
        ({"arrivals": "gamma", "requests": RATE, "gamma": {"variation": 0.0}}, "greater than or equal to 0.01"),
        ({"arrivals": "gamma", "requests": RATE, "gamma": {"variaton": 1.0}}, "did you mean 'variation'"),
        ({"arrivals": "poisson", "requests": {"kind": "rate", "per_s": 0.0}}, "greater than 0"),
        ({"arrivals": "poisson", "requests": {"kind": "rate", "per_slot": 5}}, "unknown key 'per_slot'"),
        ({"arrivals": "poisson", "requests": {**DAY, "swing": 1.5}}, "less than or equal to 1"),
        ({"arrivals": "poisson", "requests": {**UNIFORM, "count": "draw"}}, "did you mean 'drawn'"),
        ({"arrivals": "poisson", "requests": {"kind": "closed", "clients": 5, "thinking_s": 1.0}}, "a closed loop"),
        ({"arrivals": "closed", "forecast": "last"}, "requests no closed loop"),
        (
            {"arrivals": "closed", "requests": {"kind": "closed", "clients": 5, "thinking_s": 1.0}},
            'set "last" or "ewma"',
        ),
        ({"requests": {"kind": "closed", "clients": 0, "thinking_s": 1.0}}, "greater than or equal to 1"),
    ],
)
def test_arrivals_that_cannot_be_are_told_in_one_line(profile_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(orric.ScenarioError) as caught:
        build_scenario(profile_path, **changes)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"requests": {"kind": "rate", "per_s": 1e-9}}, "no slot has any requests; raise the rate"),
        ({"requests": {"kind": "rate", "per_s": 1e9}}, "about 9.6e+10 would come in all"),
        ({"requests": RATE, "arrivals": "bursty", "burst": {"burst_s": 1e-12, "calm_s": 1e-12}}, "give longer ones"),
    ],
)
def test_runs_of_nobody_or_far_too_many_are_told_in_one_line(profile_path: Path, changes: dict, told: str) -> None:
    scenario = build_scenario(profile_path, **{"arrivals": "poisson", **changes})
    with pytest.raises(orric.ScenarioError) as caught:
        orric.simulate(scenario, orric.Orric())
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
