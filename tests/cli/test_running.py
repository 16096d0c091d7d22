"""`orric run`: what it leaves of others, how it goes on after an interruption, and what its bar says."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

import orric as library
from orric.cli.frame import progress_bars
from orric.comparison import compare
from orric.report.stored import load_results

ROOT = Path(__file__).resolve().parents[2]
TABLE3 = ROOT / "simulations/table3-fog.toml"
RESULTS = ("result.parquet", "gpus.parquet", "latencies.parquet", "events.jsonl", "scenario.toml")


@pytest.fixture
def small(tmp_path):
    """Return a scenario of three lines and few slots."""
    path = tmp_path / "small.toml"
    text = TABLE3.read_text().replace("../traces", str(ROOT / "traces")).replace("slots = 50", "slots = 10")
    path.write_text(text)
    return path


@pytest.fixture
def stopping(monkeypatch):
    """Let a run end at a line, as by Ctrl-C."""
    from orric import comparison

    attempted, begun = comparison.attempt_line, []

    def stop_at(name):
        def attempt(scenario, model, line, *rest):
            begun.append(line)
            if line == name:
                raise KeyboardInterrupt
            return attempted(scenario, model, line, *rest)

        begun.clear()
        monkeypatch.setattr(comparison, "attempt_line", attempt)
        return begun

    return stop_at


def same(one, two):
    """Say whether two result folders hold the same, but for what was timed."""
    for name in RESULTS:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    told = [json.loads((folder / "summary.json").read_text()) for folder in (one, two)]
    for summary in told:
        del summary["command"]
        for row in summary["results"]:
            del row["decisions_per_s"]
    assert told[0] == told[1]
    names = [sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) for folder in (one, two)]
    assert names[0] == names[1]
    return True


def test_a_store_and_notes_in_a_result_folder_are_not_lost(orric, small, tmp_path):
    """The case of the issue: both were removed with the earlier result."""
    edge = tmp_path / "results/edge"
    assert orric("run", small, "--output", edge, "--jobs", 1, "--requests")[0] == 0
    theirs = {
        "notes.md": "mine",
        "current.json": "{}",
        "store.json": '{"format": 1}',
        "versions/000001/model.onnx": "w",
    }
    for name, text in theirs.items():
        (edge / name).parent.mkdir(parents=True, exist_ok=True)
        (edge / name).write_text(text)
    os.utime(edge / "summary.json", (1_790_000_000, 1_790_000_000))
    status, _, err = orric("run", small, "--output", edge, "--jobs", 1)
    assert status == 0
    earlier = datetime.fromtimestamp(1_790_000_000)
    assert err == f"orric: replaces the result of {earlier} in {edge}; another --output keeps both\n"
    assert {name: (edge / name).read_text() for name in theirs} == theirs
    assert not (edge / "requests").exists(), "of the earlier result"
    assert [path.name for path in edge.parent.iterdir()] == ["edge"]


def test_no_store_is_begun_in_a_result_folder(orric, small, tmp_path):
    assert orric("run", small, "--output", tmp_path / "out", "--jobs", 1)[0] == 0
    text = (ROOT / "simulations/edge/digits.toml").read_text().replace("../../traces", str(ROOT / "traces"))
    for place in ("out", "out/store"):
        config = tmp_path / "edge.toml"
        config.write_text(text.replace("../../stores/digits", str(tmp_path / place)))
        for check in ((), ("--check",)):
            status, out, err = orric("serve", *check, config)
            assert (status, out, err.count("\n")) == (2, "", 1)
            assert "a folder of results; choose a place of its own" in err
    assert not (tmp_path / "out/store").exists()


def test_an_interrupted_run_goes_on_and_ends_in_the_same_bytes(orric, small, tmp_path, stopping):
    assert orric("run", small, "--output", tmp_path / "whole", "--jobs", 1, "--requests")[0] == 0
    lines = len(load_results(tmp_path / "whole"))
    begun = stopping("inference-only")
    status, out, err = orric("run", small, "--output", tmp_path / "out", "--jobs", 1, "--requests")
    kept = len(begun) - 1
    assert kept >= 1
    assert (status, out) == (130, "")
    assert err == f"orric: interrupted; {kept} of {lines} lines are kept; give the same command again to go on\n"
    assert (tmp_path / ".out.partial").is_dir()
    assert not (tmp_path / "out").exists()
    begun = stopping(None)
    status, _, err = orric("run", small, "--output", tmp_path / "out", "--jobs", 1, "--requests")
    assert status == 0
    assert err == f"orric: resumed: {kept} of {lines} lines were finished before; --fresh starts anew\n"
    assert len(begun) == lines - kept
    assert same(tmp_path / "whole", tmp_path / "out")
    for path in (tmp_path / "whole/requests").iterdir():
        assert path.read_bytes() == (tmp_path / "out/requests" / path.name).read_bytes()
    assert not (tmp_path / ".out.partial").exists()


@pytest.mark.parametrize("change", ["--fresh", "--seed", "scenario", "--requests"])
def test_a_run_of_something_else_starts_anew(orric, small, tmp_path, stopping, change):
    stopping("inference-only")
    assert orric("run", small, "--output", tmp_path / "out", "--jobs", 1)[0] == 130
    options = {"--seed": ("--seed", 7), "scenario": ()}.get(change, (change,))
    if change == "scenario":
        small.write_text(small.read_text().replace("slots = 10", "slots = 11"))
    begun = stopping(None)
    status, _, err = orric("run", small, "--output", tmp_path / "out", "--jobs", 1, *options)
    assert (status, err) == (0, "")
    assert len(begun) == len(load_results(tmp_path / "out"))


def test_kept_requests_that_were_cut_short_are_made_anew(orric, small, tmp_path, stopping):
    """They became the result."""
    assert orric("run", small, "--output", tmp_path / "whole", "--jobs", 1, "--requests")[0] == 0
    stopping("inference-only")
    assert orric("run", small, "--output", tmp_path / "out", "--jobs", 1, "--requests")[0] == 130
    kept = sorted((tmp_path / ".out.partial/kept/requests").iterdir())
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:100])
    stopping(None)
    status, _, err = orric("run", small, "--output", tmp_path / "out", "--jobs", 1, "--requests")
    assert (status, err) == (0, "")
    for path in (tmp_path / "whole/requests").iterdir():
        assert path.read_bytes() == (tmp_path / "out/requests" / path.name).read_bytes()


def test_a_changed_trace_starts_anew(orric, small, tmp_path, stopping):
    trace = tmp_path / "trace.csv"
    trace.write_text("slot,requests,budget_macs\n" + "".join(f"{n},100,5e10\n" for n in range(1, 11)))
    small.write_text(small.read_text().replace('{ kind = "constant", per_slot = 1000 }', '{ csv = "trace.csv" }'))
    stopping("inference-only")
    assert orric("run", small, "--output", tmp_path / "out", "--jobs", 1)[0] == 130
    trace.write_text(trace.read_text().replace("100", "101"))
    begun = stopping(None)
    assert orric("run", small, "--output", tmp_path / "out", "--jobs", 1)[2] == ""
    assert len(begun) == len(load_results(tmp_path / "out"))


def test_a_killed_run_goes_on(orric, small, tmp_path):
    assert orric("run", small, "--output", tmp_path / "whole", "--jobs", 1)[0] == 0
    killing = """
