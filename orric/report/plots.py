"""Figures of a comparison. Every title says what the figure shows, in numbers computed from the results."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.allocators import REFERENCES
from orric.exceptions import extra
from orric.records import Array, Result
from orric.report.facts import (
    Line,
    budget_parts,
    macs_unit,
    main_results,
    merged,
    percent,
    severity_groups,
    spoken,
    winners,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which stays distinct under colour blindness. Line styles repeat the difference.
STYLES: dict[str, dict[str, Any]] = {
    "orric": {"color": "#0072B2", "linewidth": 2.4, "zorder": 5},
    "orric-guided": {"color": "#009E73", "linewidth": 2.4, "zorder": 5},
    "orric-joint": {"color": "#56B4E9", "linewidth": 1.8, "zorder": 4},
    "thief": {"color": "#E69F00", "linewidth": 1.8, "zorder": 4},
    "inference-only": {"color": "#D55E00", "linewidth": 1.8, "zorder": 4},
    "batch-norm-only": {"color": "#E69F00", "linewidth": 1.8, "linestyle": "--", "zorder": 4},
    "teacher-only": {"color": "#000000", "linewidth": 1.4, "linestyle": (0, (1, 1.2)), "zorder": 4},
}
_THIN: tuple[dict[str, Any], ...] = (
    {"color": "#CC79A7", "linestyle": "-"},
    {"color": "#8a8a8a", "linestyle": "-"},
    {"color": "#CC79A7", "linestyle": (0, (5, 1))},
    {"color": "#8a8a8a", "linestyle": (0, (1, 1))},
    {"color": "#CC79A7", "linestyle": (0, (1, 1))},
    {"color": "#8a8a8a", "linestyle": (0, (3, 1, 1, 1))},
)
_USES = {"inference": "#0072B2", "retraining": "#E69F00", "unused": "#dcdcdc"}
_REAL, _PREDICTED, _SHED = "#0072B2", "#D55E00", "#D55E00"
_INK, _FAINT = "#222222", "#6b6b6b"
_WIDTH_IN, _MOST_POINTS, _MOST_LINES = 10.0, 120, 9
_MOST_ABREAST = 7  # names in a row of a legend
_LONGEST_LEADER_PT = 36.0  # of its height


def figures(results: Sequence[Result]) -> dict[str, Figure]:
    """Draw every figure that the results allow, by file stem.

    Args:
        results: Of one scenario and seed, under one accuracy model or both.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    drawn = {
        "accuracy_by_slot": accuracy_by_slot(results),
        "budget_split": budget_split(results),
        "curve_against_real": curve_against_real(results),
        "accuracy_cost_latency": accuracy_cost_latency(results),
    }
    return {stem: figure for stem, figure in drawn.items() if figure is not None}


def as_svg(figure: Figure) -> bytes:
    """Write a figure as SVG: without a date, and the same bytes for the same figure."""
    with extra("sim"):
        import matplotlib
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "orric", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    return buffer.getvalue()


