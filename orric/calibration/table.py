"""Measure the accuracy table: every inference configuration under every drift, frozen and fully retrained."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from orric.by_drift import TableEntry
from orric.calibration.checkpoint import Checkpoint
from orric.calibration.learning_run import CLEAN, Assignment, LearningRun, Plan, Progress
from orric.calibration.measurement import package_versions, processor, shortened
from orric.calibration.plan import conditions, measured_runs
from orric.configuration import undominated
from orric.drift import SEVERITIES
from orric.exceptions import ProfileError
from orric.profile import Profile
from orric.retraining.models import sha256
from orric.vision.datasets import load_dataset

METHOD = (
    "part of the streamed images that ONNX Runtime classified correctly, on streams that drift through the severities; "
    "accuracy: the student as shipped; retrained: the student retrained in every slot at the largest sampling ratio; "
    "between: at the ratios between; slots after the first"
)


def fullest_ratio(profile: Profile) -> float:
    """Return the sampling ratio of the retraining configuration of the largest profit."""
    assert profile.models is not None
    return profile.models.sampling_ratio[undominated(profile.retraining)[-1].name]


def table_of(
    runs: Sequence[LearningRun], names: Sequence[str], corruptions: Sequence[str], fullest: float
) -> tuple[TableEntry, ...]:
    """Make a table of the learning runs at fixed ratios, measured everywhere: 0, `fullest` and those between them.

    Args:
        runs: Of every corruption and of clean images.
        names: Inference configurations.
        corruptions: What the streams drifted through.
        fullest: The largest sampling ratio.
    """
    drifts = [(CLEAN, 0), *product(corruptions, SEVERITIES)]
    ratios = {run.plan.ratio for run in runs if not isinstance(run.plan.ratio, str) and run.plan.everywhere}
    between = sorted(float(ratio) for ratio in ratios if 0 < float(ratio) < fullest)

    def part(corruption: str, severity: int, name: str, ratio: float) -> float:
        chosen = [run for run in runs if run.corruption == corruption and run.plan.ratio == ratio]
        # None right of a small number is not never right, and a factor of 0 could not grow.
        return max(float(np.concatenate([run.at(severity, name) for run in chosen]).mean()), 1e-4)

    return tuple(
        TableEntry(
            corruption=corruption,
            severity=severity,
            inference=name,
            accuracy=shortened(part(corruption, severity, name, 0.0)),
            retrained=shortened(part(corruption, severity, name, fullest)),
            between=tuple((ratio, shortened(part(corruption, severity, name, ratio))) for ratio in between),
        )
        for corruption, severity in drifts
        for name in names
    )


def drifting_accuracies(table: Sequence[TableEntry]) -> dict[str, float]:
    """Return what each inference configuration is worth: the mean accuracy under drift, by its name.

    Half of it is that of the frozen student and half that of students retrained at the ratios between, or at the
    largest where there are none between. A slot may be served by either, and an inference profit is one number for
    both: the best resolution of the one may be far from the best of the other.

    Args:
        table: With a corruption.
    """
    found: dict[str, list[float]] = {}
    for entry in table:
        if entry.corruption != CLEAN:
            fullest = entry.accuracy if entry.retrained is None else entry.retrained
            retrained = float(np.mean([accuracy for _, accuracy in entry.between] or [fullest]))
            found.setdefault(entry.inference, []).append((entry.accuracy + retrained) / 2)
    return {name: float(np.mean(accuracies)) for name, accuracies in found.items()}


def table_provenance(seeds: Sequence[int], slots: int, per_slot: int) -> dict[str, Any]:
    """Return what the provenance says of a table."""
    return {
        "method": METHOD,
        "seeds": list(seeds),
        "slots": slots,
        "samples_per_slot": per_slot,
        "samples": slots // len(SEVERITIES) * per_slot * len(seeds),
    }


def checked_hashes(profile: Profile, where: str) -> dict[str, str]:
    """Return the hashes of a profile's weights; refuse a profile without models, and weights that have changed.

    Raises:
        ProfileError: The profile names no models, or its weights are not those that it was measured on.
    """
    if profile.models is None:
        raise ProfileError(where, "has no [models] to measure", "use a profile made by orric calibrate")
    found = {}
    for role in ("student", "teacher"):
        path = profile.beside(getattr(profile.models, role))
        stated = profile.provenance.get(f"{role}_sha256")
        found[role] = sha256(path) if path.exists() else ""
        if path.exists() and stated not in (None, found[role]):
            changed = f"the {role}'s weights in {path} are not those that the profile was measured on"
            raise ProfileError(where, changed, "calibrate anew")
    return found


def moved_to(profile: Profile, output: Path) -> Profile:
    """Return a profile as it is to be saved: models named relative to the file; of a published data set, no place.

    Args:
        profile: With [models].
        output: Where it will lie.
    """
    models = profile.models
    assert models is not None, "the caller looked"
    if models.dataset != "images":
        profile = profile.model_copy(update={"models": models.model_copy(update={"data": None})})
    return profile.moved(output.parent)


def measured_at_all_ratios(
    profile: Profile,
    where: str,
    output: Path,
    corruptions: Sequence[str],
    seeds: Sequence[int],
    slots: int,
    per_slot: int,
    jobs: int,
    progress: Progress,
    *,
    everywhere: bool = False,
) -> tuple[list[LearningRun], dict[str, Any]]:
    """Make learning runs of a profile's own models at every fixed ratio, and tell when, where and with which versions.

    Args:
        profile: With [models].
        where: Its file, for errors.
        output: Where the new profile will lie; what is measured is kept beside it.
        corruptions: What the streams drift through, "none" for clean images.
        seeds: Of the streams.
        slots: Of every stream.
        per_slot: Samples per slot.
        jobs: Worker processes.
        progress: Called with what is being done and the part that is done.
        everywhere: Whether at every resolution, or at the fullest alone.

    Raises:
        ProfileError: The profile names no models, or its weights are not those that it was measured on.
    """
    hashes = checked_hashes(profile, where)
    assert profile.models is not None
    plans = tuple(Plan(ratio, everywhere=everywhere) for ratio in sorted(set(profile.uniform_ratios)))
    work = [Assignment(corruption, seed, plans) for corruption in corruptions for seed in seeds]
    versions = package_versions()
    hashes["dataset"] = load_dataset(profile.models.dataset, profile.data).fingerprint
    checkpoint = Checkpoint(output, conditions(profile, slots, per_slot, hashes, versions))
    runs = measured_runs(profile, work, slots, per_slot, jobs, checkpoint, progress)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return runs, {"date": today, "processor": processor(), "versions": versions}


def with_table(
    profile: Profile,
    where: str,
    output: Path,
    seeds: Sequence[int] = (1,),
    slots: int = 50,
    per_slot: int = 200,
    jobs: int = 2,
    progress: Progress = lambda what, part: None,
) -> Profile:
    """Measure the accuracy table of a profile's own models and add it; every other figure stays as it is.

    Args:
        profile: With [models].
        where: Its file, for errors.
        output: Where the new profile will lie; the weights are named relative to it.
        seeds: Seeds of the streams.
        slots: Slots of every stream, parted among the five severities.
        per_slot: Samples per slot.
        jobs: Worker processes.
        progress: Called with what is being done and the part that is done.

    Returns:
        The profile with a new table and, in its provenance, how that was measured.

    Raises:
        ProfileError: The profile names no models, or its weights are not those that it was measured on.
    """
    corruptions = list(dict.fromkeys(entry.corruption for entry in profile.drift_curve if entry.severity))
    measured = (profile, where, output, [CLEAN, *corruptions], seeds, slots, per_slot, jobs, progress)
    runs, told = measured_at_all_ratios(*measured, everywhere=True)
    fullest = fullest_ratio(profile)
    provenance = {
        **told,
        "command": "orric calibrate --table-of",
        **table_provenance(seeds, slots, per_slot),
    }
    changed = {
        "table": table_of(runs, [one.name for one in profile.inference], corruptions, fullest),
        "provenance": {**profile.provenance, "table": provenance},
    }
    return moved_to(profile.model_copy(update=changed), output)
