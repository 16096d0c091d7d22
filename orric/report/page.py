"""One self-contained page about a comparison: conclusion, table, figures, provenance."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orric.records import Result
from orric.report.conclusion import WARNING, conclusion
from orric.report.document import document
from orric.report.payload import first_choice, payload
from orric.report.prediction import PredictionError
from orric.report.table import errors_table, html_table


def page(
    scenario_name: str,
    results: Sequence[Result],
    description: Mapping[str, Any],
    failed: Mapping[str, str] | None = None,
    sentences: Sequence[str] | None = None,
    *,
    warnings: Sequence[str] = (),
    errors: Sequence[PredictionError] = (),
    deadlines_s: Mapping[str, float] | None = None,
    capacities_macs: Mapping[str, float] | None = None,
    slot_s: float | None = None,
    files: Sequence[str] = (),
) -> str:
    """Return the report as one HTML document that needs nothing else: no network, no other file.

    Its figures are drawn when it is open, from numbers that it holds in bins where the run is long.

    Args:
        scenario_name: For the title.
        results: Of one scenario and seed, one row per slot and stream, under one accuracy model or several.
        description: Where the results come from, in the order to print; "decisions_per_s", by accuracy model
            and allocator, becomes a column of the table instead.
        failed: What each allocator did that has no result, by name.
        sentences: What is said first; `conclusion` when left out.
        warnings: What the reader must know of the scenario.
        errors: How far each prediction is off, where accuracy models had the same allocations.
        deadlines_s: By stream, of those that have one.
        capacities_macs: What each GPU can do in a slot, by name.
        slot_s: Length of a slot.
        files: Names of the figures for papers that lie beside the page.
    """
    pooled = [result.pooled() for result in results]
    first, *others = sentences or conclusion(pooled)
    # What the figures themselves warn of is graver than what the scenario was warned of.
    found = [sentence for sentence in others if sentence.startswith(WARNING)]
    others = [sentence for sentence in others if sentence not in found]
    models = list(dict.fromkeys(result.accuracy_model for result in results))
    models.sort(key=lambda model: model != "onnx")
    decisions = description.get("decisions_per_s")
    numbers = {(result.accuracy_model, result.allocator): n for n, result in enumerate(results)}
    tables = [
        html_table([r for r in pooled if r.accuracy_model == model], model, decisions, numbers) for model in models
    ]
    provenance = {key: value for key, value in description.items() if key != "decisions_per_s"}
    sections = [("Comparison", _searched(models, len(results), "\n".join(tables)))]
    if results:
        meta, packed = payload(results, deadlines_s or {}, capacities_macs or {}, slot_s)
        sections.append(("", _figures({**meta, "first": first_choice(results)}, packed)))
    if errors:
        sections.append(("Predicted on the same allocations", errors_table(errors)))
    if files:
        sections.append(("Figures for papers", _links(files)))
    return document(
        f"orric report: {scenario_name}",
        first,
        [*found, *(f"{WARNING}{one}." for one in warnings), *(_left_out(one) for one in (failed or {}).values())],
        others,
        sections,
        provenance,
        ["uPlot.min.css", "report.css"] if results else [],
        _SCRIPTS if results else ["ready.js"],
    )


_SCRIPTS = ("uPlot.iife.min.js", "data.js", "charts.js", "figures.js", "lanes.js", "scatter.js", "report.js")


def _searched(models: Sequence[str], rows: int, tables: str) -> str:
    """Put a search box above tables of many rows, and say what their rows do."""
    said = "A row selects the allocator that all figures show; a heading sorts."
    if rows < 4:
        return f'<p class="note">{said}</p>\n{tables}'
    which = " ".join(f"comparison-{model}" for model in models)
    search = f'<input type="search" data-filters="{which}" placeholder="name has …" aria-label="filter by name">'
    return f'<p class="note">{said}</p>\n<p class="filters">{search} <output></output></p>\n{tables}'


def _figures(meta: Mapping[str, Any], packed: str) -> str:
    """Return where the figures come to stand, and what they are drawn from."""
    # No "<" may end the element early.
    told = json.dumps(meta, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        '<div id="interactive"><noscript><p>These figures are drawn by a script, which this browser does not run.</p>'
        f'</noscript></div>\n<script type="application/json" id="meta">{told}</script>\n'
        f'<script type="text/plain" id="numbers">{packed}</script>'
    )


def _links(files: Sequence[str]) -> str:
    links = ", ".join(f'<a href="{html.escape(name)}">{html.escape(name)}</a>' for name in files)
    return f"<p>They lie beside this page: {links}.</p>"


def _left_out(message: str) -> str:
    return f"Left out of the comparison: {message}."
