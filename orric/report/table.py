"""The comparison as a table: its columns, as text and as HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from orric.allocators import REFERENCES
from orric.records import Result
from orric.report.facts import winners

MODELS = {"onnx": "real models", "curve": "the learning curve", "table": "the measured table"}


@dataclass(frozen=True)
class Column:
    """A column of the comparison table.

    Attributes:
        heading: With the unit.
        value: The number that a result has there, or None where it has none.
        digits: After the decimal point.
    """

    heading: str
    value: Callable[[Result], float | None]
    digits: int = 1
    # Left out where no result has a figure.
    optional: bool = False

    def text(self, result: Result) -> str:
        """Write the number of a result, or a dash."""
        value = self.value(result)
        return "-" if value is None or not math.isfinite(value) else f"{value:,.{self.digits}f}"


def _of(key: str, factor: float = 1.0) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        found = result.summary()[key]
        return None if found is None else factor * float(found)

    return value


def _part(key: str, whole: str) -> Callable[[Result], float | None]:
    def value(result: Result) -> float | None:
        summary = result.summary()
        return 100 * float(summary[key]) / float(summary[whole]) if summary[whole] else None

    return value


def _worst_stream(result: Result) -> float | None:
    accuracies = result.stream_accuracies
    return 100 * min(accuracies.values()) if len(accuracies) > 1 else None


COLUMNS = (
    Column("mean accuracy (%)", _of("mean_accuracy", 100), 2),
    Column("worst stream's (%)", _worst_stream, 2, optional=True),
    Column("accuracy, last severity (%)", _of("last_severity_accuracy", 100), 2),
    Column("p50 latency (s)", _of("latency_p50_s"), 2),
    Column("p99 latency (s)", _of("latency_p99_s"), 2),
    Column("late (%)", _part("late", "served")),
    Column("shed (%)", _part("shed", "requests")),
    Column("budget used (%)", _of("budget_used", 100)),
    Column("of it retraining (%)", _of("retraining_part", 100)),
    Column("energy (Wh)", _of("energy_j", 1 / 3600), 2, optional=True),
)


def columns_of(
    results: Sequence[Result], decisions_per_s: Mapping[tuple[str, str], float] | None = None
) -> list[Column]:
    """Return the table's columns: with the decisions per second where these are known, without what nobody has.

    Args:
        results: The rows.
        decisions_per_s: By accuracy model and allocator.
    """
    columns = list(COLUMNS)
    if decisions_per_s:
        columns.append(Column("decisions per s", lambda r: decisions_per_s.get((r.accuracy_model, r.allocator)), 0))
    return [one for one in columns if not one.optional or any(one.value(result) is not None for result in results)]


def table_rows(
    results: Sequence[Result], decisions_per_s: Mapping[tuple[str, str], float] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Write the comparison as text: the headings, and one row per result.

    Args:
        results: Those of one accuracy model make one table.
        decisions_per_s: By accuracy model and allocator; adds a column.
    """
    columns = columns_of(results, decisions_per_s)
    rows = [[result.allocator, *(column.text(result) for column in columns)] for result in results]
    return ["allocator", *(column.heading for column in columns)], rows


def html_table(results: Sequence[Result], model: str, decisions_per_s: Mapping[tuple[str, str], float] | None) -> str:
    """Write the comparison as an HTML table whose columns can be sorted.

    Args:
        results: Those of one accuracy model.
        model: Its name.
        decisions_per_s: By accuracy model and allocator; adds a column.
    """
    columns = columns_of(results, decisions_per_s)
    headings, rows = table_rows(results, decisions_per_s)
    best = {result.allocator for result in winners(results)}
    head = "".join(f'<th scope="col"><button type="button">{html.escape(one)}</button></th>' for one in headings)
    body = []
    for result, (name, *texts) in zip(results, rows, strict=True):
        note = " <small>reference</small>" if name in REFERENCES else " <small>best</small>" * (name in best)
        values = [column.value(result) for column in columns]
        cells = "".join(
            f'<td data-value="{"" if text == "-" else float(value or 0.0)!r}">{html.escape(text)}</td>'
            for value, text in zip(values, texts, strict=True)
        )
        kind, name = ' class="best"' * (name in best), html.escape(name)
        body.append(f'<tr{kind}><th scope="row" data-value="{name}">{name}{note}</th>{cells}</tr>')
    caption = f"Accuracies from {MODELS.get(model, model)}"
    head = f"<caption>{html.escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>"
    lines = "\n".join(body)
    return f'<div class="scroll"><table>{head}\n<tbody>\n{lines}\n</tbody></table></div>'
