"""One self-contained page about a comparison: conclusion, table, figures, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orric.records import Result
from orric.report.canvas import caption_of
from orric.report.conclusion import conclusion
from orric.report.document import document, figure_element
from orric.report.table import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def page(
    scenario_name: str,
    results: Sequence[Result],
    figures: Mapping[str, Figure],
    description: Mapping[str, Any],
    failed: Mapping[str, str] | None = None,
    sentences: Sequence[str] | None = None,
) -> str:
    """Return the report as one HTML document that needs nothing else: no network, no other file.

    Args:
        scenario_name: For the title.
        results: Of one scenario and seed, under one accuracy model or both.
        figures: From `plots.figures`, by stem.
        description: Where the results come from, in the order to print; "decisions_per_s", by accuracy model
            and allocator, becomes a column of the table instead.
        failed: What each allocator did that has no result, by name.
        sentences: What is said first; `conclusion` when left out.

    Raises:
        MissingExtraError: There are figures, and matplotlib is not installed.
    """
    first, *others = sentences or conclusion(results)
    models = list(dict.fromkeys(result.accuracy_model for result in results))
    models.sort(key=lambda model: model != "onnx")
    decisions = description.get("decisions_per_s")
    tables = [html_table([r for r in results if r.accuracy_model == model], model, decisions) for model in models]
    provenance = {key: value for key, value in description.items() if key != "decisions_per_s"}
    shown = "\n".join(figure_element(stem, figure, caption_of(figure)) for stem, figure in figures.items())
    return document(
        f"orric report: {scenario_name}",
        first,
        [_left_out(one) for one in (failed or {}).values()],
        others,
        [("Comparison", "\n".join(tables)), ("Figures", shown)],
        provenance,
    )


def _left_out(message: str) -> str:
    return f"Left out of the comparison: {message}."
