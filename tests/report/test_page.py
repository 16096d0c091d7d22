"""The report: what the page says, that it stands alone, and that figures stay readable on awkward results."""

from __future__ import annotations

import hashlib
import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Annotation, Text

import orric
from orric.comparison import lines, simulate_line
from orric.records import Result
from orric.report.conclusion import conclusion
from orric.report.page import page
from orric.report.plots import (
    accuracy_by_slot,
    as_svg,
    budget_split,
    curve_against_real,
    figures,
    macs_unit,
    severity_groups,
)
from orric.report.table import table_rows

ROOT = Path(__file__).resolve().parents[2]


def changed(result: Result, **columns: Any) -> Result:
    """Return the result with a few columns replaced, in the types that they had."""
    return replace(result, columns={**result.columns, **{key: np.asarray(value) for key, value in columns.items()}})


def renamed(result: Result, allocator: str, factor: float = 1.0, model: str = "curve") -> Result:
    """Return the result under another name, with its accuracy multiplied."""
    names = ("correct", "correct_in_time", "accuracy")
    better = changed(result, **{name: result.columns[name] * factor for name in names})
    return replace(better, allocator=allocator, accuracy_model=model)


@pytest.fixture(scope="module")
def results() -> list[Result]:
    scenario = orric.load_scenario(ROOT / "simulations" / "table3-fog.toml")
    return [simulate_line(scenario, "curve", name, seed=1) for name in lines(scenario, "curve")]


@pytest.fixture(scope="module")
def both(results: list[Result]) -> list[Result]:
    """Return the same lines under both accuracy models: the real ones stand 10 points below the curve."""
    real = [
        replace(
            changed(
                one,
                correct=one.correct - 0.1 * one.served,
                correct_in_time=np.maximum(one.correct_in_time - 0.1 * one.served, 0.0),
                accuracy=one.accuracy - 0.1,
            ),
            accuracy_model="onnx",
        )
        for one in results
    ]
    return [*real, *results]


@pytest.fixture(scope="module")
def orric_only(results: list[Result]) -> Result:
    return next(one for one in results if one.allocator == "orric")


def document(results: list[Result], **description: Any) -> str:
    return page("table3-fog", results, description)


def awkward(results: list[Result], case: str) -> list[Result]:
    slots = len(results[0].slot)
    empty = np.arange(slots) % 7 < 3
    if case == "slots without served requests":
        return [
            changed(
                one,
                served=np.where(empty, 0.0, one.served),
                correct=np.where(empty, 0.0, one.correct),
                late=np.where(empty, 0.0, one.late),
                accuracy=np.where(empty, np.nan, one.accuracy),
            )
            for one in results
        ]
    if case == "nothing served at all":
        nothing = {"served": np.zeros(slots), "correct": np.zeros(slots), "late": np.zeros(slots)}
        return [replace(changed(one, **nothing, accuracy=np.full(slots, np.nan)), latencies={}) for one in results]
    if case == "one severity":
        return [changed(one, severity=np.full(slots, 3)) for one in results]
    if case == "unknown severity, no latencies":
        unknown = {"severity": np.full(slots, -1), "corruption": np.full(slots, "")}
        return [replace(changed(one, **unknown), latencies={}) for one in results]
    if case == "a severity per slot":
        return [changed(one, severity=np.arange(slots) % 6) for one in results]
    if case == "several corruptions":
        return [changed(one, corruption=np.where(np.arange(slots) < 20, "fog", "snow")) for one in results]
    if case == "shed requests":
        return [changed(one, shed=np.where(empty, 50.0, 0.0)) for one in results]
    if case == "no budget":
        free = {name: np.zeros(slots) for name in ("budget_macs", "inference_macs", "retraining_macs")}
        return [changed(one, **free) for one in results]
    if case == "hundreds of slots":
        tiled = [{name: np.tile(column, 9) for name, column in one.columns.items()} for one in results]
        return [
            replace(
                one, columns={**columns, "slot": np.arange(1, 9 * slots + 1), "severity": np.sort(columns["severity"])}
            )
            for one, columns in zip(results, tiled, strict=True)
        ]
    if case == "one slot":
        return [replace(one, columns={name: column[:1] for name, column in one.columns.items()}) for one in results]
    if case == "single allocator":
        return results[:1]
    if case == "reference lines only":
        return [one for one in results if one.allocator == "teacher-only"]
    raise AssertionError(case)


