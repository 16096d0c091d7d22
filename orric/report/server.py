"""Figures of an edge server: what retraining costs the tail of latencies, and where the GPUs' time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.latency import LatencyHistogram
from orric.records import Result
from orric.report.facts import percent, spoken
from orric.report.plots import clean, figure_of, title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PHASES = {"before retraining": "#56B4E9", "during retraining": "#E69F00", "after retraining": "#009E73"}
QUANTILES = {0.5: "o", 0.99: "D"}
USES = {
    "serving": "#0072B2", "labelling": "#CC79A7", "training": "#E69F00", "sampling": "#F0E442", "swapping": "#009E73",
    "down": "#8a8a8a",
}  # fmt: skip
MOST_STREAMS = 24


def latency_by_phase(result: Result) -> Figure | None:
    """Draw median and 99th percentile of every stream's latency before, during and after retraining in a slot.

    None unless requests were served both during retraining and outside of it.
    """
    wholes = [LatencyHistogram.merged(phases[n] for phases in result.latencies.values()) for n in range(3)]
    tails = [whole.quantile(0.99) for whole in wholes]
    calm = LatencyHistogram.merged([wholes[0], wholes[2]])
    if not len(calm) or not len(wholes[1]):
        return None
    streams = list(result.latencies)[:MOST_STREAMS]
    figure = figure_of(1.6 + 0.34 * len(streams))
    axes = figure.add_subplot()
    handles: dict[str, Any] = {}
    for row, stream in enumerate(streams):
        for n, (phase, colour) in enumerate(PHASES.items()):
            low, high = result.latencies[stream][n].quantiles(list(QUANTILES))
            y = row + 0.22 * (n - 1)
            axes.plot([low, high], [y, y], color=colour, linewidth=2.2)
            for value, marker in zip((low, high), QUANTILES.values(), strict=True):
                (dot,) = axes.plot([value], [y], color=colour, marker=marker, markersize=5)
            handles.setdefault(phase, dot)
    axes.set_yticks(range(len(streams)), streams)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("Latency from arrival to completion (s): median (dot) to 99th percentile (diamond)")
    clean(axes)
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    quiet = calm.quantile(0.99)
    text = (
        f"Under {spoken(result.allocator)} the 99th percentile is {tails[1]:.3g} s while retraining runs and "
        f"{quiet:.3g} s otherwise, {tails[1] / quiet:.2g} times"
    )
    title(figure, text, handles)
    return figure


def gpu_use(result: Result) -> Figure | None:
    """Draw what every GPU's time goes to, slot by slot; None where nobody recorded it."""
    columns = result.gpu_columns
    if not columns:
        return None
    names = list(dict.fromkeys(columns["gpu"].tolist()))
    figure = figure_of(1.1 + 1.7 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for axes, name in zip(panels, names, strict=True):
        mine = columns["gpu"] == name
        edges = np.append(columns["slot"][mine], columns["slot"][mine][-1] + 1) - 0.5
        floor = np.zeros(int(mine.sum()))
        for use, colour in USES.items():
            part = columns[use][mine]
            if not part.any():
                continue
            low, floor = np.append(floor, floor[-1:]), floor + 100 * part
            drawn = axes.fill_between(edges, low, np.append(floor, floor[-1:]), step="post", color=colour, linewidth=0)
            handles.setdefault(use, drawn)
        busy = float(floor.mean() - 100 * columns["down"][mine].mean())
        energy = columns["energy_j"][mine]
        told = f"{name}: {busy:.0f} % at work" + (
            f", {energy.sum() / 3600:.3g} Wh" if np.isfinite(energy).all() else ""
        )
        axes.set_title(told, fontsize=9, loc="left", color="#222222")
        axes.set_ylim(0, 105)
        axes.set_xlim(edges[0], edges[-1])
        clean(axes)
    panels[-1].set_xlabel("Slot (index)")
    figure.supylabel("Time of the whole GPU (%)", fontsize=10)
    uses = {use: float(columns[use].mean()) for use in USES}
    learning = uses["labelling"] + uses["training"] + uses["sampling"] + uses["swapping"]
    text = (
        f"Under {spoken(result.allocator)} the GPUs spend {percent(uses['serving'], 0)} of their time on serving and "
        f"{percent(learning, 0)} on retraining"
    )
    title(figure, text, handles)
    return figure


def server_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """Draw what the first allocator of a comparison does to the server, by file stem."""
    shown = [result for result in results if result.gpu_columns]
    if not shown:
        return {}
    drawn = {"latency_by_phase": latency_by_phase(shown[0]), "gpu_use": gpu_use(shown[0])}
    return {stem: figure for stem, figure in drawn.items() if figure is not None}
