"""How far the learning curve and the accuracy table are off the real models on the same allocations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orric.allocators import REFERENCES
from orric.records import Result
from orric.report.canvas import clean, explain, figure_of, medium, title
from orric.report.facts import severity_groups, spoken
from orric.report.table import MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"curve": "#D55E00", "table": "#009E73"}
MARKERS = {"curve": "s", "table": "o"}
GOOD = 0.015
# An error in the mean beyond which a prediction has failed, a real difference that its order must get right, and how
# many failures of a kind are named.
FAILED, TELLING, NAMED = 0.025, 0.01, 3


@dataclass(frozen=True)
class PredictionError:
    """What an accuracy model predicted of an allocator, and what became of it.

    Attributes:
        allocator: Name of the allocator.
        accuracy_model: "curve" or "table".
        real: Mean accuracy of the served requests by real models over the whole run.
        predicted: The same by the accuracy model.
        error: predicted - real.
        worst_error: The error that is largest in size, of those in the slots of one severity.
        worst_where: Which severity that is.
    """

    allocator: str
    accuracy_model: str
    real: float
    predicted: float
    error: float
    worst_error: float
    worst_where: str


def prediction_errors(results: Sequence[Result]) -> list[PredictionError]:
    """Compare every predicted result with the real one of its allocator.

    Args:
        results: Of one scenario and seed, on the same allocations under all accuracy models.
    """
    real = {result.allocator: result.pooled() for result in results if result.accuracy_model == "onnx"}
    found = []
    for result in results:
        if result.accuracy_model == "onnx" or result.allocator in REFERENCES or result.allocator not in real:
            continue
        mine, other = result.pooled(), real[result.allocator]
        groups = severity_groups(other)
        parts = {name: _served(mine, slots) - _served(other, slots) for name, slots in groups.items()}
        known = {name: part for name, part in parts.items() if np.isfinite(part)}
        worst = max(known, key=lambda name: abs(known[name]), default="")
        everywhere = np.ones(len(other.slot), bool)
        predicted, measured = _served(mine, everywhere), _served(other, everywhere)
        if not (np.isfinite(predicted) and np.isfinite(measured)):
            continue  # nobody was served
        found.append(
            PredictionError(
                result.allocator, result.accuracy_model, measured, predicted, predicted - measured,
                known.get(worst, predicted - measured), worst,
            )
        )  # fmt: skip
    return found


def _served(result: Result, slots: np.ndarray) -> float:
    served = float(result.served[slots].sum())
    return float(result.correct[slots].sum()) / served if served else float("nan")


def errors_in_words(errors: Sequence[PredictionError]) -> str:
    """Say in a sentence how good the predictions are."""
    said = []
    for model in dict.fromkeys(one.accuracy_model for one in errors):
        mine = [one for one in errors if one.accuracy_model == model]
        worst = max(mine, key=lambda one: abs(one.error))
        mean = np.mean([abs(one.error) for one in mine])
        said.append(
            f"{MODELS[model]} is off by {100 * mean:.1f} points on average and by {100 * abs(worst.error):.1f} at "
            f"worst ({spoken(worst.allocator)})"
        )
    text = "; ".join(said)
    return f"On the same allocations {text}."


def failures_in_words(errors: Sequence[PredictionError]) -> list[str]:
    """Say which predictions failed: those far off, and orders of two allocators that came out the other way round.

    Args:
        errors: Of one scenario and seed, from `prediction_errors`.

    Returns:
        A sentence for each kind of failure and accuracy model, or one that says that nothing failed.
    """
    said = []
    for model in dict.fromkeys(one.accuracy_model for one in errors):
        mine = [one for one in errors if one.accuracy_model == model]
        far = sorted((one for one in mine if abs(one.error) > FAILED), key=lambda one: -abs(one.error))
        if far:
            listed = [
                f"{spoken(one.allocator)} ({100 * one.error:+.1f}; {one.worst_where} {100 * one.worst_error:+.1f})"
                for one in far
            ]
            said.append(f"Failed: {MODELS[model]} is more than {100 * FAILED:g} points off for {_some(listed)}.")
        turned = [
            (one, other) for one in mine for other in mine
            if one.real - other.real > TELLING and one.predicted < other.predicted
        ]  # fmt: skip
        if turned:
            turned.sort(key=lambda pair: pair[1].real - pair[0].real)
            listed = [
                f"{spoken(other.allocator)} before {spoken(one.allocator)}, by "
                f"{100 * (other.predicted - one.predicted):.1f} points, where reality has it behind by "
                f"{100 * (one.real - other.real):.1f}"
                for one, other in turned
            ]
            said.append(f"Failed: {MODELS[model]} ranks {_some(listed)}.")
    nothing = f"No prediction failed: all within {100 * FAILED:g} points, and in the order that reality has."
    return said or [nothing]


def _some(listed: Sequence[str]) -> str:
    """Name the first few, and count the others."""
    more = [f"{len(listed) - NAMED} more"] * (len(listed) > NAMED)
    return "; ".join([*listed[:NAMED], *more])


def prediction_error(errors: Sequence[PredictionError]) -> Figure:
    """Draw the error of each prediction, one row for each allocator."""
    names = list(dict.fromkeys(one.allocator for one in errors))
    figure = figure_of(1.7 + 0.32 * len(names), rows=True)
    axes, handles = figure.add_subplot(), {}
    axes.axvspan(-100 * GOOD, 100 * GOOD, color="#eeeeee", linewidth=0)
    axes.axvline(0.0, color="#6b6b6b", linewidth=1.0)
    for model in dict.fromkeys(one.accuracy_model for one in errors):
        mine = [one for one in errors if one.accuracy_model == model]
        places = [names.index(one.allocator) for one in mine]
        drawn = axes.plot(
            [100 * one.error for one in mine], places, linestyle="none", marker=MARKERS[model],
            markersize=7 * medium().scale, color=COLOURS[model],
        )  # fmt: skip
        handles[MODELS[model]] = drawn[0]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    reach = max(2.0, 1.15 * max(100 * abs(one.error) for one in errors))
    axes.set_xlim(-reach, reach)
    axes.set_xlabel("Predicted minus real mean accuracy (points)")
    clean(axes)
    means = []
    for model in dict.fromkeys(one.accuracy_model for one in errors):
        mean = np.mean([abs(one.error) for one in errors if one.accuracy_model == model])
        means.append(f"{MODELS[model]} ({100 * mean:.1f} points)")
    missed = " and ".join(means)
    title(figure, f"On the same allocations the real accuracy is missed, on average, by {missed}", handles)
    return explain(
        figure,
        "Predicted minus real accuracy over the whole stream, on the same allocations. Within the band the prediction "
        "is off by at most 1.5 points.",
    )