import os, signal, sys
from orric import comparison
from orric.cli import main
attempted = comparison.attempt_line
def attempt(scenario, model, line, *rest):
    if line == "inference-only":
        os.kill(os.getpid(), signal.SIGKILL)
    return attempted(scenario, model, line, *rest)
comparison.attempt_line = attempt
sys.argv = ["orric", *sys.argv[1:]]
main()
"""
    command = ["run", small, "--output", tmp_path / "out", "--jobs", 1]
    done = subprocess.run([sys.executable, "-c", killing, *map(str, command)], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    status, _, err = orric(*command)
    assert status == 0
    assert "orric: resumed: " in err
    assert same(tmp_path / "whole", tmp_path / "out")


def test_a_damaged_line_is_simulated_again(orric, small, tmp_path, stopping):
    assert orric("run", small, "--output", tmp_path / "whole", "--jobs", 1)[0] == 0
    stopping("inference-only")
    assert orric("run", small, "--output", tmp_path / "out", "--jobs", 1)[0] == 130
    next((tmp_path / ".out.partial/kept").rglob("result.parquet")).write_bytes(b"PAR1")
    stopping(None)
    assert orric("run", small, "--output", tmp_path / "out", "--jobs", 1)[0] == 0
    assert same(tmp_path / "whole", tmp_path / "out")


def test_lines_that_are_finished_are_left_out_paired_ones_too():
    scenario = library.load_scenario(ROOT / "simulations/quickstart.toml").model_copy(update={"slots": 5})

    def compared(*finished):
        found = compare(scenario, ["curve", "table"], 1, 1, paired=True, finished=finished)
        return {(one.accuracy_model, one.allocator): one for one in found}

    whole = compared()
    finished = {line for line in whole if line[1] == "orric"} | {("curve", "inference-only")}
    rest = compared(*finished)
    assert set(rest) == set(whole) - finished
    assert all(rest[line].summary() == whole[line].summary() for line in rest)


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_bar_moves_by_slots(small, jobs):
    scenario = library.load_scenario(small)
    told, console = [], Console(file=io.StringIO(), force_terminal=True, width=100)
    with progress_bars(console) as bars:
        bar = bars.add_task("starting", total=None)

        def moved(slots, total, doing):
            told.append((slots, total))
            bars.update(bar, completed=slots, total=total, description=doing)

        count = len(list(compare(scenario, ["curve"], 1, jobs, progress=moved)))
        task = bars.tasks[bar]
        assert (task.completed, task.total) == (10 * count, 10 * count)
    assert {total for _, total in told} == {10 * count}
    assert [slots for slots, _ in told] == sorted(slots for slots, _ in told)
    if jobs == 1:
        assert {slots for slots, _ in told} == set(range(1, 10 * count + 1)), "every slot of so few is told"
    assert "left" in console.file.getvalue()


def test_a_log_is_told_how_far_a_run_is(orric, small, tmp_path, monkeypatch):
    """Where standard error is no terminal there is no bar; nobody shall wait for minutes without a word."""
    assert orric("run", small, "--output", tmp_path / "quick", "--jobs", 1)[2] == ""
    monkeypatch.setattr("orric.cli.frame.TOLD_EVERY_S", 0.0)
    status, _, err = orric("run", small, "--output", tmp_path / "out", "--jobs", 1)
    assert status == 0
    lines = len(load_results(tmp_path / "out"))
    told = err.splitlines()
    assert told[0].startswith(f"orric: 0 of {lines} lines, ")
    assert told[-1] == f"orric: {lines - 1} of {lines} lines, 100 % of all slots"


def test_compiling_and_exporting_are_told(small, monkeypatch):
    from orric import comparison, workers

    told = []
    monkeypatch.setattr(comparison, "attempt_line", lambda *_: workers.tell("compiling"))
    monkeypatch.setattr(comparison, "accuracy_models", lambda *_: None)
    scenario = library.load_scenario(small)
    with pytest.raises(AttributeError):
        list(compare(scenario, ["onnx"], 1, 1, progress=lambda slots, total, doing: told.append((slots, doing))))
    assert told == [(0, "exporting models"), (0, "compiling")]


def test_numba_says_when_it_compiles():
    code = """
