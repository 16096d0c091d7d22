"""Figures of an edge server: what retraining costs the tail of latencies, and where the GPUs' time goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.allocators import REFERENCES
from orric.latency import LatencyHistogram
from orric.records import Result
from orric.report.canvas import INK, clean, explain, figure_of, medium, title
from orric.report.facts import leading, leading_by_stream, leading_name, main_results, percent, spoken, winners

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PHASES = {"before retraining": "#56B4E9", "during retraining": "#E69F00", "after retraining": "#009E73"}
QUANTILES = {0.5: "o", 0.99: "D"}
USES = {
    "serving": "#0072B2", "labelling": "#CC79A7", "training": "#E69F00", "sampling": "#F0E442", "swapping": "#009E73",
    "down": "#8a8a8a",
}  # fmt: skip
MOST_STREAMS, MOST_IN_A_COLUMN = 24, 9


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
    figure, on = figure_of(1.6 + 0.42 * len(streams), rows=True), medium()
    axes = figure.add_subplot()
    handles: dict[str, Any] = {}
    colours = {**PHASES, "without retraining": "#222222"}
    for n, (phase, histograms) in enumerate(shown.items()):
        for row, stream in enumerate(streams):
            if not len(histograms[stream]):
                continue
            low, high = histograms[stream].quantiles(list(QUANTILES))
            y = row + 0.19 * (n - (len(shown) - 1) / 2)
            axes.plot([low, high], [y, y], color=colours[phase], linewidth=2 * on.scale)
            for value, marker in zip((low, high), QUANTILES.values(), strict=True):
                (dot,) = axes.plot([value], [y], color=colours[phase], marker=marker, markersize=4.5 * on.scale)
            handles.setdefault(phase, dot)
    axes.set_yticks(range(len(streams)), streams)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    marks = "\n" if on.is_narrow else " "
    axes.set_xlabel(f"Latency from arrival to completion (s):{marks}median (dot) to 99th percentile (diamond)")
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
    served = [phase.removesuffix(" retraining") for phase in PHASES if phase in handles]
    return explain(
        figure,
        f"Latencies of the answered requests whose service began {' or '.join(served)} the slot's retraining"
        + ("" if without is None else f"; {without.allocator} never retrains")
        + ". Quantiles are right to half a percent.",
    )


def gpu_use(result: Result) -> Figure | None:
    """Draw what every GPU's time goes to, slot by slot; None where nobody recorded it."""
    columns = result.gpu_columns
    if not columns:
        return None
    names = list(dict.fromkeys(columns["gpu"].tolist()))
    figure, on = figure_of(1.1 + 1.7 * max(len(names), 1.4)), medium()
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
        axes.set_title(told, fontsize=on.text_pt, loc="left", color=INK)
        axes.set_ylim(0, 105)
        axes.set_xlim(edges[0], edges[-1])
        clean(axes)
    panels[-1].set_xlabel("Slot (index)")
    figure.supylabel("Time of the whole GPU (%)", fontsize=on.text_pt + on.titled)
    uses = {use: float(columns[use].mean()) for use in USES}
    learning = uses["labelling"] + uses["training"] + uses["sampling"] + uses["swapping"]
    text = (
        f"Under {spoken(result.allocator)} the GPUs spend {percent(uses['serving'], 0)} of their time on serving and "
        f"{percent(learning, 0)} on retraining"
    )
    title(figure, text, handles)
    return explain(
        figure,
        "What each GPU's time was spent on. What is left of 100 % idled, or belonged to the budget that others use.",
    )


