"""The report of a sweep: what it says, what it draws, and what a reader can do with it in a real browser."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path

import pandas
import pytest

from orric.report.document import figure_element
from orric.report.sweep_folder import write_sweep_report
from orric.report.sweep_page import sweep_figures, sweep_page
from orric.report.sweep_plots import differences
from orric.report.sweep_words import sweep_sentences
from orric.sweep import Sweep, on_cores, run_sweep
from orric.sweep.summary import summarised

from ..browser import CHROMIUM, browser
from ..builders import ROOT

READY = ROOT / "simulations/sweeps/budget-drift-horizon.toml"


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, pandas.DataFrame]:
    """Return what a small sweep says, and its runs."""
    folder = tmp_path_factory.mktemp("swept")
    sweep = Sweep.load(READY).model_copy(update={"seeds": 4})
    loaded = Sweep.load(READY)
    sweep._base, sweep._where = loaded._base, loaded._where
    outcome = run_sweep(sweep, folder / "out", on_cores(1))
    summary = {
        "sweep": sweep.name, "note": sweep.note, "command": "orric sweep FILE", "engine": sweep.engine,
        "allocators": list(sweep.lines), "axis_titles": [axis.title for axis in sweep.axis], "runs": outcome.runs,
        "failed": 0, "versions": {"numpy": "2.0"}, "cases": {}, **summarised(sweep, outcome.table),
    }  # fmt: skip
    return json.loads(json.dumps(summary)), outcome.table.to_pandas()


def test_the_conclusion_says_who_is_best_by_how_much_and_where(swept) -> None:
    summary, frame = swept
    sentences = sweep_sentences(summary, frame)
    means = frame.groupby("allocator")["mean_accuracy"].mean()
    best = means.idxmax()
    assert sentences[0].startswith(f"{best} has the highest mean accuracy of 7 allocators over 48 points")
    assert f"{100 * means[best]:.2f} %" in sentences[0]
    assert f"{100 * (means[best] - means['inference-only']):.2f} points" in sentences[0]
    assert any("Best at single points" in one and "ORRIC at" in one for one in sentences)
    assert sum(one.startswith("Along ") for one in sentences) == 3
    assert "Of 6 comparisons" in sentences[-1]


def test_figures_have_titles_units_and_every_allocator(swept, tmp_path: Path) -> None:
    summary, frame = swept
    figures = sweep_figures(summary)
    assert set(figures) == {"differences", "by_axis", "pareto", "heat_1", "heat_2", "heat_3"}
    for stem, figure in figures.items():
        assert figure.get_suptitle()
        for axes in figure.axes:
            assert axes.get_xlabel() or stem.startswith("heat")
    written: dict[str, bytes] = {}
    write_sweep_report(summary, frame, written.__setitem__)
    assert {f"{stem}.{kind}" for stem in figures for kind in ("svg", "png")} | {"report.html"} == set(written)
    again: dict[str, bytes] = {}
    write_sweep_report(summary, frame, again.__setitem__)
    assert {name: content for name, content in written.items() if not name.endswith("png")} == {
        name: content for name, content in again.items() if not name.endswith("png")
    }


def test_the_page_needs_nothing_else(swept) -> None:
    summary, frame = swept
    text = sweep_page(summary, frame, sweep_figures(summary), {"Point 1": Path("cases/point-1.toml")})
    assert not re.findall(r'(?:src|href)="(?!data:|cases/)', text)
    assert "http" not in re.sub(r"http-equiv|data:[^\"]*", "", text)
    failed = sweep_page({**summary, "failed": 3}, frame, {}, {})
    assert f"3 of {summary['runs']} runs failed" in failed


def test_words_fit_few_allocators_and_many(swept) -> None:
    summary, frame = swept
    two = ["inference-only", "focus-shift"]
    few = {**summary, "allocators": two, "means": {line: summary["means"][line] for line in two}}
    few["differences"] = {"focus-shift": summary["differences"]["focus-shift"]}
    ahead = frame[frame.allocator.isin(two)].copy()
    ahead.loc[ahead.allocator == "focus-shift", "mean_accuracy"] += 0.5
    assert "focus-shift is best at each of the 48 points." in sweep_sentences(few, ahead)
    drawn = [differences(one) for one in (few, summary)]
    titles = [" ".join(figure.get_suptitle().split()) for figure in drawn if figure is not None]
    assert titles[0].endswith("points above inference-only")
    assert titles[1].endswith("points above inference-only, the most of 6 allocators")


def test_a_picture_in_a_page_is_cut_below_its_title(swept) -> None:
    figure = sweep_figures(swept[0])["pareto"]
    element = figure_element("pareto", figure, "What it is.")
    assert f'<p class="title">{" ".join(figure.get_suptitle().split())}</p>' in element
    drawn = base64.b64decode(element.split("base64,")[1].split('"')[0]).decode()
    found = re.search(r'viewBox="(.*?)"', drawn)
    assert found is not None
    box = [float(one) for one in found[1].split()]
    legend = figure.legends[0].get_window_extent().y1 / figure.dpi
    title = figure.get_figheight() - figure.texts[0].get_window_extent().y0 / figure.dpi
    assert title <= box[1] / 72 <= figure.get_figheight() - legend
    assert box[1] + box[3] == pytest.approx(72 * figure.get_figheight())


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_tables_and_figures_fit_a_screen_and_scroll_in_a_narrow_window(swept, tmp_path: Path) -> None:
    summary, frame = swept
    path = tmp_path / "report.html"
    path.write_text(sweep_page(summary, frame, sweep_figures(summary), {}), encoding="utf-8")
    beyond = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"
    shown = "[...document.querySelectorAll('.scroll')].filter(one => one.clientWidth > 0).length"
    with browser(tmp_path) as page:
        page.open(path, 1280)
        assert page.value(beyond) == 0
        page.open(path, 400)
        assert page.value(beyond) == page.value(shown) > 3, "with a shadow at the side"
        titles = "[...document.querySelectorAll('figure .title, .caption')].filter(one => one.offsetHeight > 0)"
        assert page.value(f"Math.max(...{titles}.map(one => one.getBoundingClientRect().right))") <= 400
        assert page.value(f"{titles}.every(one => one.scrollWidth <= one.clientWidth)")
        assert page.errors == []


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_reader_sorts_and_filters_by_clicks(swept, tmp_path: Path) -> None:
    summary, frame = swept
    path = tmp_path / "report.html"
    path.write_text(sweep_page(summary, frame, sweep_figures(summary), {}), encoding="utf-8")
    rows = "[...document.querySelectorAll('#points tbody tr')]"
    shown = f"{rows}.filter(row => !row.hidden)"
    with browser(tmp_path) as page:
        page.open(path)
        assert page.value("document.body.dataset.ready") == "true"
        assert page.value(f"{rows}.length") == 48 * 7
        # Sort by accuracy: the best comes first, a second click turns it round.
        accuracy = "[...document.querySelectorAll('#points th button')].find(one => one.textContent == 'accuracy (%)')"
        column = f"{accuracy}.closest('th').cellIndex"
        values = f"{shown}.map(row => +row.cells[{column}].dataset.value)"
        page.click(accuracy)
        found = page.value(values)
        assert found == sorted(found, reverse=True)
        page.click(accuracy)
        assert page.value(values) == sorted(found)
        # Words sort as words.
        page.click("[...document.querySelectorAll('#points th button')].find(one => one.textContent == 'drift')")
        words = page.value(f"{shown}.map(row => row.cells[3].textContent)")
        assert words == sorted(words, reverse=True)
        # Filter: the select takes the focus by a click, keys choose.
        page.click("document.querySelector('form[data-for=points] select')")
        page.press("ArrowDown", "ArrowDown", "Enter")
        chosen = page.value("document.querySelector('form[data-for=points] select').value")
        assert chosen in summary["allocators"]
        assert page.value(f"new Set({shown}.map(row => row.cells[0].textContent)).size") == 1
        assert page.value("document.querySelector('form[data-for=points] output').textContent") == "48 of 336 rows"
        for width in (1280, 400):
            page.open(path, width)
            assert page.value("document.documentElement.scrollWidth") <= width
        assert page.errors == []
