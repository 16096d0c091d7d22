"""Figures for papers: every figure of a result folder as PNG, SVG and PDF, at the widths of a page's columns."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orric.exceptions import ScenarioError, extra
from orric.report.canvas import Medium, caption_of, drawn_on, paper
from orric.report.plots import as_svg, figures
from orric.report.prediction import prediction_error, prediction_errors
from orric.report.server import server_figures
from orric.report.stored import load_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
# One column and the whole page of most journals.
WIDTHS_CM = (8.5, 17.8)
NARROWEST_CM, WIDEST_CM = 6.0, 60.0
DOTS_PER_INCH = 300
CAPTIONS = "captions.md"


def run_figures(folder: Path, paired: bool) -> Callable[[], dict[str, Figure]]:
    """Return a function that draws every figure of a run anew, on whatever is drawn on.

    Args:
        folder: The result folder, which is read once.
        paired: Whether all accuracy models had the same allocations.
    """
    results = load_results(folder)
    pooled = [result.pooled() for result in results]
    errors = prediction_errors(results) if paired else []

    def draw() -> dict[str, Figure]:
        drawn = {**figures(pooled), **server_figures(results)}
        return {**drawn, "prediction_error": prediction_error(errors)} if errors else drawn

    return draw


def figure_files(
    draw: Callable[[], Mapping[str, Figure]],
    formats: Sequence[str] = FORMATS,
    widths_cm: Sequence[float] = WIDTHS_CM,
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of every file, and of one with a caption for each figure.

    Letters are text, set in 7 or 8 points, and the same figure is the same bytes. There is no title within a figure:
    what it says stands first in its caption.

    Args:
        draw: Draws the figures, by stem.
        formats: Some of `FORMATS`.
        widths_cm: How wide they are.

    Raises:
        ScenarioError: No page has such a width.
    """
    for width_cm in widths_cm:
        if not NARROWEST_CM <= width_cm <= WIDEST_CM:
            allowed = f"give {NARROWEST_CM:g} to {WIDEST_CM:g} cm"
            raise ScenarioError("option --width", f"found {width_cm:g} cm", allowed)
    captions: dict[str, str] = {}
    for width_cm in dict.fromkeys(widths_cm):
        on = paper(width_cm)
        with drawn_on(on):
            for stem, figure in draw().items():
                _fit(figure, on)
                says = " ".join(figure.get_suptitle().split())
                # What is said is that of the widest, which draws most.
                captions[stem] = f"## {stem}\n\n{says}. {caption_of(figure)}".rstrip() + "\n"
                for kind in dict.fromkeys(formats):
                    yield f"{stem}-{width_cm:g}cm.{kind}", _written(figure, kind)
    yield CAPTIONS, "\n".join(captions.values()).encode()


def _fit(figure: Figure, on: Medium) -> None:
    """Let no letter be larger than the others of the page, and no label be wider than it."""
    from matplotlib.text import Text

    for axes in figure.axes:
        if "\n" not in axes.get_xlabel():
            axes.set_xlabel(textwrap.fill(axes.get_xlabel(), on.characters(0.85)))

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if float(text.get_fontsize()) > on.text_pt:
            text.set_fontsize(on.text_pt)


def _written(figure: Figure, kind: str) -> bytes:
    if kind == "svg":
        return as_svg(figure, "none")
    with extra("sim"):
        import matplotlib
    # Neither a date nor a version, which would differ from day to day and from machine to machine.
    metadata: dict[str, Any] = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None}}[kind]
    buffer = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        figure.savefig(buffer, format=kind, dpi=DOTS_PER_INCH, metadata=metadata, facecolor="white")
    return buffer.getvalue()
