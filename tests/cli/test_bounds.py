"""ratio, optimum and verify: what is told of bounds, what is not because no theorem says it, and why."""

from __future__ import annotations

import json

import pytest

import orric as package
from orric.by_drift import DriftCurve
from orric.learning import TimeVarying

from ..builders import build_profile


def test_horizons_that_are_never_reached_are_null(orric, files):
    build_profile(((0.0, 0.0),)).save("profile.toml")
    answer = json.loads(orric("ratio", *files, "--json")[1])
    assert answer["bounds"]["corollary1_slots"] is None
    assert answer["bounds"]["crossing_slots"] is None
    assert "at no T" in orric("ratio", *files)[1]


@pytest.mark.parametrize(
    ("case", "theorem", "names", "reason"),
    [
        ("overloaded", "Theorem 4", ("theorem4", "theorem4_published"), "slot 2 cannot serve D_min"),
        ("no requests", "Theorem 4", ("theorem4", "theorem4_published"), "some slots have no requests"),
        ("floor too high", "Theorem 4", ("theorem4", "theorem4_published"), "slope_floor (L) is 0.4"),
        ("drift", "Theorem 3", ("theorem3",), "it changes with time"),
    ],
)
def test_no_bound_is_told_that_does_not_apply_and_why(orric, files, case, theorem, names, reason):
    changes = {"slope_floor": 0.4} if case == "floor too high" else {}
    if case == "drift":
        slow = package.Exponential(c=0.8, a=0.3, k=2.0)
        changes["curve"] = TimeVarying(starts=(1, 2), curves=(build_profile().curve, slow))
    build_profile(**changes).save("profile.toml")
    requests, budgets = [100, 100, 100], [1.4e9, 1.4e9, 4e8]
    if case == "overloaded":
        budgets[1] = 0
    if case == "no requests":
        requests[1] = 0
    package.Trace(requests=requests, budget_macs=budgets).save("trace.csv")
    status, out, err = orric("ratio", *files, "--overload", "shed")
    assert (status, err) == (0, "")
    assert f"see the note on {theorem}" in out
    assert f"({theorem})" not in out
    assert "ceiling above" not in out
    assert any(line.startswith("note:") and reason in line for line in out.splitlines())
    told = json.loads(orric("ratio", *files, "--overload", "shed", "--json")[1])["bounds"]
    for name in (*names, "separated_slots", "corollary1_slots"):
        assert told[name] is None
        assert reason in told["unproved"][name]
    assert told["theorem2"] > 0


def test_the_bounds_of_an_ensemble_are_those_of_its_traces_which_have_no_drift(orric, files):
    worse = package.Exponential(c=0.8, a=0.6, k=3.0)
    drifted = build_profile(drift_curve=(DriftCurve(corruption="fog", severity=1, curve=worse),))
    drifted.save("profile.toml")
    package.Trace(
        requests=[100, 100, 100], budget_macs=[1.4e9, 1.4e9, 4e8], corruption=["fog"] * 3, severity=[1] * 3
    ).save("trace.csv")
    one, many = (
        json.loads(orric("ratio", *files, *more, "--json")[1])["bounds"]["start_accuracy"]
        for more in ((), ("--ensemble", 2, "--jobs", 1))
    )
    assert one == pytest.approx(0.2)
    assert many == float(drifted.curve(0.0))


@pytest.mark.parametrize("kind", ["uniform", "window", "decay"])
def test_where_nothing_can_be_served_every_command_says_so(orric, files, kind):
    memory = {"uniform": {}, "window": {"slots": 2}, "decay": {"factor": 0.5}}[kind]
    build_profile(memory=package.LearningExtent(kind=kind, **memory)).save("profile.toml")
    package.Trace(requests=[100, 100], budget_macs=[0, 0]).save("trace.csv")
    shed = (*files, "--overload", "shed")
    for more in ((), ("--exact",), ("--certificate", "c")):
        status, out, err = orric("optimum", *shed, *more)
        assert (status, err) == (0, "")
        assert out.startswith("offline optimum: 0.000 to 0.000 correct requests of 200")
    assert json.loads(orric("optimum", *shed, "--json")[1])["gap"] == 0
    assert orric("verify", "c", *files)[1].startswith("verified: the offline optimum lies between 0.0 and 0.0")
    assert json.loads(orric("ratio", *shed, "--json")[1])["ratio"] == {"low": 1.0, "high": 1.0}
    assert "1.000000" in orric("ratio", *shed)[1]


def test_verify_says_of_which_files_it_speaks(orric, files):
    assert orric("optimum", *files, "--certificate", "c")[0] == 0
    assert "about: the profile and the trace inside the certificate; give --profile" in orric("verify", "c")[1]
    assert "about: the profile profile.toml and the trace trace.csv; right answers" in orric("verify", "c", *files)[1]
    half = orric("verify", "c", *files[:2])[1]
    assert "the profile profile.toml and the trace inside the certificate; give --trace" in half
    told = json.loads(orric("verify", "c", *files[:2], "--json")[1])["about"]
    assert told == {"profile": "profile.toml", "trace": None, "overload": "error", "in_time": False}
