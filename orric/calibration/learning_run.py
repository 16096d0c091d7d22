"""One real drifting stream with real retraining: what learning curves and accuracy tables are measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orric.drift import SEVERITIES, Steps
from orric.profile import Profile
from orric.randomness import generator
from orric.retraining.accuracy import OnnxAccuracy, drifted
from orric.vision.corruptions import CORRUPTIONS
from orric.workers import in_parallel

Array = np.ndarray[Any, np.dtype[np.float64]]
Progress = Callable[[str, float], None]
CLEAN = "none"


@dataclass(frozen=True)
class Assignment:
    """A learning run to be made.

    Attributes:
        corruption: What the stream drifts through, severities 1 to 5; "none" for clean images.
        ratio: Sampling ratio of every slot, or None for one drawn anew in each.
        seed: Seed of the images and of the retraining.
        everywhere: Measure the accuracy in every inference configuration, not only in the fullest.
    """

    corruption: str
    ratio: float | None
    seed: int
    everywhere: bool = False


@dataclass(frozen=True)
class LearningRun:
    """What a learning run measured. The student is retrained at the full resolution.

    Attributes:
        corruption: What the stream drifted through.
        ratio: Sampling ratio of every slot, or None for one drawn anew in each.
        extents: x_t, shape (T,).
        accuracies: Student's accuracy per slot at the largest resolution, before that slot's retraining; shape (T,).
        severities: Severity per slot, shape (T,).
        by_inference: The same as `accuracies` in every inference configuration, where it was measured.
    """

    corruption: str
    ratio: float | None
    extents: Array
    accuracies: Array
    severities: np.ndarray[Any, np.dtype[np.int64]]
    by_inference: dict[str, Array] = field(default_factory=dict)


def learning_run(profile: Profile, assignment: Assignment, slots: int, per_slot: int) -> LearningRun:
    """Run the real loop on one drifting stream: classify, then label, train and swap, slot by slot.

    Clean images know one severity where the others know five, so their run takes a fifth of the slots.
    """
    models, corruption, ratio, seed = profile.models, assignment.corruption, assignment.ratio, assignment.seed
    assert models is not None
    if corruption == CLEAN:
        slots //= len(SEVERITIES)
    drift = Steps(corruption=corruption).by_slot(slots, seed)
    accuracy = OnnxAccuracy(profile, drift, seed)
    fullest = max(models.resolution_px, key=models.resolution_px.__getitem__)
    names = {value: name for name, value in models.sampling_ratio.items()}
    if ratio is None:
        rng = generator(seed, "allocator", list(CORRUPTIONS).index(corruption))
        ratios = rng.choice(list(models.sampling_ratio.values()), slots)
    else:
        ratios = np.full(slots, ratio)
    measured = np.empty(slots)
    everywhere = models.resolution_px if assignment.everywhere else {}
    others = {name: np.empty(slots) for name in everywhere if name != fullest}
    for slot in range(1, slots + 1):
        accuracy.arrive(slot, per_slot)
        measured[slot - 1] = accuracy.serve(slot, 0.0, fullest, per_slot) / per_slot
        if others:
            student, severity = accuracy.student, int(drift.severities[slot - 1])
            images, labels = drifted(student.dataset, seed, slot, per_slot, corruption, severity)
            for name, found in others.items():
                found[slot - 1] = (student.classify(images, models.resolution_px[name]) == labels).mean()
        if ratios[slot - 1] > 0:
            accuracy.retrain(slot, names[float(ratios[slot - 1])], 0.0)
            accuracy.swap()
    extents = profile.memory.extents(np.full(slots, float(per_slot)), ratios)[:-1]
    # What was served at the fullest need not be classified again.
    by_inference = {name: others.get(name, measured) for name in everywhere}
    return LearningRun(corruption, ratio, extents, measured, drift.severities, by_inference)


def learning_runs(
    profile: Profile, work: Sequence[Assignment], slots: int, per_slot: int, jobs: int, progress: Progress
) -> list[LearningRun]:
    """Make learning runs on several cores.

    Args:
        profile: With [models].
        work: The runs to be made.
        slots: Slots of every run.
        per_slot: Samples per slot.
        jobs: Worker processes.
        progress: Called with what is being done and the part that is done.

    Returns:
        The runs in the order of the work, whichever worker was quicker.
    """
    calls = [(profile, assignment, slots, per_slot) for assignment in work]

    def told() -> Iterator[tuple[int, LearningRun]]:
        for number, (index, run) in enumerate(in_parallel(learning_run, calls, jobs), start=1):
            what = "measuring the frozen student" if run.ratio == 0 else "retraining"
            progress(f"{what} under {run.corruption}" if run.corruption != CLEAN else what, number / len(work))
            yield index, run

    return [run for _, run in sorted(told(), key=lambda found: found[0])]
