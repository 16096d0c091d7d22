"""The commands of competitive analysis on the profile of digits: keys, workers, interruptions, traces that replay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import orric as package

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "traces/profiles/digits.toml"
TIGHT = ROOT / "traces/workloads/tight.csv"
WORST = ROOT / "traces/workloads/worst-orric-digits.csv"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Enter a folder of its own."""
    monkeypatch.chdir(tmp_path)


def about(profile=DIGITS, trace=TIGHT):
    return ("--profile", profile, "--trace", trace)


def test_optimum_answers_with_the_documented_keys_and_verifies(orric):
    status, out, _ = orric("optimum", *about(), "--gap", "1e-6", "--certificate", "c", "--json")
    answer = json.loads(out)
    assert status == 0
    assert {"lower", "upper", "gap", "allocations", "seconds"} <= set(answer)
    assert answer["gap"] == pytest.approx((answer["upper"] - answer["lower"]) / answer["upper"])
    assert 0 <= answer["gap"] <= 1e-6
    assert set(answer["allocations"][0]) == {"slot", "stream", "retraining", "inference"}
    status, out, _ = orric("verify", "c", *about(), "--json")
    assert status == 0
    assert json.loads(out)["upper"] == answer["upper"]
    assert orric("verify", "c")[1].startswith("verified: the offline optimum lies between")


def test_the_exact_optimum_lies_in_the_interval(orric):
    exact = json.loads(orric("optimum", *about(trace=WORST), "--exact", "--json")[1])
    interval = json.loads(orric("optimum", *about(trace=WORST), "--json")[1])
    assert exact["gap"] == 0
    assert interval["lower"] * (1 - 1e-12) <= exact["lower"] <= interval["upper"]


def test_ratio_answers_with_the_documented_keys(orric):
    status, out, _ = orric("ratio", *about(), "--allocator", "inference-only", "--json", "--output", "lost.png")
    answer = json.loads(out)
    assert status == 0
    assert {"value", "ratio", "bounds"} <= set(answer)
    assert set(answer["ratio"]) == {"low", "high"}
    assert {"theorem2", "theorem3", "theorem4", "corollary1_slots", "crossing_slots"} <= set(answer["bounds"])
    assert answer["bounds"]["theorem2"] <= answer["ratio"]["low"] <= answer["ratio"]["high"] <= 1
    assert answer["regret"]["low"] <= sum(answer["losses"]) + 1e-6 <= answer["regret"]["high"] + 1
    assert Path("lost.png").read_bytes().startswith(b"\x89PNG")


def test_ensembles_do_not_depend_on_the_number_of_workers(orric):
    command = ("ratio", *about(), "--ensemble", 60, "--seed", 3, "--json", "--jobs")
    one, two = (json.loads(orric(*command, jobs)[1]) for jobs in (1, 2))
    assert one == two
    assert one["ratios"]["orric"]["worst"]["high"] <= one["ratios"]["orric"]["mean"]["high"]


def test_horizons_give_proved_and_measured_ratios(orric):
    status, out, _ = orric("ratio", *about(), "--horizons", "2:20", "--evaluations", 80, "--json", "--output", "f.png")
    assert status == 0
    rows = json.loads(out)["horizons"]
    assert [row["slots"] for row in rows][:: len(rows) - 1] == [2, 20]
    for row in rows:
        assert row["bounds"]["theorem4"] <= row["worst"]["orric"]["high"] <= 1
        assert row["bounds"]["theorem2"] <= row["worst"]["inference-only"]["high"] <= 1
    assert Path("f.png").read_bytes().startswith(b"\x89PNG")


def test_the_worst_trace_found_replays_to_the_same_ratio(orric):
    search = ("--slots", 4, "--requests", "500:1000", "--restarts", 2, "--evaluations", 300, "--output", "w.csv")
    status, out, _ = orric("adversary", "--profile", DIGITS, *search, "--json", "--jobs", 1)
    answer = json.loads(out)
    assert status == 0
    assert json.loads(Path("w.json").read_text()) == answer
    replayed = json.loads(orric("ratio", *about(trace="w.csv"), "--gap", "1e-8", "--json")[1])
    assert replayed["value"] == answer["value"]
    assert replayed["ratio"]["high"] == pytest.approx(answer["ratio"]["high"], rel=1e-9)
    assert len(list(Path("w.search").glob("restart-*.jsonl"))) == 2
    assert json.loads(orric("adversary", "--profile", DIGITS, *search, "--json", "--jobs", 2)[1]) == answer


