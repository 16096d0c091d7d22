"""orric ratio on scenarios, and the report of an ensemble."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import orric as package
from orric.competitive.study import ends_of, ensemble
from orric.report.ensemble import ensemble_sentences

from ..browser import CHROMIUM, browser
from ..builders import build_profile, write_profile
from ..sweep.conftest import SCENARIO


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder with a small scenario."""
    monkeypatch.chdir(tmp_path)
    write_profile(build_profile(), tmp_path / "small.toml")
    (tmp_path / "scenario.toml").write_text(SCENARIO)
    return Path("scenario.toml")


def test_a_scenario_gives_profile_trace_seed_and_allocators(orric, scenario: Path) -> None:
    scenario.write_text(SCENARIO.replace("slots = 12", "slots = 12\nseed = 7"))
    status, out, err = orric("ratio", "--scenario", scenario, "--json")
    assert (status, err) == (0, "")
    found = {one["allocator"]: one for one in json.loads(out)["results"]}
    assert list(found) == ["orric", "inference-only"]
    loaded = package.load_scenario(scenario)
    best = package.offline_optimum(loaded.profile, loaded.trace(7), 1e-6, overload="shed")
    for name, one in found.items():
        result = package.evaluate(
            loaded.profile, loaded.trace(7), package.make_allocator(name), overload="shed", seed=7
        )
        ratio = package.competitive_ratio(result, best)
        assert (one["ratio"]["low"], one["ratio"]["high"]) == (ratio.low, ratio.high)
    other = json.loads(orric("ratio", "--scenario", scenario, "--allocator", "orric", "--seed", 8, "--json")[1])
    assert other["ratio"] != found["orric"]["ratio"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ((), "give --profile and --trace, or --scenario"),
        (("--profile", "small.toml"), "give --profile and --trace, or --scenario"),
        (("--scenario", "scenario.toml", "--profile", "small.toml"), "--scenario and --profile or --trace together"),
        (("--scenario", "two.toml"), "two.toml: holds 2 streams and 1 GPUs; nobody knows the optimum of several"),
        (("--scenario", "none.toml"), "none.toml"),
    ],
)
def test_what_no_ratio_can_be_measured_on_is_refused_in_a_line(orric, scenario: Path, options, told: str) -> None:
    stream = SCENARIO[SCENARIO.index("[[stream]]") :]
    Path("two.toml").write_text(SCENARIO + stream.replace("camera-1", "camera-2"))
    status, out, err = orric("ratio", *options)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err


ENSEMBLE = ("--ensemble", 30, "--allocator", "orric", "--allocator", "inference-only", "--jobs", 1, "--seed", 3)


@pytest.fixture
def pair(scenario: Path) -> tuple[str, ...]:
    """Return the options of a profile and a trace no slot of which is overloaded."""
    rng = np.random.default_rng(1)
    requests, budgets = rng.integers(100, 1000, 8).astype(float), rng.uniform(1e9, 1.2e10, 8)
    package.Trace(requests=requests, budget_macs=budgets).save("trace.csv")
    return "--profile", "small.toml", "--trace", "trace.csv"


def test_an_ensemble_leaves_a_folder_whose_worst_traces_replay(orric, pair) -> None:
    status, out, err = orric("ratio", *pair, *ENSEMBLE, "--output", "found", "--json")
    assert (status, err) == (0, "")
    answer = json.loads(out)
    folder = Path("found")
    table = json.loads((folder / "ratios.json").read_text())
    assert {path.name for path in folder.iterdir()} >= {
        "report.html", "ratios.json", "ratios.csv", "distribution.svg", "distribution.png", "bounds.svg",
        "worst-orric.csv", "worst-inference-only.csv",
    }  # fmt: skip
    rows = list(csv.DictReader((folder / "ratios.csv").read_text().splitlines()))
    assert len(rows) == 30
    for name in ("orric", "inference-only"):
        high = [float(row[f"{name} high"]) for row in rows]
        worst = answer["ratios"][name]["worst"]
        assert (min(high), int(np.argmin(high))) == (worst["high"], worst["number"])
        again = json.loads(
            orric("ratio", *pair[:2], "--trace", folder / f"worst-{name}.csv", "--allocator", name, "--json")[1]
        )
        assert again["ratio"]["high"] == pytest.approx(worst["high"], rel=1e-5)
    assert answer["conclusion"] == table["conclusion"]
    told = shlex.split(table["command"])
    assert told[:2] == ["orric", "ratio"]
    assert json.loads(orric(*told[1:], "--json")[1])["ratios"] == answer["ratios"]


def test_what_an_ensemble_says_is_what_was_measured(pair) -> None:
    profile, trace = package.Profile.load("small.toml"), package.Trace.load("trace.csv")
    names = ("orric", "inference-only")
    found = ensemble(profile, package.TraceRange.of(trace), names, 20, seed=3, jobs=1)
    sentences = " ".join(ensemble_sentences(found, package.bounds(profile, trace)))
    rows = ends_of(found)
    best = max(names, key=lambda name: rows[name]["worst"]["high"])
    assert re.match(rf"On 20 random traces of 8 slots (ORRIC|{best}) earns ", sentences)
    for name in names:
        low = np.floor(rows[name]["worst"]["low"] * 1e4 + 1e-6) / 1e4
        assert f"{low:.4f}" in sentences
    assert "Theorem 2" in sentences


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_report_of_an_ensemble_opens_in_a_browser(orric, pair, tmp_path: Path) -> None:
    assert orric("ratio", *pair, *ENSEMBLE, "--output", "found")[0] == 0
    with browser(tmp_path) as page:
        for width in (1280, 400):
            page.open(tmp_path / "found/report.html", width)
            assert page.value("document.body.dataset.ready") == "true"
            assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("document.images.length") == 2
        assert page.errors == []
