"""The interactive report in a real browser: real clicks, keys, drags and hovers change what is shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orric.records import STAGES, Event, Result
from orric.report.page import page

from ..browser import CHROMIUM, Page, browser
from .synthetic import DEADLINE_S, synthetic

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

NAMES = ["orric", "inference-only", "fair-share", "thief"]
CAPACITIES = {"gpu0": 6e9, "gpu1": 12e9}


@pytest.fixture(scope="module")
def driven(tmp_path_factory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as driven:
        yield driven


@pytest.fixture(scope="module")
def results() -> list[Result]:
    found = synthetic(200, 4, NAMES)
    events = (Event(240.0, 5, "gpu0", "stands still"), Event(300.0, 6, "gpu0", "is back"))
    return [replace(found[0], events=events), *found[1:]]


def written(path: Path, results: list[Result], **more: Any) -> Path:
    deadlines = dict.fromkeys(results[0].streams, DEADLINE_S) if results[0].has_deadlines else {}
    more = {"deadlines_s": deadlines, "capacities_macs": CAPACITIES, "slot_s": 60.0, **more}
    path.write_text(page("four cameras", results, {"seed": 1}, **more), encoding="utf-8")
    return path


@pytest.fixture
def shown(driven, results, tmp_path) -> Page:
    open_page(driven, written(tmp_path / "report.html", results))
    return driven


def open_page(driven: Page, path: Path, width: int = 1280, scheme: str = "light") -> None:
    driven.colours(scheme)
    driven.errors.clear()
    driven.open(path, width)
    driven.wait("document.body.dataset.ready === 'true'")
    assert driven.errors == []


def state(driven: Page) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(driven.value("document.body.dataset.shown"))
    return found


def one(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)})"


def text(driven: Page, selector: str) -> str:
    return str(driven.value(f"{one(selector)}.innerText"))


def row(name: str) -> str:
    names = "row.querySelector('button').textContent"
    return f"[...document.querySelectorAll('tr[data-result]')].find(row => {names} === '{name}')"


def in_colour(driven: Page, figure: str) -> int:
    """Count the pixels that are not empty on a figure's canvas."""
    script = (
        "(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0)"
        f".length)({one(f'#{figure} canvas')})"
    )
    return int(driven.value(script))


FIGURES = ("timeline", "arrivals", "queue", "latency", "accuracy", "distribution")


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_whole_at_every_width_and_in_both_schemes(driven, results, tmp_path, width, scheme):
    open_page(driven, written(tmp_path / "report.html", results), width, scheme)
    # Nothing reaches over the page's edge; what is wider scrolls in a frame of its own.
    assert driven.value("document.documentElement.scrollWidth") <= width
    for figure in FIGURES:
        assert in_colour(driven, figure) > 1000, figure
    assert driven.value("document.querySelectorAll('.tradeoff svg').length") == 3
    dark = driven.value("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(22, 25, 28)") == (scheme == "dark")
    assert driven.value("document.images.length") == 0


def test_the_first_column_stays_where_the_others_scroll(driven, results, tmp_path):
    open_page(driven, written(tmp_path / "report.html", results), 400)
    frame, head = one(".scroll"), one("tbody tr[data-result] th")
    before = driven.value(f"{head}.getBoundingClientRect().left")
    assert driven.value(f"{frame}.scrollWidth > {frame}.clientWidth + 100")
    driven.value(f"{frame}.scrollLeft = 1000")
    assert driven.value(f"{head}.getBoundingClientRect().left") == pytest.approx(before, abs=1)


