"""Heat maps of a sweep, what they say, and the page in which a reader chooses among them."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pandas
import pytest

from orric.report.sweep_heat import heat_map, where_best
from orric.report.sweep_page import sweep_figures, sweep_page
from orric.report.sweep_words import sweep_sentences
from orric.sweep import Sweep, on_cores, run_sweep
from orric.sweep.summary import summarised

from ..browser import CHROMIUM, browser
from ..builders import ROOT

READY = ROOT / "simulations/sweeps/budget-drift-horizon.toml"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], pandas.DataFrame]:
    """Return what a sweep over three axes with ratios says, and its runs."""
    folder = tmp_path_factory.mktemp("swept")
    text = READY.read_text().replace("seeds = 30", "seeds = 4\n[ratio]").replace("[5, 20, 100, 500]", "[5, 20]")
    (folder / "sweep.toml").write_text(text.replace('"../', f'"{ROOT}/simulations/'))
    sweep = Sweep.load(folder / "sweep.toml")
    outcome = run_sweep(sweep, folder / "out", on_cores(1))
    summary = {
        "sweep": sweep.name, "note": sweep.note, "command": "orric sweep FILE", "engine": sweep.engine,
        "allocators": list(sweep.lines), "axis_titles": [axis.title for axis in sweep.axis], "runs": outcome.runs,
        "failed": 0, "versions": {"numpy": "2.0"}, "cases": {}, **summarised(sweep, outcome.table),
    }  # fmt: skip
    return json.loads(json.dumps(summary, allow_nan=False)), outcome.table.to_pandas()


def test_a_map_names_its_axes_and_has_one_panel_for_each_allocator_that_differs(swept) -> None:
    summary, _ = swept
    for pair in summary["interactions"]:
        figure = heat_map(pair, summary)
        titles = " ".join(axes.get_title(loc="left") for axes in figure.axes)
        for line in summary["allocators"]:
            assert line in titles
        assert "orric = inference-greedy" in titles
        labels = {axes.get_xlabel() for axes in figure.axes} | {axes.get_ylabel() for axes in figure.axes}
        assert set(pair["axes"]) <= labels
        assert " ".join(figure.get_suptitle().split()) == where_best(pair, summary).replace(" %", "\u00a0%")


def cell(values: list[Any], best: str | None, mean: float = 0.02, tie: bool = False) -> dict[str, Any]:
    winner = {"best": best, "mean": mean, "tie": tie, "beyond_chance": True, "p_holm": 0.01}
    return {"values": values, "winner": None if best is None else winner}


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ([cell([1, "x"], "orric"), cell([2, "x"], "orric", 0.05)],
         "ORRIC is best whatever a and b: 2.0 to 5.0 points above the next"),
        ([cell([1, "x"], "orric"), cell([1, "y"], "thief"), cell([2, "y"], "thief"), cell([2, "x"], "orric")],
         "The best changes with a and b: ORRIC at 2 of 4, thief at 2 (all at b y)"),
        ([cell([1, "x"], "orric"), cell([2, "x"], "orric"), cell([2, "y"], "thief")],
         "The best changes with a and b: ORRIC at 2 of 3, thief at 1 (a 2, b y)"),
        ([cell([1, "x"], "orric"), cell([2, "x"], "orric", 0.0001, tie=True)],
         "ORRIC is best, by 2.0 points at most, and level with the next at 1 of 2 values of a and b"),
        ([cell([1, "x"], "orric", 0.0, tie=True)], "Nobody leads the next by more than 0.05 points, whatever a and b"),
        ([cell([1, "x"], None)], "Mean accuracy over a and b"),
    ],
)  # fmt: skip
def test_a_title_says_where_the_best_changes(cells, told: str) -> None:
    assert where_best({"axes": ["a", "b"], "cells": cells}, {}) == told


def test_cells_that_nobody_knows_are_left_empty(swept) -> None:
    summary, _ = swept
    pair = copy.deepcopy(summary["interactions"][0])
    for empty in pair["cells"][:2]:
        empty["winner"] = None
        for one in [*empty["means"].values(), *empty["differences"].values()]:
            one.update(mean=None, low=None, high=None, count=0)
    assert heat_map(pair, summary).axes


def test_one_seed_says_nothing_of_chance_and_is_drawn(swept) -> None:
    summary, frame = swept
    alone = copy.deepcopy(summary)
    for one in [*alone["by_point"], *(cell for pair in alone["interactions"] for cell in pair["cells"])]:
        if one["winner"]:
            one["winner"].update(low=None, high=None, p_holm=None, beyond_chance=False)
    alone["winners"].update(judged=0, beyond_chance=0)
    assert heat_map(alone["interactions"][0], alone).axes
    assert not any("Holm's correction for" in one and "points" in one for one in sweep_sentences(alone, frame))
    assert "one seed" in sweep_page(alone, frame, {}, {})


def test_sentences_tell_of_points_pairs_and_ratios(swept) -> None:
    summary, frame = swept
    told = sweep_sentences(summary, frame)
    winners = summary["winners"]
    assert any(one.startswith(f"At {winners['beyond_chance']} of 24 points the best is beyond chance") for one in told)
    assert f"{where_best(summary['interactions'][0], summary)}." in told
    ratios = next(one for one in told if one.startswith("Of the offline optimum"))
    first = max(summary["ratios"], key=lambda line: summary["means"][line]["ratio_low"]["mean"])
    assert f"(point {summary['ratios'][first]['point']}, seed {summary['ratios'][first]['seed']})" in ratios


def test_with_deadlines_the_words_are_of_answers_in_time(swept) -> None:
    summary, frame = swept
    late = copy.deepcopy(summary)
    late["leading"] = "in_time_accuracy"
    for means in late["means"].values():
        means["in_time_accuracy"] = {**means["mean_accuracy"], "mean": means["mean_accuracy"]["mean"] / 2}
    told = sweep_sentences(late, frame)
    assert "has the highest in-time accuracy of 7 allocators" in told[0]
    assert "late answers counted, too" in told[1]
    table = re.search(r"<thead>(.*?)</thead>", sweep_page(late, frame, {}, {}), re.DOTALL)
    assert table is not None
    headings = re.findall(r"<button[^>]*>(.*?)</button>", table[1])
    assert headings[:3] == ["allocator", "in-time accuracy (%)", "above inference-only (points)"]
    figures = sweep_figures(late)
    assert "In-time accuracy" in figures["differences"].axes[0].get_xlabel()


def test_pairs_that_were_left_out_are_named(swept) -> None:
    summary, frame = swept
    cut = {**summary, "interactions": summary["interactions"][:1], "interactions_left_out": ["one x <other>"]}
    page = sweep_page(cut, frame, sweep_figures(cut), {})
    assert "The 1 of 2 pairs that do most together; left out: one x &lt;other&gt;." in page
    assert 'id="pair"' not in page


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_reader_chooses_a_pair_of_axes_and_filters_who_is_best(swept, tmp_path: Path) -> None:
    summary, frame = swept
    path = tmp_path / "report.html"
    path.write_text(sweep_page(summary, frame, sweep_figures(summary), {}), encoding="utf-8")
    shown = "[...document.querySelectorAll('figure[id^=heat_]')].filter(one => one.offsetHeight > 0).map(one => one.id)"
    with browser(tmp_path) as page:
        for width in (1280, 400):
            page.open(path, width)
            assert page.value("document.body.dataset.ready") == "true"
            assert page.value(shown) == ["heat_1"]
            page.click("document.getElementById('pair')")
            page.press("ArrowDown", "Enter")
            assert page.value(shown) == ["heat_2"]
            assert page.value("document.documentElement.scrollWidth") <= width
        rows = "[...document.querySelectorAll('#best tbody tr')].filter(row => !row.hidden)"
        assert page.value(f"{rows}.length") == 24
        page.click("document.querySelector('form[data-for=best] select')")
        page.press("ArrowDown", "Enter")
        chosen = page.value("document.querySelector('form[data-for=best] select').value")
        assert page.value(f"new Set({rows}.map(row => row.cells[0].textContent)).size") == 1
        assert page.value(f"{rows}[0].cells[0].textContent") == chosen
        assert page.value("document.querySelector('#points tbody td:nth-child(7)').textContent").count("±") == 1
        assert page.errors == []