def accuracy_by_slot(results: Sequence[Result]) -> Figure | None:
    """Draw each line's accuracy slot by slot, with the severity steps; None without results."""
    shown = main_results(results)
    if not shown:
        return None
    figure, severity = figure_of(5.0, layout=None), shown[0].severity
    group = math.ceil(len(severity) / _MOST_POINTS)
    where = f"at severity {severity[-1]}" if severity[-1] >= 0 else "on average"
    top = title(figure, _headline(shown, lambda result: percent(_last(result)), where))
    axes = figure.add_axes((0.075, 0.12, 0.645, top - 0.21))
    thin, labels, lowest = 0, [], 100.0
    lines = merged(shown, lambda result: np.round(result.accuracy.astype(float), 9).tobytes())
    drawn = _foremost(lines)
    for line in drawn:
        style = STYLES.get(line.names[0])
        if style is None:
            style = {"linewidth": 1.0, "zorder": 3, **_THIN[thin % len(_THIN)]}
            thin += 1
        x, y = _averaged(line.result, group)
        # Without a marker a single point between gaps would be invisible.
        axes.plot(x, y, marker="." if len(x) <= 12 or np.isnan(y).any() else None, label=line.label, **style)
        known = np.flatnonzero(np.isfinite(y))
        lowest = min(lowest, float(np.nanmin(y))) if known.size else 0.0
        end = (float(x[known[-1]]), float(y[known[-1]])) if known.size else (float(x[-1]), 0.0)
        last = _last(line.result)
        labels.append((100 * last, end, f"{_broken(line.names, 25)}  {percent(last)}", style))
    axes.set_ylim(max(0.0, lowest - 6), 102)
    _over_slots(axes, len(severity))
    axes.set_xlabel(f"Slot (index{f', one point for {group} slots' if group > 1 else ''})")
    axes.set_ylabel("Accuracy of served requests (%)")
    clean(axes)
    _mark_severities(axes, shown[0])
    others = sum(len(line.names) for line in lines) - sum(len(line.names) for line in drawn)
    _label_ends(
        figure, axes, labels, f"Accuracy of all requests\n{where}" + f"; {others} more in the table" * bool(others)
    )
    return figure


def _foremost(lines: list[Line]) -> list[Line]:
    """Leave out the worst lines where there are too many to tell apart, but none with a style of its own."""
    ranked = sorted(lines, key=lambda line: (line.names[0] not in STYLES, -line.result.mean_accuracy))
    kept = {line.names for line in ranked[:_MOST_LINES]}
    return [line for line in lines if line.names in kept]


def budget_split(results: Sequence[Result]) -> Figure | None:
    """Draw what each allocator spends of every slot's budget, one panel each; None without allocators."""
    shown = [result for result in main_results(results) if result.allocator not in REFERENCES]
    if not shown:
        return None
    lines = merged(shown, lambda result: (result.inference_macs.tobytes(), result.retraining_macs.tobytes()))
    most = max(float(np.maximum(r.budget_macs, r.inference_macs + r.retraining_macs).max()) for r in shown)
    factor, unit = macs_unit(most)
    names = [_broken(line.names, 46) for line in lines]
    figure, panels = _panels(names, 1 if len(lines) == 1 else 2, 1.75)
    handles: dict[str, Any] = {}
    for axes, name, line in zip(panels, names, lines, strict=True):
        result, floor = line.result, np.zeros(len(line.result.slot))
        edges = np.arange(len(floor) + 1) + 0.5
        unused = np.maximum(result.budget_macs - result.inference_macs - result.retraining_macs, 0.0)
        parts = (result.inference_macs, result.retraining_macs, unused)
        for (use, colour), part in zip(_USES.items(), parts, strict=True):
            # A step plot over edges needs the last value twice.
            low, floor = np.append(floor, floor[-1:]), floor + part / factor
            high = np.append(floor, floor[-1:])
            handles[use] = axes.fill_between(edges, low, high, step="post", color=colour, linewidth=0)
        hit = result.shed + result.abandoned + result.lost > 0
        if hit.any():
            handles["slot with requests shed, abandoned or lost"] = axes.scatter(
                result.slot[hit], floor[hit] + 0.03 * most / factor, marker="x", s=16, color=_SHED, linewidths=1.0
            )
        inference, retraining, left = (percent(part, 0) for part in budget_parts(result))
        split = f"{inference} inference, {retraining} retraining, {left} unused"
        unanswered = sum(number for fate, number in result.fates.items() if fate not in ("in time", "late"))
        if unanswered:
            split += f", {percent(unanswered / sum(result.fates.values()))} of requests unanswered"
        axes.set_title(f"{name}\n{split}", fontsize=9, loc="left", color=_INK)
        _over_slots(axes, len(floor))
        axes.set_ylim(0, 1.1 * most / factor or 1.0)
    figure.supxlabel("Slot (index)", fontsize=10)
    figure.supylabel(f"Budget ({unit} per slot)", fontsize=10)
    title(figure, _headline(shown, _spending, "", "spends"), handles)
    return figure