def test_a_row_selects_what_all_figures_show(shown, results):
    assert state(shown)["allocator"] == "orric"
    assert "under orric" in text(shown, "#queue .unit")
    # The script's own numbers, for what is drawn.
    drawn = "charts.queue[0].plot.data[1]"
    waiting = [one_.columns["waiting"].reshape(-1, 4).sum(axis=1).tolist() for one_ in results]
    assert shown.value(drawn) == pytest.approx(waiting[0], abs=2)
    shown.click(row("fair-share") + ".cells[3]")
    assert state(shown)["allocator"] == "fair-share"
    assert shown.value(drawn) == pytest.approx(waiting[2], abs=2)
    for figure in ("timeline", "arrivals", "queue", "latency", "accuracy", "distribution"):
        assert "fair-share" in text(shown, f"#{figure} .unit")
    assert "fair-share" in text(shown, "tr.selected th")


def test_keys_walk_through_the_rows(shown):
    shown.value(f"{row('orric')}.querySelector('button').focus()")
    shown.press("ArrowDown", "ArrowDown")
    assert state(shown)["allocator"] == "fair-share"
    shown.press("ArrowUp")
    assert state(shown)["allocator"] == "inference-only"
    assert shown.value("document.activeElement.textContent") == "inference-only"


def test_rows_sort_and_filter(shown):
    names = (
        "[...document.querySelectorAll('tr[data-result]:not([hidden]) th button')].map(one => one.textContent).join()"
    )
    shown.click("document.querySelector('#comparison-curve thead th:nth-child(2)')")
    assert shown.value(names) == "orric,inference-only,fair-share,thief"
    shown.click("document.querySelector('#comparison-curve thead th:nth-child(2)')")
    assert shown.value(names) == "thief,fair-share,inference-only,orric"
    shown.value(f"{one('input[data-filters]')}.focus()")
    shown.write("only")
    assert shown.value(names) == "inference-only"
    assert "1 of 4 rows" in text(shown, "p.filters")


def test_hovering_tells_values(shown, results):
    shown.hover(one("#arrivals .u-over"), 0.5)
    said = text(shown, "#arrivals .readout")
    slot = int(said.split()[1])
    assert 95 <= slot <= 106
    assert "h" in said  # when it begins
    arrived = results[0].columns["requests"].reshape(-1, 4).sum(axis=1)[slot - 1]
    assert f"{arrived:,.0f}" in text(shown, "#arrivals .legend")
    # The others follow, and say the same slot.
    assert text(shown, "#queue .readout") == said
    shown.hover(one("#timeline .u-over"), 0.5, 0.02)
    assert text(shown, "#timeline .readout").startswith("gpu0, slot ")
    serving = results[0].gpu_columns["serving"].reshape(-1, 2)[slot - 1, 0]
    assert f"serving{100 * serving:.1f}%" in "".join(text(shown, "#timeline .legend").split())
    shown.hover(one("#distribution .u-over"), 0.5)
    assert text(shown, "#distribution .readout").startswith("within ")


def test_dragging_zooms_all_figures_and_the_button_resets(shown):
    for figure in ("accuracy", "timeline"):
        shown.drag(one(f"#{figure} .u-over"), 0.25, 0.5)
        found = state(shown)
        assert 45 <= found["from"] <= 55
        assert 95 <= found["to"] <= 105
        assert shown.value("charts.queue[0].plot.scales.x.min") == found["from"] - 0.5
        assert shown.value(f"{one('#from')}.value") == str(found["from"])
        shown.click(one("#reset"))
        assert (state(shown)["from"], state(shown)["to"]) == (1, 200)


def test_keys_move_the_cursor_and_zoom(shown):
    shown.value(f"{one('#queue .plot')}.focus()")
    shown.press("ArrowRight", "ArrowRight", "ArrowRight")
    assert text(shown, "#queue .readout").startswith("slot 3 ")
    shown.press("End")
    assert text(shown, "#queue .readout").startswith("slot 200 ")
    shown.press("+")
    assert state(shown)["to"] - state(shown)["from"] < 110
    shown.press("Escape")
    assert state(shown)["to"] == 200


