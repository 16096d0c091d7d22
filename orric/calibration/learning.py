"""What learning runs tell of a profile: curves, memory, table, transfer, and how far all that predicts."""

from __future__ import annotations

import datetime
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orric.accuracy import CurveAccuracy
from orric.by_drift import CLEAN_DRIFT, DriftCurve
from orric.calibration.checkpoint import Checkpoint
from orric.calibration.clean import clean_curve
from orric.calibration.curves import (
    LEAST_SLOPE,
    Curves,
    Drift,
    chosen_memory,
    described,
    fits_by_drift,
    fitted_curves,
    fixed,
    predicted,
    varied,
)
from orric.calibration.fitting import Fit
from orric.calibration.learning_run import Assignment, LearningRun, Progress
from orric.calibration.measurement import accuracies_by_resolution, package_versions, processor, shortened
from orric.calibration.plan import Calibration, conditions, measured_runs
from orric.calibration.table import (
    checked_hashes,
    drifting_accuracies,
    moved_to,
    table_of,
    table_provenance,
)
from orric.calibration.transfer import excess_agreements, fitted, transfer_of, validation
from orric.drift import SEVERITIES
from orric.exceptions import ProfileError
from orric.learning import LearningCurve, LearningExtent
from orric.profile import Profile
from orric.real_models import Training
from orric.retraining.loop import FULL_PX
from orric.retraining.models import exported, macs_of
from orric.selection.sampling import Sampling
from orric.vision.datasets import load_dataset

# Part of a calibration's learning runs after which curves and tables can be made, for its progress.
FITTED = 2 / 3


def with_learning(
    plan: Calibration, draft: Profile, output: Path, hashes: dict[str, str], progress: Progress
) -> Profile:
    """Measure how a student learns, and return a profile with what came of it.

    Args:
        plan: What to measure.
        draft: With the models and the configurations; what is said of learning is replaced.
        output: Where the profile will lie; what is measured is kept beside it.
        hashes: Of the models and the data set.
        progress: Called with what is being done and the part that is done.

    Returns:
        The profile; its provenance holds corruptions, seeds, amounts and errors.

    Warns:
        UserWarning: The teacher is worse than the student, or the curve is flat at A^T_max.
    """
    dataset = load_dataset(plan.dataset, plan.data)
    classes = len(dataset.classes)
    student, teacher = exported(plan.student, "student", classes), exported(plan.teacher, "teacher", classes)
    progress("accuracy on clean images", 0.0)
    accuracies = accuracies_by_resolution(student, dataset, list(plan.resolutions_px), plan.seeds[0])
    accuracy_of_teacher = accuracies_by_resolution(teacher, dataset, [FULL_PX], plan.seeds[0])[FULL_PX]
    checkpoint = Checkpoint(output, conditions(draft, plan.slots, plan.per_slot, hashes, package_versions()))
    measured = _Measured(draft, plan, checkpoint, progress)
    fitting = measured.runs(plan.fitted_streams(), 0.0, FITTED)
    teachers = _teacher_accuracies(fixed(fitting))
    _warn_of_the_teacher(fitting, teachers, accuracies, accuracy_of_teacher)
    most = plan.fullest_ratio
    table = table_of(fitting, [f"{px}px" for px in plan.resolutions_px], plan.corruptions, most)
    drifting = drifting_accuracies(table)
    # The model multiplies a curve by a profit, which is 1 in the best configuration: the curve is that one's.
    best = max(drifting, key=drifting.__getitem__)
    others = measured.runs(plan.other_streams(best), FITTED, 1.0)
    curves = fitted_curves(fitting, plan.seeds[0], best)
    # Which memory is best is told by students with spells, who are measured in one configuration alone.
    memory, memories = chosen_memory(fitting, fits_by_drift(fitting))
    fresh = [run for run in others if run.seed not in plan.seeds]
    misses = _validation([run for run in varied(fresh) if run.stream.usual], curves.by_drift, memory)
    if curves.floored:
        found = f"the learning curve is flat at the largest profit; slope_floor is set to {curves.slope_floor:g}"
        warnings.warn(
            f"{found}, and ORRIC will hardly retrain: measure more seeds or slots, or take orric-chord, which goes by "
            "the curve's ends",
            stacklevel=3,
        )
    excesses = excess_agreements(fitting, best)
    clean = clean_curve(fitting, most, best).model_copy(update={"excess_agreement": excesses[CLEAN_DRIFT]})
    drifts = [fit.curve for fit in curves.by_drift.values()]
    top = max(float(curve(most)) for curve in [curves.overall.curve, clean.curve, *drifts])
    profits = {name: shortened(accuracy / max(drifting.values())) for name, accuracy in drifting.items()}
    profile = draft.model_copy(
        update={
            "best_accuracy": shortened(min(max(top, *accuracies.values()) + 5e-7, 1.0)),
            "slope_floor": max(shortened(curves.slope_floor * (1 - 1e-5)), LEAST_SLOPE),
            **least_ends([curves.overall.curve, clean.curve, *drifts], most),
            "inference": tuple(one.model_copy(update={"profit": profits[one.name]}) for one in draft.inference),
            "curve": curves.overall.curve,
            "memory": memory,
            "drift_curve": (
                clean,
                *(
                    DriftCurve(
                        corruption=c, severity=s, curve=fit.curve, teacher_accuracy=shortened(teachers[c, s]),
                        excess_agreement=excesses[c, s],
                    )
                    for (c, s), fit in curves.by_drift.items()
                ),
            ),
            "table": table,
            "transfer": transfer_of(fitting, plan.corruptions, plan.per_slot, best),
        }
    )  # fmt: skip
    profile = profile.model_copy(update={"transfer": fitted(profile, others, plan.seeds)})
    assert profile.teacher is not None, "the caller knows its cost"
    teaching = {"accuracy": shortened(float(np.mean(list(teachers.values()))))}
    sampled, received = plan.training.passes
    facts = {
        "dataset": plan.dataset,
        "corruptions": list(plan.corruptions),
        "seeds": list(plan.seeds),
        "validation_seed": plan.seeds[-1] + 1,
        "slots": plan.slots,
        "samples_per_slot": plan.per_slot,
        "samples_per_small_slot": list(plan.few),
        "drifting_accuracy": {name: shortened(accuracy) for name, accuracy in drifting.items()},
        "clean_accuracy": {f"{px}px": shortened(accuracies[px]) for px in plan.resolutions_px},
        "clean_accuracy_of_the_teacher": shortened(accuracy_of_teacher),
        "retraining_cost": f"ratio x (teacher forward + {sampled} x student forward for training steps and statistics) "
        f"+ {received} x student forward where anything is retrained, at {FULL_PX} px",
        "inference_profit": "mean accuracy on drifting streams, half by the frozen student and half by students "
        "retrained at the ratios between none and the largest, by ONNX Runtime, divided by the best one",
        **_told_of_curves(curves, memory, memories, misses),
        "table": table_provenance(plan.seeds, plan.slots, plan.per_slot),
        "transfer": "accuracy under each drift of the student that was retrained at the middle ratio through the "
        "severities of one corruption, at the end of each; small_slots and few_classes fitted to streams of such",
        "validation_of_the_table": validation(profile, fresh),
        "validation_of_the_curve": validation(profile, fresh, CurveAccuracy),
    }  # fmt: skip
    changed = {"teacher": profile.teacher.model_copy(update=teaching), "provenance": {**draft.provenance, **facts}}
    return profile.model_copy(update=changed)


