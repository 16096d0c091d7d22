"""The command line: results, machine-readable output, exit statuses and messages."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from rich.console import Console

import orric as package
from orric.allocators import _installed
from orric.cli.experiments import DISPENSABLE
from orric.report.table import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
FOG = ROOT / "traces/profiles/cifar10c-fog.toml"
QUICKSTART = ROOT / "simulations/quickstart.toml"
TABLE3 = ROOT / "simulations/table3-fog.toml"
TRACE = "slot,requests,budget_macs\n1,1000,7.94e9\n2,1000,8.637e10\n"


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def test_evaluate_answers_with_the_documented_keys(orric, trace):
    status, out, _ = orric("evaluate", "--profile", FOG, "--trace", trace, "--allocator", "orric", "--json")
    answer = json.loads(out)
    assert status == 0
    assert set(answer) == {"allocator", "value", "mean_accuracy", "allocations"}
    assert answer["allocator"] == "orric"
    assert answer["value"] == pytest.approx(answer["mean_accuracy"] * 2000)
    assert answer["allocations"][0] == {"slot": 1, "stream": "stream-1", "retraining": "none", "inference": "32px"}


def test_evaluate_takes_a_scenario(orric):
    status, out, _ = orric("evaluate", "--scenario", TABLE3, "--allocator", "student-only", "--json")
    assert status == 0
    assert json.loads(out)["mean_accuracy"] == pytest.approx(0.6274)


def test_evaluate_tells_people_what_was_chosen(orric, trace):
    status, out, _ = orric("evaluate", "--profile", FOG, "--trace", trace)
    assert status == 0
    assert "mean accuracy" in out
    assert "32px" in out


def test_run_writes_the_whole_folder(orric, tmp_path):
    status, out, err = orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1)
    assert status == 0, err
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"result.parquet", "summary.json", "scenario.toml", "report.html", "accuracy_by_slot.png"}
    assert not list(tmp_path.glob(".*partial"))
    assert "report.html" in out
    for name in ("orric", "inference-only", "teacher-only"):
        assert name in out


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_a_narrow_terminal_goes_without_columns_but_never_cuts_a_figure(orric, tmp_path, monkeypatch, width):
    monkeypatch.setattr("orric.cli.experiments.console_of_output", lambda: Console(width=width))
    status, out, _ = orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1)
    assert status == 0
    table, rest = out.split("└")
    assert max(map(len, table.splitlines())) <= width
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in table.splitlines() if line[0] == "│"]
    results = json.loads((tmp_path / "out/summary.json").read_text())["results"]
    for row, result in zip(rows, results, strict=True):
        assert row[:3] == [
            result["allocator"],
            f"{100 * result['in_time_accuracy']:.2f}",
            f"{100 * result['mean_accuracy']:.2f}",
        ]
        assert all(re.fullmatch(r"[\d,]+(\.\d+)?", cell) for cell in row[1:])
    if width == 80:
        assert len(rows[0]) == 6
        dropped = "too narrow for: decisions per s, of it retraining (%), p50 latency (s), shed (%), "
        assert dropped in " ".join(rest.split())


def test_every_column_but_name_and_mean_accuracies_can_be_gone_without():
    headings = [column.heading for column in COLUMNS]
    assert set(DISPENSABLE) == {*headings[2:], "decisions per s"}


def test_run_prints_one_json_object(orric, tmp_path):
    status, out, _ = orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1, "--json")
    assert status == 0
    answer = json.loads(out)
    assert answer["folder"] == str(tmp_path / "out")
    assert {row["allocator"] for row in answer["results"]} >= {"orric", "inference-only"}


def test_a_run_by_the_measured_table_says_so(orric, tmp_path):
    status, out, err = orric("run", QUICKSTART, "--accuracy", "table", "--output", tmp_path / "out", "--jobs", 1)
    assert status == 0, err
    assert "Accuracies from the measured table" in (tmp_path / "out/report.html").read_text()
    assert "real models" not in out
    assert 'model = "table"' in (tmp_path / "out/scenario.toml").read_text()
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["conclusion"][0].startswith("By the measured table, ")
    assert {row["accuracy_model"] for row in summary["results"]} == {"table"}
    assert {row["allocator"] for row in summary["results"]} >= {"orric", "teacher-only"}


def test_the_resolved_scenario_can_be_run_again(orric, tmp_path):
    orric("run", TABLE3, "--output", tmp_path / "one", "--seed", 5, "--jobs", 1)
    status, _, err = orric("run", tmp_path / "one/scenario.toml", "--output", tmp_path / "two", "--jobs", 1)
    assert status == 0, err
    assert (tmp_path / "one/result.parquet").read_bytes() == (tmp_path / "two/result.parquet").read_bytes()


def test_a_resolved_scenario_still_finds_its_csv(orric, tmp_path):
    (tmp_path / "trace.csv").write_text("slot,requests,budget_macs\n1,10,1e9\n2,20,2e9\n")
    text = TABLE3.read_text().replace("../traces", str(ROOT / "traces")).replace("slots = 50", "slots = 2")
    text = text.replace('{ kind = "constant", per_slot = 1000 }', '{ csv = "trace.csv" }')
    text = text.replace('{ kind = "uniform", low = 0.0919301, high = 1.0 }', '{ csv = "trace.csv" }')
    (tmp_path / "scenario.toml").write_text(text)
    assert orric("run", tmp_path / "scenario.toml", "--output", tmp_path / "deep/one", "--jobs", 1)[0] == 0
    again = tmp_path / "deep/one/scenario.toml"
    assert str(tmp_path) not in again.read_text()
    status, _, err = orric("run", again, "--output", tmp_path / "two", "--jobs", 1)
    assert status == 0, err
    assert (tmp_path / "deep/one/result.parquet").read_bytes() == (tmp_path / "two/result.parquet").read_bytes()


def test_same_seed_same_bytes_whatever_the_number_of_workers(orric, tmp_path):
    for folder, jobs in (("one", 1), ("two", 2)):
        status, _, err = orric("run", QUICKSTART, "--accuracy", "curve", "--output", tmp_path / folder, "--jobs", jobs)
        assert status == 0, err
    assert (tmp_path / "one/result.parquet").read_bytes() == (tmp_path / "two/result.parquet").read_bytes()
    orric("run", QUICKSTART, "--accuracy", "curve", "--output", tmp_path / "other", "--jobs", 1, "--seed", 2)
    assert (tmp_path / "one/result.parquet").read_bytes() != (tmp_path / "other/result.parquet").read_bytes()


def test_real_models_give_the_same_allocations_and_accuracies_again(orric, tmp_path):
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("torch")
    text = QUICKSTART.read_text().replace("slots = 100", "slots = 5").replace("per_slot = 200", "per_slot = 40")
    text = text.replace("../traces", str(ROOT / "traces")).replace('"focus-shift",', "")
    small = tmp_path / "small.toml"
    small.write_text(text.replace("macs_per_s = 1.0e8", "macs_per_s = 2.0e7"))
    for folder, jobs in (("one", 1), ("two", 2)):
        status, _, err = orric("run", small, "--output", tmp_path / folder, "--jobs", jobs)
        assert status == 0, err
    one, two = (pandas.read_parquet(tmp_path / folder / "result.parquet") for folder in ("one", "two"))
    pandas.testing.assert_frame_equal(one, two, check_exact=True)
    assert set(one["accuracy_model"]) == {"onnx", "curve"}
    assert {"batch-norm-only", "teacher-only"} <= set(one["allocator"])


def test_an_earlier_result_is_replaced_and_anything_else_is_kept(orric, tmp_path):
    assert orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1)[0] == 0
    assert orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1)[0] == 0
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("mine")
    status, _, err = orric("run", TABLE3, "--output", other, "--jobs", 1)
    assert status == 2
    assert "holds something else" in err
    assert (other / "chapter.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_found_before_the_work(orric, tmp_path):
    (tmp_path / "file").write_text("")
    status, out, err = orric("run", TABLE3, "--output", tmp_path / "file" / "out")
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "--output" in err


FAULTY = """
import orric


