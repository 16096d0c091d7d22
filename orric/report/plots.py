"""Figures of a comparison. Every title says what the figure shows, in numbers computed from the results."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from orric.allocators import REFERENCES
from orric.exceptions import extra
from orric.records import Array, Result
from orric.report.canvas import (
    FAINT,
    INK,
    broken,
    clean,
    explain,
    figure_of,
    label_ends,
    label_points,
    medium,
    panels,
    title,
)
from orric.report.facts import (
    Line,
    budget_parts,
    leading,
    leading_in,
    leading_name,
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
_MOST_POINTS, _MOST_LINES = 120, 9
_MOST_STRETCHES = 40  # of equal severity that are told apart


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


def as_svg(figure: Figure, letters: Literal["path", "none"] = "path") -> bytes:
    """Write a figure as SVG: without a date, and the same bytes for the same figure.

    Args:
        figure: The figure.
        letters: Drawn ("path"), which look the same everywhere, or text ("none"), which can be searched and edited.
    """
    with extra("sim"):
        import matplotlib
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "orric", "svg.fonttype": letters}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, facecolor="white")
    return buffer.getvalue()


def accuracy_by_slot(results: Sequence[Result]) -> Figure | None:
    """Draw each line's accuracy slot by slot, with the steps of severity where all streams share them.

    None without results.
    """
    shown = main_results(results)
    if not shown:
        return None
    on, measure = medium(), leading_name(shown)
    slots, group = len(shown[0].slot), math.ceil(len(shown[0].slot) / _MOST_POINTS)
    steps = _stretches(shown[0])
    # Where drift comes back, the last severity is like any other.
    ends = bool(steps) and shown[0].ends_at_its_worst
    where = f"at severity {shown[0].severity[-1]}" if ends else "on average"
    last = {id(result): _last(result) if ends else leading(result) for result in shown}
    lines = merged(shown, lambda result: np.round(_right(result).astype(float), 9).tobytes())
    drawn = _foremost(lines)
    # Above a narrow figure every name takes a row.
    figure = figure_of(5.0 if on.titled else 4.4 + 0.3 * len(drawn) * on.is_narrow, layout=None)
    handles: dict[str, Any] = {}
    names = {
        line.names: f"{broken(line.names, 46 if on.is_narrow else 25)}  {percent(last[id(line.result)])}"
        for line in drawn
    }
    axes, thin, labels, lowest = figure.add_axes((0.1, 0.2, 0.8, 0.6)), 0, [], 100.0
    for line in sorted(drawn, key=lambda line: -last[id(line.result)]):
        style = STYLES.get(line.names[0])
        if style is None:
            style = {"linewidth": 1.0, "zorder": 3, **_THIN[thin % len(_THIN)]}
            thin += 1
        style = {**style, "linewidth": style["linewidth"] * (1.0 if on.titled else 0.65)}
        x, y = _averaged(line.result, group)
        # Without a marker a single point between gaps would be invisible.
        marker = "." if len(x) <= 12 or np.isnan(y).any() else None
        (handles[names[line.names]],) = axes.plot(x, y, marker=marker, label=line.label, **style)
        known = np.flatnonzero(np.isfinite(y))
        lowest = min(lowest, float(np.nanmin(y))) if known.size else 0.0
        end = (float(x[known[-1]]), float(y[known[-1]])) if known.size else (float(x[-1]), 0.0)
        value = last[id(line.result)]
        labels.append((100 * value if math.isfinite(value) else 0.0, end, names[line.names], style))
    axes.set_ylim(max(0.0, lowest - 6), 102)
    _over_slots(axes, slots)
    axes.set_xlabel(f"Slot (index{f', one point for {group} slots' if group > 1 else ''})")
    late = bool(shown[0].has_deadlines)
    axes.set_ylabel(
        f"{'Right' if on.is_narrow else 'Served requests right'} and in time (%)"
        if late
        else "Accuracy of served requests (%)"
    )
    clean(axes)
    headline = _headline(shown, lambda result: percent(last[id(result)]), where)
    top = title(figure, headline, handles if on.is_narrow else None)
    high, wide = figure.get_figheight(), on.width_in
    bottom_in, left_in, head_in = (inches * on.text_pt / 9 for inches in (0.6, 0.75, 0.45))
    right = 0.985 if on.is_narrow else 1 - 2.8 * on.text_pt / 9 / wide
    head = top - head_in / high if steps or not on.is_narrow else top - 0.08
    axes.set_position((left_in / wide, bottom_in / high, right - left_in / wide, head - bottom_in / high))
    _mark_severities(axes, shown[0], steps)
    others = sum(len(line.names) for line in lines) - sum(len(line.names) for line in drawn)
    if not on.is_narrow:
        heading = f"{measure.capitalize()} of all requests\n{where}" + f"; {others} more in the table" * bool(others)
        label_ends(figure, axes, labels, heading)
    lateness = " right, and by the deadline" if late else " classified correctly"
    return explain(
        figure,
        f"Part of each slot's served requests that were{lateness}.",
        "Bands mark the steps of severity." * bool(steps),
        f"Beside the names is the {measure} over all requests {where}, unanswered ones counted as wrong.",
        "Lines that coincide share a name." * any(len(line.names) > 1 for line in drawn),
    )


def _stretches(result: Result) -> list[tuple[int, int]]:
    """Return the stretches of equal corruption and severity; none where streams differ, or for one or too many."""
    corruption, severity = result.corruption.astype(str), result.severity
    if not len(severity) or (severity < 0).any():
        return []
    changes = np.flatnonzero((corruption[1:] != corruption[:-1]) | (severity[1:] != severity[:-1])) + 1
    found = list(itertools.pairwise([0, *changes.tolist(), len(severity)]))
    return found if 1 < len(found) <= _MOST_STRETCHES else []


def _right(result: Result) -> Array:
    """Return the part of each slot's served requests that counts as right by the leading measure, NaN of none."""
    right: Array = result.correct_in_time if result.has_deadlines else result.correct
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(result.served > 0, right / result.served, np.nan)