def curve_against_real(results: Sequence[Result]) -> Figure | None:
    """Draw the learning curve's accuracies beside the real models', per severity; None unless both are there."""
    curve = {(r.allocator, r.seed): r for r in results if r.accuracy_model == "curve"}
    real = [r for r in results if r.accuracy_model == "onnx" and (r.allocator, r.seed) in curve]
    real = [r for r in real if r.allocator not in REFERENCES]
    if not real:
        return None
    severity, groups = real[0].severity, severity_groups(real[0])
    if len(groups) > 10:
        groups = {f"severity {one}": severity == one for one in sorted(set(severity.tolist()))}

    def accuracies(result: Result) -> Array:
        return np.array([_served_accuracy(result, slots) for slots in groups.values()])

    parts = {r.allocator: (accuracies(r), accuracies(curve[r.allocator, r.seed])) for r in real}
    lines = merged(real, lambda r: np.round(parts[r.allocator], 9).tobytes())
    names = [_broken(line.names, 30) for line in lines]
    figure, panels = _panels(names, 2 if len(lines) == 4 else min(len(lines), 3), 2.2)
    x, handles, errors = np.arange(len(groups)), {}, []
    for axes, name, line in zip(panels, names, lines, strict=True):
        measured, predicted = parts[line.names[0]]
        errors.append(predicted - measured)
        axes.fill_between(x, measured, predicted, color="#e4e4e4", linewidth=0)
        handles["real models"] = axes.plot(x, measured, color=_REAL, marker="o", markersize=5, linewidth=1.8)[0]
        handles["learning curve"] = axes.plot(
            x, predicted, color=_PREDICTED, marker="s", markersize=4.5, linewidth=1.8, linestyle="--"
        )[0]
        off = f"off by {_mean(np.abs(errors[-1])):.1f} points"
        axes.set_title(f"{name}\n{off}", fontsize=9, loc="left", color=_INK)
        axes.set_xticks(x, [one.removeprefix("severity ").replace(", severity ", "\n") for one in groups])
        axes.set_xlim(-0.4, len(x) - 0.6)
    panels[0].set_ylim(max(0.0, float(np.nanmin(list(parts.values()), initial=100.0)) - 8), 103)
    corruptions = set(real[0].corruption.tolist()) - {""}
    named = f" of {corruptions.pop()}" if len(corruptions) == 1 else ""
    figure.supxlabel(f"Severity{named} (level)", fontsize=10)
    figure.supylabel("Accuracy of served requests (%)", fontsize=10)
    bias, error = _mean(np.concatenate(errors)), _mean(np.abs(np.concatenate(errors)))
    lean = f"; on average it is {abs(bias):.1f} points too {'high' if bias > 0 else 'low'}" * (abs(bias) >= 0.05)
    missed = f"The learning curve misses the real accuracy by {error:.1f} points (mean absolute error)"
    title(figure, missed + lean, handles)
    return figure