def test_a_stream_is_found_by_its_name(shown, results):
    shown.click(one("#stream"))
    shown.write("cam-002")
    assert state(shown)["stream"] == 2
    assert "cam-002" in text(shown, "#accuracy .unit")
    waiting = results[0].columns["waiting"].reshape(-1, 4)[:, 2]
    assert shown.value("charts.queue[0].plot.data[1]") == pytest.approx(waiting.tolist(), abs=0.5)
    shown.hover(one("#timeline .u-over"), 0.5, 0.75)
    said = text(shown, "#timeline .readout")
    assert said.startswith("cam-002, slot ")
    assert "decided: retraining " in said
    assert "Grey bands" in text(shown, "#accuracy figcaption")
    # Of all streams together there are no bands, as they drift differently.
    shown.click("document.querySelector('#streams tr.selected button')")
    assert state(shown)["stream"] == -1
    assert "Streams differ in their drift" in text(shown, "#accuracy figcaption")


def test_points_and_legends_select_too(shown):
    shown.click(one('#tradeoff-energy_j [data-result="3"]'))
    assert state(shown)["allocator"] == "thief"
    assert "thief: in-time accuracy" in text(shown, "#tradeoffs-told")
    shown.click("[...document.querySelectorAll('#accuracy .legend button')].find(one => one.textContent === 'orric')")
    assert state(shown)["allocator"] == "orric"
    assert shown.value("document.querySelectorAll('#tradeoff-latency_p99_s .name').length") == 4


def test_events_are_told_and_only_what_there_is_has_a_legend(shown):
    assert "Events under orric: 2" in text(shown, "#events")
    assert "stands still" in shown.value(f"{one('#events')}.textContent")
    legend = text(shown, "#timeline .legend")
    assert "training" in legend
    assert "sampling" not in legend
    assert "abandoned" not in text(shown, "#arrivals .legend")
    shown.click(row("thief"))
    assert shown.value(f"{one('#events')}.hidden")


def test_the_tail_is_drawn_on_a_logarithmic_scale(shown):
    assert shown.value("charts.distribution[0].plot.scales.y.distr") != 3
    shown.click(one("#tail"))
    assert shown.value("charts.distribution[0].plot.scales.y.distr") == 3
    assert "took longer" in text(shown, "#distribution .unit")


def awkward(results: list[Result], case: str) -> list[Result]:
    def cut(result: Result, slots: int, streams: int) -> Result:
        rows = (result.columns["slot"] <= slots) & np.isin(result.columns["stream"], result.streams[:streams])
        gpus = result.gpu_columns["slot"] <= slots
        return replace(
            result, columns={name: values[rows] for name, values in result.columns.items()},
            gpu_columns={name: values[gpus] for name, values in result.gpu_columns.items()},
            latencies={name: result.latencies[name] for name in result.streams[:streams]}, events=(),
        )  # fmt: skip

    if case == "one slot":
        return [cut(result, 1, 4) for result in results]
    if case == "one stream, no deadline":
        return [replace(cut(result, 200, 1), has_deadlines=False) for result in results]
    if case == "the slot model":
        bare = [cut(result, 200, 1) for result in results]
        unknown = {name: np.full(200, np.nan) for name in (*STAGES, "latency_p50_s", "latency_p99_s", "agreement")}
        return [
            replace(one, columns={**one.columns, **unknown}, gpu_columns={}, latencies={}, has_deadlines=False)
            for one in bare
        ]
    if case == "an allocator without answers":
        nothing = np.zeros_like(results[1].columns["served"])
        empty = dict.fromkeys(("served", "late", "correct", "correct_in_time"), nothing)
        empty |= dict.fromkeys(("accuracy", "latency_p50_s", "latency_p99_s"), nothing * np.nan)
        silent = replace(results[1], columns={**results[1].columns, **empty}, latencies={})
        return [results[0], silent]
    assert case == "one allocator under two accuracy models"
    return [replace(results[0], accuracy_model="onnx"), results[0]]


