"""What the figures and the words of a report have in common: who won, who ties, what the budget went to."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from orric import statistics
from orric.allocators import REFERENCES
from orric.records import Array, Result

TIE = statistics.TIE


@dataclass(frozen=True)
class Line:
    """Results that a figure cannot tell apart, and so draws once: their names, and the first of them."""

    names: tuple[str, ...]
    result: Result

    @property
    def label(self) -> str:
        """Name them all in one entry."""
        return " = ".join(self.names)


def spoken(name: str) -> str:
    """Write an allocator's name as a sentence wants it."""
    return "ORRIC" if name == "orric" else name


def main_results(results: Sequence[Result]) -> list[Result]:
    """Select the results of real models where there are any, else those of the learning curve."""
    models = [result.accuracy_model for result in results]
    shown = "onnx" if "onnx" in models else (models[0] if models else "")
    return [result for result in results if result.accuracy_model == shown]


def contenders(results: Sequence[Result]) -> list[Result]:
    """Leave out the reference lines, which are not allocators; keep them where there is nothing else."""
    return [result for result in results if result.allocator not in REFERENCES] or list(results)


def leading(result: Result) -> float:
    """Return the measure that all is ranked by: in-time accuracy where there is a deadline, else mean accuracy."""
    return result.in_time_accuracy if result.has_deadlines else result.mean_accuracy


def leading_name(results: Sequence[Result]) -> str:
    """Name the measure that all is ranked by."""
    return "in-time accuracy" if any(result.has_deadlines for result in results) else "mean accuracy"


def leading_words(results: Sequence[Result]) -> str:
    """Say what a part of all requests by that measure is a part of."""
    deadline = any(result.has_deadlines for result in results)
    return "of all requests right and in time" if deadline else "of all requests answered correctly"


def leading_in(result: Result, slots: Array) -> float:
    """Return the leading measure in some slots, NaN where no request came in them.

    Args:
        result: A result.
        slots: A mask, one for every row.
    """
    requests = float(result.requests[slots].sum())
    right = result.correct_in_time if result.has_deadlines else result.correct
    return float(right[slots].sum()) / requests if requests else math.nan


def leading_by_stream(result: Result) -> Mapping[str, float]:
    """Return the leading measure of every stream that had requests, by name."""
    return result.stream_in_time_accuracies if result.has_deadlines else result.stream_accuracies


def winners(results: Sequence[Result]) -> list[Result]:
    """Select the best allocators by the leading measure: several where they tie (see `tie_margin`), ORRIC first."""
    candidates = [result for result in contenders(results) if math.isfinite(leading(result))]
    if not candidates:
        return []
    best = max(candidates, key=leading)
    tied = [one for one in candidates if leading(best) - leading(one) <= tie_margin(best)]
    return sorted(tied, key=lambda result: result.allocator != "orric")


def tie_margin(best: Result) -> float:
    """Return the difference in the leading measure that is no difference.

    On a curve 0.05 points; on real images at least two standard errors of a difference of two parts, which the
    choice of images may explain. (All lines see the same images, so the true error is smaller.)
    """
    if best.accuracy_model != "onnx":
        return TIE
    accuracy, requests = leading(best), float(best.requests.sum()) or 1.0
    return max(TIE, 2 * math.sqrt(2 * accuracy * (1 - accuracy) / requests))


def merged(results: Sequence[Result], key: Callable[[Result], Hashable]) -> list[Line]:
    """Put results that look the same into one line, in the order given."""
    lines: dict[Hashable, Line] = {}
    for result in results:
        line = lines.setdefault(key(result), Line((), result))
        lines[key(result)] = Line((*line.names, result.allocator), line.result)
    return list(lines.values())


def severity_groups(result: Result) -> dict[str, Array]:
    """Split a result's slots by corruption and severity, in order of appearance.

    Returns:
        Name of the group, such as "severity 3", and a mask of its slots, shape (T,).
    """
    corruptions, severities = result.corruption.astype(str), result.severity
    several = len(set(corruptions.tolist())) > 1
    groups: dict[str, Array] = {}
    for corruption, severity in dict.fromkeys(zip(corruptions.tolist(), severities.tolist(), strict=True)):
        name = f"severity {severity if severity >= 0 else 'unknown'}"
        name = f"{corruption or 'unknown corruption'}, {name}" if several else name
        groups[name] = (corruptions == corruption) & (severities == severity)
    return groups


def budget_parts(result: Result) -> tuple[float, float, float]:
    """Return the parts of the whole budget that went to inference, to retraining and to nothing."""
    budget = float(result.budget_macs.sum()) or math.nan
    inference, retraining = float(result.inference_macs.sum()) / budget, float(result.retraining_macs.sum()) / budget
    return inference, retraining, max(1 - inference - retraining, 0.0)


def percent(value: float | None, digits: int = 1) -> str:
    """Write a part of 1 as a percentage."""
    return "unknown" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def macs_unit(most: float) -> tuple[float, str]:
    """Choose the SI prefix that brings a number of MACs between 1 and 1000."""
    prefixes = "", "k", "M", "G", "T", "P"
    power = min(max(int(math.log10(most) // 3), 0), len(prefixes) - 1) if most > 0 else 0
    return 1000.0**power, f"{prefixes[power]}MACs"
