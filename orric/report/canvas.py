"""What figures are drawn on: a screen or a page of a paper, its width, its letters, and names that do not overlap."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orric.exceptions import extra
from orric.records import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#222222", "#6b6b6b"
MOST_ABREAST = 7  # names in a row of a legend
LONGEST_LEADER_PT = 36.0  # of its height


@dataclass(frozen=True)
class Medium:
    """What a figure is drawn on.

    Attributes:
        width_in: Its width, in inches.
        text_pt: Size of its letters; titles are a little larger.
        titled: Whether it says what it shows in a title of its own; in a paper its caption does.
    """

    width_in: float = 10.0
    text_pt: float = 9.0
    titled: bool = True

    @property
    def scale(self) -> float:
        """By how much strokes and heights differ from those of a screen."""
        return max(self.width_in / 10, 0.55)

    @property
    def is_narrow(self) -> bool:
        """Whether it is a column of a page, where names have no room beside what they name."""
        return self.width_in < 5

    def characters(self, part: float = 1.0) -> int:
        """Return about how many characters fit side by side on a part of its width."""
        return int(part * self.width_in * 72 / (0.56 * self.text_pt))


SCREEN = Medium()
_medium: ContextVar[Medium] = ContextVar("medium", default=SCREEN)


def paper(width_cm: float) -> Medium:
    """Return a page of a paper: letters of 7 pt in a column, of 8 pt on a wider one, and no titles."""
    return Medium(width_cm / 2.54, 7.0 if width_cm < 12 else 8.0, titled=False)


def medium() -> Medium:
    """Return what is drawn on now."""
    return _medium.get()


@contextmanager
def drawn_on(chosen: Medium) -> Iterator[None]:
    """Have all figures drawn on something else than a screen."""
    with extra("sim"):
        import matplotlib
    letters = ("font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize")
    chosen_here: Any = {
        **dict.fromkeys(letters, chosen.text_pt), "axes.linewidth": 0.8 * chosen.scale,
        "lines.linewidth": 1.5 * chosen.scale,
    }  # fmt: skip
    before = _medium.set(chosen)
    try:
        with matplotlib.rc_context(chosen_here):
            yield
    finally:
        _medium.reset(before)


def figure_of(height_in: float, layout: Any = "constrained", rows: bool = False) -> Figure:
    """Return an empty figure as wide as what is drawn on.

    Args:
        height_in: Its height on a screen.
        layout: Of matplotlib.
        rows: Whether it holds rows of text, which shrink with the letters and not with the width.
    """
    with extra("sim"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    on = medium()
    height_in *= on.text_pt / SCREEN.text_pt if rows else on.scale
    figure = Figure(figsize=(on.width_in, height_in), dpi=100, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def panels(names: Sequence[str], columns: int, height_in: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with small multiples, and only the panels that are needed."""
    number, rows = len(names), math.ceil(len(names) / columns)
    height_in = (height_in if rows > 1 else 2.6) + 0.16 * max(name.count("\n") for name in names)
    # A column of many panels must fit on a page.
    figure = figure_of(0.9 + height_in * rows, rows=rows <= 4)
    drawn: list[Axes] = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for index, axes in enumerate(drawn):
        clean(axes)
        axes.tick_params(labelbottom=index >= number - columns)
        if index >= number:
            axes.remove()
    return figure, drawn[:number]


