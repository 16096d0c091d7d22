"""What a sweep says of single points and of pairs of axes, held against plain computations of the same."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from orric.report.sweep_tables import verdict
from orric.report.sweep_words import sweep_sentences
from orric.statistics import difference_p, difference_ps, foremost, holm, over_seeds, rows_over_seeds
from orric.sweep import Sweep, on_cores, run_sweep
from orric.sweep.figures import Figures
from orric.sweep.interactions import interactions
from orric.sweep.points import points_frame, tally, winners_frame
from orric.sweep.summary import known_measures, summarised

from .conftest import SCENARIO

ONE = on_cores(1)
NAMES = ("orric", "inference-only", "focus-shift", "uniform-50")
AXES = [
    {"key": "gpu.1.budget.high", "name": "budget", "values": [1.0, 0.3, 0.5]},
    {"key": "slots", "name": "horizon", "values": [3, 6]},
    {"key": "stream.1.requests", "name": "load", "labels": ["few", "many"],
     "values": [{"kind": "constant", "per_slot": 100}, {"kind": "uniform", "low": 500, "high": 1500}]},
]  # fmt: skip


def numbers(*values: float | None) -> list[float]:
    """Return values of a file, in which what is unknown is None."""
    return [np.nan if one is None else one for one in values]


@pytest.fixture
def swept(write, tmp_path: Path):
    """Return a sweep over three axes, and its runs."""
    sweep = Sweep.load(write(axis=AXES, allocators=list(NAMES), baseline="inference-only", seeds=5))
    return sweep, run_sweep(sweep, tmp_path / "out", ONE).table


@pytest.mark.parametrize("pilot", [None, 4])
def test_intervals_of_many_rows_are_those_of_each(pilot: int | None) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(6, 9))
    values[1] = 0.25
    values[2, 3:] = np.nan
    values[3, 1:] = np.nan
    values[4] = np.nan
    values[5] = 0.0
    found, chances = rows_over_seeds(values, pilot), difference_ps(values, pilot)
    for row, one in enumerate(values):
        alone = over_seeds(one, pilot=pilot)
        told = [float(part[row]) for part in found]
        assert told == pytest.approx([alone.mean, alone.low, alone.high, alone.count], nan_ok=True)
        assert chances[row] == pytest.approx(difference_p(one, pilot), nan_ok=True)


def test_the_preferred_comes_first_of_those_that_tie_and_nobody_where_nobody_is_known() -> None:
    assert foremost({"a": 0.9, "orric": 0.8996}, "orric") == "orric"
    assert foremost({"a": 0.9, "orric": 0.8994}, "orric") == "a"
    assert foremost({"a": 0.9, "b": 0.95}, "orric", ("b",)) == "a"
    assert foremost({"a": float("nan")}, "orric") is None


def test_every_measure_of_every_point_has_its_interval(swept) -> None:
    sweep, table = swept
    told, frame = summarised(sweep, table)["by_point"], table.to_pandas()
    assert len(told) == 12
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    for point, line in itertools.product((1, 8), NAMES):
        one = told[point - 1]
        assert one["point"] == point
        rows = frame[(frame.point == point) & (frame.allocator == line)]
        assert list(one["values"].items()) == [(name, rows[name].iloc[0]) for name in ("budget", "horizon", "load")]
        for measure in ("mean_accuracy", "budget_used", "macs_per_request", "shed"):
            values = rows[measure].to_numpy()
            mean = one["means"][line][measure]
            assert (mean["mean"], mean["count"]) == (pytest.approx(values.mean()), 5)
            if np.ptp(values) == 0 and values[0] != 0:  # no seed changes it
                assert (mean["low"], mean["high"]) == (None, None)
                continue
            reach = stats.t.ppf(0.975, 4) * values.std(ddof=1) / np.sqrt(5)
            assert mean["high"] - mean["low"] == pytest.approx(2 * reach, rel=1e-9, abs=1e-12)
        assert "latency_p99_s" not in one["means"][line]
    figures = Figures(sweep, table)
    known = known_measures(figures)
    points = points_frame(figures, known, frame[["point", "budget", "horizon", "load", "allocator"]])
    assert len(points) == 12 * 4
    row = points[(points.point == 8) & (points.allocator == "focus-shift")].iloc[0]
    assert (row["seeds"], row["mean_accuracy_low"]) == (
        5,
        told[7]["means"]["focus-shift"]["mean_accuracy"]["low"],
    )


def test_the_best_of_a_point_is_held_against_the_next_seed_by_seed(swept) -> None:
    sweep, table = swept
    summary, frame = summarised(sweep, table), table.to_pandas()
    chances = []
    for one in summary["by_point"]:
        rows = frame[frame.point == one["point"]].pivot_table(index="seed", columns="allocator", values="mean_accuracy")
        winner = one["winner"]
        means = rows.mean()
        assert winner["best"] == foremost(means.to_dict(), "orric")
        same = {name for name in NAMES if np.allclose(rows[name], rows[winner["best"]], atol=1e-12)}
        assert {winner["best"], *winner["same"]} == same
        assert winner["runner_up"] == means.drop([*same]).idxmax()
        apart = (rows[winner["best"]] - rows[winner["runner_up"]]).to_numpy()
        assert winner["mean"] == pytest.approx(apart.mean())
        own = over_seeds(apart)
        assert numbers(winner["low"], winner["high"]) == pytest.approx([own.low, own.high], nan_ok=True)
        chances.append(difference_p(apart))
    told = numbers(*(one["winner"]["p_holm"] for one in summary["by_point"]))
    assert told == pytest.approx(holm(chances), nan_ok=True)
    assert {one["winner"]["beyond_chance"] for one in summary["by_point"]} == {True, False}
    told = summary["winners"]
    assert told == tally([one["winner"] for one in summary["by_point"]])
    assert sum(told["ahead"].values()) == told["beyond_chance"]
    assert told["points"] == 12
    figures = Figures(sweep, table)
    winners = winners_frame(figures, figures.winners(figures.of("mean_accuracy")), frame[["point", "budget"]])
    assert winners["best"].tolist() == [one["winner"]["best"] for one in summary["by_point"]]
    assert winners["point"].tolist() == list(range(1, 13))


def test_a_pair_of_axes_has_the_means_over_the_points_of_both_values(swept) -> None:
    sweep, table = swept
    summary, frame = summarised(sweep, table), table.to_pandas()
    pairs = summary["interactions"]
    assert {tuple(pair["axes"]) for pair in pairs} == {("budget", "horizon"), ("budget", "load"), ("horizon", "load")}
    assert [pair["interaction"] for pair in pairs] == sorted((pair["interaction"] for pair in pairs), reverse=True)
    for pair in pairs:
        one, other = pair["axes"]
        for cell in pair["cells"]:
            rows = frame[(frame[one] == cell["values"][0]) & (frame[other] == cell["values"][1])]
            assert cell["points"] == rows.point.nunique()
            by_seed = rows.pivot_table(index="seed", columns="allocator", values="mean_accuracy")
            for line in NAMES:
                assert cell["means"][line]["mean"] == pytest.approx(by_seed[line].mean())
            apart = over_seeds((by_seed["orric"] - by_seed["inference-only"]).to_numpy())
            assert numbers(cell["differences"]["orric"]["low"]) == pytest.approx([apart.low], nan_ok=True)
            assert cell["winner"]["best"] == foremost(by_seed.mean().to_dict(), "orric")
    assert summary["interactions_left_out"] == []


def test_of_many_pairs_those_are_told_that_do_most_together(swept, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Figures(*swept)
    every, _ = interactions(figures, "mean_accuracy")
    monkeypatch.setattr("orric.sweep.interactions.MOST_PAIRS", 1)
    kept, left_out = interactions(figures, "mean_accuracy")
    assert kept == every[:1]
    assert left_out == [" x ".join(pair["axes"]) for pair in every[1:]]
    monkeypatch.setattr("orric.sweep.interactions.MOST_CELLS", 4)
    kept, left_out = interactions(figures, "mean_accuracy")
    assert [pair["axes"] for pair in kept] == [["horizon", "load"]]
    assert left_out == ["budget x horizon", "budget x load"]


def test_what_is_a_sum_of_two_axes_is_no_interaction() -> None:
    from orric.sweep.interactions import _interaction

    rows, columns = np.arange(4.0)[:, None], np.array([[3.0, -1.0, 7.0]])
    assert _interaction(rows + columns) == pytest.approx(0, abs=1e-12)
    assert _interaction(rows * columns) > 1
    some = rows + columns
    some[2, 1] = np.nan
    assert _interaction(some) == pytest.approx(0, abs=1e-6)


def test_seeds_that_change_nothing_say_nothing_of_chance(write, tmp_path: Path) -> None:
    """Two runs that are the same to the last digit were told as +48.62 to +48.62, beyond chance."""
    scenario = tmp_path / "scenario.toml"
    path = write(axis=[{"key": "slots", "values": [6, 12]}], seeds=3)
    fixed = SCENARIO.replace('"uniform", low = 0.2, high = 1.0', '"constant", fraction = 0.6')
    scenario.write_text(fixed.replace('"uniform", low = 500, high = 1500', '"constant", per_slot = 1000'))
    sweep = Sweep.load(path)
    table = run_sweep(sweep, tmp_path / "out", ONE).table
    summary = summarised(sweep, table)
    assert summary["alike"] == ["orric", "inference-only"]
    apart = summary["differences"]["inference-only"]
    assert abs(apart["mean"]) > 0.01, "allocators that differ"
    assert {apart[name] for name in ("low", "high", "bootstrap_low", "bootstrap_high", "p_holm")} == {None}
    assert not apart["beyond_chance"]
    for one in summary["by_point"]:
        assert (one["winner"]["low"], one["winner"]["p_holm"]) == (None, None)
        assert (one["means"]["orric"]["mean_accuracy"]["low"], verdict(one["winner"])) == (None, "one run")
    told = " ".join(sweep_sentences({**summary, "allocators": list(sweep.lines)}, table.to_pandas()))
    assert "One run at each point: seeds change nothing here, all 3 give the same." in told
    assert "Intervals" not in told
    assert "beyond chance" not in told


def test_one_allocator_that_seeds_do_not_change_is_named(write, tmp_path: Path) -> None:
    path = write(seeds=3)
    scenario = tmp_path / "scenario.toml"
    scenario.write_text(SCENARIO.replace('"uniform", low = 500, high = 1500', '"constant", per_slot = 400'))
    sweep = Sweep.load(path)
    table = run_sweep(sweep, tmp_path / "out", ONE).table
    summary = summarised(sweep, table)
    assert summary["alike"] == ["inference-only"]
    assert summary["differences"]["inference-only"]["low"] is not None, "the other varies, and so does the difference"
    told = sweep_sentences({**summary, "allocators": list(sweep.lines)}, table.to_pandas())
    assert any(one.startswith("Seeds change nothing for inference-only") for one in told)
    assert any(one.startswith("Intervals are over 3 seeds") for one in told)


DEADLINE = 'requests = { kind = "uniform", low = 500, high = 1500 }'

LATE = f"{DEADLINE}\ndeadline_s = 5.0"


@pytest.mark.parametrize(
    ("engine", "scenario", "axis", "leading"),
    [
        ("simulator", DEADLINE, {"key": "slots", "values": [6, 12]}, "mean_accuracy"),
        ("simulator", LATE, {"key": "slots", "values": [6]}, "in_time_accuracy"),
        ("simulator", LATE, {"key": "stream.*.deadline_s", "values": [1.0]}, "in_time_accuracy"),
        ("simulator", DEADLINE, {"key": "stream.1.deadline_s", "values": [1.0, 9.0]}, "in_time_accuracy"),
        ("slot-model", LATE, {"key": "slots", "values": [6]}, "mean_accuracy"),
    ],
)  # fmt: skip
def test_where_there_are_deadlines_what_counts_is_in_time(
    write, tmp_path: Path, engine: str, scenario: str, axis: dict, leading: str
) -> None:
    text = (tmp_path / "scenario.toml").read_text()
    (tmp_path / "scenario.toml").write_text(text.replace(DEADLINE, scenario))
    assert Sweep.load(write(engine=engine, axis=[axis])).leading == leading


def test_everything_is_ranked_by_what_leads(write, tmp_path: Path) -> None:
    text = (tmp_path / "scenario.toml").read_text()
    (tmp_path / "scenario.toml").write_text(text.replace(DEADLINE, f"{DEADLINE}\ndeadline_s = 2.0"))
    sweep = Sweep.load(write(engine="simulator", seeds=2))
    table = run_sweep(sweep, tmp_path / "out", ONE).table
    frame, summary = table.to_pandas(), summarised(sweep, table)
    assert (frame.in_time_accuracy < frame.mean_accuracy - 0.01).any(), "deadlines that matter"
    by_seed = frame.pivot_table(index="seed", columns="allocator", values="in_time_accuracy")
    apart = (by_seed["inference-only"] - by_seed["orric"]).mean()
    assert summary["leading"] == "in_time_accuracy"
    precise = Sweep.load(write(engine="simulator", seeds=None, precision={"half_width": 0.1}))
    assert precise.made_precise == "in_time_accuracy"
    assert Sweep.load(write(seeds=None, precision={"half_width": 0.1})).made_precise == "mean_accuracy"
    assert summary["differences"]["inference-only"]["mean"] == pytest.approx(apart)
    first = frame[frame.point == 1].groupby("allocator").in_time_accuracy.mean()
    assert summary["by_point"][0]["winner"]["best"] == foremost(first.to_dict(), "orric")
    assert summary["axes"][0]["means"]["orric"]["mean"] == pytest.approx(
        frame[(frame.budget == 0.5) & (frame.allocator == "orric")].in_time_accuracy.mean()
    )
