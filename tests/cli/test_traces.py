"""trace import, generate and describe: what is written, what is told, what is refused, and what is left alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import orric as package
from orric.cli.traces import Kind
from orric.importers import IMPORTERS
from orric.workload import KINDS

from ..builders import ROOT

AZURE = ROOT.parent / "shared" / "data" / "azure_llm_2023"
LLM = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0319600,110,27
2023-11-16 18:18:30.0000000,7433,14
"""
FUNCTIONS = """HashOwner,HashApp,HashFunction,Trigger,1,2,3,4
o,a,f1,http,3,0,1,0
o,a,f2,timer,1,1,1,1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Enter a folder with one small file of each format."""
    monkeypatch.chdir(tmp_path)
    Path("llm.csv").write_text(LLM)
    Path("functions.csv").write_text(FUNCTIONS)
    Path("times.csv").write_text("when\n10\n20\n20\n95.5\n")
    Path("counts.csv").write_text("hits\n4\n0\n2\n")
    package.Timestamps([1.0, 2.0, 70.0]).save("stamps.csv")
    package.Trace(requests=[10, 30], budget_macs=[1e9, 2e9]).save("trace.csv")
    return tmp_path


def contents():
    return {path.name: path.read_bytes() for path in Path().iterdir()}


def imported(orric, *arguments):
    status, out, err = orric("trace", "import", *arguments, "--output", "out.csv", "--json")
    assert (status, err) == (0, "")
    assert out.count("\n") == 1
    return json.loads(out)


LLM_FILE = ("llm.csv", "--format", "azure-llm-2023")
FUNCTIONS_FILE = ("functions.csv", "--format", "azure-functions")
TIMES_FILE = ("times.csv", "--format", "timestamps", "--column", "when")
COUNTS_FILE = ("counts.csv", "--format", "counts", "--column", "hits", "--interval-s", 30)
SLOTS = ("--as", "slots", "--budget-macs", "2e9")
TIMES = ("--as", "timestamps")


@pytest.mark.parametrize(
    ("file", "times", "requests"),
    [
        (LLM_FILE, [0.0, 0.052, 0.052, 86.02004], [3, 1]),
        (FUNCTIONS_FILE, [7.5, 22.5, 37.5, 52.5, 90.0, 135.0, 165.0, 210.0], [4, 1, 2, 1]),
        (TIMES_FILE, [10.0, 20.0, 20.0, 95.5], [3, 1]),
        (COUNTS_FILE, [3.75, 11.25, 18.75, 26.25, 67.5, 82.5], [4, 2]),
    ],
    ids=["azure-llm-2023", "azure-functions", "timestamps", "counts"],
)
def test_every_format_becomes_timestamps_and_slots(orric, file, times, requests):
    answer = imported(orric, *file, *TIMES)
    assert package.Timestamps.load("out.csv").arrival_s.tolist() == times
    assert (answer["requests"], answer["first_s"], answer["last_s"]) == (len(times), times[0], times[-1])
    assert answer["format"] == file[2]
    answer = imported(orric, *file, *SLOTS)
    trace = package.Trace.load("out.csv")
    assert trace.requests.tolist() == requests
    assert trace.budget_macs.tolist() == [2e9] * len(requests)
    assert trace.duration_s.tolist() == [60.0] * len(requests)
    assert (answer["requests"], answer["slots"], answer["slot_s"]) == (len(times), len(requests), 60.0)
    assert (answer["source"] is None, answer["licence"] is None) == (2 * ("azure" not in file[2],))


@pytest.mark.parametrize(("name", "requests"), [("conv", 19_366), ("code", 8_819)])
def test_the_real_azure_files_become_traces(orric, name, requests):
    path = AZURE / f"AzureLLMInferenceTrace_{name}.csv"
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand")
    command = (path, "--format", "azure-llm-2023", "--speedup", 60, "--slot-s", 1, *SLOTS)
    assert imported(orric, *command)["requests"] == requests
    assert package.Trace.load("out.csv").requests.sum() == requests


