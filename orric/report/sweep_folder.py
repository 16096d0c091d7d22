"""Write a sweep's report: the page, and every figure as SVG and PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orric.report.plots import as_svg
from orric.report.sweep_page import sweep_figures, sweep_page
from orric.report.sweep_words import sweep_sentences

if TYPE_CHECKING:
    import pandas


def write_sweep_report(
    summary: Mapping[str, Any], frame: pandas.DataFrame, write: Callable[[str, bytes], None]
) -> list[str]:
    """Write report.html and the figures of a sweep.

    Args:
        summary: What sweep.json holds.
        frame: All runs.
        write: Writes a file of the result folder by its name.

    Returns:
        The conclusion, sentence by sentence.
    """
    figures = sweep_figures(summary)
    for stem, figure in figures.items():
        write(f"{stem}.svg", as_svg(figure))
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=150)
        write(f"{stem}.png", buffer.getvalue())
    cases = {what: Path(path) for what, path in summary["cases"].items()}
    write("report.html", sweep_page(summary, frame, figures, cases).encode())
    return sweep_sentences(summary, frame)
