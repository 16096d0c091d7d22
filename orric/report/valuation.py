"""The figure of data valuation: what becomes of accuracy when samples are removed by their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.report.canvas import clean, figure_of, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANDOM = "random"
# Okabe and Ito's palette; markers repeat the difference, so that a copy in grey can be read, too.
LOOKS: dict[str, dict[str, Any]] = {
    "gradient-shapley": {"color": "#0072B2", "marker": "o"},
    "chg-shapley": {"color": "#D55E00", "marker": "s"},
    "hardness-shapley": {"color": "#009E73", "marker": "^"},
    "loss": {"color": "#CC79A7", "marker": "D"},
    RANDOM: {"color": "#000000", "marker": "x", "linestyle": "--"},
}
PANELS = {"most": "The most worthy removed first\n(below random: the values mean something)",
          "least": "The least worthy removed first\n(above random: the values mean something)"}  # fmt: skip


def point_removal_figure(rows: Sequence[Mapping[str, Any]], conclusion: str) -> Figure:
    """Draw accuracy against the part of the samples that was removed, one panel for each end that is removed first.

    Args:
        rows: Points with "method", "first" ("most", "least", or "random" for random removal), "part" (0 to 1),
            "accuracy" (0 to 1), "accuracies" (of each seed) and "half_width" (of the interval; None for one seed).
        conclusion: What the figure says, in numbers.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = figure_of(4.9)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    handles: dict[str, Any] = {}
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for axes, (first, heading) in zip(panels, PANELS.items(), strict=True):
        for method in methods:
            mine = [row for row in rows if row["method"] == method and row["first"] in (first, RANDOM)]
            reach = np.array([0.0 if row["half_width"] is None else 100 * row["half_width"] for row in mine])
            handles[method] = axes.errorbar(
                [100 * row["part"] for row in mine], [100 * row["accuracy"] for row in mine],
                reach if reach.any() else None, markersize=5, capsize=2, linewidth=1.6, **LOOKS[method],
            )[0]  # fmt: skip
        axes.set_title(heading, fontsize=9, loc="left")
        axes.set_xlabel("Samples removed (%)")
        clean(axes)
    # Intervals over two or three seeds may be wider than anything that was measured, and would flatten all else.
    measured = [100 * one for row in rows for one in row["accuracies"]]
    panels[0].set_ylim(max(min(measured) - 4, 0), min(max(measured) + 4, 101))
    panels[0].set_ylabel("Accuracy on clean held-out images (%)")
    title(figure, conclusion, handles)
    return figure
