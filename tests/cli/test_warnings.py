"""Warnings of the physically odd, as a shell shows them: in runs, their folders, evaluate and sweeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..builders import PROFILES

PROFILE = (PROFILES / "digits.toml").as_posix()
LATE = f"""\
format = 1
name = "late"
slots = 4
slot_s = 60.0
allocators = ["inference-only"]
[[gpu]]
macs_per_s = 1.0e8
budget = {{ kind = "constant", fraction = 0.5 }}
[[stream]]
name = "<gate>"
profile = "{PROFILE}"
requests = {{ kind = "constant", per_slot = 100 }}
arrivals = "deterministic"
forecast = "last"
headroom = 2.0
deadline_s = 0.01
"""
DEADLINE = "orric: warning: stream.1 ('<gate>'): deadline_s = 0.01 is below the 0.0207 s that a request takes"
HEADROOM = "orric: warning: stream.1 ('<gate>'): headroom = 2 plans for 3 times the forecast"
# The case that was handed in: a budget of 9e12 MACs where a slot holds 6e9.
ABOVE = LATE.replace('{ kind = "constant", fraction = 0.5 }', '{ csv = "budgets.csv" }')


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "late.toml"
    path.write_text(LATE)
    return path


def test_a_run_tells_its_warnings_and_keeps_them(orric, scenario: Path, tmp_path: Path) -> None:
    code, out, err = orric("run", scenario, "--output", tmp_path / "late", "--json")
    assert code == 0
    told = [line for line in err.splitlines() if line.startswith("orric: warning")]
    assert [line.startswith(start) for line, start in zip(told, (DEADLINE, HEADROOM), strict=True)] == [True, True]
    summary = json.loads((tmp_path / "late" / "summary.json").read_text())
    assert [f"orric: warning: {one}" for one in summary["warnings"]] == told
    assert json.loads(out)["warnings"] == summary["warnings"]
    report = (tmp_path / "late" / "report.html").read_text()
    assert "deadline_s = 0.01 is below the 0.0207 s" in report
    assert "<gate>" not in report
    # Who reads the folder later is told as well.
    code, out, err = orric("report", tmp_path / "late", "--json")
    assert (code, err.splitlines()) == (0, told)
    assert json.loads(out)["warnings"] == summary["warnings"]


def test_a_run_without_anything_odd_says_so(orric, scenario: Path, tmp_path: Path) -> None:
    scenario.write_text(LATE.replace("0.01", "5.0").replace("headroom = 2.0", "headroom = 0.2"))
    code, out, err = orric("run", scenario, "--output", tmp_path / "fine", "--json")
    assert code == 0
    assert "warning" not in err
    assert json.loads(out)["warnings"] == []


def test_evaluate_warns_of_what_the_slot_model_knows(orric, scenario: Path) -> None:
    code, _, err = orric("evaluate", "--scenario", scenario)
    assert code == 0
    assert err.startswith(HEADROOM)
    assert "deadline" not in err


def test_a_budget_above_the_gpu_is_refused_by_its_line(orric, tmp_path: Path) -> None:
    budgets, path = tmp_path / "budgets.csv", tmp_path / "above.toml"
    budgets.write_text("slot,gpu,budget_macs\n" + "".join(f"{t},gpu0,9e12\n" for t in range(1, 5)))
    path.write_text(ABOVE)
    for command in (("run", path, "--output", tmp_path / "above"), ("evaluate", "--scenario", path)):
        code, out, err = orric(*command)
        assert (code, out) == (2, "")
        assert err.startswith(f"orric: {budgets}:2: column 'budget_macs': found 9e+12, and GPU 'gpu0' does 6e+09 MACs")
        assert len(err.splitlines()) == 1
    assert not (tmp_path / "above").exists()


SWEEP = """\
format = 1
name = "deadlines"
scenario = "late.toml"
seeds = 1
[[axis]]
key = "stream.1.deadline_s"
values = [0.01, 0.02, 5.0]
[[axis]]
key = "slots"
values = [2, 3]
"""


def test_a_sweep_tells_each_kind_once_and_of_how_many_points(orric, scenario: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(SWEEP)
    code, _, err = orric("sweep", sweep, "--check", "--output", tmp_path / "out")
    told = [line for line in err.splitlines() if line.startswith("orric: warning")]
    assert code == 0
    (late,) = [line for line in told if "is below" in line]
    assert "point 1 (deadline_s = 0.01, slots = 2): stream.1 ('<gate>')" in late
    assert late.endswith("(one of 4 such points)")
    (headroom,) = [line for line in told if "headroom = 2" in line]
    assert headroom.endswith("(one of 6 such points)")
    code, out, err = orric("sweep", sweep, "--check", "--json", "--output", tmp_path / "out")
    assert [f"orric: warning: {one}" for one in json.loads(out)["warnings"]] == told
    assert "warning" not in err


def test_a_sweep_cannot_take_budgets_beyond_the_gpu(orric, tmp_path: Path) -> None:
    """A capacity that is swept makes a given budget impossible at some points."""
    (tmp_path / "budgets.csv").write_text("slot,gpu,budget_macs\n" + "".join(f"{t},gpu0,3e9\n" for t in range(1, 5)))
    (tmp_path / "late.toml").write_text(ABOVE)
    sweep = tmp_path / "sweep.toml"
    head = SWEEP[: SWEEP.index("[[axis]]")]
    sweep.write_text(f'{head}[[axis]]\nkey = "gpu.1.macs_per_s"\ntimes = [0.1, 0.5, 1.0]\n')
    code, _, err = orric("sweep", sweep, "--check", "--output", tmp_path / "out")
    assert code == 2
    assert "1 of 3 points are not valid" in err
    assert "budgets.csv:2: column 'budget_macs': found 3e+09, and GPU 'gpu0' does 6e+08 MACs in a slot" in err
