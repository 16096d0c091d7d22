"""Real drifting streams with real retraining: what learning curves and accuracy tables are measured on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from orric.calibration.probes import CLEAN as CLEAN
from orric.calibration.probes import Probes
from orric.drift import SEVERITIES, DriftBySlot, LabelShift, Steps
from orric.profile import Profile
from orric.randomness import generator
from orric.retraining.loop import Student
from orric.retraining.sampling import sampled
from orric.selection.sampling import Sampling
from orric.vision.arrays import Labels
from orric.vision.corruptions import CORRUPTIONS
from orric.vision.datasets import Dataset, Pixels

Array = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
Progress = Callable[[str, float], None]
# Severities of streams that take turns or return to clean images, and how long a turn is.
MIXED, TURN_SLOTS = (3, 5, 1, 4, 2), 3
# A ratio that is kept for some slots, half of them without retraining: what is the hardest to predict.
SPELLS = "in-spells"
SPELL_SLOTS = 4


@dataclass(frozen=True)
class Plan:
    """How much one student of a learning run is retrained.

    Attributes:
        ratio: Sampling ratio of every slot, or `SPELLS`.
        everywhere: Measure the accuracy in every inference configuration, not only in the stream's.
        selector: Key in the profile's table of selectors; None draws uniformly.
        looked_at: Whether the student is looked at under other drifts, where the stream's assignment names any.
    """

    ratio: float | str
    everywhere: bool = False
    selector: str | None = None
    looked_at: bool = False

    def ratios(self, known: list[float], slots: int, seed: int, corruption: str) -> Array:
        """Return the sampling ratio of each slot, shape (slots,)."""
        if not isinstance(self.ratio, str):
            return np.full(slots, self.ratio)
        rng = generator(seed, "allocator", _place(corruption))
        begins = np.cumsum(rng.random(slots) < 1 / SPELL_SLOTS)
        levels = rng.choice(known, slots + 1) * rng.integers(0, 2, slots + 1)
        return np.asarray(levels[begins])


@dataclass(frozen=True)
class Assignment:
    """Students that go through one stream side by side: they see the same images, which are labelled once.

    Attributes:
        corruption: What the stream drifts through; "none" for clean images.
        seed: Seed of the images and of the retraining.
        plans: One for each student.
        kind: How it drifts: "rise" through severities 1 to 5, once; "turns", through several corruptions and clean
            images, a few slots each; "returns", to clean images after every spell.
        others: The corruptions besides, for "turns".
        slots: T; left out, what the calibration has.
        per_slot: Samples per slot; left out, what the calibration has.
        few_classes: Whether only half of the classes come, which half depends on the seed.
        looked_at: Corruptions under all of which students are looked at whenever a severity ends, besides clean images.
        inference: Configuration that every student is measured in; left out, that of the largest resolution.
    """

    corruption: str
    seed: int
    plans: tuple[Plan, ...]
    kind: Literal["rise", "turns", "returns"] = "rise"
    others: tuple[str, ...] = ()
    slots: int | None = None
    per_slot: int | None = None
    few_classes: bool = False
    looked_at: tuple[str, ...] = ()
    inference: str | None = None

    def drift(self, slots: int, classes: int) -> DriftBySlot:
        """Lay the stream's drift out over its slots."""
        half = tuple(float((k + self.seed) % 4 < 2) for k in range(classes))
        # Of two classes there may be none of that half.
        half = half if any(half) else tuple(1.0 - part for part in half)
        labels = LabelShift(kind="steps", mixes=(half,)) if self.few_classes else None
        shape: dict[str, Any] = {"corruption": self.corruption, "labels": labels}
        if self.kind == "turns":
            turns = (self.corruption, CLEAN, *self.others)
            shape = {"corruptions": turns, "corruption_slots": TURN_SLOTS, "severities": MIXED, "labels": labels}
        elif self.kind == "returns":
            shape["severities"] = tuple(one for severity in MIXED for one in (severity, 0))
        return Steps(**shape).by_slot(slots, self.seed)

    @property
    def usual(self) -> bool:
        """Whether it is a stream that learning curves are fitted to: it rises, and nothing else is special about it."""
        return self.kind == "rise" and self.per_slot is None and not self.few_classes


