"""Sweeps as a whole: the same bytes however they are computed, and nothing lost."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pandas
import pyarrow.parquet
import pytest

import orric
from orric.comparison import simulate_line
from orric.sweep import Sweep, conduct, on_cores, run_sweep
from orric.sweep.figures import Figures
from orric.sweep.slot_rows import SLOT_COLUMNS
from orric.sweep.store import RUNS, Store
from orric.sweep.summary import summarised

ONE = on_cores(1)


def fingerprint(folder: Path) -> dict[str, bytes]:
    """Return the bytes of everything in a result folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Part even small sweeps into several chunks."""
    monkeypatch.setattr(conduct, "TASK_S", 0.004)


def test_every_run_once_in_order(sweep: Sweep, tmp_path: Path) -> None:
    outcome = run_sweep(sweep, tmp_path / "out", ONE)
    table = outcome.table.to_pandas()
    assert (outcome.runs, outcome.computed, outcome.failures) == (24, 24, [])
    assert table[["point", "allocator", "seed"]].to_numpy().tolist() == [
        [point, line, seed] for point in range(1, 5) for line in ("orric", "inference-only") for seed in (1, 2, 3)
    ]
    assert table["budget"].tolist() == [0.5] * 12 + [1.0] * 12
    assert table["horizon"].tolist() == ([6] * 6 + [12] * 6) * 2
    for row in table.itertuples():
        scenario = sweep.scenario_of(row.point - 1)
        alone = orric.evaluate(
            scenario.profile, scenario.trace(row.seed), orric.make_allocator(row.allocator), overload="shed"
        )
        assert row.mean_accuracy == alone.mean_accuracy
    assert pyarrow.parquet.read_table(tmp_path / "out" / RUNS).equals(outcome.table)
    assert len(list((tmp_path / "out/chunks").iterdir())) > 4


def test_the_simulator_gives_what_a_comparison_gives(write, tmp_path: Path) -> None:
    sweep = Sweep.load(write(engine="simulator", allocators=["orric", "uniform-50"], seeds=[4]))
    for row in run_sweep(sweep, tmp_path / "out", ONE).table.to_pylist():
        result = simulate_line(sweep.scenario_of(row["point"] - 1), "curve", row["allocator"], 4).summary()
        for name in ("mean_accuracy", "latency_p99_s", "budget_used", "shed"):
            assert row[name] == result[name]


@pytest.mark.parametrize("engine", ["slot-model", "simulator"])
def test_a_row_of_every_slot_where_they_are_asked_for(write, tmp_path: Path, engine: str) -> None:
    given = {"engine": engine, "allocators": ["orric", "orric-guided"], "seeds": [3, 4]}  # open and closed loop
    folder = tmp_path / "out"
    plain = run_sweep(Sweep.load(write(**given)), folder, ONE)
    sweep = Sweep.load(write(**given, per_slot=True))
    outcome = run_sweep(sweep, folder, ONE)
    assert outcome.computed == plain.computed == 16, "the slots of what was there are missing"
    assert outcome.table.equals(plain.table)
    rows = pandas.read_parquet(folder / "slots")
    assert len(rows) == 2 * 2 * 2 * (6 + 12)
    for row in outcome.table.to_pylist():
        found = rows[(rows.point == row["point"]) & (rows.allocator == row["allocator"]) & (rows.seed == row["seed"])]
        scenario = sweep.scenario_of(row["point"] - 1)
        if engine == "simulator":
            result = simulate_line(scenario, "curve", row["allocator"], row["seed"])
        else:
            result = orric.evaluate(
                scenario.profile, scenario.trace(row["seed"]), orric.make_allocator(row["allocator"]),
                overload="shed", seed=row["seed"],
            )  # fmt: skip
        for name in SLOT_COLUMNS:
            values = result.columns[name]
            if values.dtype.kind == "U":
                assert found[name].tolist() == values.tolist(), name
            else:
                assert found[name].to_numpy() == pytest.approx(values, rel=1e-12, nan_ok=True), name
    assert run_sweep(sweep, folder, ONE).computed == 0
    before = fingerprint(folder)
    next((folder / "slots").iterdir()).unlink()
    assert 0 < run_sweep(sweep, folder, ONE).computed < 16
    assert fingerprint(folder) == before
    run_sweep(Sweep.load(write(**given)), folder, ONE)
    assert not list((folder / "slots").iterdir()), "of a sweep that does not ask for them"


def test_the_slots_of_a_run_that_failed_are_left_out(write, tmp_path: Path) -> None:
    scenario = (tmp_path / "scenario.toml").read_text()
    (tmp_path / "scenario.toml").write_text(scenario.replace("slots = 12", 'slots = 12\noverload = "error"'))
    sweep = Sweep.load(write(axis=[{"key": "gpu.1.budget.low", "values": [0.0, 0.5]}], per_slot=True, seeds=6))
    outcome = run_sweep(sweep, tmp_path / "out", ONE)
    assert 0 < len(outcome.failures) < outcome.runs
    rows = pandas.read_parquet(tmp_path / "out/slots")
    found = set(zip(rows.point, rows.allocator, rows.seed, strict=True))
    assert found == {
        (row["point"], row["allocator"], row["seed"]) for row in outcome.table.to_pylist() if not row["error"]
    }


def test_the_disk_that_slots_take_is_estimated(write, tmp_path: Path) -> None:
    axes = [{"key": "slots", "values": [1000, 3000]}]
    sweep = Sweep.load(write(axis=axes, per_slot=True, seeds=5))
    run_sweep(sweep, tmp_path / "out", ONE)
    took = sum(path.stat().st_size for path in (tmp_path / "out/slots").iterdir())
    assert 0.5 * took < conduct.disk_bytes(sweep, 20) < 2 * took


def test_the_same_bytes_with_any_number_of_workers(write, tmp_path: Path) -> None:
    sweep = Sweep.load(write(per_slot=True))
    for workers in (1, 2, 4):
        run_sweep(sweep, tmp_path / str(workers), on_cores(workers))
    assert fingerprint(tmp_path / "1") == fingerprint(tmp_path / "2") == fingerprint(tmp_path / "4")


def test_what_is_there_is_not_computed_again(write, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    first = run_sweep(Sweep.load(write()), folder, ONE)
    again = run_sweep(Sweep.load(write()), folder, ONE)
    assert (again.runs, again.computed) == (24, 0)
    assert again.table.equals(first.table)
    chunk = sorted((folder / "chunks").iterdir())[0]
    chunk.unlink()
    mended = run_sweep(Sweep.load(write()), folder, ONE)
    assert 0 < mended.computed < 24
    assert mended.table.equals(first.table)
    more = run_sweep(Sweep.load(write(allocators=["orric", "inference-only", "focus-shift"])), folder, ONE)
    assert (more.runs, more.computed) == (36, 12)


def test_more_seeds_leave_what_was_there(write, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    run_sweep(Sweep.load(write(seeds=10)), folder, ONE)
    more = run_sweep(Sweep.load(write(seeds=12)), folder, ONE)
    assert (more.runs, more.computed) == (96, 16)


def test_a_full_disk_leaves_what_was_finished(sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_sweep(sweep, tmp_path / "whole", ONE)
    left = [6]  # the manifest, then five chunks
    real_fsync = os.fsync

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(descriptor)

    folder = tmp_path / "out"
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(orric.SimulationError, match="the disk is full; make room and give the same command") as caught:
        run_sweep(sweep, folder, ONE)
    assert "\n" not in str(caught.value)
    assert len(list((folder / "chunks").iterdir())) == 5
    assert not [path for path in folder.rglob("*") if "partial" in path.name]
    monkeypatch.setattr(os, "fsync", real_fsync)
    again = run_sweep(sweep, folder, ONE)
    assert again.computed < whole.computed
    assert fingerprint(folder) == fingerprint(tmp_path / "whole")


def test_another_folder_is_left_alone(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(orric.ScenarioError, match="exists and holds something else"):
        run_sweep(sweep, tmp_path / "mine", ONE)


def test_files_that_no_sweep_wrote_stay_as_they_are(sweep: Sweep, tmp_path: Path) -> None:
    with closing(Store(tmp_path / "out")) as store:
        store.write(tmp_path / "out/cases/point-1.toml", b"ours")
        store.write(tmp_path / "out/runs.csv", b"ours")
    theirs = ("notes.md", ".letter.partial", "cases/mine.toml", "slots/mine.parquet", "store/.x.partial")
    for name in theirs:
        (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    (tmp_path / "out/report.html").write_text("mine")
    with closing(Store(tmp_path / "out")) as store:
        store.remove_cases()
        store.keep_slots_of(set())
        store.write(tmp_path / "out/runs.csv", b"ours again")
        with pytest.raises(orric.ScenarioError, match=r"report\.html: is not orric's"):
            store.write(tmp_path / "out/report.html", b"ours")
    assert {name: (tmp_path / "out" / name).read_text() for name in theirs} == dict.fromkeys(theirs, "mine")
    assert not (tmp_path / "out/cases/point-1.toml").exists()
    assert (tmp_path / "out/report.html").read_text() == "mine"


def test_a_run_that_fails_is_told_and_stops_no_other(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep.load(write())
    plain = run_sweep(sweep, tmp_path / "plain", ONE)
    from orric.sweep import runs

    def starving(scenario, seed):
        if seed == 2 and scenario.slots == 6:
            raise orric.BudgetError(3, 1.0, 2.0)
        return laid(scenario, seed)

    laid = runs.Laid.out
    monkeypatch.setattr(runs.Laid, "out", starving)
    outcome = run_sweep(sweep, tmp_path / "out", ONE)
    assert len(outcome.failures) == 4
    assert {(one["point"], one["seed"]) for one in outcome.failures} == {(1, 2), (3, 2)}
    assert "slot 3: the budget of 1 MACs" in outcome.failures[0]["error"]
    same = [row for row in outcome.table.to_pylist() if not row["error"]]
    assert same == [row for row in plain.table.to_pylist() if not (row["seed"] == 2 and row["horizon"] == 6)]
    # A point at which a run failed is left out of the means of all allocators.
    told = summarised(sweep, outcome.table)
    assert (told["whole_points"], told["pairs"]) == (2, 3)
    frame = outcome.table.to_pandas()
    expected = frame[(frame.horizon == 12) & (frame.allocator == "orric")].mean_accuracy.mean()
    assert told["means"]["orric"]["mean_accuracy"]["mean"] == pytest.approx(expected)
    again = run_sweep(sweep, tmp_path / "out", ONE)
    assert again.computed == 0, "a run whose own fault it is fails every time"


def test_what_failed_for_want_of_something_else_is_computed_again(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep.load(write())
    plain = run_sweep(sweep, tmp_path / "plain", ONE)
    from orric.sweep import runs

    def missing(scenario, seed):
        raise FileNotFoundError("no data")

    with monkeypatch.context() as patched:
        patched.setattr(runs.Laid, "out", missing)
        outcome = run_sweep(sweep, tmp_path / "out", ONE)
    assert {one["error"] for one in outcome.failures} == {"FileNotFoundError: no data"}
    mended = run_sweep(sweep, tmp_path / "out", ONE)
    assert (mended.computed, mended.failures) == (24, [])
    assert fingerprint(tmp_path / "out") == fingerprint(tmp_path / "plain")
    assert mended.table.equals(plain.table)


@pytest.mark.parametrize("damage", [b"", b"PAR1 cut short"])
def test_a_damaged_chunk_is_computed_again(sweep: Sweep, tmp_path: Path, damage: bytes) -> None:
    run_sweep(sweep, tmp_path / "out", ONE)
    before = fingerprint(tmp_path / "out")
    next((tmp_path / "out/chunks").iterdir()).write_bytes(damage)
    assert 0 < run_sweep(sweep, tmp_path / "out", ONE).computed < 24
    assert fingerprint(tmp_path / "out") == before


def test_two_sweeps_do_not_write_to_one_folder(sweep: Sweep, tmp_path: Path) -> None:
    with closing(Store(tmp_path / "out")), pytest.raises(orric.ScenarioError, match="another sweep is writing to it"):
        run_sweep(sweep, tmp_path / "out", ONE)
    assert run_sweep(sweep, tmp_path / "out", ONE).runs == 24
    shutil.rmtree(tmp_path / "out/chunks")
    assert run_sweep(sweep, tmp_path / "out", ONE).computed == 24, "the guide says that chunks may go"
    (tmp_path / "mine/chunks").mkdir(parents=True)
    with pytest.raises(orric.ScenarioError, match="exists and holds something else"):
        run_sweep(sweep, tmp_path / "mine", ONE)


def test_slots_tell_their_points_wherever_these_lie(write, tmp_path: Path) -> None:
    """Chunks have addresses by content: points that shift, and points of equal values, must not mix theirs up."""
    alike = [{"kind": "uniform", "low": 0.2, "high": 1.0}] * 2
    axes = [
        {"key": "gpu.1.budget", "name": "budget", "values": alike, "labels": ["one", "other"]},
        {"key": "slots", "values": [60_000, 120_000]},
    ]
    given = {"seeds": 1, "allocators": ["orric"], "per_slot": True}
    run_sweep(Sweep.load(write(axis=axes, **given)), tmp_path / "out", ONE)
    rows = pandas.read_parquet(tmp_path / "out/slots")
    assert rows.groupby("point").size().to_dict() == {1: 60_000, 2: 120_000, 3: 60_000, 4: 120_000}
    shifted = [{**axes[0], "values": alike[:1], "labels": ["one"]}, axes[1]]
    run_sweep(Sweep.load(write(axis=shifted, **given)), tmp_path / "out", ONE)
    run_sweep(Sweep.load(write(axis=shifted, **given)), tmp_path / "fresh", ONE)
    slots = [
        {path.name: path.read_bytes() for path in (tmp_path / name / "slots").iterdir()} for name in ("out", "fresh")
    ]
    assert slots[0] == slots[1]


def test_seeds_are_added_where_the_spread_asks_for_them(write, tmp_path: Path) -> None:
    precision = {"half_width": 0.03, "pilot": 10, "most": 60}
    sweep = Sweep.load(write(seeds=None, precision=precision))
    outcome = run_sweep(sweep, tmp_path / "out", ONE)
    figures = Figures(sweep, outcome.table)
    # Every point gets what the one that needs most needs, so that all means are over the same seeds.
    assert 10 < figures.seeds <= 60
    assert figures.seeds % 5 == 0
    assert figures.of("mean_accuracy").shape == (4, 2, figures.seeds)
    reached = summarised(sweep, outcome.table)["precision"]
    assert reached["reached"]
    assert 0.5 * 0.03 < reached["widest"] <= 0.03
    scarce = Sweep.load(write(seeds=None, precision={**precision, "most": 12, "half_width": 0.001}))
    told = summarised(scarce, run_sweep(scarce, tmp_path / "scarce", ONE).table)["precision"]
    assert not told["reached"]
    assert run_sweep(sweep, tmp_path / "out", ONE).computed == 0


def test_drawn_axes_and_axes_that_go_together_are_told_as_one(write, tmp_path: Path) -> None:
    axes = [
        {"key": "gpu.1.budget.low", "name": "low", "values": [0.1, 0.4], "together": "budget"},
        {"key": "gpu.1.budget.high", "name": "high", "values": [0.5, 0.9], "together": "budget"},
        {"key": "profile.slope_floor", "name": "L", "log_uniform": [1e-4, 0.1]},
    ]
    sweep = Sweep.load(write(axis=axes, sample={"count": 10}))
    table = run_sweep(sweep, tmp_path / "out", ONE).table
    effects = summarised(sweep, table)["axes"]
    assert [one["value"] for one in effects if one["axis"] == "low, high"] == ["0.1, 0.5", "0.4, 0.9"]
    drawn = [one for one in effects if one["axis"] == "L"]
    assert len(drawn) == 5
    assert [one["value"] for one in drawn] == sorted(one["value"] for one in drawn)
    frame = table.to_pandas()
    lowest = frame[frame["L"] <= sorted(frame["L"].unique())[1]]
    expected = lowest[lowest.allocator == "orric"].mean_accuracy.mean()
    assert drawn[0]["means"]["orric"]["mean"] == pytest.approx(expected)


def test_differences_are_paired_by_seed(sweep: Sweep, tmp_path: Path) -> None:
    table = run_sweep(sweep, tmp_path / "out", ONE).table
    frame = table.to_pandas()
    by_seed = frame.pivot_table(index="seed", columns="allocator", values="mean_accuracy")
    apart = (by_seed["inference-only"] - by_seed["orric"]).to_numpy()
    found = summarised(sweep, table)
    told = found["differences"]["inference-only"]
    assert told["mean"] == pytest.approx(apart.mean())
    assert told["high"] - told["low"] == pytest.approx(2 * 4.302653 * apart.std(ddof=1) / np.sqrt(3), rel=1e-6)
    horizon = [one for one in found["axes"] if one["axis"] == "horizon"]
    assert [one["value"] for one in horizon] == [6, 12]
    six = frame[(frame.horizon == 6) & (frame.allocator == "orric")].mean_accuracy.mean()
    assert horizon[0]["means"]["orric"]["mean"] == pytest.approx(six)


KILLED = """
import sys
from pathlib import Path
from orric.sweep import Sweep, conduct, on_cores, run_sweep
conduct.TASK_S = 0.004
sweep = Sweep.load(sys.argv[1])
run_sweep(sweep, Path(sys.argv[2]), on_cores(1), lambda state: print(state.done, flush=True))
"""


def test_killed_at_twenty_random_moments_and_gone_on_it_gives_the_same_bytes(write, tmp_path: Path) -> None:
    path, folder = write(seeds=150, per_slot=True), tmp_path / "out"
    sweep = Sweep.load(path)
    whole = run_sweep(sweep, tmp_path / "whole", ONE)
    rng, kept = np.random.default_rng(1), []
    for _ in range(20):
        command = [sys.executable, "-c", KILLED, str(path), str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            for _ in range(rng.integers(1, 6)):
                process.stdout.readline()
            # Somewhere within the next chunk, or while it is written.
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.0, 0.02))
            process.send_signal(signal.SIGKILL)
        kept.append(len(list((folder / "chunks").glob("[!.]*"))))
    assert len(set(kept)) == 20, "every one of them came further than the one before"
    last = run_sweep(sweep, folder, ONE)
    assert 0 < last.computed < whole.computed
    assert fingerprint(folder) == fingerprint(tmp_path / "whole")
