"""Figures of competitive analysis. Every title says what the figure shows, in numbers computed from the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.competitive.study import Horizon
from orric.report.facts import spoken
from orric.report.plots import STYLES, figure_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]


def ratio_by_horizon(rows: Sequence[Horizon]) -> Figure:
    """Draw proved and measured competitive ratios against the number of slots (the ORRIC paper's figure 2)."""
    figure = figure_of(6.2)
    axes = figure.subplots()
    slots = np.array([row.slots for row in rows])
    last = rows[-1]
    orric, alone = STYLES["orric"]["color"], STYLES["inference-only"]["color"]
    axes.plot(slots, [row.proved.theorem4 for row in rows], color=orric, label="ORRIC, proved at least (Theorem 4)")
    axes.plot(
        slots, [row.proved.theorem3 for row in rows], color=alone, linestyle="--",
        label="Inference-Only, proved at most with equal requests (Theorem 3)",
    )  # fmt: skip
    axes.plot(
        slots, [row.proved.theorem2 for row in rows], color=alone, linestyle=(0, (1, 1.5)),
        label="Inference-Only, proved at least (Theorem 2)",
    )  # fmt: skip
    for name, color, marker in (("orric", orric, "o"), ("inference-only", alone, "s")):
        if name in last.worst:
            axes.plot(
                slots, [row.worst[name][1] for row in rows], color=color, marker=marker, linestyle="none",
                label=f"{spoken(name)}, worst measured",
            )  # fmt: skip
    axes.set_xscale("log")
    for place, text in (
        (last.proved.crossing_slots, "crossing by Theorem 4's\nbetter form"),
        (last.proved.corollary1_slots, "Corollary 1"),
    ):
        if slots[0] <= place <= slots[-1]:
            axes.axvline(place, color="#8a8a8a", linewidth=1, linestyle=":")
            axes.annotate(
                f" {text}, T = {place:,.0f}", (place, 1.0), xycoords=("data", "axes fraction"), rotation=90,
                va="top", ha="right", color="#555555", fontsize=9,
            )  # fmt: skip
    axes.set_xlabel("slots T")
    axes.set_ylabel("competitive ratio (online / offline optimum)")
    axes.set_ylim(top=1.005)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(0.0, 0.62))
    parts = [f"{spoken(name)} {min(row.worst[name][1] for row in rows):.3f}" for name in last.worst]
    figure.suptitle(
        f"Measured worst ratios: {', '.join(parts)}; proved for ORRIC: {last.proved.theorem4:.3f}", x=0.01, ha="left"
    )
    return figure


def loss_by_slot(losses: dict[str, Array]) -> Figure:
    """Draw what each allocator lost against the optimum's allocations, added up slot by slot."""
    figure = figure_of(4.6)
    axes = figure.subplots()
    for name, loss in losses.items():
        style = STYLES.get(name, {"linewidth": 1.6})
        axes.plot(np.arange(1, len(loss) + 1), np.cumsum(loss), label=spoken(name), **style)
    axes.axhline(0, color="#8a8a8a", linewidth=1)
    axes.set_xlabel("slot")
    axes.set_ylabel("correct requests lost so far")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    parts = [f"{spoken(name)} {float(np.sum(loss)):,.0f}" for name, loss in losses.items()]
    figure.suptitle(f"Correct requests lost against the offline optimum: {', '.join(parts)}", x=0.01, ha="left")
    return figure