@dataclass(frozen=True)
class LearningRun:
    """What was measured of one student. It is retrained at the full resolution.

    Statistics of all received (`orric.real_models.Training`) are those at each resolution that it is measured at, as if
    it had served at that throughout.

    Attributes:
        corruption: What the stream drifted through.
        seed: Seed of the stream.
        plan: How the student was retrained.
        ratios: Sampling ratio of each slot, shape (T,).
        severities: Severity of each slot, shape (T,).
        accuracies: Accuracy per slot before that slot's retraining, shape (T,), by inference configuration.
        inference: The configuration that is always among them.
        taught: Part of each slot's labelled samples that the teacher is right on, shape (T,); NaN where none was.
        agreed: Part of them that the student, before it is retrained on them, gives the same class, shape (T,), by
            inference configuration; NaN likewise.
        assignment: The stream; left out, the usual one of the corruption and the seed.
        per_slot: Samples per slot.
        by_class: After the first slot: answers that were right, and all answers, for each class, shape (2, classes), by
            inference configuration.
        seen: Accuracy under other drifts after a severity's last slot, by severity and inference configuration, in the
            order of `Probes.drifts`.
    """

    corruption: str
    seed: int
    plan: Plan
    ratios: Array
    severities: np.ndarray[Any, np.dtype[np.int64]]
    accuracies: dict[str, Array]
    inference: str
    taught: Array
    agreed: dict[str, Array] = field(default_factory=dict)
    assignment: Assignment | None = None
    per_slot: int = 0
    by_class: dict[str, Counts] = field(default_factory=dict)
    seen: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def stream(self) -> Assignment:
        """The stream that it went through."""
        return self.assignment or Assignment(self.corruption, self.seed, (self.plan,))

    @property
    def accuracy(self) -> Array:
        """Accuracy per slot in the configuration that is always measured, shape (T,)."""
        return self.accuracies[self.inference]

    def at(self, severity: int, inference: str | None = None) -> Array:
        """Return the accuracies in the slots of a severity, those of `inference` where none is named.

        The first slot of the run is left out: it is served before any retraining, whatever the ratio.
        """
        chosen = self.severities == severity
        chosen[0] = False
        found: Array = self.accuracies[inference or self.inference][chosen]
        return found

    def as_table(self) -> dict[str, Any]:
        """Return it as plain lists and numbers, for a file."""
        return {
            "corruption": self.corruption,
            "seed": self.seed,
            "ratio": self.plan.ratio,
            "everywhere": self.plan.everywhere,
            "selector": self.plan.selector,
            "looked_at": self.plan.looked_at,
            "ratios": self.ratios.tolist(),
            "severities": self.severities.tolist(),
            "accuracies": {name: values.tolist() for name, values in self.accuracies.items()},
            "inference": self.inference,
            "taught": _listed(self.taught),
            "agreed": {name: _listed(values) for name, values in self.agreed.items()},
            "assignment": None if self.assignment is None else asdict(self.assignment),
            "per_slot": self.per_slot,
            "by_class": {name: counts.tolist() for name, counts in self.by_class.items()},
            "seen": [[severity, accuracies] for severity, accuracies in self.seen.items()],
        }

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> LearningRun:
        """Return what `as_table` made plain."""
        return cls(
            table["corruption"],
            table["seed"],
            Plan(table["ratio"], table["everywhere"], table["selector"], table["looked_at"]),
            np.array(table["ratios"]),
            np.array(table["severities"], np.int64),
            {name: np.array(values) for name, values in table["accuracies"].items()},
            table["inference"],
            np.array(table["taught"], np.float64),
            {name: np.array(values, np.float64) for name, values in table["agreed"].items()},
            None if table["assignment"] is None else _assignment(table["assignment"]),
            table["per_slot"],
            {name: np.array(counts) for name, counts in table["by_class"].items()},
            dict(table["seen"]),
        )


def _listed(values: Array) -> list[float | None]:
    """Return numbers for a file, which knows no NaN."""
    return [None if np.isnan(one) else one for one in values.tolist()]


def _assignment(table: dict[str, Any]) -> Assignment:
    """Return an assignment from plain values."""
    lists = {name: tuple(table[name]) for name in ("others", "looked_at")}
    return Assignment(**{**table, **lists, "plans": tuple(Plan(**plan) for plan in table["plans"])})


def _place(corruption: str) -> int:
    """Number a corruption, for what is drawn for it alone."""
    return list(CORRUPTIONS).index(corruption) if corruption in CORRUPTIONS else len(CORRUPTIONS)