def test_a_searched_curve_is_saved_beside_the_trace(orric):
    search = ("--slots", 3, "--restarts", 1, "--evaluations", 100, "--curves", "--output", "w.csv")
    status, out, _ = orric("adversary", "--profile", DIGITS, *search, "--json")
    assert status == 0
    found, given = package.Profile.load("w.toml"), package.Profile.load(DIGITS)
    assert float(found.curve(0.0)) == pytest.approx(float(given.curve(0.0)))
    assert float(found.curve(1.0)) == pytest.approx(float(given.curve(1.0)))
    replayed = json.loads(orric("ratio", *about("w.toml", "w.csv"), "--json")[1])
    assert replayed["ratio"]["high"] == pytest.approx(json.loads(out)["ratio"]["high"], rel=1e-6)


def test_an_interrupted_search_keeps_its_worst_trace(tmp_path):
    command = [sys.executable, "-m", "orric", "adversary", "--profile", str(DIGITS), "--evaluations", "1000000"]

    def heed():
        # Whoever runs the tests in the background may have them ignore SIGINT, and children inherit that.
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as run:
        logs = tmp_path / "worst-orric.search"
        while run.poll() is None and not any(log.read_text().count("\n") > 1 for log in logs.glob("*.jsonl")):
            os.sched_yield()
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=120)
    assert run.returncode == 130
    assert err == "orric: interrupted; the worst trace so far is in worst-orric.csv\n"
    answer = json.loads((tmp_path / "worst-orric.json").read_text())
    assert answer["interrupted"]
    trace = package.Trace.load(tmp_path / "worst-orric.csv")
    value = package.evaluate(package.Profile.load(DIGITS), trace, package.Orric()).value
    assert value == pytest.approx(answer["value"], rel=1e-12)


def test_games_answer_alike_for_any_workers_and_draw_a_figure(orric):
    asked = ("game", "--profile", DIGITS, "--slots", 2, "--levels", 3, "--starts", "0.5,0.7", "--floors", "0.1,0.5")
    status, out, _ = orric(*asked, "--json", "--jobs", 1)
    assert status == 0
    assert orric(*asked, "--json", "--jobs", 2, "--output", "game.png")[:2] == (0, out)
    assert Path("game.png").read_bytes().startswith(b"\x89PNG")
    games = json.loads(out)["games"]
    assert [(row["shape"]["floor"], row["shape"]["start"]) for row in games] == [
        (0.1, 0.5), (0.1, 0.7), (0.5, 0.5), (0.5, 0.7)
    ]  # fmt: skip
    for row in games:
        assert row["proved"] <= row["ratios"]["orric"] <= row["without_chance"]["high"] + 1e-9
        assert row["without_chance"]["low"] <= row["best"]["high"] + 1e-9
    table = orric(*asked, "--allocator", "thief", "--jobs", 1)[1]
    assert "thief" in table
    assert "orric-line" not in table


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--starts", "half"), "--starts: found 'half'; give numbers, by commas"),
        (("--starts", "1.5"), "game: start: found 1.5; give numbers in (0, 1)"),
        (("--spreads", "0.5"), "game: spread: found 0.5; give numbers at least 1, finite"),
        (("--slots", "5", "--levels", "9", "--spreads", "2"), "plays, and 500,000 can be solved; take fewer"),
        (("--output", "game.pdf"), "is not named as a picture; give a name that ends in .png"),
        (("--allocator", "nobody"), "nobody"),
    ],
)
def test_games_that_cannot_be_played_are_refused_in_one_line(orric, options, told):
    status, out, err = orric("game", "--profile", DIGITS, *options)
    assert status == 2
    assert not out
    assert told in err
    assert err.count("\n") == 1
    assert not list(Path().iterdir())