class _Measured:
    """Makes learning runs, a part of the calibration at a time."""

    def __init__(self, draft: Profile, plan: Calibration, checkpoint: Checkpoint, progress: Progress) -> None:
        self._draft, self._plan, self._checkpoint, self._progress = draft, plan, checkpoint, progress

    def runs(self, work: list[Assignment], since: float, until: float) -> list[LearningRun]:
        """Make the runs of some streams, which take the calibration from one part of it that is done to another."""

        def progress(what: str, part: float) -> None:
            self._progress(what, since + (until - since) * part)

        plan = self._plan
        return measured_runs(self._draft, work, plan.slots, plan.per_slot, plan.jobs, self._checkpoint, progress)


def plan_of(
    profile: Profile,
    where: str,
    training: dict[str, Any],
    slots: int,
    per_slot: int,
    seeds: tuple[int, ...],
    jobs: int,
) -> Calibration:
    """Return how a profile's own student is measured anew.

    Args:
        profile: Names models, ratios, resolutions and corruptions.
        where: Its file, for errors.
        training: Keys of `Training` that are to be others than the profile's.
        slots: Of every learning run.
        per_slot: Samples per slot.
        seeds: Of the learning runs.
        jobs: Worker processes.

    Raises:
        ProfileError: The profile names no models or no drift, or the keys contradict one another.
    """
    models = profile.models
    if models is None:
        raise ProfileError(where, "has no [models] to measure", "use a profile made by orric calibrate")
    corruptions = tuple(dict.fromkeys(entry.corruption for entry in profile.drift_curve if entry.severity))
    if not corruptions:
        raise ProfileError(where, "has no [[drift_curve]] of a corruption", "use a profile made by orric calibrate")
    return Calibration(
        dataset=models.dataset,
        student=profile.beside(models.student),
        teacher=profile.beside(models.teacher),
        data=profile.data,
        name=profile.name,
        corruptions=corruptions,
        ratios=tuple(sorted(set(profile.uniform_ratios))),
        resolutions_px=tuple(sorted(models.resolution_px.values(), reverse=True)),
        slots=slots,
        per_slot=per_slot,
        seeds=seeds,
        training=Training(**{**profile.training.model_dump(), **training}),
        jobs=jobs,
    )


