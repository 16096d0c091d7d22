"""One self-contained page about a comparison: conclusion, table, figures, provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orric.records import Result
from orric.report.conclusion import conclusion
from orric.report.document import document, figure_element
from orric.report.table import html_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CAPTIONS = {
    "accuracy_by_stream": (
        "Part of each stream's requests that were answered correctly over the whole run; the worst of each row is "
        "bold. In brackets the mean over all requests."
    ),
    "latency_by_phase": (
        "Latencies of the answered requests whose service began before the slot's retraining, while it ran, and after "
        "it was done. Quantiles are right to half a percent."
    ),
    "gpu_use": (
        "What each GPU's time was spent on. What is left of 100 % idled, or belonged to the budget that others use."
    ),
    "accuracy_by_slot": (
        "Part of each slot's served requests that were classified correctly. Bands mark the steps of severity. "
        "Names at the right stand in the order of their accuracy over all requests, unanswered ones counted as wrong; "
        "lines that coincide share a name."
    ),
    "budget_split": (
        "What each allocator did with every slot's budget: serving, retraining, or nothing. What is unused idles, or, "
        'under spare = "inference", lets the same serving finish sooner. Reference lines are left out, because they '
        "do not allocate."
    ),
    "curve_against_real": (
        "The dashed line follows from the profile's learning curve alone; the solid one was measured by running the "
        "real models in the same slots. The shaded area between them is the error of the prediction."
    ),
    "prediction_error": (
        "Predicted minus real accuracy over the whole stream, on the same allocations. Within the band the prediction "
        "is off by at most 1.5 points."
    ),
    "accuracy_cost_latency": (
        "Up is more accurate, left is cheaper, light is quicker; latencies are of the answered requests. Names that "
        "coincide share a point. Where batch-norm-only is drawn, its compute is that of refreshing the statistics, one "
        "pass of the student without labels, but its latency is ORRIC's, whose shares of the GPU it keeps."
    ),
}


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
    shown = "\n".join(
        figure_element(stem, figure, _CAPTIONS.get(stem, stem.replace("_", " "))) for stem, figure in figures.items()
    )
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
