"""Turn real models into a profile."""

from __future__ import annotations

import datetime
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orric.calibration.fitting import Fit, fit_curve
from orric.calibration.learning_run import CLEAN, Assignment, LearningRun, Progress, learning_runs
from orric.calibration.measurement import (
    accuracies_by_resolution,
    latencies_by_resolution,
    package_versions,
    processor,
)
from orric.calibration.pretraining import RESOLUTIONS_PX
from orric.calibration.table import table_of, table_provenance, table_work
from orric.drift import SEVERITIES
from orric.profile import DriftCurve, Models, Profile
from orric.retraining.accuracy import drifted
from orric.retraining.loop import Student
from orric.retraining.models import exported, load_network, sha256
from orric.vision.corruptions import CORRUPTIONS
from orric.vision.datasets import load_dataset
from orric.vision.macs import count_macs

RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
PROFIT_RATIOS = (0.2, 0.3, 0.5)
# What is measured at every resolution: profits and, at both ends, the accuracy table.
MEASURED = (min(RATIOS), *PROFIT_RATIOS, max(RATIOS))


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        dataset: Name of the data set.
        student: Weights of the student.
        teacher: Weights of the teacher.
        slots: Slots of every learning run.
        per_slot: Samples per slot.
        seeds: Seeds of the learning runs; the one after the last validates.
        jobs: Worker processes.
    """

    dataset: str
    student: Path
    teacher: Path
    slots: int = 50
    per_slot: int = 200
    seeds: tuple[int, ...] = (1, 2)
    jobs: int = 2


def calibrate(plan: Plan, output: Path, progress: Progress = lambda what, part: None) -> Profile:
    """Measure a student and a teacher into a profile.

    Through ONNX Runtime: accuracy and latency at every resolution. Analytically: MACs. By the real loop: the
    student's accuracy on drifting streams at every sampling ratio, to which the learning curve is fitted, one
    for each corruption and severity and one over all, and from which the accuracy table is taken. Streams with a
    ratio drawn anew in every slot, on a seed that no curve was fitted to, validate the curves.

    Args:
        plan: What to measure.
        output: Where the profile will lie; the weights are named relative to it.
        progress: Called with what is being done and the part that is done.

    Returns:
        The profile; its provenance holds versions, processor, seeds, hashes, date and errors.
    """
    dataset = load_dataset(plan.dataset)
    classes = len(dataset.classes)
    student, teacher = exported(plan.student, "student", classes), exported(plan.teacher, "teacher", classes)
    resolutions = list(RESOLUTIONS_PX)
    progress("accuracy and latency at every resolution", 0.0)
    accuracies = accuracies_by_resolution(student, dataset, resolutions, plan.seeds[0])
    latencies = latencies_by_resolution(student, resolutions)
    teacher_latency = latencies_by_resolution(teacher, [32])[32]
    network = load_network(plan.student, "student", classes)
    macs = {px: float(count_macs(network, px)) for px in resolutions}
    teacher_macs = float(count_macs(load_network(plan.teacher, "teacher", classes), 32))

    def relative(path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix()

    table: dict[str, Any] = {
        "name": plan.dataset,
        "retraining": [
            {"name": _ratio_name(ratio), "profit": ratio, "cost_macs": ratio * (teacher_macs + 4 * macs[32])}
            for ratio in RATIOS
        ],
        "inference": [
            {
                "name": f"{px}px",
                "profit": 1.0,
                "cost_macs": macs[px],
                "latency_s": _short(latencies[px]),
            }
            for px in resolutions
        ],
        "device": {"macs_per_s": _short(macs[32] / latencies[32])},
        "models": Models(
            dataset=plan.dataset,
            student=relative(plan.student),
            teacher=relative(plan.teacher),
            resolution_px={f"{px}px": px for px in resolutions},
            sampling_ratio={_ratio_name(ratio): ratio for ratio in RATIOS},
        ).model_dump(),
    }
    # The loop needs a profile to run; only its curve is still unknown.
    draft = Profile(
        **table, best_accuracy=1.0, slope_floor=1e-6, curve={"form": "tabulated", "x": [0, 1], "y": [0.5, 0.5]}
    ).placed_in(output.parent)
    every = learning_runs(draft, _work(plan), plan.slots, plan.per_slot, plan.jobs, progress)
    runs = [run for run in every if run.corruption != CLEAN]
    profiting = [run for run in runs if run.ratio in PROFIT_RATIOS]
    drifting = {
        px: float(np.mean([float(run.by_inference[f"{px}px"].mean()) for run in profiting])) for px in resolutions
    }
    for row, px in zip(table["inference"], resolutions, strict=True):
        row["profit"] = _short(drifting[px] / max(drifting.values()))
    teacher_accuracies = _teacher_accuracies(draft, plan)
    overall, by_drift = _fits(runs)
    errors = _validation_errors([run for run in runs if run.ratio is None], by_drift)
    top = max(float(curve(1.0)) for curve in [overall.curve, *(fit.curve for fit in by_drift.values())])
    profile = Profile(
        **table,
        best_accuracy=_short(min(max(top, *accuracies.values()) + 5e-7, 1.0)),
        slope_floor=_short(max(overall.curve.slope(1.0) * 0.999, 1e-9)),
        curve=overall.curve,
        drift_curve=tuple(
            DriftCurve(corruption=c, severity=s, curve=fit.curve, teacher_accuracy=_short(teacher_accuracies[c, s]))
            for (c, s), fit in by_drift.items()
        ),
        table=table_of(every, [f"{px}px" for px in resolutions], max(RATIOS)),
        teacher={
            "accuracy": _short(float(np.mean(list(teacher_accuracies.values())))),
            "cost_macs": teacher_macs,
            "latency_s": _short(teacher_latency),
        },
        provenance={
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "orric calibrate",
            "processor": processor(),
            "versions": package_versions(),
            "seeds": list(plan.seeds),
            "validation_seed": plan.seeds[-1] + 1,
            "slots": plan.slots,
            "samples_per_slot": plan.per_slot,
            "student_sha256": sha256(plan.student),
            "teacher_sha256": sha256(plan.teacher),
            "drifting_accuracy": {f"{px}px": _short(drifting[px]) for px in resolutions},
            "clean_accuracy": {f"{px}px": _short(accuracies[px]) for px in resolutions},
            "inference_profit": "mean accuracy on drifting streams retrained at ratios .2, .3 and .5, by ONNX Runtime, "
            "divided by the best one",
            "latency": "median of 40 batches of 32, ONNX Runtime on one thread, per image",
            "inference_cost": "convolutions and linear layers, counted analytically",
            "retraining_cost": "ratio x (teacher forward + 3 x student forward for the training step "
            "+ 1 x student forward to refresh the batch-norm statistics), at 32 px",
            "curve": "fitted to the mean accuracy of drifting streams at fixed sampling ratios; the form has the "
            "smallest corrected Akaike criterion; [[drift_curve]] holds one for each corruption and severity",
            "slope_floor": "0.999 x the slope of [curve] at the largest profit; single severities may be flatter",
            "curve_residual": _short(overall.residual),
            "drift_curve_residual_mean": _short(float(np.mean([fit.residual for fit in by_drift.values()]))),
            "drift_curve_residual_worst": _short(max(fit.residual for fit in by_drift.values())),
            "validation": "streams whose sampling ratio is drawn anew in every slot, on a seed that was not fitted",
            "validation_error_mean": _short(float(np.mean(list(errors.values())))),
            "validation_error_worst": _short(max(errors.values())),
            "table": table_provenance(plan.seeds, plan.slots, plan.per_slot),
        },
    )
    return profile.placed_in(output.parent)


def _work(plan: Plan) -> list[Assignment]:
    """Return the learning runs of a calibration: to fit, to validate, and on clean images for the table."""
    fitted = [
        Assignment(c, ratio, seed, ratio in MEASURED) for c in CORRUPTIONS for seed in plan.seeds for ratio in RATIOS
    ]
    validating = [Assignment(c, None, plan.seeds[-1] + 1) for c in CORRUPTIONS]
    return [*fitted, *validating, *table_work(max(RATIOS), plan.seeds, [CLEAN])]


def _teacher_accuracies(profile: Profile, plan: Plan) -> dict[tuple[str, int], float]:
    """Return the teacher's accuracy under every corruption and severity, on streamed samples."""
    student = Student(profile)
    found = {}
    for corruption in CORRUPTIONS:
        for severity in SEVERITIES:
            images, labels = drifted(student.dataset, plan.seeds[0], severity, 1000, corruption, severity)
            found[corruption, severity] = float((student.label(images) == labels).mean())
    return found


