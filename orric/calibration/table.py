"""Measure the accuracy table: every inference configuration under every drift, frozen and fully retrained."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from orric.calibration.learning_run import CLEAN, Assignment, LearningRun, Progress, learning_runs
from orric.calibration.measurement import package_versions, processor
from orric.configuration import undominated
from orric.drift import SEVERITIES
from orric.exceptions import ProfileError
from orric.profile import Profile, TableEntry
from orric.retraining.models import sha256
from orric.vision.corruptions import CORRUPTIONS

METHOD = (
    "part of the streamed images that ONNX Runtime classified correctly, on streams that drift through the severities; "
    "accuracy: the student as shipped; retrained: the student retrained in every slot at the largest sampling ratio, "
    "slots after the first"
)


def fullest_ratio(profile: Profile) -> float:
    """Return the sampling ratio of the retraining configuration of the largest profit."""
    assert profile.models is not None
    return profile.models.sampling_ratio[undominated(profile.retraining)[-1].name]


def table_work(fullest: float, seeds: Sequence[int], corruptions: Sequence[str]) -> list[Assignment]:
    """Return the learning runs that a table rests on: frozen and fully retrained, on every seed."""
    return [Assignment(*one, everywhere=True) for one in product(corruptions, (0.0, fullest), seeds)]


def table_of(runs: Sequence[LearningRun], names: Sequence[str], fullest: float) -> tuple[TableEntry, ...]:
    """Make a table of the learning runs at the ratios 0 and `fullest`, measured everywhere.

    Args:
        runs: Of every corruption and of clean images.
        names: Inference configurations.
        fullest: The largest sampling ratio.
    """
    drifts = [(CLEAN, 0), *product(CORRUPTIONS, SEVERITIES)]

    def part(corruption: str, severity: int, name: str, ratio: float) -> float:
        chosen = [run for run in runs if run.corruption == corruption and run.ratio == ratio]
        # The first slot is served before any retraining, whatever the ratio.
        found = [run.by_inference[name][1:][run.severities[1:] == severity] for run in chosen]
        return float(np.concatenate(found).mean())

    return tuple(
        TableEntry(
            corruption=corruption,
            severity=severity,
            inference=name,
            # None right of a small number is not never right, and a factor of 0 could not grow.
            accuracy=_short(max(part(corruption, severity, name, 0.0), 1e-4)),
            retrained=_short(max(part(corruption, severity, name, fullest), 1e-4)),
        )
        for corruption, severity in drifts
        for name in names
    )


def table_provenance(seeds: Sequence[int], slots: int, per_slot: int) -> dict[str, Any]:
    """Return what the provenance says of a table."""
    return {
        "method": METHOD,
        "seeds": list(seeds),
        "slots": slots,
        "samples_per_slot": per_slot,
        "samples": slots // len(SEVERITIES) * per_slot * len(seeds),
    }


def with_table(
    profile: Profile,
    where: str,
    output: Path,
    seeds: Sequence[int] = (1, 2),
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
    if profile.models is None:
        raise ProfileError(where, "has no [models] to measure", "use a profile made by orric calibrate")
    moved: dict[str, str] = {}
    for role in ("student", "teacher"):
        path = profile.beside(getattr(profile.models, role))
        stated = profile.provenance.get(f"{role}_sha256")
        if path.exists() and stated not in (None, sha256(path)):
            found = f"the {role}'s weights in {path} are not those that the profile was measured on"
            raise ProfileError(where, found, "calibrate anew, without --table-of")
        moved[role] = Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix()
    fullest = fullest_ratio(profile)
    work = table_work(fullest, seeds, [CLEAN, *CORRUPTIONS])
    runs = learning_runs(profile, work, slots, per_slot, jobs, progress)
    provenance = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": "orric calibrate --table-of",
        "processor": processor(),
        **table_provenance(seeds, slots, per_slot),
        "versions": package_versions(),
    }
    return profile.model_copy(
        update={
            "table": table_of(runs, [one.name for one in profile.inference], fullest),
            "models": profile.models.model_copy(update=moved),
            "provenance": {**profile.provenance, "table": provenance},
        }
    ).placed_in(output.parent)


def _short(value: float) -> float:
    return float(f"{value:.6g}")
