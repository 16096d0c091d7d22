"""Two commands from ragged files to a report, new scenarios, the list of allocators, help and completion."""

from __future__ import annotations

import csv
import json
import shlex
import tomllib
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import typer.main

import orric as package
from orric.allocators.listing import listed
from orric.cli.frame import app
from orric.shipped import profile_names

from ..builders import ROOT

CAMERAS = ROOT / "traces/cameras"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Enter an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything():
    return set(Path().rglob("*"))


def imported(orric, *arguments, source=CAMERAS):
    status, out, err = orric(
        "trace", "import-cameras", source, "--zone", "Europe/Berlin", "--output", "out", *arguments, "--json"
    )
    assert (status, err) == (0, "")
    return json.loads(out)


def refused(orric, *arguments, source=CAMERAS):
    before = everything()
    status, out, err = orric("trace", "import-cameras", source, "--output", "out", *arguments)
    assert (status, out) == (2, "")
    assert everything() == before
    (line,) = err.splitlines()
    return line


def rows(name):
    with (CAMERAS / name).open() as file:
        return list(csv.DictReader(file))


def local_seconds(name):
    """Yield times and counts of a file, as seconds since 1970; the hour that comes twice is told by its jump back."""
    second_pass, before = 0, ""
    for row in rows(name):
        second_pass |= row["time"] < before
        before = row["time"]
        wall = datetime.fromisoformat(before).replace(tzinfo=BERLIN, fold=second_pass)
        yield wall.timestamp(), int(row.get("requests", 1))


