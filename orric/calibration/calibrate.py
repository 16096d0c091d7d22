"""Turn real models into a profile."""

from __future__ import annotations

import datetime
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from orric.by_drift import DriftCurve
from orric.calibration.checkpoint import Checkpoint
from orric.calibration.clean import clean_curve
from orric.calibration.colocation import Served, cores
from orric.calibration.curves import (
    LEAST_SLOPE,
    Curves,
    Drift,
    chosen_memory,
    described,
    fitted_curves,
    fixed,
    predicted,
    varied,
)
from orric.calibration.fitting import Fit
from orric.calibration.learning_run import LearningRun, Progress
from orric.calibration.measurement import (
    SIZES,
    Latency,
    RetrainingTimes,
    accuracies_by_resolution,
    colocation,
    latencies,
    package_versions,
    processor,
    retraining_times,
    shortened,
)
from orric.calibration.plan import Calibration, conditions, measured_runs
from orric.calibration.table import table_of, table_provenance
from orric.drift import SEVERITIES
from orric.learning import LearningExtent
from orric.profile import Models, Profile
from orric.retraining.loop import FULL_PX
from orric.retraining.models import exported, macs_of, sha256
from orric.selection.sampling import Sampling
from orric.vision.datasets import load_dataset


def calibrate(plan: Calibration, output: Path, progress: Progress = lambda what, part: None) -> Profile:
    """Measure a student and a teacher into a profile.

    Through ONNX Runtime: accuracy, and latency by batch, at every resolution; what retraining beside it costs serving;
    what labelling, training and swapping take. Analytically: MACs. By the real loop: the student's accuracy on drifting
    streams at every sampling ratio, to which the learning curves are fitted and from which the accuracy table is taken.
    Streams whose ratio changes choose the memory, and others, on a seed that nothing was fitted to, validate.

    What is measured is kept beside the profile until that is written: interrupted, the same call goes on from there.

    Args:
        plan: What to measure.
        output: Where the profile will lie; the weights are named relative to it.
        progress: Called with what is being done and the part that is done.

    Returns:
        The profile; its provenance holds versions, processor, seeds, hashes, date and errors.

    Warns:
        UserWarning: The student is better than the teacher, the curve is flat at A^T_max, or there is one core only.
    """
    dataset, versions = load_dataset(plan.dataset, plan.data), package_versions()
    classes, resolutions = len(dataset.classes), list(plan.resolutions_px)
    student, teacher = exported(plan.student, "student", classes), exported(plan.teacher, "teacher", classes)
    macs = {px: macs_of(plan.student, "student", classes, px) for px in {*resolutions, FULL_PX}}
    teacher_macs = macs_of(plan.teacher, "teacher", classes, FULL_PX)
    table = _configurations(plan, output, macs, teacher_macs)
    # The loop needs a profile to run; only its curve is still unknown.
    draft = Profile(
        **table, best_accuracy=1.0, slope_floor=1e-6, curve={"form": "tabulated", "x": [0, 1], "y": [0.5, 0.5]}
    ).placed_in(output.parent)
    if plan.data is not None:
        draft = draft.with_data(plan.data)
    if len(cores()) < 2:
        found = "there is one core only, which server and measurement share; latencies come out too long"
        warnings.warn(f"{found}: measure where there are two", stacklevel=2)
    progress("accuracy and latency at every resolution", 0.0)
    accuracies = accuracies_by_resolution(student, dataset, resolutions, plan.seeds[0])
    accuracy_of_teacher = accuracies_by_resolution(teacher, dataset, [FULL_PX], plan.seeds[0])[FULL_PX]
    served = [*(Served(student, px) for px in resolutions), Served(teacher, FULL_PX)]
    *of_student, teacher_latency = latencies(draft, served)
    by_resolution = dict(zip(resolutions, of_student, strict=True))
    progress("retraining beside serving", 0.0)
    beside, times = colocation(draft, served[0]), retraining_times(draft)
    hashes = {"student": sha256(plan.student), "teacher": sha256(plan.teacher), "dataset": dataset.fingerprint}
    checkpoint = Checkpoint(output, conditions(draft, plan.slots, plan.per_slot, hashes, versions))
    runs = measured_runs(draft, plan.work(), plan.slots, plan.per_slot, plan.jobs, checkpoint, progress)
    drifting = _drifting(plan, runs)
    teachers = _teacher_accuracies(fixed(runs))
    _warn_of_the_teacher(runs, teachers, accuracies, accuracy_of_teacher)
    fitting = [run for run in runs if run.seed in plan.seeds]
    curves = fitted_curves(fitting, plan.seeds[0])
    memory, memories = chosen_memory(fitting, curves.by_drift)
    misses = _validation([run for run in varied(runs) if run.seed not in plan.seeds], curves.by_drift, memory)
    if curves.floored:
        found = f"the learning curve is flat at the largest profit; slope_floor is set to {curves.slope_floor:g}"
        warnings.warn(f"{found}, and ORRIC will hardly retrain: measure more seeds or slots", stacklevel=2)
    for row, px in zip(table["inference"], resolutions, strict=True):
        row["profit"] = shortened(drifting[px] / max(drifting.values()))
        row["latency_s"] = shortened(by_resolution[px].usual_s)
    most = plan.fullest_ratio
    clean, drifts = clean_curve(fitting, most), [fit.curve for fit in curves.by_drift.values()]
    top = max(float(curve(most)) for curve in [curves.overall.curve, clean.curve, *drifts])
    profile = Profile(
        **{**table, "device": {"macs_per_s": shortened(macs[resolutions[0]] / of_student[0].usual_s)}},
        best_accuracy=shortened(min(max(top, *accuracies.values()) + 5e-7, 1.0)),
        slope_floor=max(shortened(curves.slope_floor * (1 - 1e-5)), LEAST_SLOPE),
        curve=curves.overall.curve,
        memory=memory,
        drift_curve=(
            clean,
            *(
                DriftCurve(corruption=c, severity=s, curve=fit.curve, teacher_accuracy=shortened(teachers[c, s]))
                for (c, s), fit in curves.by_drift.items()
            ),
        ),
        table=table_of(fitting, [f"{px}px" for px in resolutions], plan.corruptions, most),
        teacher={
            "accuracy": shortened(float(np.mean(list(teachers.values())))),
            "cost_macs": teacher_macs,
            "latency_s": shortened(teacher_latency.usual_s),
        },
        batch_latency=tuple(one.table(f"{px}px") for px, one in by_resolution.items()),
        swap=times.swap(round(plan.per_slot * float(np.mean(plan.ratios)))),
        colocation=beside,
        provenance={
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "orric calibrate",
            "processor": processor(),
            "versions": versions,
            "dataset": plan.dataset,
            "corruptions": list(plan.corruptions),
            "seeds": list(plan.seeds),
            "validation_seed": plan.seeds[-1] + 1,
            "slots": plan.slots,
            "samples_per_slot": plan.per_slot,
            **{f"{role}_sha256": value for role, value in hashes.items()},
            "drifting_accuracy": {f"{px}px": shortened(drifting[px]) for px in resolutions},
            "clean_accuracy": {f"{px}px": shortened(accuracies[px]) for px in resolutions},
            "clean_accuracy_of_the_teacher": shortened(accuracy_of_teacher),
            **_told_of_times(plan, by_resolution, times),
            **_told_of_curves(curves, memory, memories, misses),
            "table": table_provenance(plan.seeds, plan.slots, plan.per_slot),
        },
    )
    return profile.placed_in(output.parent)


