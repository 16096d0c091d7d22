"""The report of a sweep: who is best, by how much, where, and every run's figures to sort and filter."""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.allocators import REFERENCES
from orric.report.document import document, figure_element
from orric.report.facts import TIE, spoken
from orric.report.sweep_plots import by_axis, differences, pareto, wins_by_point

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

CAPTIONS = {
    "by_axis": (
        "Mean accuracy over all points of a value and all seeds, one small figure for each axis. Bars are 95 % "
        "intervals over seeds, where they are wide enough to be seen."
    ),
    "differences": (
        "All allocators saw the same requests, budgets and drift, so that their differences are paired, seed by seed. "
        "Bars are 95 % intervals; whether a difference is beyond chance is judged after Holm's correction."
    ),
    "pareto": (
        "Means over all points and seeds. Up is more accurate, left is quicker, thriftier or cheaper; hollow marks are "
        "dominated by another allocator in that panel."
    ),
}
# Rows of the table of points; a browser sorts that many at once.
MOST_ROWS, MOST_CHOICES = 3000, 20
COLUMNS = (
    ("mean_accuracy", "accuracy (%)", 100.0, 2),
    ("worst_stream_accuracy", "worst stream's (%)", 100.0, 2),
    ("in_time_accuracy", "in-time accuracy (%)", 100.0, 2),
    ("latency_p99_s", "p99 latency of the answered (s)", 1.0, 3),
    ("answered", "answered (%)", 100.0, 2),
    ("late", "late requests", 1.0, 0),
    ("shed", "shed requests", 1.0, 0),
    ("abandoned", "abandoned requests", 1.0, 0),
    ("lost", "lost requests", 1.0, 0),
    ("waiting", "waiting at the end", 1.0, 0),
    ("overloaded", "overloaded runs (%)", 100.0, 1),
    ("budget_used", "budget used (%)", 100.0, 1),
    ("retrained", "slots with retraining (%)", 100.0, 1),
    ("energy_j", "energy (Wh)", 1 / 3600, 2),
)
# What is left out where it is the mean accuracy, or nothing, for all.
OFTEN_SAME = ("worst_stream_accuracy", "in_time_accuracy")
OFTEN_NOTHING = ("late", "abandoned", "lost", "waiting", "overloaded")