def test_counts_by_slot_are_those_of_a_plain_recount(orric):
    answer = imported(orric, "--gaps", "zero")
    scenario = package.load_scenario("out/scenario.toml")
    origin = datetime.fromisoformat(answer["origin"]).timestamp()
    seconds = {
        "gate": [second for second, _ in local_seconds("gate.csv")],
        "lobby": [
            second + 300 * (k + 0.5) / count for second, count in local_seconds("lobby.csv") for k in range(count)
        ],
        "yard": [datetime.fromisoformat(row["timestamp"]).timestamp() for row in rows("yard.csv")],
    }
    expected = {name: Counter(int((one - origin) // 60) for one in ones) for name, ones in seconds.items()}
    assert [stream.name for stream in scenario.stream] == list(expected)
    for number, counts in enumerate(expected.values()):
        assert scenario.requests(1, number).tolist() == [counts[slot] for slot in range(scenario.slots)]
    assert scenario.slots == answer["slots"] == 360
    # Five hours and another that comes twice: a camera of one zone that forgot about it would end an hour earlier.
    (jump,) = answer["cameras"][0]["jumps"]
    assert jump == {"at": "2026-10-25T01:00:00Z", "seconds": -3600}


def test_a_spring_night_has_no_hole(orric):
    Path("cameras").mkdir()
    start = datetime(2026, 3, 29, 0, 30, tzinfo=ZoneInfo("UTC"))
    times = [start + timedelta(seconds=20 * k) for k in range(270)]
    Path("cameras/local.csv").write_text(
        "\n".join(["time", *(f"{t.astimezone(BERLIN):%Y-%m-%d %H:%M:%S}" for t in times)])
    )
    Path("cameras/offset.csv").write_text("\n".join(["time", *(t.astimezone(BERLIN).isoformat() for t in times)]))
    answer = imported(orric, source="cameras")
    scenario = package.load_scenario("out/scenario.toml")
    assert scenario.requests(1, 0).tolist() == scenario.requests(1, 1).tolist() == [3.0] * 90
    assert [len(camera["jumps"]) for camera in answer["cameras"]] == [1, 0]
    assert answer["origin"] == "2026-03-29T00:30:00Z"


def test_three_ragged_cameras_to_a_report_in_two_commands(orric):
    status, out, err = orric(
        "trace", "import-cameras", CAMERAS, "--zone", "Europe/Berlin", "--gaps", "zero", "--output", "mine"
    )
    assert (status, err) == (0, "")
    assert "gap of 40 min 45 s from 2026-10-25 02:53:37 CET on: no requests there" in out
    command = shlex.split(out.splitlines()[-1].removeprefix("Next: orric "))
    status, out, err = orric(*command, "--jobs", 1, "--json")
    # A few images a slot are fewer than any profile has measured, and that is told.
    assert (status, err.count("\n")) == (0, 1)
    assert "samples a slot on average" in err
    results = {one["allocator"]: one for one in json.loads(out)["results"]}
    assert Path("results/mine/report.html").is_file()
    # The GPU is chosen so that serving is no trouble and retraining pays.
    assert results["inference-only"]["in_time_accuracy"] < 0.6 < 0.85 < results["orric"]["in_time_accuracy"]


@pytest.mark.parametrize(
    ("rows", "options", "told"),
    [
        (["2026-10-25 12:00:01", "2026-10-25 12:00:01"], [], "1 row shares its second with another: kept"),
        (["2026-10-25 12:00:01.5", "2026-10-25 12:00:01.5"], [], "1 row repeats another: kept"),
        (["2026-10-25 12:00:01", "2026-10-25 12:00:01"], ["--duplicates", "drop"], "1 row repeats another: dropped"),
    ],
)
def test_rows_of_one_second_are_nothing_odd(orric, rows, options, told):
    Path("cameras").mkdir()
    Path("cameras/one.csv").write_text("\n".join(["time", *rows, "2026-10-25 12:00:05", ""]))
    status, out, err = orric("trace", "import-cameras", "cameras", "--zone", "UTC", "--output", "out", *options)
    assert (status, err) == (0, "")
    assert f"  {told}\n" in out


def test_cameras_that_begin_later_or_end_sooner_are_told(orric):
    Path("cameras").mkdir()
    spans = {"whole": (0, 240), "late": (120, 240), "brief": (1, 200), "nearly": (1, 239)}
    for name, (first, last) in spans.items():
        times = [f"{1_792_886_400 + 60 * minute}" for minute in range(first, last)]
        Path(f"cameras/{name}.csv").write_text("\n".join(["time", *times, ""]))
    status, out, err = orric("trace", "import-cameras", "cameras", "--output", "out")
    assert (status, err) == (0, "")
    told: dict[str, list[str]] = {}
    for line in out.splitlines():
        if " requests in " in line:
            told[line.split(":")[0]] = about = []
        elif line.startswith("  "):
            about.append(line.strip())
    assert told == {
        "whole": [],
        "late": ["begins 2 h after the first camera: no requests until then"],
        "brief": ["ends 40 min before the last camera: no requests from then on"],
        "nearly": [],
    }


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--template", "steady", "--deadline-s", 50], "for a load of 25 % on average"),
        (
            ["--template", "steady", "--deadline-s", 0.5, "--streams", 1],
            "to serve a request within a tenth of the deadline (0.05 s)",
        ),
        (["--template", "steady", "--macs-per-s", 1e8], None),
    ],
)
def test_it_is_told_which_rule_chose_the_gpu(orric, options, rule):
    status, out, err = orric("new", "edge", *options)
    assert (status, err) == (0, "")
    (line,) = (line for line in out.splitlines() if line.startswith("GPU: "))
    assert ("assumed" in line) == (rule is not None)
    assert rule is None or f"; assumed, {rule}; " in line
    assert line.removeprefix("GPU: ") in Path("edge/scenario.toml").read_text()
    # Of its own guess it does not warn; of a speed that was typed it does where the unit may be wrong.
    assert package.load_scenario("edge/scenario.toml").gpu[0].assumed is (True if rule else None)


def test_a_busy_slot_chooses_the_gpu(orric):
    Path("cameras").mkdir()
    calm = [f"{1_792_886_400 + 20 * number}" for number in range(360)]
    Path("cameras/one.csv").write_text("\n".join(["time", *calm, *[calm[-1]] * 60, ""]))
    status, out, err = orric("trace", "import-cameras", "cameras", "--deadline-s", 50, "--output", "out")
    assert (status, err) == (0, "")
    assert "assumed, for a load of 60 % in the busiest slot" in out


def test_the_folder_can_be_moved(orric, tmp_path):
    imported(orric, "--gaps", "repeat")
    Path("elsewhere").mkdir()
    Path("out").rename("elsewhere/other")
    scenario = package.load_scenario("elsewhere/other/scenario.toml")
    assert scenario.with_accuracy("onnx", "moved").profile.models is not None
    models = scenario.profile.models
    assert all(scenario.profile.beside(name).is_file() for name in (models.student, models.teacher, models.anchors))


def test_what_is_doubtful_is_refused_and_nothing_written(orric):
    assert "say where the clock hung: --zone" in refused(orric)
    line = refused(orric, "--zone", "Europe/Berlin")
    assert "gate.csv:615: column 'time': nothing for 40 min 45 s before it" in line
    assert "'Europe/Berln' is unknown" in refused(orric, "--zone", "Europe/Berln")
    assert "give a finite number > 0" in refused(orric, "--slot-s", "nan")
    assert "did you mean 'digits'" in refused(orric, "--profile", "digit")
    assert "no such file" in refused(orric, "--profile", "mine.toml")
    assert "no such folder" in refused(orric, source="nowhere")
    assert "10,000,000" in refused(orric, "--zone", "Europe/Berlin", "--gaps", "zero", "--slot-s", "0.001")


def test_a_folder_with_something_in_it_is_left_alone(orric):
    Path("out").mkdir()
    Path("out/notes.md").write_text("mine")
    assert "exists and is not empty" in refused(orric, "--zone", "Europe/Berlin", "--gaps", "zero")
    status, _, err = orric("new", "out")
    assert status == 2
    assert "exists and is not empty" in err
    assert everything() == {Path("out"), Path("out/notes.md")}


def test_names_of_cameras_are_only_names(orric):
    Path("cameras").mkdir()
    names = ['"; x = "', "a..", "<script>", "#hash", "\u6771\u53e3", "a=b", "a'b", "-rf", "COM1"]
    for name in names:
        Path("cameras", f"{name}.csv").write_text("time\n1792886400\n1792886401\n")
    imported(orric, source="cameras")
    table = tomllib.loads(Path("out/scenario.toml").read_text())
    assert sorted(stream["name"] for stream in table["stream"]) == sorted(names)
    files = [Path("out", stream["requests"]["timestamps"]) for stream in table["stream"]]
    assert all(file.parent == Path("out/requests") and file.is_file() for file in files)
    assert len(set(files)) == len(names)


def test_choices_of_the_command_line_reach_the_scenario(orric):
    own = Path("own.toml")
    own.write_text((ROOT / "traces/profiles/cifar10c-fog.toml").read_text())
    answer = imported(
        orric, "--gaps", "zero", "--slot-s", 120, "--deadline-s", 2, "--macs-per-s", 5e9, "--profile", own
    )
    scenario = package.load_scenario("out/scenario.toml")
    assert (scenario.slots, scenario.slot_s, scenario.gpu[0].macs_per_s) == (180, 120.0, 5e9)
    assert {(stream.profile, stream.deadline_s) for stream in scenario.stream} == {("../own.toml", 2.0)}
    assert not Path("out/profiles").exists()
    assert answer["macs_per_s"] == 5e9


@pytest.mark.parametrize("template", ["day", "steady", "paper"])
def test_a_new_scenario_runs_at_once(orric, template):
    status, out, err = orric("new", "edge", "--template", template, "--streams", 2)
    assert (status, err) == (0, "")
    status, out, err = orric("run", "edge/scenario.toml", "--jobs", 1, "--json")
    assert status == 0, err
    answer = json.loads(out)
    assert answer["folder"] == "results/edge"
    for one in answer["results"]:
        assert one["in_time_accuracy"] > 0.97 * one["mean_accuracy"], "the GPU is too slow for its deadline"
    text = Path("edge/scenario.toml").read_text()
    for line in text.splitlines():
        if line.startswith("["):
            above = text[: text.index(line)].rstrip().splitlines()[-1]
            assert above.startswith("#") or line == "[[stream]]"


def test_guides_that_a_new_scenario_names_are_there(orric):
    import re

    orric("new", "edge")
    named = re.findall(r"docs/[\w/]+\.md", Path("edge/scenario.toml").read_text())
    assert named
    assert all((ROOT / name).is_file() for name in named)


@pytest.mark.parametrize("profile", profile_names())
def test_every_shipped_profile_makes_a_scenario_that_loads(orric, profile):
    status, _, err = orric("new", "edge", "--profile", profile, "--streams", 1)
    assert (status, err) == (0, "")
    assert package.load_scenario("edge/scenario.toml").profile.name


@pytest.mark.parametrize("name", ["..", "a\nb", "/"])
def test_names_that_name_no_folder_are_refused(orric, name):
    status, out, err = orric("new", name)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert everything() == set()


def test_allocators_are_listed_in_80_columns(orric):
    status, out, err = orric("allocators")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for name in (*package.ALLOCATORS, "student-only", "adwin", "gain", "teacher-only", "batch-norm-only"):
        assert name in out


def test_allocators_as_json_have_a_sentence_each(orric):
    answer = json.loads(orric("allocators", "--json")[1])["allocators"]
    by_name = {one["name"]: one for one in answer}
    assert len(by_name) == len(answer)
    assert set(package.ALLOCATORS) <= set(by_name)
    for one in answer:
        assert one["sentence"].endswith(".")
        assert 20 < len(one["sentence"]) < 200
        assert "`" not in one["sentence"]
    assert by_name["cloud-retraining"]["needs"] == "a [cloud]"
    assert by_name["inference-only"]["aliases"] == ["student-only", "no-retraining"]
    assert by_name["orric"]["streams"].startswith("one stream")
    assert by_name["orric-joint"]["streams"] == "all streams together"
    # Without the detectors' package the names are there all the same.
    assert "orric[sim]" in by_name["adwin"]["needs"]


def test_allocators_of_other_packages_are_listed_even_where_they_cannot_be_loaded(monkeypatch):
    class Point:
        module, dist = "elsewhere", None

        def __init__(self, made):
            self._made = made

        def load(self):
            if isinstance(self._made, Exception):
                raise self._made
            return self._made

    class Mine(package.Orric):
        """Do as one likes; see `Orric`."""

    points = {"mine": Point(Mine), "broken": Point(ImportError("no\nsuch thing"))}
    monkeypatch.setattr("orric.allocators.listing._installed", lambda: points)
    found = {one.name: one for one in listed()}
    assert (found["mine"].sentence, found["mine"].package) == ("Do as one likes.", "elsewhere")
    assert found["broken"].sentence == "Cannot be loaded: ImportError: no such thing"


def commands():
    """Yield the words of every command and group."""

    def below(command, words):
        yield words
        for name, one in getattr(command, "commands", {}).items():
            yield from below(one, [*words, name])

    return list(below(typer.main.get_command(app), []))


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_takes_h(orric, words):
    for option in ("-h", "--help"):
        status, out, _ = orric(*words, option)
        assert status == 0
        assert out.startswith(f"Usage: {' '.join(['orric', *words])}")


def completed(orric, monkeypatch, line):
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    monkeypatch.setenv("_ORRIC_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    status, out, _ = orric()
    assert status == 0
    return out.split()


def test_the_shell_completes_what_commands_take(orric, monkeypatch):
    Path("scenarios").mkdir()
    Path("scenarios/one.toml").touch()
    Path("scenarios/one.csv").touch()
    Path("two.toml").touch()
    Path("two.csv").touch()
    assert "run" in completed(orric, monkeypatch, "orric r")
    assert completed(orric, monkeypatch, "orric run ") == ["scenarios/", "two.toml"]
    assert completed(orric, monkeypatch, "orric run sc") == ["scenarios/one.toml"]
    assert completed(orric, monkeypatch, "orric run nowhere/x") == []
    assert completed(orric, monkeypatch, "orric sweep tw") == ["two.toml"]
    assert completed(orric, monkeypatch, "orric serve tw") == ["two.toml"]
    assert completed(orric, monkeypatch, "orric evaluate --trace tw") == ["two.csv"]
    assert completed(orric, monkeypatch, "orric evaluate --allocator orric-g") == ["orric-guided"]
    assert completed(orric, monkeypatch, "orric evaluate --allocator gain+thi") == ["gain+thief"]
    assert completed(orric, monkeypatch, "orric new --profile dig") == ["digits"]
    assert "azure-functions" in completed(orric, monkeypatch, "orric trace import x --format azure-f")
    assert completed(orric, monkeypatch, "orric run --accuracy ta") == ["table"]
    assert completed(orric, monkeypatch, "orric new --template p") == ["paper"]


def test_the_written_scenario_is_the_same_every_time(orric):
    first = imported(orric, "--gaps", "zero", "--spread", "poisson", "--seed", 3)
    text = {path: path.read_bytes() for path in Path("out").rglob("*.*")}
    Path("out").rename("before")
    assert imported(orric, "--gaps", "zero", "--spread", "poisson", "--seed", 3) == first
    assert {path: path.read_bytes() for path in Path("out").rglob("*.*")} == text
    assert np.sum([camera["requests"] for camera in first["cameras"]]) == first["requests"]
