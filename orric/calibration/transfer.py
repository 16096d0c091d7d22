"""From learning runs to what retraining is worth elsewhere: under other drifts, on few samples, of few classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from orric.accuracy import CurveAccuracy, TableAccuracy
from orric.calibration.curves import Drift, fixed
from orric.calibration.learning_run import CLEAN, LearningRun
from orric.calibration.measurement import shortened
from orric.calibration.probes import drifts_of
from orric.learning import RunningExtent
from orric.profile import Profile
from orric.transfer import Transfer

Array = np.ndarray[Any, np.dtype[np.float64]]


def transfer_of(runs: Sequence[LearningRun], corruptions: tuple[str, ...], per_slot: int, inference: str) -> Transfer:
    """Make the matrix of what students that were retrained under one drift were right of under every other.

    Args:
        runs: Learning runs; those whose students were looked at under every drift are used.
        corruptions: What the streams drifted through.
        per_slot: Samples per slot of theirs.
        inference: The configuration in which it is told how easy each class is.
    """
    drifts = drifts_of(corruptions)
    found: dict[str, list[list[float]]] = {}
    for corruption, severity in drifts:
        rows = [run.seen[severity] for run in runs if run.corruption == corruption and severity in run.seen]
        for name in rows[0]:
            mean = np.mean([row[name] for row in rows], axis=0)
            found.setdefault(name, []).append([round(float(part), 4) for part in mean])
    accuracy = {name: tuple(map(tuple, rows)) for name, rows in found.items()}
    return Transfer(
        drifts=tuple(drifts),
        accuracy=accuracy,
        samples_per_slot=per_slot,
        given_by_class=_by_class([run for run in runs if run.plan.ratio == 0], inference),
        retrained_by_class=_by_class([run for run in runs if run.plan.looked_at], inference),
    )


def _by_class(runs: Sequence[LearningRun], inference: str) -> tuple[float, ...]:
    """Return by how much each class is more often right than all of them on average."""
    right, all_of_it = np.sum([run.by_class[inference] for run in runs if inference in run.by_class], axis=0)
    parts = right / np.maximum(all_of_it, 1)
    return tuple(round(float(part), 4) for part in parts - parts.mean())


def fitted(profile: Profile, runs: Sequence[LearningRun], seeds: Sequence[int]) -> Transfer:
    """Fit what few samples and few classes cost the retrained student, by least squares, one after the other.

    Args:
        profile: With a table and a `transfer` whose costs are unknown.
        runs: Learning runs; those of the seeds with small slots or few classes are used.
        seeds: Of the runs that are fitted to.
    """
    transfer = profile.transfer
    assert transfer is not None, "the caller measured it"
    chosen = [run for run in runs if run.seed in seeds and not run.stream.usual and run.plan.ratio != 0]
    for key in ("small_slots", "few_classes"):
        some = [run for run in chosen if run.stream.few_classes == (key == "few_classes")]
        if not some:
            continue
        # Prediction is linear in each cost, so that two predictions tell it.
        without = transfer.model_copy(update={key: 0.0})
        unit = transfer.model_copy(update={key: 1e-2})
        plain, moved = (
            np.array([_mean(predicted(profile.model_copy(update={"transfer": one}), run)) for run in some])
            for one in (without, unit)
        )
        real = np.array([_mean(run.accuracy) for run in some])
        slope = (plain - moved) / 1e-2
        cost = float(slope @ (plain - real) / (slope @ slope)) if np.any(slope) else 0.0
        transfer = transfer.model_copy(update={key: shortened(max(cost, 0.0))})
    return transfer


def predicted(profile: Profile, run: LearningRun, by: type[CurveAccuracy | TableAccuracy] = TableAccuracy) -> Array:
    """Return the accuracy that is predicted for each slot of a run, in its configuration, shape (T,).

    Args:
        profile: A finished one.
        run: Of its student.
        by: The accuracy model.
    """
    models = profile.models
    assert models is not None, "it was calibrated"
    names = {ratio: name for name, ratio in models.sampling_ratio.items() if name not in models.selector}
    slots, stream = len(run.ratios), run.stream
    drift = stream.drift(slots, run.by_class[run.inference].shape[1])
    model = by(profile, drift.corruptions, drift.severities.tolist(), label_mix=drift.label_mix)
    extent, found = RunningExtent(profile.memory), np.empty(slots)
    for slot in range(1, slots + 1):
        model.arrive(slot, run.per_slot)
        found[slot - 1] = model.serve(slot, extent.value, run.inference, 1)
        ratio = float(run.ratios[slot - 1])
        model.retrain(slot, names[ratio], extent.value)
        model.swap()
        extent.add(run.per_slot, ratio)
    return found


def _mean(accuracies: Array) -> float:
    """Return the mean of all slots but the first, which is served before any retraining."""
    return float(accuracies[1:].mean())


def excess_agreements(runs: Sequence[LearningRun], inference: str) -> dict[Drift, tuple[float, float]]:
    """Return by how much student and teacher agree more than if they were right independently, for every drift.

    Args:
        runs: Learning runs; of those at fixed ratios the least and the largest are used.
        inference: The configuration in which the student looks at the samples.

    Returns:
        Of the student that is never retrained, and of the one retrained as much as possible.
    """
    drifting = fixed(runs)
    clean = [run for run in runs if run.corruption == CLEAN and not isinstance(run.plan.ratio, str)]
    ends = [extreme(float(run.plan.ratio) for run in drifting) for extreme in (min, max)]
    found: dict[Drift, tuple[float, float]] = {}
    for run in [*drifting, *clean]:
        for severity in sorted(set(run.severities.tolist())):
            there = [one for one in [*drifting, *clean] if one.corruption == run.corruption]
            taught = _teacher(there, severity, ends[1])
            of_ratios = ([one for one in there if one.plan.ratio == ratio] for ratio in ends)
            before, after = (
                shortened(float(np.mean([_excess(one, inference, severity, taught) for one in mine])))
                for mine in of_ratios
            )
            found.setdefault((run.corruption, severity), (before, after))
    return found


def _teacher(runs: Sequence[LearningRun], severity: int, ratio: float) -> float:
    """Return how often the teacher is right, by the students that were retrained the most."""
    parts = [run.taught[run.severities == severity] for run in runs if run.plan.ratio == ratio]
    return float(np.nanmean(np.concatenate(parts)))


def _excess(run: LearningRun, inference: str, severity: int, taught: float) -> float:
    there = run.severities == severity
    there[0] = False
    return float(np.nanmean(run.agreed[inference][there]) - run.accuracies[inference][there].mean() * taught)


def kind_of(run: LearningRun) -> str:
    """Name the kind of a stream that validates the table.

    Returns:
        "spells", "turns", "returns", "few classes", or "N samples a slot".
    """
    stream = run.stream
    if stream.usual:
        return "spells"
    if stream.few_classes:
        return "few classes"
    return stream.kind if stream.per_slot is None else f"{stream.per_slot} samples a slot"


def validation(
    profile: Profile, runs: Sequence[LearningRun], by: type[CurveAccuracy | TableAccuracy] = TableAccuracy
) -> dict[str, Any]:
    """Return how far predictions are off over whole streams that nothing was fitted to.

    Args:
        profile: The finished one.
        runs: Learning runs of a seed of their own.
        by: The accuracy model.

    Returns:
        For the provenance: by kind of stream the mean and the largest error, and how many streams there were.
    """
    by_kind: dict[str, list[float]] = {}
    for run in runs:
        by_kind.setdefault(kind_of(run), []).append(_mean(predicted(profile, run, by)) - _mean(run.accuracy))
    return {
        kind: {
            "mean": shortened(float(np.mean(np.abs(errors)))), "worst": shortened(max(map(abs, errors))),
            "bias": shortened(float(np.mean(errors))), "streams": len(errors),
        }
        for kind, errors in by_kind.items()
    }  # fmt: skip