class Breaking(orric.Allocator):
    name = "breaking"

    def decide(self, slot):
        return orric.Allocation((orric.StreamAllocation("100%" if slot.index == 3 else "none", "32px"),))


class Raising(orric.InferenceOnly):
    name = "raising"

    def choose(self, slots, requests, budgets_macs):
        budgets_macs *= 2
        return super().choose(slots, requests, budgets_macs)


class Deaf(orric.RetrainingGreedy):
    name = "deaf"

    def observe(self, record):
        import json, os

        self.heard = [*getattr(self, "heard", []), record.agreement][-3:]
        if record.slot == 3 and self.heard == json.loads(os.environ["UNHEARD"]):
            raise ValueError("tell me <more>")
"""


@pytest.fixture
def faulty(tmp_path, monkeypatch):
    """Install a package of faulty allocators, for workers as well; return a function that writes a scenario."""
    site = tmp_path / "site"
    (site / "faulty-1.0.dist-info").mkdir(parents=True)
    (site / "faulty.py").write_text(FAULTY)
    (site / "faulty-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    points = "".join(f"{name} = faulty:{name.title()}\n" for name in ("breaking", "raising", "deaf"))
    (site / "faulty-1.0.dist-info/entry_points.txt").write_text(f"[orric.allocators]\n{points}")
    monkeypatch.syspath_prepend(site)
    _installed.cache_clear()

    def scenario(*names, source=TABLE3):
        text = re.sub(r"allocators = \[.*?\]", f"allocators = {json.dumps(names)}", source.read_text(), flags=re.DOTALL)
        path = tmp_path / "faulty.toml"
        path.write_text(text.replace("../traces", str(ROOT / "traces")))
        return path

    yield scenario
    _installed.cache_clear()
    sys.modules.pop("faulty", None)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_goes_on_without_allocators_that_misbehave(orric, tmp_path, faulty, jobs):
    out = tmp_path / "out"
    arguments = ["run", faulty("raising", "orric", "breaking", "inference-only"), "--output", out, "--jobs", jobs]
    status, printed, err = orric(*arguments, "--json")
    lines = err.splitlines()
    assert status == 1
    assert len(lines) == 2
    assert lines[0].startswith("orric: allocator 'raising', slot 1: raised ValueError: ")
    assert lines[0].endswith("; mend the allocator (faulty.py:16)")
    assert lines[1].startswith("orric: allocator 'breaking', slot 3: exceeds the budget of ")
    answer, summary = json.loads(printed), json.loads((out / "summary.json").read_text())
    assert answer == {"folder": str(out), **summary}
    failed = {"raising": lines[0].removeprefix("orric: "), "breaking": lines[1].removeprefix("orric: ")}
    assert summary["failed"] == failed
    assert [row["allocator"] for row in summary["results"]] == ["orric", "inference-only", "teacher-only"]
    page = (out / "report.html").read_text()
    for message in failed.values():
        assert f'<p class="failed">Left out of the comparison: {html.escape(message)}.</p>' in page
    status, printed, err = orric(*arguments)
    replacing, *others = err.splitlines()
    assert (status, others) == (1, lines)
    assert replacing.startswith("orric: replaces the result of ")
    assert "ORRIC did best of 2 allocators" in printed


def test_a_run_in_which_every_allocator_misbehaves_is_refused(orric, tmp_path, faulty):
    status, printed, err = orric("run", faulty("raising", "breaking"), "--output", tmp_path / "out", "--jobs", 1)
    assert (status, printed) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith("orric: allocator 'raising', slot 1: raised ValueError: ")
    assert not (tmp_path / "out").exists()


def test_a_run_without_misbehaviour_says_so(orric, tmp_path):
    status, printed, err = orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1, "--json")
    assert (status, err) == (0, "")
    assert json.loads(printed)["failed"] == {}
    assert 'class="failed"' not in (tmp_path / "out/report.html").read_text()


def test_an_allocator_that_misbehaves_under_one_accuracy_model_keeps_its_other_result(
    orric, tmp_path, faulty, monkeypatch
):
    pytest.importorskip("torch")
    path = faulty("orric", "deaf", source=QUICKSTART)
    text = path.read_text().replace("slots = 100", "slots = 5").replace("per_slot = 200", "per_slot = 40")
    path.write_text(re.sub("references = .*", "", text).replace("macs_per_s = 1.0e8", "macs_per_s = 2.0e7"))
    by_curve = package.load_scenario(path).with_accuracy("curve", "test")
    unheard = package.simulate(by_curve, package.RetrainingGreedy()).agreement[:3]
    monkeypatch.setenv("UNHEARD", json.dumps(unheard.tolist()))
    status, _, err = orric("run", path, "--output", tmp_path / "out", "--jobs", 1)
    told = "allocator 'deaf', slot 3: raised ValueError: tell me <more>; mend the allocator (faulty.py:28)"
    # Forty images a slot take a GPU so small that its distance from the profile's device is warned of.
    assert (status, err.splitlines()[1:]) == (1, [f"orric: {told}; it did so with the learning curve only"])
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert [(row["accuracy_model"], row["allocator"]) for row in summary["results"]] == [
        ("onnx", "orric"),
        ("onnx", "deaf"),
        ("curve", "orric"),
    ]
    assert html.escape("tell me <more>") in (tmp_path / "out/report.html").read_text()


def test_evaluate_tells_an_allocator_that_misbehaves(orric, trace, faulty):
    status, printed, err = orric("evaluate", "--profile", FOG, "--trace", trace, "--allocator", "raising")
    assert (status, printed) == (2, "")
    assert err.startswith("orric: allocator 'raising', slot 1: raised ValueError: ")


def test_an_alias_can_be_compared(orric, tmp_path, faulty):
    status, printed, err = orric("run", faulty("student-only", "orric"), "--output", tmp_path / "out", "--jobs", 1)
    assert status == 0, err
    assert "student-only" in printed


def test_a_failing_run_leaves_nothing(orric, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr("orric.comparison.simulate_line", fail)
    with pytest.raises(RuntimeError):
        orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def working(tmp_path):
    """Start the main job in an empty folder; return it and its processes once both workers are up."""
    command = [sys.executable, "-m", "orric", "run", str(QUICKSTART), "--output", "out", "--jobs", "2"]

    def heed():
        # Whoever runs the tests in the background may have them ignore SIGINT, and children inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as run:
        parent, workers = psutil.Process(run.pid), []
        # A worker that is up has a thread that watches its parent; the resource tracker has one thread only.
        while run.poll() is None and len(workers) < 2:
            os.sched_yield()
            workers = [child for child in parent.children() if child.num_threads() > 1]
        yield run, parent.children()
        run.kill()


@pytest.mark.parametrize(
    ("number", "status", "told"),
    [
        (signal.SIGTERM, 143, "orric: ended by SIGTERM\n"),
        (signal.SIGINT, 130, "orric: interrupted; nothing was written\n"),
    ],
)
def test_a_run_that_is_ended_from_outside_leaves_nothing(working, tmp_path, number, status, told):
    run, workers = working
    run.send_signal(number)
    _, err = run.communicate()
    assert (run.returncode, err) == (status, told)
    assert list(tmp_path.iterdir()) == []
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_workers_end_when_their_parent_is_killed(working):
    run, workers = working
    run.kill()
    run.wait()
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def interrupt(*arguments):
    raise KeyboardInterrupt


def test_an_interrupted_run_keeps_the_earlier_result(orric, tmp_path, monkeypatch):
    orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1)
    before = (tmp_path / "out/summary.json").read_bytes()
    monkeypatch.setattr("orric.comparison.simulate_line", interrupt)
    told = f"orric: interrupted; nothing was written, and the earlier result in {tmp_path / 'out'} is kept\n"
    status, printed, err = orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1)
    assert (status, printed) == (130, "")
    assert err.startswith("orric: replaces the result of ")
    assert err.endswith(told)
    assert err.count("\n") == 2
    assert (tmp_path / "out/summary.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_command_without_remains_ends_in_one_line(orric, trace, monkeypatch):
    monkeypatch.setattr("orric.slot_model.StreamTask.of", interrupt)
    assert orric("evaluate", "--profile", FOG, "--trace", trace) == (130, "", "orric: interrupted\n")


BAD_TRACES = {
    "empty": ("", "is empty"),
    "no slots": ("slot,requests,budget_macs\n", "no slots follow"),
    "wrong header": ("slot,request,budget_macs\n1,2,3\n", "did you mean 'requests'"),
    "missing column": ("slot,requests\n1,2\n", "'budget_macs' is missing"),
    "not a number": ("slot,requests,budget_macs\n1,many,3\n", ":2: column 'requests': 'many' is not a number"),
    "nan": ("slot,requests,budget_macs\n1,nan,3\n", "found nan"),
    "infinity": ("slot,requests,budget_macs\n1,5,inf\n", "found inf"),
    "negative": ("slot,requests,budget_macs\n1,-5,3\n", "found -5"),
    "gap": ("slot,requests,budget_macs\n2,5,3\n", "expected 1"),
    "too small a budget": ("slot,requests,budget_macs\n1,1000,6e9\n", "slot 1: the budget of 6e+09 MACs is below"),
}


@pytest.mark.parametrize("kind", BAD_TRACES)
def test_bad_traces_get_one_line_and_status_2(orric, tmp_path, kind):
    text, expected = BAD_TRACES[kind]
    path = tmp_path / "bad.csv"
    path.write_text(text)
    status, out, err = orric("evaluate", "--profile", FOG, "--trace", path, "--json")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert expected in err


BAD_SCENARIOS = {
    "unknown key": ("slot_s = 60.0", "slot_s = 60.0\nsloots = 3", "did you mean 'slots'"),
    "unknown allocator": ('"orric", ', '"oric", ', "did you mean 'orric'"),
    "a name that leaves the results folder": (
        'name = "table3-fog"',
        'name = "../../evil"',
        "cannot name a result folder",
    ),
    "zero slots": ("slots = 50", "slots = 0", "found 0"),
    "more slots than memory": ("slots = 50", "slots = 10_000_001", "less than or equal to 10000000"),
    "too large a seed": ("seed = 1", f"seed = {2**63}", f"less than or equal to {2**63 - 1}"),
    "no slots": ("slots = 50\n", "", "'slots' is missing"),
    "negative requests": ("per_slot = 1000", "per_slot = -1", "found -1"),
    "not TOML": ("[[gpu]]", "[[gpu", "is not valid TOML"),
    "missing profile": ("cifar10c-fog.toml", "cifar10c-frog.toml", "no such file"),
    "no real models": (
        'spare = "inference"',
        'spare = "inference"\naccuracy = { model = "onnx" }',
        "names no [models]",
    ),
    "budget too small": ('spare = "inference"', 'spare = "inference"\noverload = "error"', "is below"),
}


def test_a_misspelled_corruption_is_not_taken_for_another_drift(orric, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(QUICKSTART.read_text().replace('"fog"', '"fgo"').replace("../traces", str(ROOT / "traces")))
    status, _, err = orric("run", path, "--accuracy", "curve", "--output", tmp_path / "out")
    assert status == 2
    assert "did you mean 'fog'" in err


@pytest.mark.parametrize("kind", BAD_SCENARIOS)
def test_bad_scenarios_get_one_line_and_status_2(orric, tmp_path, kind):
    old, new, expected = BAD_SCENARIOS[kind]
    text = TABLE3.read_text()
    assert old in text
    text = text.replace(old, new, 1).replace("../traces", str(ROOT / "traces"))
    if kind == "budget too small":
        text = text.replace("low = 0.0919301", "low = 0.01")
    path = tmp_path / "bad.toml"
    path.write_text(text)
    status, out, err = orric("run", path, "--output", tmp_path / "out")
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert expected in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "nowhere.toml"], "nowhere.toml: no such file"),
        (["run"], "Missing argument"),
        (["run", TABLE3, "--sed", 3], "--seed"),
        (["run", TABLE3, "--seed", -1], "Invalid value for '--seed'"),
        (["run", TABLE3, "--seed", 2**63], f"{2**63 - 1}"),
        (["run", TABLE3, "--accuracy", "cruve"], "'curve', 'table', 'onnx'"),
        (["run", TABLE3, "--accuracy", "table"], "no [[table]] entry for 'fog' of severity 1"),
        (["run", TABLE3, "--jobs"], "see orric run --help"),
        (["report", "--index"], "'--index' requires an argument; see orric report --help"),
        (["trace", "import", "--format"], "see orric trace import --help"),
        (["trace", "--jason"], "see orric trace --help"),
        (["run", TABLE3, "--jobs", "two\nlines"], "see orric run --help"),
        (["evluate"], "'evluate'"),
        (["--jason"], "see orric --help"),
        (["evaluate"], "give --profile and --trace, or --scenario"),
        (["evaluate", "--scenario", TABLE3, "--profile", FOG], "give one or the other"),
        (["evaluate", "--scenario", TABLE3, "--allocator", "student"], "did you mean 'student-only'"),
        (["evaluate", "--scenario", TABLE3, "--allocator", "teacher-only"], "reference line, not an allocator"),
        (["evaluate", "--scenario", TABLE3, "--allocator", "batch-norm-only"], 'references = ["batch-norm-only"]'),
    ],
)
def test_unusable_options_get_one_line_and_status_2(orric, tmp_path, monkeypatch, arguments, expected):
    monkeypatch.chdir(tmp_path)
    status, out, err = orric(*arguments)
    assert (status, out) == (2, "")
    assert expected in err
    assert len([line for line in err.splitlines() if line.strip()]) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("simpy", ["run", TABLE3], "orric[sim]"),
        ("matplotlib", ["run", TABLE3], "orric[sim]"),
        ("onnxruntime", ["run", QUICKSTART], "orric[models]"),
        ("torch", ["calibrate"], "orric[models]"),
        ("sklearn", ["calibrate"], "orric[models]"),
    ],
)
def test_a_missing_extra_is_named(tmp_path, package, arguments, extra):
    # Neither found nor imported, as a package that is not there.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {package!r}:\n"
        "            raise ModuleNotFoundError('No module', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "orric", *map(str, arguments)],
        cwd=work,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert extra in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(work.iterdir()) == []


def test_help_and_version(orric):
    status, out, _ = orric("--help")
    assert status == 0
    for command in ("run", "evaluate", "calibrate"):
        assert command in out
        assert orric(command, "--help")[0] == 0
    assert orric("--version")[1].startswith("orric ")


def test_the_bare_command_shows_its_help_and_fails(orric):
    status, out, err = orric()
    assert (status, out) == (2, "")
    assert err.startswith("Usage: ")
    assert "evaluate" in err


def test_the_largest_seed_can_be_run(orric, tmp_path):
    status, _, err = orric("run", TABLE3, "--output", tmp_path / "out", "--jobs", 1, "--seed", 2**63 - 1)
    assert status == 0, err


def test_the_installed_command_exists():
    assert shutil.which("orric", path=str(Path(sys.executable).parent))