CASES = (
    "slots without served requests",
    "nothing served at all",
    "one severity",
    "unknown severity, no latencies",
    "a severity per slot",
    "several corruptions",
    "shed requests",
    "no budget",
    "hundreds of slots",
    "one slot",
    "single allocator",
    "reference lines only",
)


def titles_and_labels(figure: Any) -> tuple[str, list[str]]:
    labels = [figure.get_supxlabel(), figure.get_supylabel()]
    labels += [label for axes in figure.axes for label in (axes.get_xlabel(), axes.get_ylabel())]
    return figure.get_suptitle(), [label for label in labels if label]


def test_every_figure_has_a_title_with_numbers_and_labels_with_units(both):
    drawn = figures(both)
    assert list(drawn) == ["accuracy_by_slot", "budget_split", "curve_against_real", "accuracy_cost_latency"]
    for stem, figure in drawn.items():
        title, labels = titles_and_labels(figure)
        assert re.search(r"\d", title), stem
        assert len(labels) >= 2, stem
        assert all(re.search(r"\([^)]+\)$", label) for label in labels), (stem, labels)


def test_figures_show_real_models_where_there_are_any(both, results):
    real = [one for one in both if one.accuracy_model == "onnx"]
    assert accuracy_by_slot(both).get_suptitle() == accuracy_by_slot(real).get_suptitle()
    assert accuracy_by_slot(both).get_suptitle() != accuracy_by_slot(results).get_suptitle()


def test_curve_against_real_states_the_mean_absolute_error(both, results):
    assert "by 10.0 points (mean absolute error)" in " ".join(curve_against_real(both).get_suptitle().split())
    assert curve_against_real(results) is None
    assert "curve_against_real" not in figures(results)


def test_identical_lines_share_one_entry(results):
    figure = accuracy_by_slot(results)
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert "retraining-greedy = knowledge-distillation" in labels
    assert len(labels) < len(results)
    titles = [axes.get_title(loc="left") for axes in budget_split(results).axes]
    assert any(title.startswith("retraining-greedy = knowledge-distillation\n") for title in titles)


def test_names_do_not_overlap(both):
    drawn = figures(both)
    for stem in ("accuracy_by_slot", "accuracy_cost_latency"):
        figure = drawn[stem]
        figure.draw_without_rendering()
        # An annotation's own extent includes its leader.
        boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts if text.get_text()]
        pairs = [(a, b) for number, a in enumerate(boxes) for b in boxes[number + 1 :]]
        assert not any(a.overlaps(b) for a, b in pairs), stem
        assert all(figure.bbox.containsx(box.x1) and figure.bbox.containsy(box.y1) for box in boxes), stem


def test_a_line_that_ends_far_from_its_name_gets_no_long_leader(results):
    last = np.arange(len(results[0].slot)) == len(results[0].slot) - 1
    dip = {name: np.where(last, 0.0, results[0].columns[name]) for name in ("correct", "accuracy")}
    figure = accuracy_by_slot([changed(results[0], **dip), *results[1:]])
    figure.draw_without_rendering()
    named = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    leaders = [text.arrow_patch.get_window_extent() for text in named]
    assert len(leaders) > 3
    assert all(box.height <= 40 * figure.dpi / 72 for box in leaders)
    assert any(box.height < 2 and box.x0 > figure.axes[0].bbox.x1 for box in leaders)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error")
def test_awkward_results_are_drawn_and_put_into_words(results, case):
    shown = awkward(results, case)
    for name, figure in figures(shown).items():
        assert figure.get_suptitle(), name
        assert as_svg(figure).startswith(b"<?xml")
    text = document(shown)
    # As a word: it stands in "unanswered".
    assert not re.search(r"\bnan\b", re.sub(r"<script.*?</script>", "", text.lower(), flags=re.S))
    sentences = conclusion(shown)
    assert all(sentence.endswith(".") and not re.search(r"\bnan\b", sentence.lower()) for sentence in sentences)


def test_shed_requests_are_marked(results):
    shown = awkward(results, "shed requests")
    figure = budget_split(shown)
    marked = "slot with requests shed, abandoned or lost"
    assert marked in [text.get_text() for text in figure.legends[0].get_texts()]
    assert "of requests unanswered" in figure.axes[0].get_title(loc="left")


def test_svg_is_the_same_every_time(results):
    assert as_svg(accuracy_by_slot(results)) == as_svg(accuracy_by_slot(results))


