"""Heat maps of a sweep: what two axes do together, and where the best allocator changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.allocators import REFERENCES
from orric.report.canvas import figure_of, title
from orric.report.facts import spoken
from orric.report.sweep_plots import leading_name, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]
Pair = Mapping[str, Any]

# Allocators with a map of their own; the best ones where there are more.
MOST_MAPS = 8
# Values along a side that are all named, and with which a cell has room for a number.
MOST_NAMED, MOST_WRITTEN = 14, 10
LEVEL_COLOUR, CHANCE_ALPHA = "#d9d9d9", 0.4
# Characters of 7 points in an inch, about.
PER_INCH = 17.0


def heat_map(pair: Pair, summary: Mapping[str, Any]) -> Figure:
    """Draw a pair of axes: who is best where, by how much the best leads the baseline, and every allocator's own map.

    Args:
        pair: One of the summary's "interactions".
        summary: What sweep.json holds.
    """
    table = _Table(pair)
    maps = _maps(table, pair, summary)
    across = min(4 if table.shape[1] <= 6 else 3 if table.shape[1] <= 8 else 2, max(len(maps), 1))
    down = max(-(-len(maps) // across), 1)
    across = max(-(-len(maps) // down), 1)  # five are three and two, not four and one
    each = min(max(0.8 + 0.3 * table.shape[0], 1.6), 4.2)
    heights = [1.2 * each + 0.3, down * each]
    figure = figure_of(0.9 + sum(heights))
    parts: Any = figure.subfigures(2, 1, height_ratios=heights)
    above, below = parts
    panels = above.subplots(1, 2, squeeze=False)[0]
    handles = _winners(panels[0], table, summary)
    if pair["subject"] is None:
        panels[1].set_axis_off()
    else:
        _differences(above, panels[1], table, summary)
    grid = below.subplots(down, across, squeeze=False)
    known = np.concatenate([values[np.isfinite(values)] for values in maps.values()] or [np.zeros(1)])
    span = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    for number, (names, axes) in enumerate(zip([*maps, *[""] * (grid.size - len(maps))], grid.flat, strict=True)):
        if not names:
            axes.set_axis_off()
            continue
        image = _map(axes, table, maps[names], "cividis", span, "{:.1f}", 9.0 / across)
        axes.set_title(names, fontsize=9, loc="left")
        if number % across:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
        if number + across < len(maps):
            axes.set_xlabel("")
            axes.tick_params(labelbottom=False)
    if maps:
        bar = below.colorbar(image, ax=grid, shrink=0.9, pad=0.01, aspect=25)
        bar.set_label(f"{leading_name(summary)[0].upper()}{leading_name(summary)[1:]} (%)", fontsize=9)
        bar.ax.tick_params(labelsize=8)
    title(figure, where_best(pair, summary), handles)
    return figure


def _maps(table: _Table, pair: Pair, summary: Mapping[str, Any]) -> dict[str, Array]:
    """Return the numbers of every allocator's map, the best first; one map for those that are the same."""
    found: dict[bytes, tuple[list[str], Array]] = {}
    for line in _ranked(pair, summary):
        if line not in REFERENCES:
            values = 100 * table.of(lambda cell, line=line: cell["means"][line]["mean"])
            found.setdefault(np.round(values, 9).tobytes(), ([], values))[0].append(line)
    kept = list(found.values())[:MOST_MAPS]
    return {" = ".join(names) if len(names) < 3 else f"{names[0]} = {len(names) - 1} more": one for names, one in kept}