def test_speed_up_and_parts_are_applied_and_told(orric):
    whole = package.Timestamps.load("stamps.csv")
    command = ("stamps.csv", "--format", "timestamps", "--column", "arrival_s", *TIMES, "--speedup", 2)
    answer = imported(orric, *command)
    assert package.Timestamps.load("out.csv").arrival_s.tolist() == (whole.arrival_s / 2).tolist()
    assert (answer["speedup"], answer["part"], answer["parts"]) == (2.0, 1, 1)
    answer = imported(orric, *command, "--part", "2/2")
    assert package.Timestamps.load("out.csv").arrival_s.tolist() == [1.0]
    assert (answer["part"], answer["parts"]) == (2, 2)
    parts = [imported(orric, *FUNCTIONS_FILE, *SLOTS, "--part", f"{part}/3")["requests"] for part in (1, 2, 3)]
    assert parts == [3, 3, 2]
    assert imported(orric, *FUNCTIONS_FILE, *SLOTS, "--speedup", 2, "--slot-s", 60)["slots"] == 2


def test_options_of_one_format_reach_it(orric):
    assert imported(orric, *FUNCTIONS_FILE, *TIMES, "--function", "f2")["requests"] == 4
    imported(orric, *TIMES_FILE, *TIMES, "--from-first")
    assert package.Timestamps.load("out.csv").arrival_s.tolist() == [0.0, 10.0, 10.0, 85.5]


def test_requests_are_spread_as_asked(orric):
    imported(orric, *COUNTS_FILE, *TIMES, "--spread", "poisson", "--seed", 1)
    first = Path("out.csv").read_bytes()
    assert package.Timestamps.load("out.csv").counts(30.0).tolist() == [4, 0, 2]
    imported(orric, *COUNTS_FILE, *TIMES, "--spread", "poisson", "--seed", 2)
    assert Path("out.csv").read_bytes() != first
    imported(orric, *COUNTS_FILE, *TIMES, "--spread", "poisson", "--seed", 1)
    assert Path("out.csv").read_bytes() == first
    # Slots that are no whole number of intervals need single times.
    imported(orric, *COUNTS_FILE, *SLOTS, "--slot-s", 20, "--spread", "even")
    assert package.Trace.load("out.csv").requests.tolist() == [3, 1, 0, 1, 1]


