"""The script of the paper's experiment, in small and on made-up pictures; results: docs/background/paper.md."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch")

from orric.drift import SEVERITIES

from .builders import ROOT
from .vision import layouts


@pytest.fixture(scope="module")
def paper() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("paper_cifar10c", ROOT / "simulations/paper_cifar10c.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_budgets_are_the_published_ones_in_passes_of_the_networks(paper: ModuleType) -> None:
    profile = paper.profile_for("fog", ROOT / "traces/profiles", None)
    scenario = paper.scenario_for("snow", profile)
    budgets = scenario.budgets_macs(3)
    student = max(one.cost_macs for one in profile.inference)
    assert 1000 * student <= budgets.min() * (1 + 1e-9)
    assert budgets.min() < 5000 * student
    assert 900 * profile.teacher.cost_macs < budgets.max() <= 1000 * profile.teacher.cost_macs
    assert scenario.requests(3).tolist() == [1000.0] * 50
    drift = scenario.stream[0].drift.by_slot(50, 3)
    assert set(drift.corruptions) == {"snow"}
    assert drift.severities.tolist() == sorted(list(SEVERITIES) * 10)
    assert np.isclose(paper.interval([1.0, 2.0, 3.0])[1], 4.303 / np.sqrt(3), rtol=1e-3)


def test_the_whole_script_on_made_up_pictures(
    paper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layouts, "CLASSES", tuple("abcdefghij"))
    monkeypatch.setattr(layouts, "PER_BATCH", 40)
    monkeypatch.setattr(layouts, "TESTED", 60)
    (tmp_path / "data").mkdir()
    layouts.write_binary(tmp_path / "data")
    made = paper.scenario_for

    def small(corruption, profile):
        scenario = made(corruption, profile)
        stream = scenario.stream[0]
        requests = stream.requests.model_copy(update={"per_slot": 20})
        gpu = scenario.gpu[0].model_copy(update={"macs_per_s": scenario.gpu[0].macs_per_s / 50})
        changed = scenario.model_copy(
            update={"slots": 10, "gpu": (gpu,), "stream": (stream.model_copy(update={"requests": requests}),)}
        )
        changed._profiles = scenario._profiles
        return changed

    monkeypatch.setattr(paper, "scenario_for", small)
    monkeypatch.setattr(paper, "STILL_IMAGES", 20)
    monkeypatch.setattr(paper, "FIRST_SEED", (paper.CLEAN_TEACHER, "retraining-greedy"))
    output = tmp_path / "out"
    arguments = ["--data", str(tmp_path / "data"), "--seeds", "2", "--corruptions", "fog,contrast", "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["paper_cifar10c.py", *arguments, "--output", str(output)])
    paper.main()
    first = capsys.readouterr().out
    told = json.loads((output / "summary.json").read_text())
    assert told["corruptions"] == 2
    assert set(told["means"]) == {*paper.EVERY_SEED, paper.CLEAN_TEACHER, "retraining-greedy"}
    assert set(told["orric over student-only"]["by_corruption"]) == {"fog", "contrast"}
    assert "published 69.19" in first
    for name in ("figure3a.png", "figure3b.png"):
        assert (output / name).stat().st_size > 10_000
    assert len(list((output / ".runs.measured").iterdir())) == 2 * 2 + 2
    # What is finished is not run again.
    monkeypatch.setattr(paper, "streams", None)
    paper.main()
    assert json.loads((output / "summary.json").read_text()) == told


def test_the_table_has_the_layout_of_table_iii(paper: ModuleType) -> None:
    resolutions = {str(px): 50.0 + px for px in paper.RESOLUTIONS_PX}
    still = {"student": resolutions, "teacher": resolutions}
    runs = [
        {"corruption": c, "seed": 1, "still": still, "lines": {line: {"mean": 60.0} for line in paper.EVERY_SEED}}
        for c in paper.CORRUPTIONS
    ]
    clean = {role: {"mmacs": resolutions, "accuracy": resolutions} for role in ("student", "teacher")}
    rows = paper.table_rows(runs, clean)
    with (ROOT / "traces/published/orric_table3.csv").open(newline="") as file:
        published = list(csv.reader(file))
    assert rows[0][4:-1] == published[0][5:-1]
    given = next(row for row in rows if row[:2] == ["published MobileNetV2", "32"])
    assert given[4:-1] == published[4][5:-1]
    assert float(given[-1]) == pytest.approx(65.87, abs=0.01)
    assert [row[0] for row in rows[-4:]] == list(paper.EVERY_SEED)


def test_bad_input_gets_one_line(paper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, expected in (
        (["--data", str(tmp_path / "nowhere")], "nowhere"),
        (["--corruptions", "fogg"], "did you mean 'fog'"),
        (["--profiles", str(tmp_path)], "no such file"),
    ):
        monkeypatch.setattr(sys, "argv", ["paper_cifar10c.py", "--output", str(tmp_path / "out"), *arguments])
        with pytest.raises(SystemExit) as stop:
            paper.main()
        assert expected in str(stop.value.code)
        assert "\n" not in str(stop.value.code)
    assert not (tmp_path / "out").exists()
