"""The tables of a sweep's report: means of every allocator, intervals of every point, and who is best there."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from orric.report.sweep_plots import leading_of

# Values of an axis among which a reader chooses.
MOST_CHOICES = 20
COLUMNS = (
    ("mean_accuracy", "accuracy (%)", 100.0, 2),
    ("worst_stream_accuracy", "worst stream's (%)", 100.0, 2),
    ("in_time_accuracy", "in-time accuracy (%)", 100.0, 2),
    ("worst_stream_in_time_accuracy", "worst stream's in time (%)", 100.0, 2),
    ("ratio_low", "competitive ratio, low end", 1.0, 4),
    ("ratio_high", "high end", 1.0, 4),
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
    ("retraining_part", "of the work retraining (%)", 100.0, 1),
    ("macs_per_request", "MMACs a request", 1e-6, 2),
    ("latency_p50_s", "p50 latency (s)", 1.0, 3),
    ("last_severity_accuracy", "accuracy, last severity (%)", 100.0, 2),
    ("requests", "requests", 1.0, 0),
    ("served", "served", 1.0, 0),
    ("in_time", "in time", 1.0, 0),
)
# What is left out where it is what another column says, or nothing, for all.
OFTEN_SAME = {
    "worst_stream_accuracy": "mean_accuracy", "in_time_accuracy": "mean_accuracy",
    "worst_stream_in_time_accuracy": "in_time_accuracy", "served": "requests", "in_time": "served",
}  # fmt: skip
OFTEN_NOTHING = ("late", "shed", "abandoned", "lost", "waiting", "overloaded")


def columns_of(summary: Mapping[str, Any]) -> list[tuple[str, str, float, int]]:
    """Return the columns to show, the leading measure first: without what others say, and fates that nobody met."""
    means, leading = summary["means"].values(), leading_of(summary)

    def differs(name: str, other: str) -> bool:
        return any(one.get(name) != one.get(other) for one in means)

    def told(name: str) -> bool:
        if name == leading:
            return True
        if name in OFTEN_SAME:
            return differs(name, OFTEN_SAME[name])
        if name == "answered":
            return differs("served", "requests")
        return name not in OFTEN_NOTHING or any((one.get(name) or {}).get("mean") for one in means)

    return sorted((column for column in COLUMNS if told(column[0])), key=lambda column: column[0] != leading)


def means_table(summary: Mapping[str, Any]) -> str:
    """Return the table of the allocators' means, which sorts by a click."""
    lines, baseline = summary["allocators"], summary["baseline"]
    shown = [
        column for column in columns_of(summary)
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
    return _table(f"Means over all points and seeds, {intervals(summary)}", headings, rows)


def points_table(summary: Mapping[str, Any]) -> str:
    """Return the table of all points and allocators with every measure's interval, and a filter above it."""
    every = summary["by_point"]
    shown = [
        column
        for column in columns_of(summary)
        if any((mean.get(column[0]) or {}).get("mean") is not None for one in every for mean in one["means"].values())
    ]
    axes = list(summary["axis_titles"])
    headings = ["allocator", "point", *axes, *(title for _, title, _, _ in shown)]
    rows = []
    for one in every:
        for line, means in one["means"].items():
            cells: list[tuple[str, Any]] = [(str(one["point"]), one["point"]), *_values(one, axes)]
            cells += [_interval(means.get(name), factor, digits) for name, _, factor, digits in shown]
            rows.append((line, cells))
    choices = {"allocator": list(every[0]["means"]), **_choices(every, axes)} if every else {}
    caption = f"Means over seeds, point by point, {intervals(summary)}"
    table = _table(caption, headings, rows)
    return f'{_cut(summary)}{_filters("points", choices, headings)}\n<div id="points">{table}</div>'


def best_table(summary: Mapping[str, Any]) -> str:
    """Return the table of who is best at every point, who comes next, and whether that may be chance."""
    every, axes = summary["by_point"], list(summary["axis_titles"])
    accuracy = "in-time accuracy (%)" if leading_of(summary) == "in_time_accuracy" else "accuracy (%)"
    headings = ["best", "point", *axes, accuracy, "next", "above the next (points)", "beyond chance", "p (Holm)"]
    rows = []
    for one in every:
        winner = one["winner"]
        if winner is None:
            continue
        own = one["means"][winner["best"]].get(leading_of(summary))
        chance = ("-", None) if winner["p_holm"] is None else (f"{winner['p_holm']:.2g}", winner["p_holm"])
        cells: list[tuple[str, Any]] = [(str(one["point"]), one["point"]), *_values(one, axes)]
        cells += [_interval(own, 100.0, 2), (winner["runner_up"], winner["runner_up"])]
        cells += [_interval(winner, 100.0, 2, signed=True), (verdict(winner), verdict(winner)), chance]
        rows.append((winner["best"], cells))
    if not rows:
        return ""
    choices = {"best": sorted({name for name, _ in rows}), **_choices(every, axes)}
    caption = "Who is best at every point: differences are paired, seed by seed"
    return f'{_filters("best", choices, headings)}\n<div id="best">{_table(caption, headings, rows)}</div>'


def intervals(summary: Mapping[str, Any]) -> str:
    """Say which intervals a table has."""
    alike = summary.get("alike", [])
    return "which are one run: seeds change nothing" if len(alike) == len(summary["means"]) else "with 95 % intervals"


def verdict(winner: Mapping[str, Any]) -> str:
    """Say whether the best of a point is ahead beyond chance."""
    if winner["tie"]:
        return "level"
    if winner["p_holm"] is None:
        return "one run" if winner["count"] > 1 else "one seed"
    return "yes" if winner["beyond_chance"] else "no"


def _values(one: Mapping[str, Any], axes: Sequence[str]) -> list[tuple[str, Any]]:
    return [(_text(one["values"][axis]), one["values"][axis]) for axis in axes]


def _choices(every: Sequence[Mapping[str, Any]], axes: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of every axis that has few enough to choose from."""
    found = {axis: list(dict.fromkeys(_text(one["values"][axis]) for one in every)) for axis in axes}
    return {axis: values for axis, values in found.items() if 1 < len(values) <= MOST_CHOICES}


def _filters(table: str, choices: Mapping[str, Sequence[str]], headings: list[str]) -> str:
    selects = "".join(
        f'<label>{html.escape(name)} <select data-column="{headings.index(name)}"><option value="">all</option>'
        + "".join(f"<option>{html.escape(value)}</option>" for value in values)
        + "</select></label>\n"
        for name, values in choices.items()
    )
    return f'<form class="filters" data-for="{table}">\n{selects}<output></output></form>'


def _cut(summary: Mapping[str, Any]) -> str:
    told, count = len(summary["by_point"]), summary["points"]
    return f"<p>The first {told:,} of {count:,} points; points.csv has all.</p>" if told < count else ""


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
    caption = html.escape(caption)
    frame = f'<p class="caption">{caption}</p>\n<div class="scroll" tabindex="0" role="region" aria-label="{caption}">'
    return f"{frame}<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>"


def _interval(one: Mapping[str, Any] | None, factor: float, digits: int, signed: bool = False) -> tuple[str, Any]:
    if one is None or one["mean"] is None:
        return "-", None
    mean = factor * one["mean"]
    text = f"{mean:+,.{digits}f}" if signed else f"{mean:,.{digits}f}"
    if one["low"] is not None and one["low"] < one["high"]:
        text += f" ± {factor * (one['high'] - one['low']) / 2:,.{digits}f}"
    return text, mean


def _key(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
