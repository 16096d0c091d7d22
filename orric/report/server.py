"""Figures of an edge server: what retraining costs the tail of latencies, and where the GPUs' time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.allocators import REFERENCES
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


def latency_by_phase(result: Result, without: Result | None = None) -> Figure | None:
    """Draw median and 99th percentile of every stream's latency before, during and after retraining in a slot.

    None unless requests were served while retraining ran.

    Args:
        result: Of the allocator shown.
        without: Of an allocator that never retrains, to compare with.
    """
    streams = [name for name, phases in result.latencies.items() if len(phases[1])][:MOST_STREAMS]
    if not streams:
        return None
    shown = {phase: {name: result.latencies[name][n] for name in streams} for n, phase in enumerate(PHASES)}
    if without is not None:
        shown["without retraining"] = {name: LatencyHistogram.merged(without.latencies[name]) for name in streams}
    figure = figure_of(1.6 + 0.42 * len(streams))
    axes = figure.add_subplot()
    handles: dict[str, Any] = {}
    colours = {**PHASES, "without retraining": "#222222"}
    for n, (phase, histograms) in enumerate(shown.items()):
        for row, stream in enumerate(streams):
            low, high = histograms[stream].quantiles(list(QUANTILES))
            y = row + 0.19 * (n - (len(shown) - 1) / 2)
            axes.plot([low, high], [y, y], color=colours[phase], linewidth=2)
            for value, marker in zip((low, high), QUANTILES.values(), strict=True):
                (dot,) = axes.plot([value], [y], color=colours[phase], marker=marker, markersize=4.5)
            handles.setdefault(phase, dot)
    axes.set_yticks(range(len(streams)), streams)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("Latency from arrival to completion (s): median (dot) to 99th percentile (diamond)")
    clean(axes)
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    axes.grid(axis="y", visible=False)
    tails = {
        phase: float(np.nanmedian([histogram.quantile(0.99) for histogram in histograms.values()]))
        for phase, histograms in shown.items()
        if any(map(len, histograms.values()))
    }
    other = next(
        (phase for phase in ("without retraining", "before retraining", "after retraining") if phase in tails), ""
    )
    during = tails["during retraining"]
    text = f"{spoken(result.allocator)}: the median stream's 99th percentile is {during:.2g} s during retraining"
    title(figure, text + (f", {tails[other]:.2g} s {other.removesuffix(' retraining')} it" if other else ""), handles)
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


def accuracy_by_stream(results: Sequence[Result]) -> Figure | None:
    """Draw what every allocator makes of every stream; None unless there are several streams.

    Args:
        results: Of one accuracy model.
    """
    several = [result for result in results if len(result.stream_accuracies) > 1]
    if not several:
        return None
    streams = list(several[0].stream_accuracies)
    order = sorted(several, key=lambda result: -result.mean_accuracy)
    parts = np.array([[100 * result.stream_accuracies[name] for name in streams] for result in order])
    told = [n for n, result in enumerate(order) if result.allocator not in REFERENCES] or list(range(len(order)))
    least_of = parts.min(axis=1)
    best, worst = max(told, key=lambda n: least_of[n]), min(told, key=lambda n: least_of[n])
    text = (
        f"The worst-served stream fares best under {spoken(order[best].allocator)}: {streams[parts[best].argmin()]} "
        f"has {least_of[best]:.0f} % of its requests right, against {least_of[worst]:.0f} % for "
        f"{streams[parts[worst].argmin()]} under {spoken(order[worst].allocator)}"
    )
    if len(streams) > MOST_STREAMS:
        # Those that fare worst somewhere, in their order.
        drawn_streams = np.sort(np.argsort(parts.min(axis=0), kind="stable")[:MOST_STREAMS])
        streams, parts = [streams[n] for n in drawn_streams], parts[:, drawn_streams]
        text += f" (drawn: {MOST_STREAMS} streams that fare worst)"
    figure = figure_of(1.9 + 0.3 * len(order))
    axes = figure.add_subplot()
    least = min(float(parts.min()), 90.0)
    drawn = axes.imshow(parts, aspect="auto", cmap="cividis", vmin=least, vmax=100)
    for row, column in np.ndindex(parts.shape):
        weight = "bold" if parts[row, column] == parts[row].min() else "normal"
        ink = "#222222" if parts[row, column] > (least + 100) / 2 else "white"
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": ink, "fontweight": weight}
        axes.text(column, row, f"{parts[row, column]:.0f}", **style)
    axes.set_xticks(range(len(streams)), streams, rotation=30, ha="right")
    axes.set_yticks(range(len(order)), [f"{one.allocator} ({100 * one.mean_accuracy:.1f})" for one in order])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.colorbar(drawn, ax=axes, label="Requests answered correctly (%)", shrink=0.8, pad=0.02)
    title(figure, text)
    return figure


def server_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """Draw what the first allocator of a comparison does to the server, by file stem."""
    shown = [result for result in results if result.gpu_columns]
    if not shown:
        return {}
    model = shown[0].accuracy_model
    still = [one for one in shown if one.allocator == "inference-only" and one.accuracy_model == model]
    without = still[0] if still and still[0] is not shown[0] else None
    streams = accuracy_by_stream([one for one in results if one.accuracy_model == model])
    drawn = {
        "accuracy_by_stream": streams,
        "latency_by_phase": latency_by_phase(shown[0], without),
        "gpu_use": gpu_use(shown[0]),
    }
    return {stem: figure for stem, figure in drawn.items() if figure is not None}