def accuracy_cost_latency(results: Sequence[Result]) -> Figure | None:
    """Draw mean accuracy against compute per request, coloured by p99 latency; None without results."""
    shown = [result for result in main_results(results) if math.isfinite(result.mean_accuracy)]
    if not shown:
        return None

    def place(result: Result) -> tuple[float, float, float]:
        summary = result.summary()
        latency = summary["latency_p99_s"]
        return summary["macs_per_request"], 100 * summary["mean_accuracy"], math.nan if latency is None else latency

    factor, unit = macs_unit(max(place(result)[0] for result in shown))
    lines = merged(shown, lambda result: tuple(f"{value:.6g}" for value in place(result)))
    x, y, latency = np.array([place(line.result) for line in lines]).T
    x = x / factor
    figure = figure_of(5.4)
    axes = figure.add_subplot()
    known, reference = np.isfinite(latency), np.array([line.names[0] in REFERENCES for line in lines])
    low, high = np.nanmin(latency, initial=np.inf), np.nanmax(latency, initial=0.0)
    # Where all latencies are equal the range is made up, so that the colour bar has ticks.
    scale = (low, high) if low < high else (0.9 * high, 1.1 * high or 1.0)
    look: dict[str, Any] = {"s": 90, "edgecolors": _INK, "linewidths": 0.8, "zorder": 3, "clip_on": False}
    for marker, chosen in (("o", ~reference), ("D", reference)):
        coloured = {"c": latency[chosen & known], "cmap": "viridis_r", "vmin": scale[0], "vmax": scale[1]}
        axes.scatter(x[chosen & ~known], y[chosen & ~known], marker=marker, c="white", **look)
        drawn = axes.scatter(x[chosen & known], y[chosen & known], marker=marker, **look, **coloured)
    if known.any():
        figure.colorbar(drawn, ax=axes, label="p99 latency of the answered, from arrival (s)", pad=0.02)
    axes.margins(0.14)
    bottom, top = axes.get_ylim()
    # At least 10 points high, so that differences too small to matter do not fill the figure.
    axes.set_ylim(max(min(bottom, (bottom + top) / 2 - 5), -0.6), min(max(top, (bottom + top) / 2 + 5), 105))
    axes.set_xlim(left=0)
    axes.set_xlabel(f"Compute per request, inference and retraining ({unit})")
    axes.set_ylabel("Mean accuracy over all requests (%)")
    clean(axes)
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    clouds = ["what the cloud computes is not counted"] * any(result.in_the_cloud for result in shown)
    notes = (
        clouds + ["diamond: reference line"] * bool(reference.any()) + ["white: latency unknown"] * (not known.all())
    )
    axes.text(0.99, 0.02, ", ".join(notes), transform=axes.transAxes, ha="right", fontsize=8.5, color=_FAINT)

    def words(result: Result) -> str:
        return f"{percent(result.mean_accuracy)} for {place(result)[0] / factor:.1f} {unit} per request"

    title(figure, _headline(shown, words, "", "reaches", ("inference-only", "teacher-only")))
    _label_points(figure, axes, x, y, [_broken(line.names, 26) for line in lines])
    return figure