import numba
import orric.compiled
from orric.workers import in_parallel
list(in_parallel(numba.njit(lambda x: x + 1), [(2.0,)], 1, progress=lambda board: print(board.doings())))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["['compiling']", "['']"]


COMMANDS = (
    ("--help",),
    ("--version",),
    ("evaluate", "--scenario", TABLE3, "--json"),
    ("evaluate", "--scenario", TABLE3),
)


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda one: " ".join(map(str, one[::2])))
@pytest.mark.parametrize("where", ["> /dev/full", ">&-", "| true", "2> /dev/full", "2>&-"])
def test_an_output_that_takes_nothing_ends_in_one_line(arguments, where):
    command = " ".join([sys.executable, "-m", "orric", *map(str, arguments)])
    script = f"{command} {where}"
    if where == "| true":
        # A pipe whose reader is gone before anything is written.
        script = f"exec 3> >(exec true); wait $!; {command} >&3"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    if where.startswith("2"):
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout
        return
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("orric: standard output cannot be written (")


def test_who_asks_for_no_buffers_sees_what_is_printed_at_once():
    # As under a supervisor that reads a log line by line; what is held back is lost where the process ends like this.
    script = (
        "import os, sys; from orric.cli.output import guard_output; guard_output();"
        "print('told'); print('warned', file=sys.stderr); os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-u", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("told\n", "warned\n")