def test_import_tells_people_source_licence_and_speed_up(orric):
    status, out, err = orric(
        "trace", "import", *LLM_FILE, *SLOTS, "--speedup", 2, "--part", "1/2", "--output", "[o].csv"
    )
    assert (status, err) == (0, "")
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "requests: 2, 1 slot of 60 s, 2e+09 MACs each",
        "first time: 2023-11-16T18:17:03.97996",
        "part: 1 of 2",
        "speed-up: 2",
        "source: Azure LLM inference trace 2023; Patel et al., Splitwise, ISCA 2024",
        "licence: CC BY 4.0",
        "Trace: [o].csv",
    ]
    out = orric("trace", "import", *TIMES_FILE, *TIMES, "--output", "o.csv")[1]
    assert "4, from 10 s to 95.5 s" in out
    assert "source:     times.csv" in out
    assert "Timestamps: o.csv" in out


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_generated_traces_are_evaluated_like_any_other(orric, kind):
    command = ("trace", "generate", "--kind", kind, "--slots", 40, "--requests", "10:50", "--budget-macs", "1e9:2e9")
    status, out, err = orric(*command, "--seed", 3, "--output", "out.csv", "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    trace = package.Trace.load("out.csv")
    assert (trace.slots, answer["slots"], answer["generator"], answer["seed"]) == (40, 40, kind, 3)
    assert answer["requests"]["min"] == trace.requests.min() >= 10
    assert answer["requests"]["max"] == trace.requests.max() <= 50
    before = Path("out.csv").read_bytes()
    status, out, _ = orric(*command, "--seed", 3, "--output", "out.csv")
    assert status == 0
    assert Path("out.csv").read_bytes() == before
    assert out.splitlines()[-1].split() == ["Trace:", "out.csv"]
    orric(*command, "--seed", 4, "--output", "out.csv")
    assert Path("out.csv").read_bytes() != before


def test_describe_knows_traces_from_timestamps(orric):
    status, out, err = orric("trace", "describe", "trace.csv", "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    assert set(answer) == {
        "file", "kind", "slots", "slot_s", "total_requests", "requests", "budget_macs", "peak_to_mean", "dispersion",
        "interarrival_cv",
    }  # fmt: skip
    assert (answer["kind"], answer["slots"], answer["requests"]["mean"]) == ("trace", 2, 20)
    assert answer["dispersion"] == pytest.approx(5.0)
    assert answer["budget_macs"] == {"min": 1e9, "mean": 1.5e9, "max": 2e9}
    answer = json.loads(orric("trace", "describe", "stamps.csv", "--slot-s", 10, "--json")[1])
    assert (answer["kind"], answer["slots"], answer["slot_s"], answer["budget_macs"]) == ("timestamps", 8, 10.0, None)
    assert answer["interarrival_cv"] == pytest.approx(np.std([1, 68]) / np.mean([1, 68]))
    out = orric("trace", "describe", "stamps.csv")[1]
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "slots", "requests per slot", "requests in all", "peak to mean", "index of dispersion", "interarrival cv",
    ]  # fmt: skip
    assert "2 of 60 s" in out
    assert "1e+09 to 2e+09, mean 1.5e+09 MACs" in orric("trace", "describe", "trace.csv")[1]