def _foremost(lines: list[Line]) -> list[Line]:
    """Leave out the worst lines where there are too many to tell apart, but none with a style of its own."""
    ranked = sorted(lines, key=lambda line: (line.names[0] not in STYLES, -leading(line.result)))
    kept = {line.names for line in ranked[: 6 if medium().is_narrow else _MOST_LINES]}
    return [line for line in lines if line.names in kept]


def budget_split(results: Sequence[Result]) -> Figure | None:
    """Draw what each allocator spends of every slot's budget, one panel each; None without allocators."""
    shown = [result for result in main_results(results) if result.allocator not in REFERENCES]
    if not shown:
        return None
    lines = merged(shown, lambda result: (result.inference_macs.tobytes(), result.retraining_macs.tobytes()))
    most = max(float(np.maximum(r.budget_macs, r.inference_macs + r.retraining_macs).max()) for r in shown)
    factor, unit = macs_unit(most)
    on = medium()
    columns = 1 if len(lines) == 1 or (on.is_narrow and len(lines) <= 4) else 2
    names = [broken(line.names, on.characters(0.8 / columns)) for line in lines]
    figure, drawn = panels(names, columns, 1.75)
    handles: dict[str, Any] = {}
    for axes, name, line in zip(drawn, names, lines, strict=True):
        result, floor = line.result, np.zeros(len(line.result.slot))
        edges = np.arange(len(floor) + 1) + 0.5
        unused = np.maximum(result.budget_macs - result.inference_macs - result.retraining_macs, 0.0)
        parts = (result.inference_macs, result.retraining_macs, unused)
        for (use, colour), part in zip(_USES.items(), parts, strict=True):
            # A step plot over edges needs the last value twice.
            low, floor = np.append(floor, floor[-1:]), floor + part / factor
            high = np.append(floor, floor[-1:])
            filled = axes.fill_between(edges, low, high, step="post", color=colour, linewidth=0)
            if part.any():
                handles[use] = filled
        hit = result.shed + result.abandoned + result.lost > 0
        if hit.any():
            handles["slot with requests shed, abandoned or lost"] = axes.scatter(
                result.slot[hit], floor[hit] + 0.03 * most / factor, marker="x", s=16, color=_SHED, linewidths=1.0
            )
        inference, retraining, left = (percent(part, 0) for part in budget_parts(result))
        split = f"{inference} inference, {retraining} retraining, {left} unused"
        unanswered = sum(number for fate, number in result.fates.items() if fate not in ("in time", "late"))
        if unanswered:
            part = unanswered / sum(result.fates.values())
            told = f"{percent(part)} of requests" if part >= 0.0005 else f"{unanswered:,.0f} requests"
            split += f",{chr(10) if on.is_narrow else ' '}{told} unanswered"
        said = name if on.is_narrow and columns > 1 else f"{name}\n{split}"
        axes.set_title(said, fontsize=on.text_pt, loc="left", color=INK)
        _over_slots(axes, len(floor))
        axes.set_ylim(0, 1.1 * most / factor or 1.0)
    figure.supxlabel("Slot (index)", fontsize=on.text_pt + on.titled)
    figure.supylabel(f"Budget ({unit} per slot)", fontsize=on.text_pt + on.titled)
    ordered = {use: handles[use] for use in [*_USES, *handles] if use in handles}
    title(figure, _headline(shown, _spending, "", "spends"), ordered)
    unused = 'What is unused idles, or, under spare = "inference", lets the same serving finish sooner.'
    return explain(
        figure,
        "What each allocator did with every slot's budget.",
        unused * ("unused" in handles),
        "Crosses mark slots with requests that were shed, abandoned or lost."
        * (len(handles) > len({*handles} & {*_USES})),
        "Reference lines are left out, because they do not allocate." * (len(shown) < len(main_results(results))),
    )


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
    names = [broken(line.names, 30) for line in lines]
    on = medium()
    figure, drawn = panels(names, 2 if len(lines) == 4 or on.is_narrow else min(len(lines), 3), 2.2)
    x, handles, errors, stroke = np.arange(len(groups)), {}, [], on.scale
    for axes, name, line in zip(drawn, names, lines, strict=True):
        measured, predicted = parts[line.names[0]]
        errors.append(predicted - measured)
        axes.fill_between(x, measured, predicted, color="#e4e4e4", linewidth=0)
        handles["real models"] = axes.plot(
            x, measured, color=_REAL, marker="o", markersize=5 * stroke, linewidth=1.8 * stroke
        )[0]
        handles["learning curve"] = axes.plot(
            x, predicted, color=_PREDICTED, marker="s", markersize=4.5 * stroke, linewidth=1.8 * stroke, linestyle="--"
        )[0]
        off = f"off by {_mean(np.abs(errors[-1])):.1f} points"
        axes.set_title(f"{name}\n{off}", fontsize=on.text_pt, loc="left", color=INK)
        axes.set_xticks(x, [one.removeprefix("severity ").replace(", severity ", "\n") for one in groups])
        axes.set_xlim(-0.4, len(x) - 0.6)
    drawn[0].set_ylim(max(0.0, float(np.nanmin(list(parts.values()), initial=100.0)) - 8), 103)
    corruptions = set(real[0].corruption.tolist()) - {""}
    named = f" of {corruptions.pop()}" if len(corruptions) == 1 else ""
    figure.supxlabel(f"Severity{named} (level)", fontsize=on.text_pt + on.titled)
    figure.supylabel("Accuracy of served requests (%)", fontsize=on.text_pt + on.titled)
    bias, error = _mean(np.concatenate(errors)), _mean(np.abs(np.concatenate(errors)))
    lean = f"; on average it is {abs(bias):.1f} points too {'high' if bias > 0 else 'low'}" * (abs(bias) >= 0.05)
    missed = f"The learning curve misses the real accuracy by {error:.1f} points (mean absolute error)"
    title(figure, missed + lean, handles)
    return explain(
        figure,
        "The dashed line follows from the profile's learning curve alone; the solid one was measured by running the "
        "real models in the same slots. The shaded area between them is the error of the prediction.",
    )