def where_best(pair: Pair, summary: Mapping[str, Any]) -> str:
    """Say in a sentence where the best allocator changes over a pair of axes."""
    one, other = pair["axes"]
    winners = [(cell["values"], cell["winner"]) for cell in pair["cells"] if cell["winner"] is not None]
    if not winners:
        return f"{leading_name(summary)[0].upper()}{leading_name(summary)[1:]} over {one} and {other}"
    counts = Counter(winner["best"] for _, winner in winners if not winner["tie"])
    level = sum(winner["tie"] for _, winner in winners)
    leads = [100 * winner["mean"] for _, winner in winners if not winner["tie"]]
    if not counts:
        return f"Nobody leads the next by more than 0.05 points, whatever {one} and {other}"
    if len(counts) == 1:
        (best,) = counts
        span = f"{min(leads):.1f} to {max(leads):.1f} points above the next"
        if not level:
            return f"{spoken(best)} is best whatever {one} and {other}: {span}"
        rest = f"and level with the next at {level} of {len(winners)}"
        return f"{spoken(best)} is best, by {max(leads):.1f} points at most, {rest} values of {one} and {other}"
    told = []
    for place, (line, count) in enumerate(counts.most_common(4)):
        mine = [values for values, winner in winners if winner["best"] == line and not winner["tie"]]
        said = f"{spoken(line)} at {count}" + f" of {len(winners)}" * (place == 0)
        told.append(said + (_shared(mine, pair["axes"]) if place else ""))
    more = f" and {len(counts) - 4} more" * (len(counts) > 4)
    ties = f"; level with the next at {level}" * (level > 0)
    return f"The best changes with {one} and {other}: {', '.join(told)}{more}{ties}"


def _shared(cells: Sequence[Sequence[Any]], axes: Sequence[str]) -> str:
    """Name the value that some cells have in common, if they do."""
    for side, axis in enumerate(axes):
        values = {str(cell[side]) for cell in cells}
        if len(values) == 1 and len(cells) > 1:
            return f" (all at {axis} {values.pop()})"
    if len(cells) == 1:
        return f" ({', '.join(f'{axis} {_short(value)}' for axis, value in zip(axes, cells[0], strict=True))})"
    return ""


class _Table:
    """The cells of a pair by row and column: the axis with more values lies along the page, and numbers ascend."""

    def __init__(self, pair: Pair) -> None:
        sides = [_ordered(values) for values in pair["values"]]
        shape = tuple(map(len, sides))
        cells = np.empty(len(pair["cells"]), object)
        cells[:] = pair["cells"]
        self.cells = cells.reshape(shape)[np.ix_(*sides)]
        self.titles, self.values = (
            list(pair["axes"]),
            [[v[n] for n in side] for v, side in zip(pair["values"], sides, strict=True)],
        )
        if shape[0] > shape[1]:
            self.cells, self.titles, self.values = self.cells.T, self.titles[::-1], self.values[::-1]
        self.shape = self.cells.shape
        self.subject = pair["subject"]

    def of(self, value: Any) -> Array:
        """Return a number of every cell, NaN where it is None."""
        return np.array([[np.nan if (v := value(cell)) is None else v for cell in row] for row in self.cells], float)


def _ordered(values: Sequence[Any]) -> list[int]:
    numbers = all(isinstance(value, (int, float)) for value in values)
    return sorted(range(len(values)), key=lambda n: values[n]) if numbers else list(range(len(values)))


def _ranked(pair: Pair, summary: Mapping[str, Any]) -> list[str]:
    leading = summary.get("leading", "mean_accuracy")

    def mean(line: str) -> float:
        found = (summary["means"][line].get(leading) or {}).get("mean")
        return -np.inf if found is None else float(found)

    return sorted(summary["allocators"], key=lambda line: (-mean(line), line != "orric"))