def learning_of(
    profile: Profile, where: str, output: Path, plan: Calibration, progress: Progress = lambda what, part: None
) -> Profile:
    """Measure anew how a profile's own student learns; latencies, and all else that a processor sets, stay.

    Args:
        profile: With [models].
        where: Its file, for errors.
        output: Where the new profile will lie; the weights are named relative to it.
        plan: What to measure, by the profile's own models, ratios and resolutions.
        progress: Called with what is being done and the part that is done.

    Raises:
        ProfileError: The profile names no models, or its weights are not those that it was measured on.
    """
    hashes = checked_hashes(profile, where)
    dataset = load_dataset(plan.dataset, plan.data)
    hashes["dataset"] = dataset.fingerprint
    assert profile.models is not None, "looked at above"
    classes = len(dataset.classes)
    macs, teacher = (
        macs_of(path, role, classes, FULL_PX) for path, role in ((plan.student, "student"), (plan.teacher, "teacher"))
    )
    retraining = tuple(
        one.model_copy(update={"cost_macs": Sampling.of(profile, one.name).macs(macs, teacher, plan.training.passes)})
        for one in profile.retraining
    )
    draft = profile.model_copy(update={"retraining": retraining, "training": plan.training})
    found = with_learning(plan, draft, output, hashes, progress)
    told = {
        "command": "orric calibrate --learning-of", "processor": processor(), "versions": package_versions(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }  # fmt: skip
    found = found.model_copy(update={"provenance": {**found.provenance, "learning": told}})
    return moved_to(found, output)


def least_ends(curves: Sequence[LearningCurve], most: float) -> dict[str, float]:
    """Return `start_accuracy` and `end_accuracy` of a profile: what every one of its curves has at both ends.

    Args:
        curves: All of the profile's.
        most: A^T_max.

    Returns:
        Neither where that leaves no rise between them.
    """
    # Rounded downwards, since they are lower bounds.
    start, end = (math.floor(min(float(curve(x)) for curve in curves) * 1e6) / 1e6 for x in (0.0, most))
    return {"start_accuracy": start, "end_accuracy": end} if 0 < start < end else {}


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
            np.mean([r.accuracy.mean() for r in fixed(runs) if (r.corruption, r.plan.ratio) == (corruption, 0)])
        )
        teacher = float(np.mean([teachers[corruption, severity] for severity in SEVERITIES]))
        if teacher < frozen:
            worse.append(f"{corruption} ({teacher:.1%} against {frozen:.1%})")
    if worse:
        told = ", ".join(worse[:3]) + f" and {len(worse) - 3} more" * (len(worse) > 3)
        warnings.warn(
            f"the teacher is worse than the student that it labels for: {told}; "
            "its pseudo-labels would do harm: train a better teacher, or one that knows the corruptions",
            stacklevel=4,
        )


def _validation(runs: list[LearningRun], curves: dict[Drift, Fit], memory: LearningExtent) -> dict[str, Any]:
    """Return how far predicted and measured accuracies are apart: by severity of a stream, and over whole streams."""
    by_severity, by_stream = [], []
    for run in runs:
        guess = predicted(run, curves, memory)
        by_stream.append(abs(float(guess.mean() - run.accuracy.mean())))
        for severity in SEVERITIES:
            there = run.severities == severity
            by_severity.append(abs(float(guess[there].mean() - run.accuracy[there].mean())))
    return {
        "validation_error_mean": shortened(float(np.mean(by_severity))),
        "validation_error_worst": shortened(max(by_severity)),
        "validation_error_of_streams_mean": shortened(float(np.mean(by_stream))),
        "validation_error_of_streams_worst": shortened(max(by_stream)),
    }


def _told_of_curves(
    curves: Curves, memory: LearningExtent, memories: dict[str, float], misses: dict[str, Any]
) -> dict[str, Any]:
    fits = list(curves.by_drift.values())
    return {
        "curve": "fitted to the mean accuracy of drifting streams at fixed sampling ratios, in the inference "
        "configuration of the largest profit; the form has the smallest corrected Akaike criterion; [[drift_curve]] "
        "holds one for each corruption and severity, and of clean images",
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