def finished(output: Path) -> None:
    """Forget what was kept of a calibration, now that its profile is written."""
    Checkpoint(output, None).remove()


def _configurations(plan: Calibration, output: Path, macs: dict[int, float], teacher_macs: float) -> dict[str, Any]:
    """Return the parts of the profile that say what can be chosen; profits of inference and latencies come later."""

    def relative(path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix()

    costs = {ratio: Sampling(ratio).macs(macs[FULL_PX], teacher_macs, plan.training.passes) for ratio in plan.ratios}
    # Published data sets lie somewhere else for everybody; one's own belongs to the profile.
    data = relative(plan.data) if plan.data is not None and plan.dataset == "images" else None
    return {
        "name": plan.name or plan.dataset,
        "retraining": [
            {"name": ratio_name(ratio), "profit": ratio, "cost_macs": costs[ratio]} for ratio in plan.ratios
        ],
        "inference": [{"name": f"{px}px", "profit": 1.0, "cost_macs": macs[px]} for px in plan.resolutions_px],
        "models": Models(
            dataset=plan.dataset,
            data=data,
            student=relative(plan.student),
            teacher=relative(plan.teacher),
            resolution_px={f"{px}px": px for px in plan.resolutions_px},
            sampling_ratio={ratio_name(ratio): ratio for ratio in plan.ratios},
        ).model_dump(exclude_none=True),
        "training": plan.training,
    }


def _drifting(plan: Calibration, runs: list[LearningRun]) -> dict[int, float]:
    """Return the mean accuracy of retrained students on drifting streams at each resolution."""
    profiting = [run for run in fixed(runs) if run.plan.ratio in plan.profit_ratios]
    return {px: float(np.mean([run.accuracies[f"{px}px"].mean() for run in profiting])) for px in plan.resolutions_px}


def _teacher_accuracies(runs: list[LearningRun]) -> dict[Drift, float]:
    """Return the teacher's accuracy under every corruption and severity, on the samples that it labelled."""
    most, found = max(float(run.plan.ratio) for run in runs), {}
    for corruption in dict.fromkeys(run.corruption for run in runs):
        streams = [run for run in runs if (run.corruption, run.plan.ratio) == (corruption, most)]
        for severity in SEVERITIES:
            parts = [run.taught[run.severities == severity] for run in streams]
            # Never right of a thousand is not never right.
            found[corruption, severity] = max(float(np.concatenate(parts).mean()), 1e-4)
    return found


def _warn_of_the_teacher(
    runs: list[LearningRun], teachers: dict[Drift, float], clean: dict[int, float], clean_teacher: float
) -> None:
    """Warn where the teacher is worse than the frozen student, whose pseudo-labels would do harm."""
    worse = []
    if clean_teacher < max(clean.values()):
        worse.append(f"clean images ({clean_teacher:.1%} against {max(clean.values()):.1%})")
    for corruption in dict.fromkeys(corruption for corruption, _ in teachers):
        frozen = float(
            np.mean([r.at_fullest.mean() for r in fixed(runs) if (r.corruption, r.plan.ratio) == (corruption, 0)])
        )
        teacher = float(np.mean([teachers[corruption, severity] for severity in SEVERITIES]))
        if teacher < frozen:
            worse.append(f"{corruption} ({teacher:.1%} against {frozen:.1%})")
    if worse:
        told = ", ".join(worse[:3]) + f" and {len(worse) - 3} more" * (len(worse) > 3)
        warnings.warn(
            f"the teacher is worse than the student that it labels for: {told}; "
            "its pseudo-labels would do harm: train a better teacher, or one that knows the corruptions",
            stacklevel=3,
        )


def _validation(runs: list[LearningRun], curves: dict[Drift, Fit], memory: LearningExtent) -> dict[str, Any]:
    """Return how far predicted and measured accuracies are apart: by severity of a stream, and over whole streams."""
    by_severity, by_stream = [], []
    for run in runs:
        guess = predicted(run, curves, memory)
        by_stream.append(abs(float(guess.mean() - run.at_fullest.mean())))
        for severity in SEVERITIES:
            there = run.severities == severity
            by_severity.append(abs(float(guess[there].mean() - run.at_fullest[there].mean())))
    return {
        "validation_error_mean": shortened(float(np.mean(by_severity))),
        "validation_error_worst": shortened(max(by_severity)),
        "validation_error_of_streams_mean": shortened(float(np.mean(by_stream))),
        "validation_error_of_streams_worst": shortened(max(by_stream)),
    }


def _told_of_times(plan: Calibration, by_resolution: dict[int, Latency], times: RetrainingTimes) -> dict[str, Any]:
    sampled, received = plan.training.passes
    return {
        "latency": "median of batches of each size, ONNX Runtime on one thread in a process on one core; latency_s is "
        "that of batches of 32 by image, [[batch_latency]] the affine fit over all sizes",
        "batch_sizes": list(SIZES),
        "batch_seconds": {f"{px}px": [shortened(s) for s in one.seconds] for px, one in by_resolution.items()},
        "labelling_s_per_sample": shortened(times.labelling_s),
        "training_s_per_sample": shortened(times.training_s),
        "staging_s": shortened(times.staging_s),
        "swapping_s": shortened(times.swapping_s),
        "inference_cost": "convolutions and linear layers, counted analytically",
        "retraining_cost": f"ratio x (teacher forward + {sampled} x student forward for training steps and statistics) "
        f"+ {received} x student forward where anything is retrained, at {FULL_PX} px",
        "inference_profit": "mean accuracy on drifting streams retrained at the middle ratios, by ONNX Runtime, "
        "divided by the best one",
    }


def _told_of_curves(
    curves: Curves, memory: LearningExtent, memories: dict[str, float], misses: dict[str, Any]
) -> dict[str, Any]:
    fits = list(curves.by_drift.values())
    return {
        "curve": "fitted to the mean accuracy of drifting streams at fixed sampling ratios; the form has the smallest "
        "corrected Akaike criterion; [[drift_curve]] holds one for each corruption and severity, and of clean images",
        "curve_interval": "5 % and 95 % quantiles of 200 bootstrap draws of slots, at the extents given",
        "curve_extents": [shortened(x) for x in curves.extents],
        "curve_low": [shortened(y) for y in curves.low],
        "curve_high": [shortened(y) for y in curves.high],
        "slope_floor": "5 % quantile of the bootstrapped slope of [curve] at the largest profit"
        + (", which was below 1e-6 and is floored there" if curves.floored else "")
        + "; single severities may be flatter",
        "curve_residual": shortened(curves.overall.residual),
        "drift_curve_residual_mean": shortened(float(np.mean([fit.residual for fit in fits]))),
        "drift_curve_residual_worst": shortened(max(fit.residual for fit in fits)),
        "memory": "of those tried, the one whose extents predict the slots of streams with changing ratios best",
        "memory_error": {name: shortened(error) for name, error in memories.items()},
        "memory_gain_over_uniform": shortened(memories["uniform"] - memories[described(memory)]),
        "validation": "streams with spells without retraining, on a seed that was not fitted",
        **misses,
    }


def ratio_name(ratio: float) -> str:
    """Name a retraining configuration by its sampling ratio.

    >>> ratio_name(0.0), ratio_name(0.05), ratio_name(1.0)
    ('none', '5%', '100%')
    """
    return f"{100 * ratio:g}%" if ratio else "none"