def arriving(
    dataset: Dataset,
    corruption: str,
    seed: int,
    slot: int,
    count: int,
    severity: int,
    label_mix: Array | None = None,
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
        label_mix: Part of each class, shape (classes,), by which they are drawn with replacement; left out, as above.
    """
    rng = generator(seed, "images", _place(corruption), slot)
    if label_mix is not None:
        return dataset.draw(count, rng, "calibrated", label_mix, corruption, severity)
    order = generator(seed, "images", _place(corruption)).permutation(dataset.calibrated)
    chosen = order.take(np.arange((slot - 1) * count, slot * count), mode="wrap")
    return dataset.corrupted(chosen, rng, corruption, severity)


def learning_runs(profile: Profile, assignment: Assignment, slots: int, per_slot: int) -> list[LearningRun]:
    """Run the real loop on one drifting stream: classify, then label, train and swap, slot by slot.

    Clean images know one severity where the others know five, so their stream takes a fifth of the slots.

    Args:
        profile: With [models].
        assignment: The stream and its students.
        slots: T, where the assignment leaves it out.
        per_slot: Samples per slot, likewise.

    Returns:
        One run for each plan, in their order.
    """
    models, seed, kind = profile.models, assignment.seed, assignment.kind
    assert models is not None, "the calibration checks this"
    slots, per_slot = assignment.slots or slots, assignment.per_slot or per_slot
    if assignment.corruption == CLEAN and kind == "rise":
        slots //= len(SEVERITIES)
    plans = assignment.plans
    students = [Student(profile) for _ in plans]
    dataset = students[0].dataset
    drift = assignment.drift(slots, len(dataset.classes))
    probes = Probes(dataset, assignment.looked_at, models.resolution_px) if assignment.looked_at else None
    fullest, known = max(models.resolution_px, key=models.resolution_px.__getitem__), profile.uniform_ratios
    always = assignment.inference or fullest
    measured = [
        [always] + [name for name in models.resolution_px if name != always and plan.everywhere] for plan in plans
    ]
    runs = [
        LearningRun(
            assignment.corruption,
            seed,
            plan,
            plan.ratios(known, slots, seed, assignment.corruption),
            drift.severities,
            {name: np.empty(slots) for name in names},
            always,
            np.full(slots, np.nan),
            {name: np.full(slots, np.nan) for name in names},
            None if assignment.usual else assignment,
            per_slot,
            {name: np.zeros((2, len(dataset.classes)), np.int64) for name in names},
        )
        for plan, names in zip(plans, measured, strict=True)
    ]
    # Statistics are taken at what is measured, and at what is looked at.
    looked_at = [[*names, *(models.resolution_px if plan.looked_at else ())] for plan, names in zip(
        plans, measured, strict=True
    )]  # fmt: skip
    measured_px = [[models.resolution_px[name] for name in dict.fromkeys(names)] for names in looked_at]
    for slot in range(1, slots + 1):
        severity, corruption = int(drift.severities[slot - 1]), drift.corruptions[slot - 1]
        mix = None if drift.label_mix is None else drift.label_mix[slot - 1]
        images, truth = arriving(dataset, corruption, seed, slot, per_slot, severity, mix)
        order = generator(seed, "retraining", 0, slot).permutation(per_slot)
        # Those that draw uniformly take the first of the same order, so what the fullest of them labels is enough for
        # all; a selector may choose any.
        selecting = any(plan.selector and run.ratios[slot - 1] > 0 for plan, run in zip(plans, runs, strict=True))
        most = per_slot if selecting else round(max(float(run.ratios[slot - 1]) for run in runs) * per_slot)
        labels = np.full(per_slot, -1)
        labels[order[:most]] = students[0].label(images[order[:most]])
        for student, run, served_px in zip(students, runs, measured_px, strict=True):
            for name, found in run.accuracies.items():
                px = models.resolution_px[name]
                classes = student.classify(images, px, student.falls_back(images, px))
                found[slot - 1] = (classes == truth).mean()
                if most:
                    run.agreed[name][slot - 1] = (classes[order[:most]] == labels[order[:most]]).mean()
                if slot > 1:
                    number = len(dataset.classes)
                    run.by_class[name][0] += np.bincount(truth[classes == truth], minlength=number)
                    run.by_class[name][1] += np.bincount(truth, minlength=number)
            ratio, rng = float(run.ratios[slot - 1]), generator(seed, "retraining", 0, slot)
            named = run.plan.selector
            sampling = Sampling(ratio) if named is None else Sampling.by(ratio, profile.selector[named])
            sample = sampled(student, images, sampling, rng, labels)
            chosen = sample.chosen
            if len(chosen):
                student.compare(images[sample.labelled], sample.taught)
                run.taught[slot - 1] = (labels[chosen] == truth[chosen]).mean()
                student.retrain(images[chosen], rng, labels[chosen], images, served_px)
                student.swap()
            ends = slot == slots or int(drift.severities[slot]) != severity
            if probes is not None and ends and run.plan.looked_at:
                run.seen[severity] = probes.accuracies(student)
    return runs