def _fits(runs: list[LearningRun]) -> tuple[Fit, dict[tuple[str, int], Fit]]:
    fitted = [run for run in runs if run.ratio is not None]
    # The first slot is served before any retraining, whatever the ratio.
    ratios = np.array([run.ratio for run in fitted], dtype=np.float64)
    by_drift = {}
    for corruption in CORRUPTIONS:
        chosen = [run for run in fitted if run.corruption == corruption]
        for severity in SEVERITIES:
            extents = np.array([run.ratio for run in chosen], dtype=np.float64)
            accuracies = np.array([run.accuracies[1:][run.severities[1:] == severity].mean() for run in chosen])
            by_drift[corruption, severity] = fit_curve(extents, accuracies)
    means = np.array([run.accuracies[1:].mean() for run in fitted])
    levels = np.unique(ratios)
    seeds = len(fitted) // (len(CORRUPTIONS) * len(levels))
    # One point per ratio and seed, averaged over corruptions: their differences are not noise about one curve.
    points = [(level, means[ratios == level].reshape(len(CORRUPTIONS), seeds).mean(axis=0)) for level in levels]
    extents = np.repeat(levels, seeds)
    overall = fit_curve(extents, np.concatenate([accuracies for _, accuracies in points]))
    return overall, by_drift


def _validation_errors(runs: list[LearningRun], fits: dict[tuple[str, int], Fit]) -> dict[tuple[str, int], float]:
    """Return |predicted - measured| mean accuracy for every corruption and severity."""
    errors = {}
    for run in runs:
        for severity in SEVERITIES:
            at = run.severities == severity
            predicted = np.asarray(fits[run.corruption, severity].curve(run.extents[at]))
            errors[run.corruption, severity] = float(abs(predicted.mean() - run.accuracies[at].mean()))
    return errors


def _ratio_name(ratio: float) -> str:
    return f"{ratio:.0%}" if ratio else "none"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
