"""Figures of a sweep: what each axis does, who differs from the baseline, and who is not dominated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.allocators import REFERENCES
from orric.report.canvas import clean, figure_of, title
from orric.report.facts import TIE, spoken

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

# Okabe and Ito's palette; markers repeat the difference, so that a copy in grey can be read, too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8a8a8a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
ACROSS, MOST_LEVELS = 3, 12
FAINT = "#6b6b6b"


def leading_of(summary: Mapping[str, Any]) -> str:
    """Return the measure that a sweep's allocators are ranked by; earlier versions of orric knew one alone."""
    return str(summary.get("leading", "mean_accuracy"))


def leading_name(summary: Mapping[str, Any]) -> str:
    """Return what the leading measure is called."""
    return "in-time accuracy" if leading_of(summary) == "in_time_accuracy" else "mean accuracy"


def _title(name: str) -> str:
    return f"{name[0].upper()}{name[1:]}"


def looks(allocators: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return a colour and a marker for every allocator, ORRIC's the first ones."""
    ordered = sorted(allocators, key=lambda name: name != "orric")
    return {
        name: {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[(place + place // len(COLOURS)) % len(MARKERS)],
            "linestyle": "-" if place < len(COLOURS) else "--",
        }
        for place, name in enumerate(ordered)
    }


def by_axis(summary: Mapping[str, Any]) -> Figure | None:
    """Draw the leading measure against the values of every axis, one small figure each; None without axes to draw."""
    rows: list[dict[str, Any]] = summary["axes"]
    names = list(dict.fromkeys(row["axis"] for row in rows))
    if not names:
        return None
    lines, style = summary["allocators"], looks(summary["allocators"])
    down = -(-len(names) // ACROSS)
    figure = figure_of(2.2 + 2.6 * down)
    grid = figure.subplots(down, min(ACROSS, len(names)), squeeze=False, sharey=True)
    handles: dict[str, Any] = {}
    spans = {}
    for axes, name in zip(grid.flat, names, strict=False):
        mine = [row for row in rows if row["axis"] == name]
        numeric = all(isinstance(row["value"], (int, float)) for row in mine)
        places = [row["value"] for row in mine] if numeric else list(range(len(mine)))
        for line in lines:
            means = [row["means"][line] for row in mine]
            y = np.array([_percent(one["mean"]) for one in means])
            low = np.array([_percent(one["low"]) for one in means])
            reach = np.where(np.isfinite(low), y - low, 0.0)
            handles[line] = axes.errorbar(places, y, reach, markersize=5, capsize=2, linewidth=1.6, **style[line])[0]
        if numeric and min(places) > 0 and max(places) / min(places) >= 8:
            axes.set_xscale("log")
        if not numeric or len(places) <= MOST_LEVELS // 2:
            axes.set_xticks(places, [_shown(row["value"]) for row in mine])
            axes.minorticks_off()
        axes.set_xlabel(name)
        clean(axes)
        spans[name] = max(_span([row["means"][line]["mean"] for row in mine]) for line in lines)
    for axes in list(grid.flat)[len(names) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel(f"{_title(leading_name(summary))} (%)")
    most = max(spans, key=lambda name: spans[name])
    told = f"{most} moves accuracy most: by up to {100 * spans[most]:.1f} points for one allocator"
    title(figure, told if len(names) > 1 else f"{most} moves accuracy by up to {100 * spans[most]:.1f} points", handles)
    return figure


def differences(summary: Mapping[str, Any]) -> Figure | None:
    """Draw every allocator's paired difference to the baseline with its interval; None without others."""
    found: dict[str, dict[str, Any]] = {
        line: one for line, one in summary["differences"].items() if one["mean"] is not None
    }
    if not found:
        return None
    ordered = sorted(found, key=lambda line: (round(found[line]["mean"] / TIE), line == "orric"))
    style, baseline = looks(summary["allocators"]), summary["baseline"]
    figure = figure_of(1.9 + 0.34 * len(ordered))
    axes = figure.add_subplot()
    axes.axvline(0.0, color=FAINT, linewidth=1.0)
    for place, line in enumerate(ordered):
        one = found[line]
        mean, low, high = (_percent(one[name]) for name in ("mean", "low", "high"))
        reach = [[mean - low], [high - mean]] if np.isfinite(low) else None
        look = {**style[line], "linestyle": "none"}
        if not one["beyond_chance"]:
            look["markerfacecolor"] = "white"
        axes.errorbar([mean], [place], xerr=reach, markersize=7, capsize=3, linewidth=1.6, **look)
    axes.set_yticks(range(len(ordered)), ordered)
    axes.set_ylim(-0.6, len(ordered) - 0.4)
    what = f"{_title(leading_name(summary))} above {baseline} (points)"
    told = any(one["p_holm"] is not None for one in found.values())
    chance = "95 % interval; hollow: may be chance" if told else "one run: nothing is known of chance"
    axes.set_xlabel(f"{what}, {chance}")
    clean(axes)
    best = ordered[-1]
    mean = 100 * found[best]["mean"]
    if mean > 0:
        said = f"{spoken(best)} is {mean:.1f} points above {spoken(baseline)}"
        said += f", the most of {len(ordered)} allocators" if len(ordered) > 1 else ""
    else:
        said = f"No allocator is above {spoken(baseline)}; {spoken(best)} comes next, {-mean:.1f} points below"
    title(figure, said)
    return figure


def pareto(summary: Mapping[str, Any]) -> Figure | None:
    """Draw accuracy against latency, energy or compute, whichever are known; None where accuracy is not."""
    costs = {"latency_p99_s": "p99 latency (s)", "energy_j": "Energy (J)", "macs_per_request": "MMACs per request"}
    means, lines = summary["means"], summary["allocators"]
    known = [
        name for name in costs if all((means[line].get(name) or {}).get("mean") is not None for line in lines)
    ]  # fmt: skip
    leading = leading_of(summary)
    if not known or any((means[line].get(leading) or {}).get("mean") is None for line in lines):
        return None
    style = looks(lines)
    figure = figure_of(4.4)
    panels = figure.subplots(1, len(known), squeeze=False, sharey=True)[0]
    handles: dict[str, Any] = {}
    y = {line: _percent(means[line][leading]["mean"]) for line in lines}
    fronts = {}
    for axes, name in zip(panels, known, strict=True):
        factor = 1e-6 if name == "macs_per_request" else 1.0
        x = {line: factor * means[line][name]["mean"] for line in lines}
        front = [line for line in lines if not any(_dominates((x[o], y[o]), (x[line], y[line])) for o in lines)]
        fronts[name] = front
        for line in lines:
            look = {**style[line], "linestyle": "none"}
            if line not in front:
                look["markerfacecolor"] = "white"
            handles[line] = axes.plot([x[line]], [y[line]], markersize=8, **look)[0]
        along = sorted(front, key=lambda line: x[line])
        axes.plot([x[line] for line in along], [y[line] for line in along], color=FAINT, linewidth=0.9, zorder=1)
        axes.set_xlabel(costs[name])
        clean(axes)
    panels[0].set_ylabel(f"{_title(leading_name(summary))} (%)")
    everywhere = [line for line in lines if all(line in front for front in fronts.values())]
    names = ", ".join(map(spoken, everywhere[:4])) + (f" and {len(everywhere) - 4} more" if len(everywhere) > 4 else "")
    title(figure, f"Dominated by no other allocator in any panel: {names or 'nobody'} (filled)", handles)
    return figure


def wins_by_point(frame: pandas.DataFrame, summary: Mapping[str, Any]) -> dict[str, int]:
    """Return at how many points each allocator has the best leading measure; ties, within 0.05 points, count for all.

    Reference lines, which are no allocators, are passed over.
    """
    frame = frame[~frame["allocator"].isin(REFERENCES)]
    means = frame.groupby(["point", "allocator"])[leading_of(summary)].mean().unstack()
    best = means.ge(means.max(axis=1) - TIE, axis=0)
    return {line: int(best[line].sum()) for line in summary["allocators"] if line in best}


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Say whether one is no dearer and no worse, and not the same."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def _percent(value: float | None) -> float:
    return float("nan") if value is None else 100 * value


def _span(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return max(known) - min(known) if known else 0.0


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
