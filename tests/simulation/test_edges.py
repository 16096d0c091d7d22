"""Where slots, faults, forecasts and budgets meet at their edges."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("simpy", reason="needs orric[sim]")

import orric
from orric.scenario import Fault

from ..builders import ROOT, build_profile, build_scenario, write_profile
from .test_engine import Fixed
from .test_server import FULL, check, retraining, server

NAMES = sorted(orric.ALLOCATORS)


def csv(folder: Path, requests: list[int]) -> dict[str, str]:
    """Write requests as a trace; return what names it."""
    path = folder / "requests.csv"
    orric.Trace(requests=requests, budget_macs=[1.0] * len(requests)).save(path)
    return {"csv": str(path)}


@pytest.mark.parametrize("count", range(7, 60, 4))
def test_weights_that_are_ready_when_the_slot_ends_take_over_then(profile_path: Path, count: int) -> None:
    given = {"retraining": {"takeover": "completion"}, "requests": {"kind": "constant", "per_slot": count}}
    scenario = server(profile_path, 1, 1, slots=20, budget=FULL, arrivals="upload", **given)
    result = orric.simulate(scenario, Fixed("r1", "i0"))
    assert result.retrained.tolist() == [1.0] * 20
    assert result.extent[1:] == pytest.approx(0.1)
    check(result)


@pytest.mark.parametrize("name", NAMES)
def test_no_stream_gets_less_than_its_cheapest_pair(tmp_path: Path, name: str) -> None:
    one = write_profile(build_profile(inference=((1.0, 4e6),)), tmp_path / "one.toml")
    other = write_profile(build_profile(inference=((0.6, 1e5), (1.0, 8e6))), tmp_path / "other.toml")
    given = {"requests": {"kind": "constant", "per_slot": 800}, "budget": {"kind": "constant", "fraction": 0.5}}
    scenario = server(one, 1, 2, arrivals="upload", **given)
    streams = scenario.stream[0], scenario.stream[1].model_copy(update={"profile": str(other)})
    result = orric.simulate(scenario.model_copy(update={"stream": streams}), orric.make_allocator(name))
    assert result.columns["shed"].sum() == 0
    check(result)


def test_who_is_late_by_the_clock_is_not_shed_before(profile_path: Path) -> None:
    skew = Fault(kind="clock-skew", stream="camera-0", slots=(1,), skew_s=7.9)
    given = {"requests": {"kind": "constant", "per_slot": 2000}, "budget": {"kind": "constant", "fraction": 0.05}}
    result = orric.simulate(server(profile_path, 1, 1, arrivals="deterministic", fault=(skew,), **given), orric.Orric())
    assert result.columns["requests"][0] == 25
    check(result)


def test_forecasts_of_nobody_share_a_gpu_evenly(profile_path: Path, tmp_path: Path) -> None:
    given = {"requests": csv(tmp_path, [500, 0, 3000, 100]), "forecast": "last", "arrivals": "deterministic"}
    result = orric.simulate(server(profile_path, 1, 2, slots=4, spare="inference", **given), orric.InferenceOnly())
    assert 0 < result.gpu_columns["serving"][2] <= 1
    check(result)


def test_the_teacher_stays_where_the_student_is(tmp_path: Path) -> None:
    path = write_profile(build_profile(teacher={"accuracy": 0.85, "cost_macs": 8e6}), tmp_path / "profile.toml")
    burst = Fault(kind="burst", stream="camera-0", slots=(2,), factor=4.0)
    given = {"requests": {"kind": "constant", "per_slot": 600}, "budget": {"kind": "constant", "fraction": 0.5}}
    scenario = server(path, 2, 2, arrivals="upload", references=("teacher-only",), fault=(burst,), **given)
    found = orric.comparison.simulate_line(scenario, "curve", "teacher-only", 1)
    assert found.columns["gpu"][:2].tolist() == list(scenario.placement())
    assert found.columns["shed"].sum() == 0


def test_results_do_not_depend_on_how_python_hashes() -> None:
    code = (
        "import orric, hashlib; s = orric.load_scenario('simulations/edge-server.toml'); "
        "r = orric.simulate(s, orric.Orric()); print(hashlib.sha256(r.to_frame().to_csv().encode()).hexdigest())"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True, capture_output=True, text=True,
        ).stdout
        for seed in ("2", "3")
    ]  # fmt: skip
    assert found[0] == found[1]


def test_nobody_there_teaches_nothing(profile_path: Path, tmp_path: Path) -> None:
    given = {"requests": csv(tmp_path, [0, 500, 500, 0, 500, 0]), "arrivals": "poisson", "budget": FULL}
    result = orric.simulate(server(profile_path, 1, 1, slots=6, **given), Fixed("r2", "i0"))
    assert result.retrained.tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert result.extent[2] == 0.0


def test_requests_shed_by_an_overload_are_on_record(profile_path: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    given = {"requests": {"kind": "constant", "per_slot": 2000}, "budget": {"kind": "constant", "fraction": 0.1}}
    scenario = server(profile_path, 1, 1, **given)
    result = orric.simulate(scenario, orric.Orric(), record=tmp_path / "all.parquet")
    rows = pandas.read_parquet(tmp_path / "all.parquet")
    assert (rows.fate == "shed").sum() == result.shed.sum() > 0
    assert (rows.fate == "waiting").sum() == result.waiting[-1]
    assert rows.request.is_unique
    for path in ("", tmp_path):
        with pytest.raises(orric.ScenarioError, match="give a file for requests"):
            orric.simulate(scenario, orric.Orric(), record=path)


def test_requests_that_all_come_too_late_leave_nothing_to_divide(profile_path: Path) -> None:
    skew = Fault(kind="clock-skew", stream="camera-0", slots=(1,), skew_s=7.999)
    given = {"requests": {"kind": "constant", "per_slot": 1}, "fault": (skew,), "slots": 1}
    result = orric.simulate(server(profile_path, 1, 1, **given), orric.Orric(), seed=3)
    assert result.columns["requests"].sum() == 0
    assert result.mean_accuracy == result.summary()["mean_accuracy"] == 0.0


def test_weights_that_rot_before_the_swap_are_refused_too(profile_path: Path) -> None:
    fault = Fault(kind="corrupt-weights", stream="camera-0", slots=(1,), offset_s=7.0)
    result = retraining(profile_path, 0.4, fault=(fault,))
    assert result.extent[1] == 0.0
    assert result.retrained.tolist() == [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert "refused at the swap" in result.events[0].what


def test_retraining_that_is_given_nothing_does_not_wait_for_its_turn(profile_path: Path) -> None:
    """What begins in the first slot stands still in the second and is done in the third; nothing begins behind it."""

    class Once(orric.Allocator):
        name = "once"

        def decide(self, slot: orric.Slot) -> orric.Allocation:
            share = (0.4, 0.0, 0.4, 0.4)[slot.index - 1]
            chosen = "r2" if slot.index < 3 else "r0"
            return orric.Allocation((orric.StreamAllocation(chosen, "i0", 0.5, share),))

    # 500 x 3e6 MACs at 0.4 of 3e8 a second: 12.5 s, of which slots of 8 s have 8, none and 4.5.
    scenario = build_scenario(
        profile_path, slots=4, macs_per_s=3e8, budget={"kind": "constant", "fraction": 1.0},
        retraining={"overrun": "continue"}, requests={"kind": "constant", "per_slot": 500},
    )  # fmt: skip
    result = orric.simulate(scenario, Once())
    assert result.retrained.tolist() == [0.0, 0.0, 1.0, 0.0]
    assert result.retraining_macs.sum() == pytest.approx(500 * 3e6)


@pytest.mark.parametrize("kind", ["burst", "clock-skew", "retraining-crash", "gpu-stall"])
def test_every_fault_leaves_a_line_in_the_log(profile_path: Path, kind: str) -> None:
    more: dict[str, Any] = {
        "burst": {"stream": "camera-0", "factor": 2.0},
        "clock-skew": {"stream": "camera-0", "skew_s": 1.0},
        "retraining-crash": {"stream": "camera-0"},
        "gpu-stall": {"gpu": "gpu0", "duration_s": 1.0},
    }[kind]
    scenario = server(profile_path, 1, 1, fault=(Fault(kind=kind, slots=(3,), **more),))
    result = orric.simulate(scenario, orric.InferenceOnly())
    assert result.events[0].slot == 3


def test_a_stall_in_the_slots_last_instant_keeps_nobody(profile_path: Path) -> None:
    offset = float(np.nextafter(8.0, 0))
    stall = Fault(kind="gpu-stall", gpu="gpu0", slots=(2,), offset_s=offset, duration_s=4.0)
    result = retraining(profile_path, 0.1875, fault=(stall,))
    assert result.retrained[1] == 1.0
    assert result.gpu_columns["down"].tolist() == pytest.approx([0, 0, 0.5, 0, 0, 0])


def test_rounds_longer_than_a_slot_are_refused(profile_path: Path) -> None:
    scenario = server(profile_path, sharing={"model": "time-slice", "round_s": 9.0})
    with pytest.raises(orric.ScenarioError, match=r"gpu\.1\.sharing\.round_s: found 9, and a slot has 8 s"):
        scenario.check("server.toml")


def test_headroom_plans_for_more_requests_than_are_forecast(profile_path: Path) -> None:
    """Shares grow by the headroom, work does not, and what the forecast misses is late less often."""
    common = {"arrivals": "poisson", "forecast": "last", "requests": {"kind": "uniform", "low": 200, "high": 600}}
    late = []
    for headroom in (0.0, 0.5):
        scenario = build_scenario(
            profile_path, slots=40, deadline_s=0.5, headroom=headroom, budget={"kind": "constant", "fraction": 1.0},
            **common,
        )  # fmt: skip
        told = []

        class Listening(orric.RetrainingGreedy):
            def choose(self, slots, requests, budgets_macs, told=told):
                told.append(float(requests[0]))
                return super().choose(slots, requests, budgets_macs)

        result = orric.simulate(scenario, Listening(), 1)
        assert told == pytest.approx(result.forecast * (1 + headroom))
        costs = {one.name: one.cost_macs for one in scenario.profile.retraining}
        done = np.array([costs[name] for name in result.retraining]) * result.forecast
        finished = result.retrained == 1
        np.testing.assert_allclose(result.retraining_macs[finished], done[finished], rtol=1e-9)
        late.append(result.late.sum())
    assert late[1] < 0.7 * late[0]
