"""orric sweep and orric report, as a shell runs them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas
import pytest

from orric.sweep import Sweep

from ..builders import build_profile, write_profile
from ..sweep.conftest import SCENARIO

SWEEP = """
format = 1
name = "small"
scenario = "scenario.toml"
engine = "slot-model"
seeds = 3
[[axis]]
name = "budget"
key = "gpu.1.budget.high"
values = [0.5, 1.0]
[[axis]]
name = "horizon"
key = "slots"
values = [6, 12]
"""


class Done(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(orric) -> Callable[..., Done]:
    """Return a function that runs a command."""
    return lambda *arguments: Done(*orric(*arguments))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Return a small sweep file."""
    write_profile(build_profile(), tmp_path / "small.toml")
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    return tmp_path / "sweep.toml"


def test_a_sweep_writes_its_folder_and_goes_on(run, sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = run("sweep", sweep, "--output", folder, "--jobs", 1)
    assert done.code == 0
    assert "24 runs at 4 points in" in done.err
    assert "over orric" in done.out
    found = {path.name for path in folder.iterdir()}
    assert found >= {
        "chunks",
        "cases",
        "runs.parquet",
        "runs.csv",
        "sweep.json",
        "report.html",
        "by_axis.svg",
        "by_axis.png",
    }
    summary = json.loads((folder / "sweep.json").read_text())
    assert (summary["runs"], summary["failed"], summary["points"], summary["seeds"]) == (24, 0, 4, 3)
    page = (folder / "report.html").read_text()
    assert "cases/point-" in page
    for case in (folder / "cases").iterdir():
        assert run("run", case, "--output", tmp_path / "case").code == 0
    before = (folder / "runs.parquet").read_bytes()
    again = run("sweep", sweep, "--output", folder, "--jobs", 2, "--json")
    assert json.loads(again.out)["runs"] == 24
    assert (folder / "runs.parquet").read_bytes() == before


def test_progress_lines_for_machines(run, sweep: Path, tmp_path: Path) -> None:
    done = run("sweep", sweep, "--output", tmp_path / "out", "--jobs", 1, "--json")
    lines = [json.loads(line) for line in done.err.splitlines()]
    assert [line["done"] for line in lines] == sorted(line["done"] for line in lines)
    assert lines[-1]["done"] == lines[-1]["total"] == 24
    assert {"what", "rate", "left_s", "failed", "kept"} <= set(lines[-1])


def test_progress_lines_where_there_is_no_terminal(
    run, sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orric.cli.frame.TOLD_EVERY_S", 0.0)
    done = run("sweep", sweep, "--output", tmp_path / "out", "--jobs", 1)
    assert "running: 24 of 24 runs, " in done.err


def test_a_check_runs_nothing(run, sweep: Path, tmp_path: Path) -> None:
    done = run("sweep", sweep, "--output", tmp_path / "out", "--check", "--json", "--jobs", 1)
    assert json.loads(done.out)["runs"] == 24
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gpu.1.budget.high", "gpu.1.budget.hihg", "did you mean 'gpu.1.budget.high'"),
        ("values = [6, 12]", "values = []", "give 1 at least"),
        ("values = [6, 12]", "values = [0, 12]", "2 of 4 points are not valid"),
        ('"slot-model"', '"slot model"', "did you mean 'slot-model'"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_runs(
    run, sweep: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    sweep.write_text(SWEEP.replace(old, new))
    done = run("sweep", sweep, "--output", tmp_path / "out", "--jobs", 1)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_is_not_there(run, sweep: Path) -> None:
    pytest.importorskip("ray", reason="needs orric[cluster]")
    done = run("sweep", sweep, "--ray", "127.0.0.1:1")
    assert done.code == 2
    assert "nothing answers at 127.0.0.1:1" in done.err
    assert run("sweep", sweep, "--ray", "local", "--jobs", 2).code == 2


def test_seeds_that_change_nothing_are_one_run(run, sweep: Path, tmp_path: Path) -> None:
    scenario = SCENARIO.replace('"uniform", low = 0.2, high = 1.0', '"constant", fraction = 0.6')
    scenario = scenario.replace('"uniform", low = 500, high = 1500', '"constant", per_slot = 1000')
    (tmp_path / "scenario.toml").write_text(scenario)
    sweep.write_text(SWEEP.split("[[axis]]")[0] + '[[axis]]\nname = "horizon"\nkey = "slots"\nvalues = [6, 12]\n')
    done = run("sweep", sweep, "--output", tmp_path / "a", "--jobs", 1)
    assert done.code == 0
    assert "2 points, one run each: seeds change nothing" in done.out
    table = done.out.split("ORRIC has")[0]
    assert "one run" in table
    assert not any(word in table for word in ("+-", " to ", "yes"))
    (tmp_path / "scenario.toml").write_text(scenario.replace("2.0e9", "3.0e9"))
    assert run("sweep", sweep, "--output", tmp_path / "b", "--jobs", 1).code == 0
    (compared,) = json.loads(run("report", tmp_path / "a", tmp_path / "b", "--json").out)["comparisons"]
    assert {one["verdict"] for one in compared["changes"]} <= {"seeds change nothing", "same"}
    assert "Seeds change nothing there" in run("report", tmp_path / "a", tmp_path / "b").out


def test_two_folders_are_compared(run, sweep: Path, tmp_path: Path) -> None:
    sweep.write_text(SWEEP.replace("seeds = 3", "seeds = 8"))
    for name in ("a", "b"):
        assert run("sweep", sweep, "--output", tmp_path / name, "--jobs", 1).code == 0
        scenario = tmp_path / "scenario.toml"
        scenario.write_text(SCENARIO.replace("macs_per_s = 2.0e9", "macs_per_s = 4.0e9"))
    same = run("report", tmp_path / "a", tmp_path / "a")
    assert "The same was asked." in same.out
    assert "same" in same.out
    found = json.loads(run("report", tmp_path / "a", tmp_path / "b", "--json").out)
    (compared,) = found["comparisons"]
    by_name = {one["allocator"]: one for one in compared["changes"] if one["measure"] == "mean_accuracy"}
    assert set(by_name) == set(Sweep.load(sweep).lines)
    assert by_name["orric"]["after"] > by_name["orric"]["before"]
    assert by_name["orric"]["verdict"] == "beyond chance"
    assert by_name["orric"]["pairs"] == 8
    drawn = (tmp_path / "a/report.html").read_bytes()
    (tmp_path / "a/report.html").unlink()
    assert run("report", tmp_path / "a").code == 0
    assert (tmp_path / "a/report.html").read_bytes() == drawn


def test_two_runs_are_compared_slot_by_slot(run, sweep: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    assert run("run", scenario, "--output", tmp_path / "a").code == 0
    scenario.write_text(SCENARIO.replace("macs_per_s = 2.0e9", "macs_per_s = 1.0e9"))
    assert run("run", scenario, "--output", tmp_path / "b").code == 0
    done = run("report", tmp_path / "a", tmp_path / "b")
    assert done.code == 0
    assert "gpu.1.macs_per_s: 2000000000.0 -> 1000000000.0" in done.out
    assert "of one run each" in done.out
    assert "p99 latency" in done.out
    # A column that says so in every row says nothing.
    assert "one pair only" not in done.out
    assert run("report", tmp_path / "a").code == 0
    assert run("sweep", sweep, "--output", tmp_path / "c", "--jobs", 1).code == 0
    mixed = run("report", tmp_path / "a", tmp_path / "c")
    assert mixed.code == 2
    assert "a is of a run" in mixed.err
    assert "c is of a sweep; give folders of one kind" in mixed.err


def test_folders_of_earlier_versions_show_what_they_have(run, sweep: Path, tmp_path: Path) -> None:
    """Before requests had fates, there were no columns of them."""
    fates = ["abandoned", "lost", "waiting"]
    assert run("sweep", sweep, "--output", tmp_path / "new", "--jobs", 1).code == 0
    assert run("sweep", sweep, "--output", tmp_path / "old", "--jobs", 1).code == 0
    rows = pandas.read_parquet(tmp_path / "old/runs.parquet")
    new = [*fates, "in_time_accuracy", "answered", "in_time", "overloaded"]
    rows.drop(columns=new).to_parquet(tmp_path / "old/runs.parquet", index=False)
    summary = json.loads((tmp_path / "old/sweep.json").read_text())
    for means in summary["means"].values():
        for name in new:
            means.pop(name, None)
    (tmp_path / "old/sweep.json").write_text(json.dumps(summary))
    for done in (run("report", tmp_path / "old"), run("report", tmp_path / "old", tmp_path / "new")):
        assert done.code == 0, done.err
        assert "of an earlier version of orric, which did not record: in_time_accuracy" in " ".join(done.out.split())
    assert "earlier version of orric" in (tmp_path / "old/report.html").read_text()
    assert "earlier version of orric" not in (tmp_path / "new/report.html").read_text()
    both = json.loads(run("report", tmp_path / "new", tmp_path / "new", "--json").out)
    assert {one["verdict"] for one in both["comparisons"][0]["changes"]} == {"same"}
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        assert run("run", tmp_path / "scenario.toml", "--output", folder).code == 0
    slots = pandas.read_parquet(other / "result.parquet")
    slots.drop(columns=["correct_in_time", "abandoned", "lost"]).to_parquet(other / "result.parquet", index=False)
    found = json.loads(run("report", one, other, "--json").out)
    told = {one["measure"] for one in found["comparisons"][0]["changes"]}
    assert "mean_accuracy" in told
    assert "in_time_accuracy" not in told
    assert json.loads(run("report", other, "--json").out)["lacking"] == ["correct_in_time", "abandoned", "lost"]


def test_folders_that_are_none(run, tmp_path: Path) -> None:
    (tmp_path / "unfinished/chunks").mkdir(parents=True)
    for folder, message in (
        (tmp_path / "nowhere", "is no folder"),
        (tmp_path, "has neither summary.json nor sweep.json"),
        (tmp_path / "unfinished", "holds an unfinished sweep"),
    ):
        done = run("report", folder)
        assert done.code == 2
        assert message in done.err
        assert done.err.count("\n") == 1


def test_cases_repeat_the_runs_that_they_stand_for(run, sweep: Path, tmp_path: Path) -> None:
    """Where axes change a profile, the case has a profile of its own."""
    axis = '[[axis]]\nkey = "profile.memory"\nname = "memory"\nlabels = ["window", "decay"]\nvalues = [\n'
    axis += '  { kind = "window", slots = 1 },\n  { kind = "decay", factor = 0.9 },\n]\n'
    sweep.write_text(SWEEP.split("[[axis]]", 1)[0] + axis)
    assert run("sweep", sweep, "--output", tmp_path / "out", "--jobs", 1).code == 0
    rows = pandas.read_parquet(tmp_path / "out/runs.parquet")
    cases = sorted((tmp_path / "out/cases").glob("point-?.toml"))
    assert cases
    for case in cases:
        point = int(case.stem.removeprefix("point-"))
        for allocator in ("orric", "inference-only"):
            done = run("evaluate", "--scenario", case, "--allocator", allocator, "--seed", 2, "--json")
            row = rows[(rows.point == point) & (rows.allocator == allocator) & (rows.seed == 2)]
            assert json.loads(done.out)["mean_accuracy"] == pytest.approx(row.mean_accuracy.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seeds = 3", 'seeds = 3\nallocators = ["orric"]'),
        ("seeds = 3", "seeds = 1"),
        ('name = "budget"', 'name = "h[/i]"'),
        ("values = [6, 12]", 'values = [6, 12]\nlabels = ["x[/b]", "y"]'),
    ],
)
def test_odd_sweeps_end_in_a_report(run, sweep: Path, tmp_path: Path, old: str, new: str) -> None:
    sweep.write_text(SWEEP.replace(old, new))
    done = run("sweep", sweep, "--output", tmp_path / "out", "--jobs", 1)
    assert done.code == 0, done.err
    assert (tmp_path / "out/report.html").exists()
    assert run("report", tmp_path / "out").code == 0
    assert run("report", tmp_path / "out", tmp_path / "out").code == 0


def test_folders_that_are_damaged(run, sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert run("sweep", sweep, "--output", folder, "--jobs", 1).code == 0
    assert run("run", tmp_path / "scenario.toml", "--output", tmp_path / "run").code == 0
    whole = (folder / "sweep.json").read_text()
    for path, text in (
        (folder / "sweep.json", "[]"),
        (folder / "sweep.json", whole.replace('"axis_titles"', '"titles"')),
        (tmp_path / "run/scenario.toml", "broken = ["),
    ):
        before = path.read_text()
        path.write_text(text)
        done = run("report", path.parent, path.parent)
        assert done.code == 2
        assert done.err.count("\n") == 1
        path.write_text(before)