CASES = (
    "one slot", "one stream, no deadline", "the slot model", "an allocator without answers",
    "one allocator under two accuracy models",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_awkward_results_are_shown_without_errors(driven, results, tmp_path, case):
    shown = awkward(results, case)
    open_page(driven, written(tmp_path / "report.html", shown))
    for result in shown:
        driven.click(row(result.allocator))
        assert state(driven)["allocator"] == result.allocator
    driven.hover(one("#accuracy .u-over"), 0.5)
    driven.click(one("#accuracy .tools select"))
    told = driven.value("document.getElementById('interactive').innerText")
    assert "NaN" not in told
    assert "undefined" not in told
    assert "Infinity" not in told
    if not shown[0].has_deadlines:
        assert "deadline" not in told
    assert driven.errors == []


def test_long_runs_say_what_a_point_is_and_show_single_slots_where_they_have_them(driven, tmp_path, monkeypatch):
    monkeypatch.setattr("orric.report.levels.MOST_BYTES", 200_000)
    open_page(driven, written(tmp_path / "report.html", synthetic(6000, 4, ["orric", "thief"])))
    assert "One point for " in text(driven, "#queue figcaption")
    assert "the band reaches from the least to the greatest slot" in text(driven, "#queue figcaption")
    buttons = driven.value("[...document.querySelectorAll('button.window')].map(one => one.textContent).join()")
    assert "around the worst" in buttons
    driven.click("[...document.querySelectorAll('button.window')].at(-1)")
    assert "One point for each slot." in text(driven, "#queue figcaption")
    assert driven.errors == []


def test_an_empty_queue_is_told_in_words(driven, results, tmp_path):
    none = [replace(one, columns={**one.columns, "waiting": 0 * one.columns["waiting"]}) for one in results]
    open_page(driven, written(tmp_path / "empty.html", none))
    assert "At the end of no slot shown does any." in text(driven, "#queue")
    assert driven.value("document.querySelector('#queue .plot').offsetHeight") == 0
    open_page(driven, written(tmp_path / "full.html", results))
    assert "At the end of no slot" not in text(driven, "#queue")
    assert driven.value("document.querySelector('#queue .plot').offsetHeight") > 100


def test_the_height_of_lanes_is_told_in_words_that_say_what_it_is(shown):
    assert re.search(r"lanes of GPUs are drawn up to \d+ %; lanes of streams are drawn up to", text(shown, "#timeline"))


def test_a_cost_that_hardly_differs_does_not_fill_the_figure(shown):
    told = "one.place.latency_p99_s = Array(3).fill(5.64 + 0.04 * n)"
    shown.value(f"META.results.forEach((one, n) => {{ {told}; }})")
    shown.value("render()")
    at = "[...document.querySelectorAll('#tradeoff-latency_p99_s .point circle')].map(one => +one.getAttribute('cx'))"
    places, count = shown.value(at), shown.value("META.results.length")
    width = shown.value("document.getElementById('tradeoff-latency_p99_s').clientWidth") - 64
    # The axis is a tenth of the value wide, at least.
    assert 0 < max(places) - min(places) <= 1.05 * width * 0.04 * (count - 1) / 0.57


def test_names_of_points_keep_off_markers_and_the_front(shown):
    clear = """[...document.querySelectorAll('.tradeoff svg')].every(svg => {
      const inside = (box, x, y) => box.left < x && x < box.right && box.top + 2 < y && y < box.bottom - 2;
      const names = [...svg.querySelectorAll('.name')].map(one => one.getBoundingClientRect());
      const path = svg.querySelector('path[stroke-dasharray]'), frame = svg.getBoundingClientRect();
      const markers = [...svg.querySelectorAll('.point circle')];
      const places = markers.map(one => ['cx', 'cy'].map(key => +one.getAttribute(key)));
      if (path) for (let at = 0; at <= path.getTotalLength(); at += 2) {
        const {x, y} = path.getPointAtLength(at);
        places.push([x, y]);
      }
      const hit = ([x, y]) => names.some(box => inside(box, x + frame.left, y + frame.top));
      return names.length > 0 && !places.some(hit);
    })"""
    for width in (1280, 400):
        shown.resize(width)
        shown.value("render()")
        assert shown.value(clear)