def accuracy_cost_latency(results: Sequence[Result]) -> Figure | None:
    """Draw the leading measure against compute per request, coloured by p99 latency; None without results."""
    shown = main_results(results)
    if not shown:
        return None

    def place(result: Result) -> tuple[float, float, float]:
        summary = result.summary()
        latency = summary["latency_p99_s"]
        return summary["macs_per_request"], 100 * leading(result), math.nan if latency is None else latency

    factor, unit = macs_unit(max(place(result)[0] for result in shown))
    lines = merged(shown, lambda result: tuple(f"{value:.6g}" for value in place(result)))
    x, y, latency = np.array([place(line.result) for line in lines]).T
    x = x / factor
    figure, on = figure_of(5.4), medium()
    axes = figure.add_subplot()
    known, reference = np.isfinite(latency), np.array([line.names[0] in REFERENCES for line in lines])
    low, high = np.nanmin(latency, initial=np.inf), np.nanmax(latency, initial=0.0)
    # Where all latencies are equal the range is made up, so that the colour bar has ticks.
    scale = (low, high) if low < high else (0.9 * high, 1.1 * high or 1.0)
    look: dict[str, Any] = {
        "s": 90 * on.scale**2,
        "edgecolors": INK,
        "linewidths": 0.8 * on.scale,
        "zorder": 3,
        "clip_on": False,
    }
    for marker, chosen in (("o", ~reference), ("D", reference)):
        coloured = {"c": latency[chosen & known], "cmap": "viridis_r", "vmin": scale[0], "vmax": scale[1]}
        axes.scatter(x[chosen & ~known], y[chosen & ~known], marker=marker, c="white", **look)
        drawn = axes.scatter(x[chosen & known], y[chosen & known], marker=marker, **look, **coloured)
    if known.any():
        figure.colorbar(drawn, ax=axes, label="p99 latency of the answered (s)", pad=0.02)
    axes.margins(0.14)
    bottom, top = axes.get_ylim()
    # At least 10 points high, so that differences too small to matter do not fill the figure.
    axes.set_ylim(max(min(bottom, (bottom + top) / 2 - 5), -0.6), min(max(top, (bottom + top) / 2 + 5), 105))
    axes.set_xlim(left=0)
    axes.set_xlabel(f"Compute per request{'' if on.is_narrow else ', inference and retraining'} ({unit})")
    axes.set_ylabel(f"{leading_name(shown).capitalize()} over all requests (%)")
    clean(axes)
    axes.grid(axis="x", color="#ececec", linewidth=0.8)
    clouds = ["what the cloud computes is not counted"] * any(result.in_the_cloud for result in shown)
    notes = (
        clouds + ["diamond: reference line"] * bool(reference.any()) + ["white: latency unknown"] * (not known.all())
    )
    axes.text(0.99, 0.02, ", ".join(notes), transform=axes.transAxes, ha="right", fontsize=on.text_pt, color=FAINT)

    def words(result: Result) -> str:
        return f"{percent(leading(result))} for {place(result)[0] / factor:.1f} {unit} per request"

    title(figure, _headline(shown, words, "", "reaches", ("inference-only", "teacher-only")))
    kept = _told_apart(lines, x, y)
    label_points(figure, axes, x, y, [broken(line.names, 26) if line in kept else "" for line in lines])
    statistics = (
        "The compute of batch-norm-only is that of refreshing the statistics, one pass of the student without labels, "
        "but its latency is ORRIC's, whose shares of the GPU it keeps."
    )
    return explain(
        figure,
        "Up is more accurate, left is cheaper"
        + ", light is quicker; latencies are of the answered requests" * bool(known.any())
        + ".",
        "Named are those that no other beats in both, and the best known." * (len(kept) < len(lines)),
        "Names that coincide share a point." * any(len(line.names) > 1 for line in lines),
        statistics * any(result.allocator == "batch-norm-only" for result in shown),
    )