def test_conclusion_names_the_winner_its_lead_and_its_price(orric_only):
    shown = [
        orric_only,
        renamed(orric_only, "inference-only", 0.5),
        renamed(orric_only, "batch-norm-only", 0.9),
        renamed(orric_only, "teacher-only", 1.1),
    ]
    first, over_all, margins, *_ = sentences = conclusion(shown)
    assert f"{100 * orric_only.mean_accuracy:.1f} % were answered correctly: the most" in over_all
    best = 100 * orric_only.in_time_accuracy
    assert "ORRIC did best of 2 allocators" in first
    assert f"{best:.1f} % of all requests right and in time" in first
    assert f"{best / 2:.1f} points over inference-only" in margins
    assert f"{best / 10:.1f} points over batch-norm-only" in margins
    assert f"{best / 10:.1f} points below teacher-only" in margins
    whole = " ".join(sentences)
    assert "of the budget on retraining" in whole
    assert "most frequent choice was retraining" in whole
    assert "at severity 5 (slots 41 to 50)" in whole
    assert f"p99 latency of {orric_only.latency.quantile(0.99):.1f} s" in whole
    assert f"{100 * orric_only.fates['in time'] / orric_only.requests.sum():.1f} % were answered" in whole
    assert "by that measure, too" in whole


def test_conclusion_is_honest_about_ties_and_losses(orric_only):
    tie = conclusion([renamed(orric_only, "rival"), orric_only, renamed(orric_only, "weak", 0.5)])
    assert "ORRIC and rival tie as the best of 3" in tie[0]
    assert any("cost the same compute" in sentence for sentence in tie)
    within = conclusion([orric_only, renamed(orric_only, "rival", 1 + 0.0004 / orric_only.in_time_accuracy)])
    assert "all 2 allocators tie" in within[0]
    beyond = conclusion([orric_only, renamed(orric_only, "rival", 1 + 0.0006 / orric_only.in_time_accuracy)])
    assert "rival did best of 2 allocators" in beyond[0]
    assert any(sentence.startswith("ORRIC loses here") for sentence in beyond)


def test_a_cheaper_allocator_among_equals_is_named(orric_only):
    thrifty = changed(renamed(orric_only, "thrifty"), retraining_macs=orric_only.retraining_macs / 2)
    assert any("thrifty is the cheapest" in sentence for sentence in conclusion([orric_only, thrifty]))


def test_a_single_allocator_is_not_called_the_best(orric_only):
    (first, *_) = conclusion([orric_only])
    assert "no other allocator ran" in first
    assert "best" not in first


def test_conclusion_compares_the_curves_answer_with_the_real_one(orric_only):
    real = [renamed(orric_only, "orric", model="onnx"), renamed(orric_only, "rival", 0.9, model="onnx")]
    same = [orric_only, renamed(orric_only, "rival", 0.9)]
    other = [orric_only, renamed(orric_only, "rival", 1.1)]
    assert conclusion([*real, *same])[0].startswith("On real models, ORRIC did best")
    assert conclusion([*real, *same])[-1].endswith("the same answer.")
    assert conclusion([*real, *other])[-1].endswith("another answer than the real models give.")


def test_differences_that_may_be_chance_are_said_to_be(orric_only):
    close = [renamed(orric_only, "orric", model="onnx"), renamed(orric_only, "rival", 0.999, model="onnx")]
    assert "ORRIC and rival tie" in conclusion([*close, renamed(orric_only, "weak", 0.5, model="onnx")])[0]
    assert "points that may be chance" in conclusion([*close, renamed(orric_only, "weak", 0.5, model="onnx")])[0]


def test_no_results_and_no_answers_are_said_plainly(results):
    assert conclusion([]) == ["No request was answered, so there is nothing to compare."]
    assert figures([]) == {}
    assert document([])


def test_table_rows_hold_the_figures_of_the_summary(results):
    headings, rows = table_rows(results)
    # There is one stream with a deadline, all is answered, and nobody knows the GPU's power.
    assert headings == [
        "allocator", "in-time accuracy (%)", "mean accuracy (%)", "accuracy, last severity (%)", "p50 latency (s)",
        "p99 latency (s)", "in time (%)", "late (%)", "shed (%)", "budget used (%)", "of it retraining (%)",
    ]  # fmt: skip
    for result, row in zip(results, rows, strict=True):
        cells = dict(zip(headings, row, strict=True))
        assert cells["allocator"] == result.allocator
        assert cells["mean accuracy (%)"] == f"{100 * result.mean_accuracy:.2f}"
        assert cells["late (%)"] == f"{100 * result.late.sum() / result.requests.sum():.1f}"
        assert cells["in-time accuracy (%)"] == f"{100 * result.in_time_accuracy:.2f}"
    assert float(dict(zip(headings, rows[-1], strict=True))["budget used (%)"]) > 100  # teacher-only ignores it
    headings, rows = table_rows(results, {("curve", "orric"): 12345.6})
    assert headings[-1] == "decisions per s"
    assert [row[-1] for row in rows] == ["12,346", *["-"] * (len(rows) - 1)]


