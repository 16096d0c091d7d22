"""From learning runs to learning curves: one over all, one per drift, how sure they are, and which memory they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.calibration.fitting import Fit, fit_curve, refitted
from orric.calibration.learning_run import CLEAN, LearningRun
from orric.drift import SEVERITIES
from orric.exceptions import CalibrationError
from orric.learning import UNIFORM, LearningCurve, LearningExtent

Array = np.ndarray[Any, np.dtype[np.float64]]
Drift = tuple[str, int]

DRAWS = 200
INTERVAL = (0.05, 0.95)
SLOPE_QUANTILE = 0.05
LEAST_SLOPE = 1e-6
MEMORIES = (
    UNIFORM,
    *(LearningExtent(kind="window", slots=slots) for slots in (1, 2, 3, 5, 8, 13, 21, 34)),
    *(LearningExtent(kind="decay", factor=factor) for factor in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)),
)


@dataclass(frozen=True)
class Curves:
    """What was fitted.

    Attributes:
        overall: The curve over all drifts.
        by_drift: The curve of each corruption and severity.
        extents: Where the interval of the overall curve is given.
        low: Its lower end, the 5 % quantile of the bootstrap, at each of them.
        high: Its upper end, the 95 % quantile.
        slope_floor: 5 % quantile of the bootstrapped slope at A^T_max, at least 1e-6.
        floored: Whether the quantile itself was below 1e-6.
    """

    overall: Fit
    by_drift: dict[Drift, Fit]
    extents: Array
    low: Array
    high: Array
    slope_floor: float
    floored: bool


def fixed(runs: Sequence[LearningRun]) -> list[LearningRun]:
    """Return the runs at one ratio throughout, on drifting images."""
    return [run for run in runs if not isinstance(run.plan.ratio, str) and run.corruption != CLEAN]


def varied(runs: Sequence[LearningRun]) -> list[LearningRun]:
    """Return the runs whose ratio changes, on drifting images."""
    return [run for run in runs if isinstance(run.plan.ratio, str) and run.corruption != CLEAN]


def fitted_curves(runs: Sequence[LearningRun], seed: int, inference: str | None = None) -> Curves:
    """Fit the curve of each drift and the one over all, and bootstrap the latter.

    At one ratio throughout the learning extent is that ratio in every slot after the first, whatever the memory. For
    the bootstrap, slots are drawn anew within each stream and severity, and the overall curve's form is refitted.

    Args:
        runs: Learning runs; those at fixed ratios are used.
        seed: Of the bootstrap.
        inference: The configuration that accuracies are of; left out, the one that each run always has.

    Raises:
        CalibrationError: There are too few ratios and seeds to fit.
    """
    chosen = fixed(runs)
    if not chosen:
        raise CalibrationError("learning curve", "there is no drifting run", "name a corruption")
    by_drift = fits_by_drift(chosen, inference)
    overall, extents, groups = _overall(chosen, inference)
    rng = np.random.default_rng(seed)
    # All students of a stream see the same images, so a slot is drawn for all of them or for none.
    draws: dict[tuple[str, int, int], np.ndarray[Any, np.dtype[np.int64]]] = {}
    for run in chosen:
        for severity in SEVERITIES:
            slots = len(run.at(severity))
            if (run.corruption, run.seed, severity) not in draws:
                draws[run.corruption, run.seed, severity] = rng.integers(0, slots, (DRAWS, slots))

    def resampled(run: LearningRun, severity: int) -> Array:
        return np.asarray(run.at(severity, inference)[draws[run.corruption, run.seed, severity]].mean(axis=1))

    drawn = np.array([np.mean([resampled(run, s) for run in group for s in SEVERITIES], axis=0) for group in groups])
    curves = [refitted(overall.curve, extents, accuracies) for accuracies in drawn.T]
    most = float(extents.max())
    grid = np.linspace(0.0, most, 11)
    values = np.array([np.asarray(curve(grid)) for curve in curves])
    low, high = np.quantile(values, INTERVAL, axis=0)
    slope = float(np.quantile([float(curve.slope(most)) for curve in curves], SLOPE_QUANTILE))
    return Curves(overall, by_drift, grid, low, high, max(slope, LEAST_SLOPE), slope < LEAST_SLOPE)


def fits_by_drift(runs: Sequence[LearningRun], inference: str | None = None) -> dict[Drift, Fit]:
    """Fit the curve of each corruption and severity; see `fitted_curves`."""
    found = {}
    for corruption in dict.fromkeys(run.corruption for run in fixed(runs)):
        mine = [run for run in fixed(runs) if run.corruption == corruption]
        extents = np.array([run.plan.ratio for run in mine], np.float64)
        for severity in SEVERITIES:
            accuracies = np.array([run.at(severity, inference).mean() for run in mine])
            found[corruption, severity] = fit_curve(extents, accuracies)
    return found


def overall_fit(runs: Sequence[LearningRun]) -> Fit:
    """Fit one curve over all drifts to runs at fixed ratios, as `fitted_curves` does for [curve].

    Raises:
        CalibrationError: There are too few ratios and seeds to fit.
    """
    return _overall(fixed(runs))[0]


def _overall(chosen: Sequence[LearningRun], inference: str | None = None) -> tuple[Fit, Array, list[list[LearningRun]]]:
    """Return the curve over all drifts, the ratios, and the runs it is fitted to, grouped by ratio and seed."""
    # Points are averaged over drifts: their differences are not noise about one curve.
    keys = sorted({(float(run.plan.ratio), run.seed) for run in chosen})
    extents = np.array([ratio for ratio, _ in keys])
    groups = [[run for run in chosen if (float(run.plan.ratio), run.seed) == key] for key in keys]
    halves = [_halves(group, inference) for group in groups]
    return fit_curve(np.repeat(extents, [len(half) for half in halves]), np.concatenate(halves)), extents, groups


def _halves(runs: Sequence[LearningRun], inference: str | None) -> list[float]:
    """Return the mean accuracy of the even and of the odd slots, severities weighing alike.

    Two points of one ratio tell the form of a curve from noise. Where a severity has one slot there is one point.
    """
    parts = [run.at(severity, inference) for run in runs for severity in SEVERITIES]
    apart = 2 if min(map(len, parts)) > 1 else 1
    return [float(np.mean([part[half::apart].mean() for part in parts])) for half in range(apart)]


def predicted(run: LearningRun, curves: dict[Drift, Fit], memory: LearningExtent) -> Array:
    """Return the accuracy that curves of a run's configuration predict for each slot of it, shape (T,)."""
    extents = memory.extents(np.ones(len(run.ratios)), run.ratios)[:-1]
    by_severity: dict[int, LearningCurve] = {s: curves[run.corruption, s].curve for s in SEVERITIES}
    return np.array([float(by_severity[int(s)](x)) for s, x in zip(run.severities, extents, strict=True)])


def chosen_memory(runs: Sequence[LearningRun], curves: dict[Drift, Fit]) -> tuple[LearningExtent, dict[str, float]]:
    """Choose the memory that best predicts slots that no curve was fitted to.

    Args:
        runs: Learning runs; those whose ratio changes from slot to slot are used.
        curves: Fitted to the others, in the same configuration.

    Returns:
        The memory, and of every one tried the root of the mean squared error over slots.
    """
    held_out = varied(runs)
    errors = {}
    for memory in MEMORIES:
        misses = [(predicted(run, curves, memory) - run.accuracy)[1:] for run in held_out]
        errors[described(memory)] = float(np.sqrt(np.mean(np.concatenate(misses) ** 2)))
    best = min(MEMORIES, key=lambda memory: errors[described(memory)])
    return best, errors


def described(memory: LearningExtent) -> str:
    """Name a memory with its parameter.

    >>> described(LearningExtent(kind="decay", factor=0.9))
    'decay 0.9'
    """
    parameter = memory.slots if memory.kind == "window" else memory.factor
    return memory.kind if parameter is None else f"{memory.kind} {parameter:g}"