def accuracy_by_stream(results: Sequence[Result]) -> Figure | None:
    """Draw what every allocator makes of every stream; None unless there are several streams.

    Args:
        results: Of one accuracy model.
    """
    several = [result for result in results if len(leading_by_stream(result)) > 1]
    if not several:
        return None
    found = {id(result): leading_by_stream(result) for result in several}
    streams, on = list(found[id(several[0])]), medium()
    order = sorted(several, key=lambda result: -leading(result))
    parts = np.array([[100 * found[id(result)][name] for name in streams] for result in order])
    right = "right and in time" if several[0].has_deadlines else "right"
    text = _worst_served(order, parts, streams, right)
    most = MOST_IN_A_COLUMN if on.is_narrow else MOST_STREAMS
    if len(streams) > most:
        # Those that fare worst somewhere, in their order.
        drawn_streams = np.sort(np.argsort(parts.min(axis=0), kind="stable")[:most])
        streams, parts = [streams[n] for n in drawn_streams], parts[:, drawn_streams]
        text += f" (drawn: {most} streams that fare worst)"
    figure = figure_of(1.9 + 0.3 * len(order), rows=True)
    axes = figure.add_subplot()
    least = min(float(parts.min()), 90.0)
    drawn = axes.imshow(parts, aspect="auto", cmap="cividis", vmin=least, vmax=100)
    for row, column in np.ndindex(parts.shape):
        weight = "bold" if parts[row, column] == parts[row].min() else "normal"
        ink = "#222222" if parts[row, column] > (least + 100) / 2 else "white"
        style: dict[str, Any] = {
            "ha": "center",
            "va": "center",
            "fontsize": on.text_pt - on.titled,
            "color": ink,
            "fontweight": weight,
        }
        axes.text(column, row, f"{parts[row, column]:.0f}", **style)
    axes.set_xticks(range(len(streams)), streams, rotation=45 if on.is_narrow else 30, ha="right")
    axes.set_yticks(range(len(order)), [f"{one.allocator} ({100 * leading(one):.1f})" for one in order])
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if not on.is_narrow:
        figure.colorbar(drawn, ax=axes, label=f"{leading_name(several).capitalize()} (%)", shrink=0.8, pad=0.02)
    title(figure, text)
    return explain(
        figure,
        f"Part of each stream's requests that were answered {right.replace('right', 'correctly', 1)} over the whole "
        "run, in percent; the worst of each row is bold. In brackets it is that of all requests.",
    )


def _worst_served(order: Sequence[Result], parts: np.ndarray, streams: Sequence[str], right: str) -> str:
    """Say under which allocator the stream that fares worst fares best, and under which it fares worst."""
    told = [n for n, result in enumerate(order) if result.allocator not in REFERENCES] or list(range(len(order)))
    least = parts.min(axis=1)
    best, worst = max(told, key=lambda n: least[n]), min(told, key=lambda n: least[n])
    high, low = (streams[parts[n].argmin()] for n in (best, worst))
    names = [spoken(order[n].allocator) for n in (best, worst)]
    had = f"{least[best]:.0f} % of its requests {right}"
    if len(told) == 1:
        return f"Under {names[0]} the stream {high} fares worst: it has {had}"
    text = f"The worst-served stream fares best under {names[0]}: {high} has {had}"
    if f"{least[best]:.0f}" == f"{least[worst]:.0f}":
        return f"{text}, and no less under any other"
    return f"{text}, " + (
        f"and {least[worst]:.0f} % under {names[1]}"
        if low == high
        else f"against {least[worst]:.0f} % for {low} under {names[1]}"
    )


def server_figures(results: Sequence[Result]) -> dict[str, Figure]:
    """Draw what the best allocator of a comparison does to the server, by file stem.

    Args:
        results: As the engine returned them, not pooled.
    """
    main = main_results(results)
    best = next((result for result in winners(main) if result.gpu_columns), None)
    if best is None:
        return {}
    still = next((one for one in main if one.allocator == "inference-only" and one is not best), None)
    drawn = {
        "accuracy_by_stream": accuracy_by_stream(main),
        "latency_by_phase": latency_by_phase(best, still),
        "gpu_use": gpu_use(best),
    }
    return {stem: figure for stem, figure in drawn.items() if figure is not None}