def test_severity_groups_part_the_slots(results):
    for case in ("one severity", "unknown severity, no latencies", "a severity per slot", "several corruptions"):
        groups = severity_groups(awkward(results, case)[0])
        assert (sum(mask.astype(int) for mask in groups.values()) == 1).all()


@pytest.mark.parametrize(("most", "unit"), [(0.0, "MACs"), (950.0, "MACs"), (2.8e6, "MMACs"), (5e9, "GMACs")])
def test_macs_unit(most, unit):
    assert macs_unit(most)[1] == unit


def test_page_loads_nothing_from_elsewhere(both):
    text = page("table3-fog", both, {}, files=["accuracy_by_slot.png"])
    assert re.findall(r'(?:src|href|srcset|data|action)="([^"]*)"', text) == ["accuracy_by_slot.png"]
    # The names of namespaces are no addresses.
    plain = re.sub(r"http://www\.w3\.org/\S+?(?=[\"'])", "", text)
    assert not re.search(r"https?://(?!github\.com/leeoniya)|url\(|@import|<link|<iframe|<object|\bsrc=", plain)
    assert "default-src 'none'" in text


def test_page_escapes_every_text(orric_only):
    nasty = "<script>alert('x')</script>&\"{0}"
    shown = [renamed(orric_only, nasty), renamed(orric_only, "inference-only", 0.5)]
    text = page(nasty, shown, {nasty: nasty, "versions": {"numpy": nasty}}, {nasty: nasty}, warnings=[nasty])
    assert nasty not in text
    assert "<script>alert" not in text
    assert text.count(html.escape(nasty)) >= 7
    # A script closes its element nowhere but at its end.
    assert text.count("</script>") == len(re.findall("<script[ >]", text))


def test_page_holds_conclusion_tables_figures_and_provenance(both):
    decisions = {("onnx", "orric"): 1000.0, ("curve", "orric"): 2000.0}
    text = document(both, seed=7, versions={"numpy": "2.0"}, decisions_per_s=decisions)
    assert all(html.escape(sentence) in text for sentence in conclusion(both))
    assert text.count("<table ") == 2
    assert text.index("real models</caption>") < text.index("the learning curve</caption>")
    assert "<dt>seed</dt><dd>7</dd>" in text
    assert "<dt>versions</dt><dd>numpy 2.0</dd>" in text
    assert "<dt>decisions_per_s</dt>" not in text
    assert ">1,000<" in text
    assert ">2,000<" in text


def test_page_names_those_that_were_left_out_below_its_verdict(results):
    text = page("table3-fog", results, {}, {"mine": "allocator 'mine', slot 3: answers None", "yours": "no idea"})
    assert text.count('<p class="failed">Left out of the comparison: ') == 2
    assert text.index('class="verdict"') < text.index("slot 3: answers None.</p>") < text.index('class="sentences"')


def test_all_warnings_stand_in_boxes_the_gravest_first(results):
    grave = "Warning: 23 % of the budget is left unused while 10 % come late."
    text = page("small", results, {}, sentences=["Best.", grave, "More."], warnings=["files end early"])
    boxes = re.findall('<p class="failed">(.*?)</p>', text)
    assert boxes == [grave, "Warning: files end early."]
    assert re.findall("<li>(.*?)</li>", text) == ["More."]


def test_what_is_vendored_is_what_its_readme_says():
    assets = ROOT / "orric" / "report" / "assets"
    said = (assets / "README.md").read_text()
    for name in ("uPlot.iife.min.js", "uPlot.min.css"):
        assert hashlib.sha256((assets / name).read_bytes()).hexdigest() in said, name
    assert "MIT License" in (assets / "uPlot-LICENSE.txt").read_text()
    for path in assets.iterdir():
        assert f"`{path.name}`" in said or path.name == "README.md", f"{path.name}: say what it is"