def _over_slots(axes: Axes, slots: int) -> None:
    axes.set_xlim(0.5, slots + 0.5)
    axes.locator_params("x", integer=True)


def _told_apart(lines: list[Line], x: Array, y: Array) -> list[Line]:
    """Leave out of many points those that need no name in a column: what another beats, but none with a style."""
    if not medium().is_narrow or len(lines) <= 8:
        return lines
    beaten = [bool(((x <= x[n]) & (y >= y[n]) & ((x < x[n]) | (y > y[n]))).any()) for n in range(len(lines))]
    return [line for line, one in zip(lines, beaten, strict=True) if not one or line.names[0] in STYLES]


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
    """Return the leading measure at the last severity."""
    if result.has_deadlines:
        return leading_in(result, result.severity == result.severity[-1])
    return result.last_severity_accuracy


def _averaged(result: Result, group: int) -> tuple[Array, Array]:
    """Return slot and accuracy in percent, means of `group` neighbouring slots each."""
    index = np.arange(len(result.slot)) // group
    right = result.correct_in_time if result.has_deadlines else result.correct
    served, correct = np.bincount(index, result.served), np.bincount(index, right)
    slot = np.bincount(index, result.slot) / np.bincount(index)
    return slot, 100 * np.divide(correct, served, out=np.full(len(served), np.nan), where=served > 0)


def _served_accuracy(result: Result, slots: Array) -> float:
    served = float(result.served[slots].sum())
    return 100 * float(result.correct[slots].sum()) / served if served else math.nan


def _mean(values: Array) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def _mark_severities(axes: Axes, result: Result, stretches: Sequence[tuple[int, int]]) -> None:
    """Shade every other stretch of equal severity, and name each that has room for its name."""
    corruption, severity, before = result.corruption.astype(str), result.severity, ""
    # As many characters fit side by side over the axes.
    room = medium().characters(axes.get_position().width)
    for index, (start, stop) in enumerate(stretches):
        if index % 2:
            axes.axvspan(start + 0.5, stop + 0.5, color="#f3f3f3", linewidth=0, zorder=0)
        name = f"severity {severity[start]}"
        if corruption[start] != before:
            name, before = f"{corruption[start]}\n{name}", str(corruption[start])
        part = (stop - start) / len(severity)
        if max(map(len, name.split("\n"))) >= room * part:
            name = name.replace("severity ", "")
        if max(map(len, name.split("\n"))) < room * part:
            axes.text(
                (start + stop + 1) / 2, 1.015, name, transform=axes.get_xaxis_transform(), ha="center", va="bottom",
                fontsize=medium().text_pt, color=FAINT,
            )  # fmt: skip
