"""Real drifting streams with real retraining: what learning curves and accuracy tables are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.drift import SEVERITIES, Steps
from orric.profile import Profile
from orric.randomness import generator
from orric.retraining.loop import Student
from orric.retraining.sampling import sampled
from orric.selection.sampling import Sampling
from orric.vision.arrays import Labels
from orric.vision.corruptions import CORRUPTIONS
from orric.vision.datasets import Dataset, Pixels

Array = np.ndarray[Any, np.dtype[np.float64]]
Progress = Callable[[str, float], None]
CLEAN = "none"
# How ratios vary from slot to slot: drawn anew in each, or kept for some slots, half of them without retraining.
VARIED = ("every-slot", "in-spells")
# What goes without retraining for a while is the hardest to predict.
HARDEST = "in-spells"
SPELL_SLOTS = 4


@dataclass(frozen=True)
class Plan:
    """How much one student of a learning run is retrained.

    Attributes:
        ratio: Sampling ratio of every slot, or a name of `VARIED`.
        everywhere: Measure the accuracy in every inference configuration, not only in the fullest.
        selector: Key in the profile's table of selectors; None draws uniformly.
    """

    ratio: float | str
    everywhere: bool = False
    selector: str | None = None

    def ratios(self, known: list[float], slots: int, seed: int, corruption: str) -> Array:
        """Return the sampling ratio of each slot, shape (slots,)."""
        if not isinstance(self.ratio, str):
            return np.full(slots, self.ratio)
        rng = generator(seed, "allocator", _place(corruption), VARIED.index(self.ratio))
        if self.ratio == "every-slot":
            return np.asarray(rng.choice(known, slots))
        begins = np.cumsum(rng.random(slots) < 1 / SPELL_SLOTS)
        levels = rng.choice(known, slots + 1) * rng.integers(0, 2, slots + 1)
        return np.asarray(levels[begins])


@dataclass(frozen=True)
class Assignment:
    """Students that go through one stream side by side: they see the same images, which are labelled once.

    Attributes:
        corruption: What the stream drifts through, severities 1 to 5; "none" for clean images.
        seed: Seed of the images and of the retraining.
        plans: One for each student.
    """

    corruption: str
    seed: int
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class LearningRun:
    """What was measured of one student. It is retrained at the full resolution.

    Attributes:
        corruption: What the stream drifted through.
        seed: Seed of the stream.
        plan: How the student was retrained.
        ratios: Sampling ratio of each slot, shape (T,).
        severities: Severity of each slot, shape (T,).
        accuracies: Accuracy per slot before that slot's retraining, shape (T,), by inference configuration; the fullest
            is always there.
        fullest: Name of the inference configuration of the largest resolution.
        taught: Part of each slot's labelled samples that the teacher is right on, shape (T,); NaN where none was.
    """

    corruption: str
    seed: int
    plan: Plan
    ratios: Array
    severities: np.ndarray[Any, np.dtype[np.int64]]
    accuracies: dict[str, Array]
    fullest: str
    taught: Array

    @property
    def at_fullest(self) -> Array:
        """Accuracy per slot at the largest resolution, shape (T,)."""
        return self.accuracies[self.fullest]

    def at(self, severity: int, inference: str | None = None) -> Array:
        """Return the accuracies in the slots of a severity, the fullest configuration's where none is named.

        The first slot of the run is left out: it is served before any retraining, whatever the ratio.
        """
        chosen = self.severities == severity
        chosen[0] = False
        found: Array = self.accuracies[inference or self.fullest][chosen]
        return found

    def as_table(self) -> dict[str, Any]:
        """Return it as plain lists and numbers, for a file."""
        return {
            "corruption": self.corruption,
            "seed": self.seed,
            "ratio": self.plan.ratio,
            "everywhere": self.plan.everywhere,
            "selector": self.plan.selector,
            "ratios": self.ratios.tolist(),
            "severities": self.severities.tolist(),
            "accuracies": {name: values.tolist() for name, values in self.accuracies.items()},
            "fullest": self.fullest,
            "taught": [None if np.isnan(part) else part for part in self.taught.tolist()],
        }

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> LearningRun:
        """Return what `as_table` made plain."""
        return cls(
            table["corruption"],
            table["seed"],
            Plan(table["ratio"], table["everywhere"], table["selector"]),
            np.array(table["ratios"]),
            np.array(table["severities"], np.int64),
            {name: np.array(values) for name, values in table["accuracies"].items()},
            table["fullest"],
            np.array(table["taught"], np.float64),
        )


def _place(corruption: str) -> int:
    """Number a corruption, for what is drawn for it alone."""
    return list(CORRUPTIONS).index(corruption) if corruption in CORRUPTIONS else len(CORRUPTIONS)


def arriving(
    dataset: Dataset, corruption: str, seed: int, slot: int, count: int, severity: int
) -> tuple[Pixels, Labels]:
    """Return the samples that arrive in a slot of a learning run.

    All images of the part come once before any comes again, so that those that are easy by chance in one severity are
    missing in another; every corruption has an order of its own, so that chance is not common to all.

    Args:
        dataset: Drawn from.
        corruption: What the stream drifts through.
        seed: Of the stream.
        slot: Index from 1.
        count: Number of samples.
        severity: 0 to 5.
    """
    order = generator(seed, "images", _place(corruption)).permutation(dataset.calibrated)
    chosen = order.take(np.arange((slot - 1) * count, slot * count), mode="wrap")
    return dataset.corrupted(chosen, generator(seed, "images", _place(corruption), slot), corruption, severity)


def learning_runs(profile: Profile, assignment: Assignment, slots: int, per_slot: int) -> list[LearningRun]:
    """Run the real loop on one drifting stream: classify, then label, train and swap, slot by slot.

    Clean images know one severity where the others know five, so their stream takes a fifth of the slots.

    Args:
        profile: With [models].
        assignment: The stream and its students.
        slots: T.
        per_slot: Samples per slot.

    Returns:
        One run for each plan, in their order.
    """
    models, corruption, seed = profile.models, assignment.corruption, assignment.seed
    assert models is not None, "the calibration checks this"
    if corruption == CLEAN:
        slots //= len(SEVERITIES)
    drift = Steps(corruption=corruption).by_slot(slots, seed)
    fullest = max(models.resolution_px, key=models.resolution_px.__getitem__)
    known = profile.uniform_ratios
    plans = assignment.plans
    students = [Student(profile) for _ in plans]
    runs = [
        LearningRun(
            corruption,
            seed,
            plan,
            plan.ratios(known, slots, seed, corruption),
            drift.severities,
            {name: np.empty(slots) for name in models.resolution_px if plan.everywhere or name == fullest},
            fullest,
            np.full(slots, np.nan),
        )
        for plan in plans
    ]
    for slot in range(1, slots + 1):
        severity = int(drift.severities[slot - 1])
        images, truth = arriving(students[0].dataset, corruption, seed, slot, per_slot, severity)
        order = generator(seed, "retraining", 0, slot).permutation(per_slot)
        # Those that draw uniformly take the first of the same order, so what the fullest of them labels is enough for
        # all; a selector may choose any.
        selecting = any(plan.selector and run.ratios[slot - 1] > 0 for plan, run in zip(plans, runs, strict=True))
        most = per_slot if selecting else round(max(float(run.ratios[slot - 1]) for run in runs) * per_slot)
        labels = np.full(per_slot, -1)
        labels[order[:most]] = students[0].label(images[order[:most]])
        for student, run in zip(students, runs, strict=True):
            for name, found in run.accuracies.items():
                found[slot - 1] = (student.classify(images, models.resolution_px[name]) == truth).mean()
            ratio, rng = float(run.ratios[slot - 1]), generator(seed, "retraining", 0, slot)
            named = run.plan.selector
            sampling = Sampling(ratio) if named is None else Sampling.by(ratio, profile.selector[named])
            chosen = sampled(student, images, sampling, rng, labels).chosen
            if len(chosen):
                run.taught[slot - 1] = (labels[chosen] == truth[chosen]).mean()
                student.retrain(images[chosen], rng, labels[chosen], images)
                student.swap()
    return runs
