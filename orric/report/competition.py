"""Figures of competitive analysis. Every title says what the figure shows, in numbers computed from the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.competitive.game import Played
from orric.competitive.study import Horizon
from orric.report.canvas import clean, figure_of, title
from orric.report.facts import spoken
from orric.report.plots import STYLES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

_MARKERS = {"orric": "o", "inference-only": "s"}
# As the theorems, which are drawn beside them, write them.
_NAMES = {"orric": "ORRIC", "inference-only": "Inference-Only"}


def ratio_by_horizon(rows: Sequence[Horizon]) -> Figure:
    """Draw proved and measured competitive ratios against the number of slots (the ORRIC paper's figure 2)."""
    figure = figure_of(5.6)
    axes = figure.subplots()
    clean(axes)
    slots = np.array([row.slots for row in rows])
    last = rows[-1]
    colors = {name: STYLES[name]["color"] for name in _MARKERS}
    lines: dict[str, Any] = {}

    def curve(label: str, values: Sequence[float], **style: Any) -> None:
        (lines[label],) = axes.plot(slots, values, **style)

    dotted = (0, (1, 1.5))
    for label, bound, name, style in (
        ("Proved: ORRIC ≥", "theorem4", "orric", "-"),
        ("Inference-Only ≤", "theorem3", "inference-only", "--"),
        ("Inference-Only ≥", "theorem2", "inference-only", dotted),
    ):
        # What does not apply is no line to be held against.
        values = [np.nan if bound in row.proved.unproved else getattr(row.proved, bound) for row in rows]
        if not np.isnan(values).all():
            curve(label, values, color=colors[name], linestyle=style)
    for number, name in enumerate(last.worst):
        curve(
            f"{'Found: ' * (number == 0)}{_NAMES.get(name, name)}",
            [row.worst[name][1] for row in rows], linestyle="none", markersize=6,
            color=colors.get(name, "#009E73"), marker=_MARKERS.get(name, "^"),
        )  # fmt: skip
    crossings = {"sharper crossing": last.proved.crossing_slots, "Corollary 1": last.proved.corollary1_slots}
    if not np.isfinite(last.proved.separated_slots) or "corollary1_slots" in last.proved.unproved:
        crossings = {}  # the lines never cross, or elsewhere, and a mark would say they did
    for side, (text, place) in zip(("right", "left"), crossings.items(), strict=False):
        if slots[0] <= place <= slots[-1]:
            axes.axvline(place, color="#8a8a8a", linewidth=1, linestyle=":", zorder=1)
            axes.annotate(
                f"{text}\nT = {place:,.0f}", (place, 0.5), xycoords=("data", "axes fraction"), fontsize=8.5,
                xytext=(-4 if side == "right" else 4, 0), textcoords="offset points", ha=side, va="center",
                color="#555555",
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("slots T")
    axes.set_ylabel("competitive ratio (online / optimum)")
    found = {name: min(row.worst[name][1] for row in rows) for name in last.worst}
    parts = [f"{_NAMES.get(name, name)} falls to {ratio:.3f}" for name, ratio in found.items()]
    title(figure, f"On the worst traces found, {', '.join(parts)} of the optimum", lines)
    return figure


def ratio_by_start(rows: Sequence[Played], slots: int) -> Figure:
    """Draw what allocators guarantee in small games, beside the best that any algorithm can, against f(0) / F."""
    panels = list(dict.fromkeys((row.shape.floor, row.shape.spread) for row in rows))
    names = list(rows[0].ratios)
    figure = figure_of(5.6)
    every = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    lines: dict[str, Any] = {}
    markers, spare = ("o", "s", "^", "D", "v", "P", "X"), ("#56B4E9", "#E69F00", "#009E73", "#CC79A7")
    for axes, (floor, spread) in zip(every, panels, strict=True):
        clean(axes)
        mine = sorted(
            (row for row in rows if (row.shape.floor, row.shape.spread) == (floor, spread)),
            key=lambda row: row.shape.start,
        )
        starts = [row.shape.start for row in mine]
        for label, values, style in (
            ("best of any algorithm", [row.best.low for row in mine], "-"),
            ("best without chance", [row.without_chance.low for row in mine], "--"),
        ):
            (lines[label],) = axes.plot(starts, values, color="#000000", linestyle=style, linewidth=1.4)
        for number, name in enumerate(names):
            color = STYLES[name]["color"] if name in STYLES else spare[number % len(spare)]
            (lines[name],) = axes.plot(
                starts, [row.ratios[name] for row in mine], color=color, marker=markers[number % len(markers)],
                markersize=6, linewidth=1.6,
            )  # fmt: skip
        spreading = f",\nD_max = {spread:g} D_min" if spread != 1 else ""
        axes.set_title(f"L = {floor:g} of the chord{spreading}", size=9.5)
        axes.set_xlabel("f(0) / F")
    every[0].set_ylabel("guaranteed ratio (online / optimum)")
    least = {name: min(row.ratios[name] for row in rows) for name in names}
    best = min(row.without_chance.low for row in rows)
    # A name is not to be broken at its hyphen.
    parts = ", ".join(f"{name.replace('-', '‑')} {ratio:.2f}" for name, ratio in least.items())
    title(figure, f"{slots} slots: any algorithm can guarantee {best:.2f} without chance; {parts}", lines)
    return figure


def loss_by_slot(losses: dict[str, Array]) -> Figure:
    """Draw what each allocator lost against the optimum's allocations, added up slot by slot."""
    figure = figure_of(4.4)
    axes = figure.subplots()
    clean(axes)
    axes.axhline(0, color="#8a8a8a", linewidth=1)
    lines = {}
    for name, loss in losses.items():
        style = STYLES.get(name, {"linewidth": 1.6})
        (lines[spoken(name)],) = axes.plot(np.arange(1, len(loss) + 1), np.cumsum(loss), **style)
    axes.set_xlabel("slot")
    axes.set_ylabel("correct requests lost so far")
    parts = [f"{spoken(name)} loses {float(np.sum(loss)):,.0f}" for name, loss in losses.items()]
    title(figure, f"Of the optimum's correct requests, {', '.join(parts)}", lines)
    return figure