def _frame(axes: Axes, table: _Table, width_in: float) -> None:
    """Name the values along both sides of a panel."""
    for values, place in ((table.values[0], axes.set_yticks), (table.values[1], axes.set_xticks)):
        step = max(-(-len(values) // MOST_NAMED), 1)
        shown = list(range(0, len(values), step))
        place(shown, [_short(values[n]) for n in shown])
    axes.tick_params(labelsize=8, length=0)
    longest = max(len(_short(value)) for value in table.values[1])
    if longest + 1 > (width_in - 0.5) * PER_INCH / min(table.shape[1], MOST_NAMED):
        axes.tick_params(axis="x", rotation=30)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_xlabel(table.titles[1], fontsize=9)
    axes.set_ylabel(table.titles[0], fontsize=9)
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.5, table.shape[1] - 0.5)
    axes.set_ylim(-0.5, table.shape[0] - 0.5)


def _map(
    axes: Axes, table: _Table, values: Array, colours: str, span: tuple[float, float], form: str, width_in: float
) -> Any:
    """Draw numbers as colours, and write them into the cells where there is room."""
    image = axes.imshow(
        values, origin="lower", aspect="auto", cmap=colours, vmin=span[0], vmax=max(span[1], span[0] + 1e-9)
    )
    _frame(axes, table, width_in)
    if _room(table, width_in) >= 4:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                ink = _ink(image.cmap(image.norm(value)))
                axes.text(column, row, form.format(value), ha="center", va="center", fontsize=7.5, color=ink)
    return image


def _room(table: _Table, width_in: float) -> float:
    """Return how many characters fit into a cell of a panel."""
    rows, columns = table.shape
    return 0.0 if max(rows / 2, columns) > MOST_WRITTEN else (width_in - 0.9) / int(columns) * PER_INCH


def _ink(colour: Any) -> str:
    red, green, blue = colour[:3]
    return "#111111" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "#ffffff"


def _winners(axes: Axes, table: _Table, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Draw who is best where, and by how much; return what the legend shows."""
    from matplotlib.patches import Patch, Rectangle

    style, room, handles, seen = looks(summary["allocators"]), _room(table, 5.0), {}, set()
    for (row, column), cell in np.ndenumerate(table.cells):
        winner = cell["winner"]
        if winner is None:
            continue
        colour = LEVEL_COLOUR if winner["tie"] else style[winner["best"]]["color"]
        pale = not winner["tie"] and not winner["beyond_chance"]
        alpha = CHANCE_ALPHA if pale else 1.0
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, alpha=alpha, edgecolor="white"))
        seen.add("tie" if winner["tie"] else winner["best"])
        seen |= {"pale"} if pale else set()
        if room >= 4:
            ink = "#111111" if pale or winner["tie"] else _ink(_rgb(colour))
            text = f"+{abs(100 * winner['mean']):.1f}"
            named = winner["best"] if not winner["tie"] else "level"
            if room >= len(named) and table.shape[0] <= 6:
                text = f"{named}\n{text}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=ink)
    _frame(axes, table, 5.0)
    axes.set_title("Who is best, by how many points above the next", fontsize=9, loc="left")
    for line in summary["allocators"]:
        if line in seen:
            handles[line] = Patch(facecolor=style[line]["color"])
    if "pale" in seen:
        judged = any(cell["winner"] and cell["winner"]["p_holm"] is not None for cell in table.cells.flat)
        handles["pale: may be chance" if judged else "pale: one run, chance unknown"] = Patch(
            facecolor="#555555", alpha=CHANCE_ALPHA
        )
    if "tie" in seen:
        handles["level with the next"] = Patch(facecolor=LEVEL_COLOUR)
    return handles


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))


def _differences(figure: Any, axes: Axes, table: _Table, summary: Mapping[str, Any]) -> None:
    """Draw by how much the best allocator of all leads the baseline, or the next one where it is the baseline."""
    baseline, subject = summary["baseline"], table.subject
    values = 100 * table.of(lambda cell: cell["differences"][subject]["mean"])
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    image = axes.imshow(values, origin="lower", aspect="auto", cmap="RdBu", vmin=-max(most, 0.05), vmax=max(most, 0.05))
    _frame(axes, table, 4.6)
    if _room(table, 4.6) >= 6:
        for (row, column), cell in np.ndenumerate(table.cells):
            one = cell["differences"][subject]
            if one["mean"] is not None:
                sure = one["low"] is not None and (one["low"] > 0 or one["high"] < 0)
                text = f"{100 * one['mean']:+.1f}"
                ink = _ink(image.cmap(image.norm(values[row, column])))
                axes.text(
                    column, row, text if sure else f"({text})", ha="center", va="center", fontsize=7.5, color=ink
                )  # fmt: skip
    axes.set_title(f"{spoken(subject)} above {spoken(baseline)}; in brackets: may be chance", fontsize=9, loc="left")
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02, aspect=18)
    bar.set_label("points", fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 22 else f"{text[:21]}…"
