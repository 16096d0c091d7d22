"""The learning curve on clean images, which is no part of the mean over all drift."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from orric.by_drift import CLEAN_DRIFT, DriftCurve
from orric.calibration.fitting import criterion_of, fit_curve
from orric.calibration.learning_run import CLEAN, LearningRun, Progress
from orric.calibration.measurement import shortened
from orric.calibration.table import measured_at_all_ratios, moved_to
from orric.drift import SEVERITIES
from orric.exceptions import CalibrationError
from orric.learning import Tabulated
from orric.profile import Profile


def clean_curve(runs: Sequence[LearningRun], most: float, inference: str | None = None) -> DriftCurve:
    """Fit the learning curve of clean images.

    Retraining there may gain nothing, or do harm, and no form of a learning curve falls: where a level line explains
    the points better than any form, by the corrected Akaike criterion, the curve is level, at the accuracy of the
    student that is never retrained. Harm is in the accuracy table alone.

    Args:
        runs: Learning runs; those on clean images at fixed ratios are used.
        most: A^T_max.
        inference: The configuration that accuracies are of; left out, the one that each run always has.

    Raises:
        CalibrationError: There is no such run, none without retraining, or there are too few to fit.
    """
    chosen = [run for run in runs if run.corruption == CLEAN and not isinstance(run.plan.ratio, str)]
    if not any(run.plan.ratio == 0 for run in chosen):
        found = "there is no run on clean images without retraining"
        raise CalibrationError("learning curve", found, "let 0 be one of the sampling ratios")
    extents = np.array([run.plan.ratio for run in chosen], np.float64)
    accuracies = np.array([run.at(0, inference).mean() for run in chosen])
    fit = fit_curve(extents, accuracies)
    curve = fit.curve
    if criterion_of(accuracies - accuracies.mean(), 1) <= fit.criterion:
        level = shortened(float(accuracies[extents == 0].mean()))
        curve = Tabulated(x=(0.0, most), y=(level, level))
    taught = [run.taught[np.isfinite(run.taught)] for run in chosen if run.plan.ratio == extents.max()]
    corruption, severity = CLEAN_DRIFT
    # Never right of a thousand is not never right.
    teacher = shortened(max(float(np.concatenate(taught).mean()), 1e-4))
    return DriftCurve(corruption=corruption, severity=severity, curve=curve, teacher_accuracy=teacher)


def with_clean_curve(
    profile: Profile,
    where: str,
    output: Path,
    seeds: Sequence[int] = (1, 2),
    slots: int = 50,
    per_slot: int = 200,
    jobs: int = 2,
    progress: Progress = lambda what, part: None,
) -> Profile:
    """Measure the learning curve of a profile's own models on clean images and add it; every other figure stays.

    Args:
        profile: With [models].
        where: Its file, for errors.
        output: Where the new profile will lie; the weights are named relative to it.
        seeds: Seeds of the streams.
        slots: Slots of a stream that drifts; clean images, which know one severity, take a fifth of them.
        per_slot: Samples per slot.
        jobs: Worker processes.
        progress: Called with what is being done and the part that is done.

    Raises:
        ProfileError: The profile names no models, or its weights are not those that it was measured on.
        CalibrationError: There are too few sampling ratios and seeds to fit.
    """
    runs, told = measured_at_all_ratios(profile, where, output, [CLEAN], seeds, slots, per_slot, jobs, progress)
    added = clean_curve(runs, profile.most_profit)
    others = tuple(entry for entry in profile.drift_curve if (entry.corruption, entry.severity) != CLEAN_DRIFT)
    provenance = {
        **told,
        "command": "orric calibrate --clean-of",
        "seeds": list(seeds),
        "slots": slots // len(SEVERITIES),
        "samples_per_slot": per_slot,
    }
    changed = {
        "drift_curve": (added, *others),
        "best_accuracy": max(profile.best_accuracy, shortened(float(added.curve(profile.most_profit)) + 5e-7)),
        "provenance": {**profile.provenance, "clean_curve": provenance},
    }
    return moved_to(profile.model_copy(update=changed), output)
