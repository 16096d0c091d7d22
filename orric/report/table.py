"""The comparison as a table: its columns, as text and as HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orric.allocators import REFERENCES
from orric.records import Result
from orric.report.facts import leading_by_stream, winners

if TYPE_CHECKING:
    from orric.report.prediction import PredictionError

MODELS = {"onnx": "real models", "curve": "the learning curve", "table": "the measured table"}


@dataclass(frozen=True)
class Column:
    """A column of the comparison table.

    Attributes:
        heading: With the unit.
        value: The number that a result has there, or None where it has none.
        digits: After the decimal point.
        shown: Says whether a table of such results has the column.
        spread: Half the width of the number's interval, where it has one.
    """

    heading: str
    value: Callable[[Result], float | None]
    digits: int = 1
    shown: Callable[[Sequence[Result]], bool] = lambda results: True
    spread: Callable[[Result], float | None] = lambda result: None

    def text(self, result: Result) -> str:
        """Write the number of a result, or a dash."""
        value, spread = self.value(result), self.spread(result)
        if value is None or not math.isfinite(value):
            return "-"
        return f"{value:,.{self.digits}f}" if spread is None else f"{value:+,.{self.digits}f} ± {spread:,.1f}"


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
    accuracies = leading_by_stream(result)
    return 100 * min(accuracies.values()) if len(accuracies) > 1 else None


def _growth(result: Result) -> float | None:
    overload = result.overload
    return overload.growth.mean if overload is not None and overload.overloaded else None


def _growth_spread(result: Result) -> float | None:
    overload = result.overload
    return None if overload is None else overload.growth.half_width


def _ends_at_its_worst(results: Sequence[Result]) -> bool:
    """Say whether the last severity is one that is worth a column: a drift that comes back ends where it began."""
    return all(result.ends_at_its_worst for result in results)


def _deadlines(results: Sequence[Result]) -> bool:
    return any(result.has_deadlines for result in results)


def all_answered(results: Sequence[Result]) -> bool:
    """Say whether every request of all results was answered."""
    return all(result.fates["in time"] + result.fates["late"] >= result.columns["requests"].sum() for result in results)


def _known(value: Callable[[Result], float | None]) -> Callable[[Sequence[Result]], bool]:
    return lambda results: any(value(result) is not None for result in results)


def _happened(key: str) -> Callable[[Sequence[Result]], bool]:
    return lambda results: any(result.fates[key] for result in results)


def _fate(name: str, shown: Callable[[Sequence[Result]], bool], heading: str = "") -> Column:
    return Column(f"{heading or name} (%)", _part(name.replace(" ", "_"), "requests"), shown=shown)


def _in_detail(results: Sequence[Result]) -> bool:
    return _deadlines(results) or not all_answered(results)


_LATENCIES = (("p50", "latency_p50_s"), ("p99", "latency_p99_s"))
COLUMNS = (
    Column("in-time accuracy (%)", _of("in_time_accuracy", 100), 2, shown=_deadlines),
    Column("mean accuracy (%)", _of("mean_accuracy", 100), 2),
    Column("worst stream's (%)", _worst_stream, 2, shown=_known(_worst_stream)),
    Column("accuracy, last severity (%)", _of("last_severity_accuracy", 100), 2, shown=_ends_at_its_worst),
    *(Column(f"{name} latency (s)", _of(key), 2, shown=all_answered) for name, key in _LATENCIES),
    *(
        Column(f"{name} latency of the answered (s)", _of(key), 2, shown=lambda results: not all_answered(results))
        for name, key in _LATENCIES
    ),
    # What becomes of all requests: "in time", or "answered" without deadlines, and those that follow add up to 100.
    Column(
        "answered (%)",
        _of("answered", 100),
        shown=lambda results: not _deadlines(results) or not all_answered(results),
    ),
    _fate("in time", _deadlines),
    _fate("late", _deadlines),
    _fate("shed", _in_detail),
    _fate("abandoned", _happened("abandoned")),
    _fate("lost", _happened("lost")),
    _fate("waiting", _happened("waiting"), "waiting at the end"),
    Column("overloaded (waiting, a slot)", _growth, shown=_known(_growth), spread=_growth_spread),
    Column("budget used (%)", _of("budget_used", 100)),
    Column("of it retraining (%)", _of("retraining_part", 100)),
    Column("energy (Wh)", _of("energy_j", 1 / 3600), 2, shown=_known(_of("energy_j"))),
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
    return [one for one in columns if one.shown(results)]


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


def html_table(
    results: Sequence[Result],
    model: str,
    decisions_per_s: Mapping[tuple[str, str], float] | None,
    numbers: Mapping[tuple[str, str], int],
) -> str:
    """Write the comparison as an HTML table whose columns can be sorted, and whose rows can be selected.

    Args:
        results: Those of one accuracy model.
        model: Its name.
        decisions_per_s: By accuracy model and allocator; adds a column.
        numbers: By accuracy model and allocator, for the page's figures.
    """
    columns = columns_of(results, decisions_per_s)
    headings, rows = table_rows(results, decisions_per_s)
    best = {result.allocator for result in winners(results)}
    head = "".join(f'<th scope="col"><button type="button">{html.escape(one)}</button></th>' for one in headings)
    body = []
    for result, (name, *texts) in zip(results, rows, strict=True):
        note = " <small>reference</small>" if name in REFERENCES else " <small>best</small>" * (name in best)
        overload = result.overload
        note += f" <small>{html.escape(str(overload))}</small>" * (overload is not None and overload.overloaded)
        values = [column.value(result) for column in columns]
        cells = "".join(
            f'<td data-value="{"" if text == "-" else float(value or 0.0)!r}">{html.escape(text)}</td>'
            for value, text in zip(values, texts, strict=True)
        )
        kind, name = ' class="best"' * (name in best), html.escape(name)
        row = f'<tr{kind} data-result="{numbers[model, result.allocator]}">'
        button = f'<button type="button" aria-pressed="false">{name}</button>'
        body.append(f'{row}<th scope="row" data-value="{name}">{button}{note}</th>{cells}</tr>')
    caption = f"Accuracies from {MODELS.get(model, model)}"
    head = f"<caption>{html.escape(caption)}</caption>\n<thead><tr>{head}</tr></thead>"
    lines = "\n".join(body)
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(caption)}">'
    return f'{frame}<table id="comparison-{html.escape(model)}">{head}\n<tbody>\n{lines}\n</tbody></table></div>'


def errors_table(errors: Sequence[PredictionError]) -> str:
    """Write how far predictions are off as an HTML table."""
    headings = ("allocator", "predicted by", "real (%)", "predicted (%)", "error (points)", "worst (points)", "where")
    head = "".join(f'<th scope="col"><button type="button">{one}</button></th>' for one in headings)
    body = []
    for one in errors:
        numbers = [100 * value for value in (one.real, one.predicted, one.error, one.worst_error)]
        texts = [f"{value:{'+' * (n > 1)}.2f}" for n, value in enumerate(numbers)]
        cells = "".join(f'<td data-value="{n!r}">{text}</td>' for n, text in zip(numbers, texts, strict=True))
        name, model, where = (
            html.escape(text) for text in (one.allocator, MODELS[one.accuracy_model], one.worst_where)
        )
        words = f'<th scope="row" data-value="{name}">{name}</th><td data-value="{model}">{model}</td>'
        body.append(f'<tr>{words}{cells}<td data-value="{where}">{where}</td></tr>')
    frame = '<div class="scroll" tabindex="0" role="region" aria-label="Errors of prediction">'
    return f"{frame}<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