def figure_of(height_in: float, layout: Any = "constrained") -> Figure:
    """Return an empty figure of the width that all figures have."""
    with extra("sim"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    figure = Figure(figsize=(_WIDTH_IN, height_in), dpi=100, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _panels(names: Sequence[str], columns: int, height_in: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with small multiples, and only the panels that are needed."""
    number, rows = len(names), math.ceil(len(names) / columns)
    height_in = (height_in if rows > 1 else 2.6) + 0.16 * max(name.count("\n") for name in names)
    figure = figure_of(0.9 + height_in * rows)
    panels: list[Axes] = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for index, axes in enumerate(panels):
        clean(axes)
        axes.tick_params(labelbottom=index >= number - columns)
        if index >= number:
            axes.remove()
    return figure, panels[:number]


def clean(axes: Axes) -> None:
    """Leave of the frame and the grid what helps to read off values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def _over_slots(axes: Axes, slots: int) -> None:
    axes.set_xlim(0.5, slots + 0.5)
    axes.locator_params("x", integer=True)


def title(figure: Figure, text: str, handles: dict[str, Any] | None = None) -> float:
    """Write the title and below it the legend; return the height left for the axes, as a part of the figure's."""
    # A number stays on one line with its percent sign.
    rows = textwrap.wrap(text.replace(" %", "\u00a0%"), 94)
    height_in = figure.get_figheight()
    figure.suptitle(
        "\n".join(rows), x=0.012, y=1 - 0.08 / height_in, ha="left", va="top", fontsize=11.5, fontweight="bold",
        color=_INK,
    )  # fmt: skip
    below = 1 - (0.16 + 0.21 * len(rows)) / height_in
    if handles:
        figure.legend(
            handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(0.003, below + 0.05 / height_in),
            ncols=min(len(handles), _MOST_ABREAST), frameon=False, fontsize=9,
        )  # fmt: skip
        below -= (0.06 + 0.19 * math.ceil(len(handles) / _MOST_ABREAST)) / height_in
    engine: Any = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0.0, 0.0, 1.0, below))
    return below


def _headline(
    results: Sequence[Result],
    measure: Callable[[Result], str],
    where: str,
    verb: str = "keeps",
    others: tuple[str, ...] = ("inference-only",),
) -> str:
    """Compare the best allocator, ORRIC and a few others in one sentence."""
    first = winners(results)[:1] or list(results[:1])
    named = {result.allocator: result for result in results}
    chosen = dict.fromkeys([first[0].allocator, *(name for name in ("orric", *others) if name in named)])
    phrases = [f"{spoken(name)} {verb} {measure(named[name])}" for name in chosen]
    return "; ".join([f"{phrases[0]} {where}".strip(), *phrases[1:]])


def _spending(result: Result) -> str:
    _, retraining, unused = budget_parts(result)
    return f"{percent(retraining, 0)} of the budget on retraining and leaves {percent(unused, 0)} unused"


def _last(result: Result) -> float:
    """Return the accuracy at the last severity; over all slots where slots have none, or streams have one each."""
    return result.last_severity_accuracy if result.severity[-1] >= 0 else result.mean_accuracy


def _averaged(result: Result, group: int) -> tuple[Array, Array]:
    """Return slot and accuracy in percent, means of `group` neighbouring slots each."""
    index = np.arange(len(result.slot)) // group
    served, correct = np.bincount(index, result.served), np.bincount(index, result.correct)
    slot = np.bincount(index, result.slot) / np.bincount(index)
    return slot, 100 * np.divide(correct, served, out=np.full(len(served), np.nan), where=served > 0)


def _served_accuracy(result: Result, slots: Array) -> float:
    served = float(result.served[slots].sum())
    return 100 * float(result.correct[slots].sum()) / served if served else math.nan


def _mean(values: Array) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def _broken(names: Sequence[str], width: int) -> str:
    whole = " = ".join(names)
    return whole if len(whole) <= width else "\n= ".join(textwrap.fill(name, width) for name in names)


def _mark_severities(axes: Axes, result: Result) -> None:
    """Shade every other stretch of equal severity, and name each that has room for its name."""
    corruption, severity = result.corruption.astype(str), result.severity
    changes = np.flatnonzero((corruption[1:] != corruption[:-1]) | (severity[1:] != severity[:-1])) + 1
    bounds, before = [0, *changes.tolist(), len(severity)], ""
    for index, (start, stop) in enumerate(itertools.pairwise(bounds)):
        if index % 2:
            axes.axvspan(start + 0.5, stop + 0.5, color="#f3f3f3", linewidth=0, zorder=0)
        name = f"severity {severity[start]}"
        if corruption[start] != before:
            name, before = f"{corruption[start]}\n{name}", str(corruption[start])
        # About 70 characters fit side by side over the axes.
        if severity[start] >= 0 and max(map(len, name.split("\n"))) < 75 * (stop - start) / len(severity):
            axes.text(
                (start + stop + 1) / 2, 1.015, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                fontsize=9, color=_FAINT,
            )  # fmt: skip


def _label_ends(figure: Figure, axes: Axes, labels: list[tuple[Any, ...]], heading: str) -> None:
    """Name the lines at their right ends, in the order of their figures, pushed apart so that no names overlap.

    A line that ends far from its name, where a leader would cross others, gets a short stroke in its style instead.
    """
    height = axes.get_position().height * figure.get_figheight() * 72
    low, high = axes.get_ylim()
    labels = sorted(labels, key=lambda label: label[0])
    sizes = [11.5 * (1 + text.count("\n")) + 4 for _, _, text, _ in labels]
    centres: list[float] = []
    edge = -20.0
    for (value, *_), size in zip(labels, sizes, strict=True):
        centres.append(max((value - low) / (high - low) * height, edge + size / 2))
        edge = centres[-1] + size / 2
    edge = height
    for index in reversed(range(len(labels))):
        centres[index] = min(centres[index], edge - sizes[index] / 2)
        edge = centres[index] - sizes[index] / 2
    for (_, end, text, style), centre in zip(labels, centres, strict=True):
        leader = {"arrowstyle": "-", "color": style["color"], "shrinkA": 1, "shrinkB": 2, "relpos": (0, 0.5)}
        near = abs((end[1] - low) / (high - low) * height - centre) <= _LONGEST_LEADER_PT
        leader |= (
            {"linewidth": 1.0} if near else {key: style[key] for key in ("linewidth", "linestyle") if key in style}
        )
        axes.annotate(
            text, xy=end if near else (1.015, centre / height), xycoords="data" if near else axes.transAxes,
            xytext=(1.06, centre / height), textcoords=axes.transAxes, va="center", fontsize=9,
            color=_INK, annotation_clip=False, arrowprops=leader,
        )  # fmt: skip
    axes.text(1.06, 1.015, heading, transform=axes.transAxes, va="bottom", fontsize=9, color=_FAINT)


def _label_points(figure: Figure, axes: Axes, x: Array, y: Array, names: Sequence[str]) -> None:
    """Name points beside them, each name at the nearest place where it covers neither a point nor a name."""
    look: dict[str, Any] = {"fontsize": 9, "color": _INK, "ha": "center", "va": "center", "in_layout": False}
    notes = [axes.text(0, 0, name, zorder=4, **look) for name in names]
    figure.draw_without_rendering()
    frame, pixels = axes.get_window_extent(), figure.dpi / 72
    points = axes.transData.transform(np.column_stack([x, y]))
    # Boxes are rows of left, bottom, right, top in pixels.
    taken = [np.array([*point - 14 * pixels, *point + 14 * pixels]) for point in points]
    leaders: list[Array] = []
    for index in np.lexsort((y, x)).tolist():
        note, point = notes[index], points[index]
        half = np.array(note.get_window_extent().size) / 2 + 2 * pixels
        others, places = [box for number, box in enumerate(taken) if number != index], []
        for radius, angle in itertools.product((11, 22, 36, 52, 72, 95, 120), np.arange(16) * np.pi / 8):
            direction = np.array([math.cos(angle), math.sin(angle)])
            near = point + radius * pixels * direction
            box = np.array([*near + (direction - 1) * half, *near + (direction + 1) * half])
            leader = point + np.linspace(0.0, 1.0, 12)[:, None] * (near - point)
            covered: float = sum(bool((box[:2] < other[2:]).all() and (other[:2] < box[2:]).all()) for other in others)
            covered += radius / 15 * sum(_inside(leader, other) for other in others)
            covered += 2 * sum(_inside(other, box) for other in leaders)
            outside = bool((box[:2] < frame.min).any() or (box[2:] > frame.max).any())
            places.append((covered + 5 * outside, radius, angle, box, leader))
        _, radius, _, box, leader = min(places, key=lambda place: place[:3])
        taken.append(box)
        leaders.append(leader)
        note.set_position(axes.transData.inverted().transform((box[:2] + box[2:]) / 2).tolist())
        if radius > 12:
            ends = axes.transData.inverted().transform(leader[[0, -1]])
            axes.plot(ends[:, 0], ends[:, 1], color=_FAINT, linewidth=0.7, zorder=2, scalex=False, scaley=False)


def _inside(path: Array, box: Array) -> float:
    """Return the part of a path that lies in a box."""
    return float(((path > box[:2]) & (path < box[2:])).all(axis=1).mean())