def clean(axes: Axes) -> None:
    """Leave of the frame and the grid what helps to read off values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#ececec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=medium().text_pt)


def title_height_in(figure: Figure) -> float:
    """Return what the title takes at the top of a figure, in inches; 0 without one."""
    text = figure.get_suptitle()
    return 0.16 + 0.21 * (1 + text.count("\n")) if text else 0.0


def title(figure: Figure, text: str, handles: dict[str, Any] | None = None) -> float:
    """Write the title and below it the legend; return the height left for the axes, as a part of the figure's.

    Without a title the text is kept with the figure, unseen: `get_suptitle` returns it.
    """
    on, height_in = medium(), figure.get_figheight()
    # A number stays on one line with its percent sign.
    rows = textwrap.wrap(text.replace(" %", "\u00a0%"), 94)
    shown = figure.suptitle(
        "\n".join(rows), x=0.012, y=1 - 0.08 / height_in, ha="left", va="top", fontsize=11.5, fontweight="bold",
        color=INK,
    )  # fmt: skip
    below = 1 - title_height_in(figure) / height_in
    if not on.titled:
        shown.set_visible(False)
        shown.set_in_layout(False)
        below = 1 - 0.03 / height_in
    if handles:
        row_in = 1.52 * on.text_pt / 72
        # A handle takes as much as five letters.
        longest = max(len(row) for name in handles for row in name.split("\n"))
        abreast = max(on.characters() // (longest + 5), 1)
        abreast = min(len(handles), abreast, MOST_ABREAST)
        figure.legend(
            handles.values(), handles.keys(), loc="upper left", bbox_to_anchor=(0.003, below + 0.05 / height_in),
            ncols=abreast, frameon=False, fontsize=on.text_pt, columnspacing=1.4 if on.titled else 1.0,
        )  # fmt: skip
        names = list(handles)
        # It is filled column by column.
        depth = math.ceil(len(names) / abreast)
        columns = [names[start : start + depth] for start in range(0, len(names), depth)]
        below -= (0.06 + row_in * max(sum(1 + name.count("\n") for name in one) for one in columns)) / height_in
    engine: Any = figure.get_layout_engine()
    if engine is not None:
        engine.set(rect=(0.0, 0.0, 1.0, below))
    # Labels of the figure stand in the middle of what is below, not in that of the whole.
    if figure.get_supylabel():
        figure.supylabel(figure.get_supylabel(), x=0.03 / on.width_in, y=below / 2, fontsize=on.text_pt + on.titled)
    return below


def explain(figure: Figure, *sentences: str) -> Figure:
    """Keep with a figure what its caption says, of what is drawn; sentences left empty are left out."""
    figure.set_label(" ".join(sentence for sentence in sentences if sentence))
    return figure


def caption_of(figure: Figure) -> str:
    """Return what `explain` has kept."""
    return str(figure.get_label())


def broken(names: Sequence[str], width: int) -> str:
    """Join names that share a line or a point, on several lines where one is too long."""
    whole = " = ".join(names)
    return whole if len(whole) <= width else "\n= ".join(textwrap.fill(name, width) for name in names)


def label_ends(figure: Figure, axes: Axes, labels: list[tuple[Any, ...]], heading: str) -> None:
    """Name the lines at their right ends, in the order of their figures, pushed apart so that no names overlap.

    A line that ends far from its name, where a leader would cross others, gets a short stroke in its style instead.
    """
    text_pt = medium().text_pt
    height = axes.get_position().height * figure.get_figheight() * 72
    low, high = axes.get_ylim()
    labels = sorted(labels, key=lambda label: label[0])
    sizes = [1.28 * text_pt * (1 + text.count("\n")) + 4 for _, _, text, _ in labels]
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
        near = abs((end[1] - low) / (high - low) * height - centre) <= LONGEST_LEADER_PT
        leader |= (
            {"linewidth": 1.0} if near else {key: style[key] for key in ("linewidth", "linestyle") if key in style}
        )
        axes.annotate(
            text, xy=end if near else (1.015, centre / height), xycoords="data" if near else axes.transAxes,
            xytext=(1.06, centre / height), textcoords=axes.transAxes, va="center", fontsize=text_pt,
            color=INK, annotation_clip=False, arrowprops=leader,
        )  # fmt: skip
    axes.text(1.06, 1.015, heading, transform=axes.transAxes, va="bottom", fontsize=text_pt, color=FAINT)


def label_points(figure: Figure, axes: Axes, x: Array, y: Array, names: Sequence[str]) -> None:
    """Name points beside them, each name at the nearest place where it covers neither a point nor a name."""
    look: dict[str, Any] = {
        "fontsize": medium().text_pt,
        "color": INK,
        "ha": "center",
        "va": "center",
        "in_layout": False,
    }
    notes = [axes.text(0, 0, name, zorder=4, **look) for name in names]
    figure.draw_without_rendering()
    frame, pixels = axes.get_window_extent(), figure.dpi / 72
    points = axes.transData.transform(np.column_stack([x, y]))
    # Boxes are rows of left, bottom, right, top in pixels.
    taken = [np.array([*point - 14 * pixels, *point + 14 * pixels]) for point in points]
    leaders: list[Array] = []
    for index in np.lexsort((y, x)).tolist():
        if not names[index]:
            continue
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
            axes.plot(ends[:, 0], ends[:, 1], color=FAINT, linewidth=0.7, zorder=2, scalex=False, scaley=False)


def _inside(path: Array, box: Array) -> float:
    """Return the part of a path that lies in a box."""
    return float(((path > box[:2]) & (path < box[2:])).all(axis=1).mean())
