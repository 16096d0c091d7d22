"""Figures of what networks look at, and of signs of drift over the slots."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.exceptions import extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
# Runs from dark blue to yellow in steps of equal lightness, for every kind of colour vision.
HEAT = "cividis"
# What is no part of anything.
RATIOS = ("attention",)
COLORS = {"frozen": "#D55E00", "retrained": "#0072B2"}
_INK, _FAINT, _RIGHT, _WRONG = "#222222", "#6b6b6b", "#0072B2", "#D55E00"
_PANEL_IN, _WIDTH_IN = 1.35, 10.0


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes:
        image: Shape (height, width, 3), 0 to 255.
        caption: Below it.
        values: What is looked at, shape (height, width), at least 0; None for the image alone.
        right: Whether the caption tells something right or wrong; None for neither.
    """

    image: Array
    caption: str
    values: Array | None = None
    right: bool | None = None


def attention_figure(headings: Sequence[str], rows: Sequence[Sequence[Panel]], title: str) -> Figure:
    """Draw images and what networks look at in them, a row for each image.

    Args:
        headings: One for each column.
        rows: Panels, as many in each row as there are headings.
        title: What the figure says.
    """
    with extra("sim"):
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.figure import Figure
    count, across = len(rows), len(headings)
    figure = Figure(figsize=(_PANEL_IN * across + 0.9, (_PANEL_IN + 0.22) * count + 1.15), layout="constrained")
    figure.suptitle(textwrap.fill(title, 15 * across), fontsize=11, color=_INK, x=0.01, ha="left", fontweight="bold")
    grid = figure.subplots(count, across, squeeze=False)
    for axes_of_row, panels in zip(grid, rows, strict=True):
        for axes, panel in zip(axes_of_row, panels, strict=True):
            _draw(axes, panel)
    for axes, heading in zip(grid[0], headings, strict=True):
        axes.set_title(heading, fontsize=8.5, color=_INK)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), HEAT), ax=grid, shrink=0.6, pad=0.01, aspect=25)
    bar.set_label("attention, part of the map's largest", fontsize=8, color=_INK)
    bar.ax.tick_params(labelsize=7)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    if panel.values is None:
        axes.imshow(panel.image, interpolation="nearest")
    else:
        largest = float(panel.values.max(initial=0.0))
        axes.imshow(np.asarray(panel.image, float).mean(axis=2), cmap="gray", vmin=0, vmax=255)
        shown = panel.values / largest if largest > 0 else panel.values
        axes.imshow(shown, cmap=HEAT, vmin=0, vmax=1, alpha=0.62, interpolation="bilinear")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    # A sign as well as a colour tells right from wrong.
    sign = "" if panel.right is None else "✓ " if panel.right else "✗ "
    color = _INK if panel.right is None else _RIGHT if panel.right else _WRONG
    axes.set_xlabel(sign + panel.caption, fontsize=8, color=color, labelpad=2)


def signals_figure(
    severities: Array, accuracy: Mapping[str, Array], signals: Mapping[str, Mapping[str, Array]], title: str
) -> Figure:
    """Draw true accuracy and what is known without true labels, slot by slot.

    Args:
        severities: Of each slot, shape (T,).
        accuracy: By the name of the student, shape (T,).
        signals: By name, likewise.
        title: What the figure says.
    """
    with extra("sim"):
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    series = {"true accuracy": accuracy, **signals}
    figure = Figure(figsize=(_WIDTH_IN, 1.55 * len(series) + 0.9), layout="constrained")
    figure.suptitle(textwrap.fill(title, 105), fontsize=11, color=_INK, x=0.01, ha="left", fontweight="bold")
    slots = np.arange(1, len(severities) + 1)
    begins = slots[np.flatnonzero(np.diff(severities, prepend=-1))]
    grid = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, lines) in zip(grid, series.items(), strict=True):
        for student, values in lines.items():
            style = "-" if student == "retrained" else "--"
            axes.plot(slots, values, style, color=COLORS.get(student, _FAINT), linewidth=1.8, label=student)
        for begin in begins[1:]:
            axes.axvline(begin - 0.5, color=_FAINT, linewidth=0.6, linestyle=":")
        axes.set_ylabel(textwrap.fill(name, 14), fontsize=9, color=_INK)
        if name in RATIOS:
            axes.set_ylabel(f"{name} (0 to 1)", fontsize=9, color=_INK)
        else:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    first, last = figure.axes[0], figure.axes[-1]
    first.legend(title="student", fontsize=8, title_fontsize=8, frameon=False, loc="lower left", ncols=2)
    for begin, severity in zip(begins, severities[begins - 1], strict=True):
        first.annotate(
            f"severity {severity}", (begin, 1.02), xycoords=("data", "axes fraction"), fontsize=8, color=_FAINT
        )
    last.set_xlabel("slot", fontsize=9, color=_INK)
    last.xaxis.set_major_locator(MaxNLocator(integer=True))
    last.set_xlim(0.5, len(slots) + 0.5)
    return figure