OUT = ("--output", "out.csv")
DRAWN = ("generate", "--kind", "uniform", "--slots", 3, "--budget-macs", "1:2", *OUT)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("import", "llm.csv", *TIMES, *OUT), "Missing option '--format'"),
        (("import", *LLM_FILE, *OUT), "Missing option '--as'"),
        (("import", *LLM_FILE, *TIMES), "Missing option '--output'"),
        (("import", "llm.csv", "--format", "azure", *TIMES, *OUT), "--format: 'azure' is unknown; known: azure"),
        (("import", "none.csv", *LLM_FILE[1:], *TIMES, *OUT), "none.csv: no such file"),
        (("import", ".", *LLM_FILE[1:], *TIMES, *OUT), ".: is a folder"),
        (("import", "counts.csv", *LLM_FILE[1:], *TIMES, *OUT), "counts.csv:1: "),
        (("import", *LLM_FILE, "--as", "minutes", *OUT), "Invalid value for '--as'"),
        (("import", *LLM_FILE, "--as", "slots", *OUT), "--budget-macs: is missing"),
        (("import", *LLM_FILE, *TIMES, "--budget-macs", 1, *OUT), "--budget-macs: timestamps have no slots"),
        (("import", *LLM_FILE, *TIMES, "--slot-s", 1, *OUT), "--slot-s: timestamps have no slots"),
        (("import", *LLM_FILE, "--as", "slots", "--budget-macs", -1, *OUT), "--budget-macs: found -1"),
        (("import", *LLM_FILE, "--as", "slots", "--budget-macs", "nan", *OUT), "--budget-macs: found nan"),
        (("import", *LLM_FILE, *SLOTS, "--slot-s", 0, *OUT), "--slot-s: found 0"),
        (("import", *LLM_FILE, *SLOTS, "--slot-s", "1e-9", *OUT), "more than 10,000,000"),
        (("import", *LLM_FILE, *TIMES, "--speedup", "nan", *OUT), "--speedup: found nan"),
        (("import", *LLM_FILE, *TIMES, "--speedup", 0, *OUT), "--speedup: found 0"),
        (("import", *LLM_FILE, *TIMES, "--speedup", "1e-320", *OUT), "found inf"),
        (("import", *LLM_FILE, *TIMES, "--part", "3/2", *OUT), "--part: found '3/2'"),
        (("import", *LLM_FILE, *TIMES, "--part", "0/2", *OUT), "--part: found '0/2'"),
        (("import", *LLM_FILE, *TIMES, "--part", "half", *OUT), "--part: found 'half'"),
        (("import", *LLM_FILE, *TIMES, "--part", "9/9", *OUT), "part 9 of 9 has no request"),
        (("import", *LLM_FILE, *TIMES, "--seed", -1, *OUT), "Invalid value for '--seed'"),
        (("import", *LLM_FILE, *TIMES, "--column", "when", *OUT), "--column: format 'azure-llm-2023' does not"),
        (("import", *LLM_FILE, *TIMES, "--from-first", *OUT), "--from-first: format 'azure-llm-2023' does not"),
        (("import", *LLM_FILE, *TIMES, "--spread", "even", *OUT), "--spread: format 'azure-llm-2023' has single"),
        (("import", *TIMES_FILE[:3], *TIMES, *OUT), "--column: is missing; format 'timestamps' needs it"),
        (
            ("import", *COUNTS_FILE[:5], *TIMES, *OUT),
            "counts.csv:1: no column of times tells how long an interval is; give --interval-s",
        ),
        (("import", *COUNTS_FILE[:6], -1, *TIMES, *OUT), "--interval-s: found -1"),
        (("import", *COUNTS_FILE, *SLOTS, "--slot-s", 20, *OUT), "20 s is no whole number of intervals of 30 s"),
        (("import", *FUNCTIONS_FILE, *TIMES, "--function", "f3", *OUT), "no function 'f3' among 2"),
        (("import", *LLM_FILE, *TIMES, "--output", "llm.csv"), "--output llm.csv: is what is read from llm.csv"),
        (("import", *LLM_FILE, *TIMES, "--output", "link.csv"), "--output link.csv: is what is read from llm.csv"),
        (("import", *LLM_FILE, *TIMES, "--output", "."), "--output .: is a folder"),
        (("import", *LLM_FILE, *TIMES, "--output", "no/out.csv"), "its folder cannot be written"),
        (("import", *LLM_FILE, *TIMES, "--output", "x" * 300), "cannot be written"),
        ((*DRAWN, "--kind", "wild"), "Invalid value for '--kind'"),
        ((*DRAWN, "--slots", 0), "Invalid value for '--slots'"),
        ((*DRAWN, "--slots", 10**9), "slots: found 1,000,000,000"),
        ((*DRAWN, "--requests", "5"), "--requests: found '5'"),
        ((*DRAWN, "--requests", "5:1"), "requests: found 5 to 1"),
        ((*DRAWN, "--requests", "0:0"), "no whole number of requests"),
        ((*DRAWN, "--budget-macs", "1:1e999"), "budget_macs: found 1 to inf"),
        ((*DRAWN, "--period", 5), "--period: a uniform trace has none"),
        ((*DRAWN, "--kind", "periodic", "--period", 1), "Invalid value for '--period'"),
        ((*DRAWN, "--output", "."), "--output .: is a folder"),
        (DRAWN[:-2], "Missing option '--output'"),
        (("describe", "none.csv"), "none.csv: no such file"),
        (("describe", "llm.csv"), "llm.csv:1: unknown column 'TIMESTAMP'"),
        (("describe", "trace.csv", "--slot-s", 60), "--slot-s: trace.csv has slots already"),
        (("describe", "stamps.csv", "--slot-s", "inf"), "--slot-s: found inf"),
        (("describe", "stamps.csv", "--slot-s", "1e-9"), "more than 10,000,000"),
        (("describe",), "Missing argument"),
        ((), "Missing command"),
        (("exprot",), "No such command"),
    ],
)
def test_unusable_input_gets_one_line_and_status_2_and_leaves_everything(orric, arguments, told):
    Path("link.csv").symlink_to("llm.csv")
    Path("out.csv").write_text("an earlier one")
    before = contents()
    status, out, err = orric("trace", *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("orric: ")
    assert err.count("\n") == 1
    assert told in err
    assert contents() == before


def test_what_is_no_ordinary_file_is_not_replaced_by_one(orric):
    os.mkfifo("pipe")
    status, out, err = orric("trace", "import", *LLM_FILE, *TIMES, "--output", "pipe")
    assert (status, out) == (2, "")
    assert err == "orric: --output pipe: is no ordinary file; choose another with --output\n"
    assert Path("pipe").is_fifo()


def test_a_failing_write_leaves_the_earlier_file(orric, monkeypatch):
    def full(self, mode="r", *arguments, **options):
        if "w" not in mode:
            return opened(self, mode, *arguments, **options)
        self.touch()
        raise OSError(28, "No space left on device")

    opened = Path.open
    monkeypatch.setattr(Path, "open", full)
    before = contents()
    for form in (SLOTS, TIMES):
        status, out, err = orric("trace", "import", *LLM_FILE, *form, "--output", "trace.csv")
        assert (status, out) == (2, "")
        assert err == "orric: trace.csv: cannot be written (No space left on device); choose another file\n"
        assert contents() == before


def test_help_names_every_format_and_kind(orric):
    for command in ("import", "generate", "describe"):
        status, out, _ = orric("trace", command, "--help")
        assert status == 0
        assert "--json" in out
    assert all(name in orric("trace", "import", "--help")[1] for name in IMPORTERS)
    assert {kind.value for kind in Kind} == set(KINDS)
    assert all(name in orric("trace", "--help")[1] for name in ("import", "generate", "describe"))


GAP = "time,hits\n2025-03-29T22:00Z,3\n2025-03-29T22:01Z,0\n2025-03-29T22:04Z,2\n"


def test_gaps_are_refused_or_filled_and_told(orric):
    Path("gap.csv").write_text(GAP)
    command = ("gap.csv", "--format", "counts", "--column", "hits", *SLOTS)
    status, out, err = orric("trace", "import", *command, "--output", "out.csv")
    assert (status, out) == (2, "")
    assert "gap.csv:4: column 'time': no rows from 2025-03-29T22:02:00Z until 2025-03-29T22:04:00Z" in err
    assert not Path("out.csv").exists()
    answer = imported(orric, *command, "--gaps", "zero")
    assert package.Trace.load("out.csv").requests.tolist() == [3, 0, 0, 0, 2]
    assert (answer["filled"], answer["interval_s"], answer["first"]) == (2, 60.0, "2025-03-29T22:00:00Z")
    assert answer["gaps"] == [{"from": "2025-03-29T22:02:00Z", "until": "2025-03-29T22:04:00Z", "intervals": 2}]
    out = orric("trace", "import", *command, "--gaps", "zero", "--time-column", "time", "--output", "out.csv")[1]
    assert "no rows for: 2 intervals, taken as no requests" in out


def test_an_origin_is_shared_and_told(orric):
    Path("gap.csv").write_text(GAP)
    command = ("gap.csv", "--format", "timestamps", "--column", "time", *TIMES)
    answer = imported(orric, *command, "--origin", "2025-03-29T22:59:00+01:00")
    assert package.Timestamps.load("out.csv").arrival_s.tolist() == [60.0, 120.0, 300.0]
    assert (answer["first"], answer["origin"]) == ("2025-03-29T22:00:00Z", "2025-03-29T21:59:00Z")
    out = orric("trace", "import", *command, "--origin", "2025-03-29T21:59:00Z", "--output", "out.csv")[1]
    assert "counted from: 2025-03-29T21:59:00Z" in " ".join(out.split())
