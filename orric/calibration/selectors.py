"""Measure what selectors are worth: a learning curve for each, and retraining configurations that use them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import brentq

from orric.calibration.calibrate import ratio_name
from orric.calibration.checkpoint import Checkpoint
from orric.calibration.curves import overall_fit
from orric.calibration.learning_run import Assignment, LearningRun, Plan, Progress
from orric.calibration.measurement import package_versions, processor, shortened
from orric.calibration.plan import conditions, measured_runs
from orric.calibration.table import checked_hashes, moved_to
from orric.configuration import RetrainingConfiguration
from orric.drift import SEVERITIES
from orric.exceptions import ProfileError
from orric.learning import LearningCurve
from orric.profile import Profile
from orric.real_models import Models, SelectorFigures
from orric.selection.sampling import Sampling
from orric.statistics import mean_interval
from orric.vision.datasets import FULL_PX, load_dataset

METHOD = (
    "the curve of every selector is fitted to the mean accuracy of drifting streams at fixed ratios, as [curve] is; a "
    "configuration's profit is the ratio at which uniform drawing reached the same accuracy on the same streams, the "
    "largest profit at most; its cost counts the student's pass over all that is looked at, and every label"
)
UNIFORM = "uniform"


def with_selectors(
    profile: Profile,
    where: str,
    output: Path,
    asked: Mapping[str, SelectorFigures],
    seeds: Sequence[int] = (1,),
    slots: int = 25,
    per_slot: int = 200,
    jobs: int = 2,
    corruptions: Sequence[str] = (),
    progress: Progress = lambda what, part: None,
) -> Profile:
    """Measure selectors on a profile's own models and add what they are worth; every other figure stays as it is.

    Every selector gets a table with its learning curve, uniform drawing on the same streams one beside it, and a
    retraining configuration for every sampling ratio but none and all. The configuration's profit is the learning
    extent that it is worth: better samples are the same profit for less compute, which is all that an allocator needs
    to know. A selector that is worth nothing leaves configurations that are dominated, and allocators pass over them.

    Args:
        profile: With [models].
        where: Its file, for errors.
        output: Where the new profile will lie.
        asked: Selectors by the names that the profile will have for them; their curves are not looked at.
        seeds: Seeds of the streams.
        slots: Slots of every stream, parted among the five severities.
        per_slot: Samples per slot.
        jobs: Worker processes.
        corruptions: What streams drift through; none for those that the profile has curves for.
        progress: Called with what is being done and the part that is done.

    Raises:
        ProfileError: The profile lacks models, figures of the teacher or a ratio between none and all, its weights are
            not those that it was measured on, or a selector is unknown.
    """
    hashes = checked_hashes(profile, where)
    models, teacher = profile.models, profile.teacher
    assert models is not None, "that was checked"
    ratios = sorted(set(profile.uniform_ratios))
    if teacher is None or not any(0 < ratio < 1 for ratio in ratios):
        found = "has no [teacher]" if teacher is None else "retrains on all samples or on none"
        raise ProfileError(where, f"{found}, so selecting has no price", "use a profile made by orric calibrate")
    draft = profile.model_copy(update={"selector": dict(asked)})
    for figures in asked.values():
        Sampling.by(0.0, figures)  # which refuses unknown ones before anything is measured
    between = [ratio for ratio in ratios if 0 < ratio < 1]
    plans = (*map(Plan, ratios), *(Plan(ratio, selector=name) for name in asked for ratio in between))
    known = dict.fromkeys(entry.corruption for entry in profile.drift_curve if entry.severity)
    drifts = list(corruptions) or list(known)
    if not drifts:
        raise ProfileError(where, "has no [[drift_curve]] to say what streams drift through", "name the corruptions")
    work = [Assignment(corruption, seed, plans) for corruption in drifts for seed in seeds]
    hashes["dataset"] = load_dataset(models.dataset, profile.data).fingerprint
    versions = package_versions()
    checkpoint = Checkpoint(output, conditions(draft, slots, per_slot, hashes, versions))
    runs = measured_runs(draft, work, slots, per_slot, jobs, checkpoint, progress)
    drawn = [run for run in runs if run.plan.selector is None]
    base = overall_fit(drawn).curve
    student_macs = _macs_at_full(profile, models)
    passes = profile.training.passes
    tables = {UNIFORM: SelectorFigures(method=UNIFORM, curve=base)}
    configurations, named, sampling = list(profile.retraining), dict(models.selector), dict(models.sampling_ratio)
    told: dict[str, Any] = {}
    for name, figures in asked.items():
        mine = [run for run in runs if run.plan.selector == name]
        # None and all of the samples are the same whoever selects.
        ends = [run for run in drawn if run.plan.ratio in (0.0, 1.0)]
        curve = overall_fit([*ends, *mine]).curve
        tables[name] = figures.model_copy(update={"curve": curve})
        told[name] = {}
        for ratio in between:
            full = f"{ratio_name(ratio)} {name}"
            macs = Sampling.by(ratio, figures).macs(student_macs, teacher.cost_macs, passes)
            extent = shortened(equivalent_extent(base, float(curve(ratio)), profile.most_profit))
            configurations = [one for one in configurations if one.name != full]
            configurations.append(RetrainingConfiguration(name=full, profit=extent, cost_macs=macs))
            named[full], sampling[full] = name, ratio
            told[name][ratio_name(ratio)] = _against_uniform(ratio, mine, drawn)
    provenance = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": "orric calibrate --selectors-of",
        "method": METHOD,
        "processor": processor(),
        "versions": versions,
        "corruptions": list(drifts),
        "seeds": list(seeds),
        "slots": slots,
        "samples_per_slot": per_slot,
        "gain": told,
    }
    changed = {
        "retraining": tuple(configurations),
        "models": models.model_copy(update={"selector": named, "sampling_ratio": sampling}),
        "selector": {**profile.selector, **tables},
        "provenance": {**profile.provenance, "selectors": provenance},
    }
    # Built anew, so that it is checked as a whole.
    whole = Profile(**{**profile.model_dump(exclude_none=True), **changed}).placed_in(profile.beside("."))
    return moved_to(whole, output)


def equivalent_extent(curve: LearningCurve, accuracy: float, most: float) -> float:
    """Return the learning extent at which a curve reaches an accuracy, within 0 and the largest profit.

    >>> from orric.learning import Exponential
    >>> curve = Exponential(c=0.9, a=0.3, k=3.0)
    >>> round(equivalent_extent(curve, float(curve(0.25)), 1.0), 6)
    0.25
    >>> equivalent_extent(curve, 0.1, 1.0), equivalent_extent(curve, 0.95, 1.0)
    (0.0, 1.0)
    """
    if accuracy <= float(curve(0.0)):
        return 0.0
    if accuracy >= float(curve(most)):
        return most
    return float(brentq(lambda extent: float(curve(extent)) - accuracy, 0.0, most, xtol=1e-9))


def _macs_at_full(profile: Profile, models: Models) -> float:
    """Return what one image costs the student at the resolution that selectors look at."""
    from orric.retraining.models import macs_of

    classes = len(load_dataset(models.dataset, profile.data).classes)
    return macs_of(profile.beside(models.student), "student", classes, FULL_PX)


def _against_uniform(ratio: float, mine: Sequence[LearningRun], drawn: Sequence[LearningRun]) -> dict[str, Any]:
    """Return by how much accuracy differs from uniform drawing of as many samples, paired by stream."""

    def mean(run: LearningRun) -> float:
        return float(np.mean([run.at(severity).mean() for severity in SEVERITIES]))

    others = {(run.corruption, run.seed): mean(run) for run in drawn if run.plan.ratio == ratio}
    differences = [mean(run) - others[run.corruption, run.seed] for run in mine if run.plan.ratio == ratio]
    found = mean_interval(differences)
    low, high = (None if np.isnan(end) else shortened(end) for end in (found.low, found.high))
    return {"accuracy": shortened(found.mean)} | ({} if low is None else {"low": low, "high": high})
