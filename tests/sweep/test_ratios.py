"""Competitive ratios as measures of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import orric
from orric.sweep import Sweep, conduct, on_cores, optima, run_sweep
from orric.sweep.summary import summarised

ONE = on_cores(1)
NAMES = ["orric", "inference-only", "orric-guided"]  # two of them open loop, one closed


def test_a_ratio_is_what_the_optimum_of_its_point_and_seed_says(write, tmp_path: Path) -> None:
    sweep = Sweep.load(write(ratio={"gap": 1e-6}, allocators=NAMES))
    table = run_sweep(sweep, tmp_path / "out", ONE).table
    for row in table.to_pylist():
        scenario = sweep.scenario_of(row["point"] - 1)
        trace = scenario.trace(row["seed"])
        best = orric.offline_optimum(scenario.profile, trace, 1e-6, overload="shed")
        result = orric.evaluate(
            scenario.profile, trace, orric.make_allocator(row["allocator"]), overload="shed", seed=row["seed"]
        )
        ratio = orric.competitive_ratio(result, best)
        assert (row["ratio_low"], row["ratio_high"]) == pytest.approx((ratio.low, ratio.high), rel=1e-12)
        assert 0 < row["ratio_low"] <= row["ratio_high"] <= 1
    found = summarised(sweep, table)
    frame = table.to_pandas()
    for name in NAMES:
        mine = frame[frame.allocator == name]
        worst = found["ratios"][name]
        assert (worst["low"], worst["high"]) == (mine.ratio_low.min(), mine.ratio_high.min())
        row = mine.loc[mine.ratio_high.idxmin()]
        assert (worst["point"], worst["seed"]) == (row["point"], row["seed"])
        assert found["means"][name]["ratio_low"]["mean"] == pytest.approx(mine.ratio_low.mean())
        assert found["by_point"][0]["means"][name]["ratio_high"]["count"] == 3


def test_the_optimum_is_enclosed_once_for_each_point_and_seed(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved = []
    real = optima.offline_optimum

    def counting(profile, trace, gap, **options):
        solved.append(gap)
        return real(profile, trace, gap, **options)

    monkeypatch.setattr(optima, "offline_optimum", counting)
    monkeypatch.setattr(conduct, "TASK_S", 0.02)
    folder = tmp_path / "out"
    plain = run_sweep(Sweep.load(write()), folder, ONE)
    assert (plain.computed, solved) == (24, [])
    assert np.isnan(plain.table["ratio_low"].to_numpy()).all()
    assert summarised(Sweep.load(write()), plain.table)["ratios"] is None
    asked = Sweep.load(write(ratio={}))
    told = []
    outcome = run_sweep(asked, folder, ONE, told.append)
    # Runs do not depend on whether ratios are asked for, nor optima on who is compared.
    assert (outcome.runs, outcome.computed, solved) == (24, 12, [1e-5] * 12)
    assert (told[-1].done, told[-1].total) == (36, 36)
    more = run_sweep(Sweep.load(write(ratio={}, allocators=[*NAMES, "focus-shift"])), folder, ONE)
    assert (more.computed, len(solved)) == (24, 12)
    assert conduct.estimated(asked, folder).seconds == 0
    run_sweep(Sweep.load(write(ratio={"gap": 1e-3})), folder, ONE)
    assert solved[12:] == [1e-3] * 12


def test_a_run_without_an_optimum_has_no_ratio(write, tmp_path: Path) -> None:
    scenario = (tmp_path / "scenario.toml").read_text()
    (tmp_path / "scenario.toml").write_text(scenario.replace("slots = 12", 'slots = 12\noverload = "error"'))
    axis = [{"key": "gpu.1.budget.low", "values": [0.0, 0.5]}]
    sweep = Sweep.load(write(axis=axis, seeds=6, ratio={}))
    rows = run_sweep(sweep, tmp_path / "out", ONE).table.to_pylist()
    assert 0 < sum(bool(row["error"]) for row in rows) < len(rows)
    assert all((row["ratio_low"] is None) == bool(row["error"]) for row in rows)
    assert run_sweep(sweep, tmp_path / "out", ONE).computed == 0


def test_a_precision_may_be_of_a_ratio(write, tmp_path: Path) -> None:
    precision = {"half_width": 0.01, "of": "ratio_low", "pilot": 5, "most": 60}
    sweep = Sweep.load(write(seeds=None, precision=precision, ratio={}))
    table = run_sweep(sweep, tmp_path / "out", ONE).table
    told = summarised(sweep, table)
    assert told["seeds"] > 5
    assert np.isfinite(table["ratio_low"].to_numpy()).all()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"engine": "simulator", "ratio": {}}, "nobody knows the offline optimum"),
        ({"seeds": None, "precision": {"half_width": 0.1, "of": "ratio_high"}}, r"add \[ratio\]"),
        ({"ratio": {"gap": 1.5}}, "ratio.gap"),
        ({"ratio": {"gap": 0.0}}, "ratio.gap"),
    ],
)
def test_ratios_that_nobody_can_measure_are_refused_in_a_line(write, changes, told: str) -> None:
    with pytest.raises(orric.ScenarioError, match=told) as caught:
        Sweep.load(write(**changes))
    assert "\n" not in str(caught.value)


def test_what_a_sweep_says_of_ratios_can_be_written(write, tmp_path: Path) -> None:
    sweep = Sweep.load(write(ratio={}, seeds=1))
    assert json.dumps(summarised(sweep, run_sweep(sweep, tmp_path / "out", ONE).table), allow_nan=False)