def sweep_figures(summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Draw every figure that a sweep allows, by file stem."""
    drawn = {"differences": differences(summary), "by_axis": by_axis(summary), "pareto": pareto(summary)}
    return {stem: figure for stem, figure in drawn.items() if figure is not None}


def sweep_sentences(summary: Mapping[str, Any], frame: pandas.DataFrame) -> list[str]:
    """Say in plain sentences who is best, by how much, and where not.

    Args:
        summary: From `orric.sweep.summary.summarised`, with the names of the allocators.
        frame: All runs.
    """
    lines, baseline = summary["allocators"], summary["baseline"]
    means = {line: (summary["means"][line].get("mean_accuracy") or {}).get("mean") for line in lines}
    known = {line: mean for line, mean in means.items() if mean is not None}
    if not known:
        return ["No run has an accuracy, so there is nothing to compare."]
    best = leader(known)
    if best is None:
        return ["No allocator has an accuracy, so there is nothing to compare."]
    where = f"{summary['points']} point{'s' * (summary['points'] > 1)}"
    highest = (
        "the highest"
        if known[best] == max(known[one] for one in known if one not in REFERENCES)
        else "all but the highest"
    )
    among = f"{highest} mean accuracy of {len([*{*known} - {*REFERENCES}])} allocators over {where}"
    said = f"{spoken(best)} has {among}: {100 * known[best]:.2f} %"
    if best == baseline:
        rivals = {
            line: one for line, one in summary["differences"].items()
            if one["mean"] is not None and line not in REFERENCES
        }  # fmt: skip
        near = max(rivals, key=lambda line: rivals[line]["mean"], default=None)
        if near is not None and abs(rivals[near]["mean"]) <= TIE:
            said += f", level with {spoken(near)}"
        elif near is not None:
            said += f", {_above(rivals[near], -1.0)} above {spoken(near)}, the next"
    else:
        one = summary["differences"].get(best)
        if one is not None and one["mean"] is not None:
            said += f", {_above(one, 1.0)} above {spoken(baseline)}"
    sentences = [said + "."]
    if summary["points"] > 1:
        wins = {line: count for line, count in wins_by_point(frame, summary).items() if count}
        ordered = sorted(wins, key=lambda line: -wins[line])
        told = ", ".join(f"{spoken(line)} at {wins[line]}" for line in ordered[:5])
        sentences.append(f"Best at single points, ties within 0.05 points counted for all: {told}.")
    for axis in dict.fromkeys(row["axis"] for row in summary["axes"]):
        sentences += _along(summary, axis, best)
    if summary["pairs"] > 1:
        sentences.append(
            f"Intervals are over {summary['pairs']} seeds, each the mean of all points: runs of one seed are not "
            "independent."
        )
    else:
        sentences.append("There is one seed alone, so nothing can be said of chance: give more seeds.")
    if summary["precision"] is not None:
        sentences.append(_precision(summary["precision"]))
    return [*sentences, *([summary["multiplicity"]] if summary["multiplicity"] else [])]


def _precision(precision: Mapping[str, Any]) -> str:
    """Say whether the precision asked for was reached."""
    what = precision["of"] + (f" against {precision['against']}" if precision["against"] else "")
    asked = f"a half-width of {precision['half_width']:g} of {what} was asked for"
    if precision["reached"]:
        return f"At every point {asked} and reached; the widest is {precision['widest']:.3g}."
    widest = "unknown" if precision["widest"] is None else f"{precision['widest']:.3g}"
    return f"At every point {asked} and NOT reached: the widest is {widest}; let most be larger."


def leader(means: Mapping[str, float]) -> str | None:
    """Return who has the largest mean: ORRIC where it ties with the largest, within 0.05 points.

    Reference lines, which are no allocators, and means that are unknown are passed over; None where nobody is left.
    """
    means = {line: mean for line, mean in means.items() if line not in REFERENCES and np.isfinite(mean)}
    if not means:
        return None
    best = max(means, key=lambda line: means[line])
    return "orric" if means.get("orric", float("-inf")) >= means[best] - TIE else best


def _along(summary: Mapping[str, Any], axis: str, best: str) -> list[str]:
    """Say where along an axis the best leads most and least."""
    baseline = summary["baseline"]
    other = best if best != baseline else max(
        (line for line in summary["allocators"] if line != baseline),
        key=lambda line: (summary["differences"].get(line) or {}).get("mean") or float("-inf"),
        default=None,
    )  # fmt: skip
    rows = [row for row in summary["axes"] if row["axis"] == axis]
    if other is None or len(rows) < 2:
        return []
    apart = {
        row["value"]: row["differences"][other]["mean"] for row in rows if row["differences"][other]["mean"] is not None
    }
    if len(apart) < 2:
        return []
    high, low = max(apart, key=lambda value: apart[value]), min(apart, key=lambda value: apart[value])
    return [
        f"Along {axis}, {spoken(other)} is {_signed(apart[high])} from {spoken(baseline)} at {high} and "
        f"{_signed(apart[low])} at {low}."
    ]  # fmt: skip


def sweep_page(
    summary: Mapping[str, Any],
    frame: pandas.DataFrame,
    figures: Mapping[str, Figure],
    cases: Mapping[str, Path],
) -> str:
    """Return the report of a sweep as one HTML document.

    Args:
        summary: What sweep.json holds.
        frame: All runs.
        figures: From `sweep_figures`.
        cases: Scenario files of single points, by what they are, relative to the page.
    """
    first, *others = sweep_sentences(summary, frame)
    warnings = []
    if summary["failed"]:
        warnings.append(
            f"{summary['failed']} of {summary['runs']} runs failed; runs.csv has their errors. " + _left_out(summary)
        )
    if lacking := [title for name, title, *_ in COLUMNS if name not in frame]:
        warnings.append(
            f"Written by an earlier version of orric, which did not record: {', '.join(lacking)}. The rest is shown."
        )
    drawn = "\n".join(figure_element(stem, figure, CAPTIONS[stem]) for stem, figure in figures.items())
    linked = "\n".join(
        f'<li><a href="{html.escape(path.as_posix())}">{html.escape(what)}</a></li>' for what, path in cases.items()
    )
    sections = [("Allocators", _means_table(summary)), ("Figures", drawn), ("Points", _points_table(summary, frame))]
    if linked:
        slots = summary["engine"] == "slot-model"
        again = "orric evaluate --scenario FILE --allocator NAME --seed SEED" if slots else "orric run FILE --seed SEED"
        said = f"<p>Scenario files of single points; <code>{again}</code> repeats runs of the sweep.</p>"
        sections.insert(2, ("Cases", f"{said}\n<ul>\n{linked}\n</ul>"))
    note = [summary["note"]] if summary["note"] else []
    provenance = {
        "command": summary["command"],
        "engine": summary["engine"],
        "runs": f"{summary['runs']:,}",
        **{f"version of {name}": value for name, value in summary["versions"].items()},
    }
    return document(f"orric sweep: {summary['sweep']}", first, warnings, [*note, *others], sections, provenance)


def _left_out(summary: Mapping[str, Any]) -> str:
    """Say over what the means are where runs failed."""
    if summary["whole_points"] < summary["points"]:
        return (
            f"Means are over the {summary['whole_points']} of {summary['points']} points at which no run failed, but "
            "for allocators that failed everywhere."
        )
    return f"Means are over the {summary['pairs']} of {summary['seeds']} seeds under which no run failed at any point."


def _columns(summary: Mapping[str, Any]) -> list[tuple[str, str, float, int]]:
    """Return the columns to show: without accuracies that are the mean's, and fates that nobody met."""
    means = summary["means"].values()

    def told(name: str) -> bool:
        if name in OFTEN_SAME:
            return any(one.get(name) != one.get("mean_accuracy") for one in means)
        return name not in OFTEN_NOTHING or any((one.get(name) or {}).get("mean") for one in means)

    return [column for column in COLUMNS if told(column[0])]


def _means_table(summary: Mapping[str, Any]) -> str:
    """Return the table of the allocators' means, which sorts by a click."""
    lines, baseline = summary["allocators"], summary["baseline"]
    shown = [
        column for column in _columns(summary)
        if any((summary["means"][line].get(column[0]) or {}).get("mean") is not None for line in lines)
    ]  # fmt: skip
    headings = (
        ["allocator", shown[0][1], f"above {baseline} (points)", *(column[1] for column in shown[1:])] if shown else []
    )
    rows = []
    for line in lines:
        means = summary["means"][line]
        cells = [_interval(means.get(name), factor, digits) for name, _, factor, digits in shown]
        apart = summary["differences"].get(line)
        cells.insert(1, _interval(apart, 100.0, 2, signed=True))
        rows.append((line, cells))
    return _table("Means over all points and seeds, with 95 % intervals of accuracies", headings, rows)


def _points_table(summary: Mapping[str, Any], frame: pandas.DataFrame) -> str:
    """Return the table of all points and allocators, with a filter above it."""
    shown = [
        column
        for column in _columns(summary)
        if column[0] in frame and np.isfinite(frame[column[0]].astype(float)).any()
    ]
    axes = list(summary["axis_titles"])
    keys = ["point", *axes, "allocator"]
    means = frame.groupby(keys, sort=False)[[name for name, *_ in shown]].mean().reset_index()
    cut = ""
    if len(means) > MOST_ROWS:
        cut = f"<p>The first {MOST_ROWS:,} of {len(means):,} rows; runs.csv has all.</p>"
        means = means.head(MOST_ROWS)
    headings = ["allocator", "point", *axes, *(title for _, title, _, _ in shown)]
    rows = []
    for row in means.to_dict("records"):
        cells = [(str(row["point"]), row["point"]), *((_text(row[axis]), row[axis]) for axis in axes)]
        cells += [_number(row[name], factor, digits) for name, _, factor, digits in shown]
        rows.append((row["allocator"], cells))
    filters = "".join(
        f'<label>{html.escape(name)} <select data-column="{headings.index(name)}"><option value="">all</option>'
        + "".join(f"<option>{html.escape(_text(value))}</option>" for value in dict.fromkeys(frame[name].tolist()))
        + "</select></label>\n"
        for name in ("allocator", *axes)
        if frame[name].nunique() <= MOST_CHOICES
    )
    table = _table("Means over seeds, point by point", headings, rows)
    form = f'<form class="filters" data-for="points">\n{filters}<output></output></form>'
    return f'{cut}{form}\n<div id="points">{table}</div>'


def _table(caption: str, headings: list[str], rows: list[tuple[str, list[tuple[str, Any]]]]) -> str:
    """Return an HTML table; every cell has the value that it sorts by."""
    head = "".join(f'<th scope="col"><button type="button">{html.escape(one)}</button></th>' for one in headings)
    body = []
    for name, cells in rows:
        columns = "".join(
            f'<td data-value="{html.escape(_key(value))}">{html.escape(text)}</td>' for text, value in cells
        )
        body.append(f'<tr><th scope="row" data-value="{html.escape(name)}">{html.escape(name)}</th>{columns}</tr>')
    lines = "\n".join(body)
    return (
        f'<div class="scroll"><table><caption>{html.escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>'
        f"\n<tbody>\n{lines}\n</tbody></table></div>"
    )


def _interval(one: Mapping[str, Any] | None, factor: float, digits: int, signed: bool = False) -> tuple[str, Any]:
    if one is None or one["mean"] is None:
        return "-", None
    mean = factor * one["mean"]
    text = f"{mean:+,.{digits}f}" if signed else f"{mean:,.{digits}f}"
    if one["low"] is not None and digits >= 2:
        text += f" ± {factor * (one['high'] - one['low']) / 2:,.{digits}f}"
    return text, mean


def _number(value: Any, factor: float, digits: int) -> tuple[str, Any]:
    value = factor * float(value)
    return (f"{value:,.{digits}f}", value) if np.isfinite(value) else ("-", None)


def _key(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _above(one: Mapping[str, Any], sign: float) -> str:
    """Say by how much one is above another, and whether that may be chance."""
    ends = [] if one["low"] is None else sorted(100 * sign * end for end in (one["low"], one["high"]))
    span = f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else ""
    chance = "" if one["beyond_chance"] or not ends else ", which may be chance,"
    return f"{_points(sign * one['mean'])}{span}{chance}"


def _points(part: float) -> str:
    return f"{100 * part:.2f} points"


def _signed(part: float) -> str:
    return f"{100 * part:+.2f} points"
