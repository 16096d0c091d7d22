"""A drifting stream, explained: where student and teacher look, before the drift, under it and after retraining."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from torch import nn

from orric.drift import Steps
from orric.exceptions import ExplanationError
from orric.explanation.attention import Attention
from orric.explanation.evaluation import Array
from orric.profile import Profile
from orric.randomness import generator
from orric.retraining.accuracy import drifted
from orric.retraining.loop import Student
from orric.retraining.sampling import sampled
from orric.selection.gradients import Indices
from orric.selection.sampling import Sampling
from orric.vision.arrays import Labels
from orric.vision.datasets import FULL_PX, Pixels

TEACHER, FROZEN, RETRAINED = "teacher", "frozen", "retrained"
# What is known of a student without true labels.
SIGNALS = ("attention", "agreement", "confidence")
CLEAN = "none"


@dataclass(frozen=True)
class Look:
    """What a network makes of one image.

    Attributes:
        network: "teacher", or the student: "frozen" or "retrained".
        drifted: Whether the image is the corrupted one.
        predicted: Its class.
        values: Where it looks for the teacher's class, at the image's size, shape (height, width), at least 0.
    """

    network: str
    drifted: bool
    predicted: int
    values: Array


@dataclass(frozen=True)
class Example:
    """One image, and what all make of it.

    Attributes:
        clean: Shape (height, width, 3).
        corrupted: The same under the stream's last severity.
        label: Its true class.
        looks: Of the teacher and of the frozen student on both images; of the retrained student on the corrupted one.
    """

    clean: Pixels
    corrupted: Pixels
    label: int
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class ExplainedStream:
    """What was seen on a drifting stream.

    Attributes:
        corruption: What it drifted through.
        severities: Of each slot, shape (T,).
        accuracy: True accuracy of each slot, shape (T,), of the student left as it was and of the retrained one.
        signals: What is known without true labels, by name in `SIGNALS`, likewise.
        examples: Images of the last severity.
        classes: Names of the classes.
        method: What the examples are explained by.
        student_layer: What was looked at of the student.
        teacher_layer: Of the teacher.
    """

    corruption: str
    severities: Labels
    accuracy: Mapping[str, Array]
    signals: Mapping[str, Mapping[str, Array]]
    examples: tuple[Example, ...]
    classes: tuple[str, ...]
    method: str
    student_layer: str
    teacher_layer: str

    def correlation(self, signal: str) -> float:
        """Return the correlation of a signal with true accuracy over the slots of both students, NaN where flat."""
        known = np.concatenate(list(self.signals[signal].values()))
        return correlation(known, np.concatenate(list(self.accuracy.values())))

    def by_severity(self, values: Array) -> dict[int, float]:
        """Return the mean of what was measured slot by slot, for every severity that came up."""
        return {int(s): float(np.mean(values[self.severities == s])) for s in np.unique(self.severities)}


def correlation(one: Array, other: Array) -> float:
    """Return Pearson's correlation, NaN where either is the same throughout.

    >>> round(correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])), 3)
    1.0
    """
    first, second = one - one.mean(), other - other.mean()
    size = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / size if size > 0 else float("nan")


def signals_of(student: Student, attention: Attention, images: Pixels, taught: Labels) -> dict[str, float]:
    """Return what is known of a student on images without their true labels.

    Args:
        student: As it serves now.
        attention: Compares it with its teacher.
        images: Shape (n, height, width, 3), n at least 1.
        taught: The teacher's labels, shape (n,).

    Returns:
        "attention": how alike the places are that the two look at; "agreement": the part on which they predict the
        same; "confidence": the student's mean probability of what it predicts.
    """
    logits = np.asarray(student.candidates(images).logits, np.float64)
    looked = attention(student.network, images, taught)
    return {
        "attention": float("nan") if looked is None else looked,
        "agreement": float((logits.argmax(axis=1) == taught).mean()),
        "confidence": float(softmax(logits, axis=1).max(axis=1).mean()),
    }


def explain_stream(
    profile: Profile,
    corruption: str,
    slots: int = 25,
    per_slot: int = 100,
    ratio: float = 0.3,
    seed: int = 1,
    method: str = "shapley-cam",
    student_layer: str | None = None,
    teacher_layer: str | None = None,
    examples: int = 4,
    progress: Callable[[float], None] = lambda part: None,
) -> ExplainedStream:
    """Send a stream that drifts through severities 1 to 5 past a frozen and a retrained student, and watch both.

    Args:
        profile: With [models].
        corruption: Name of the corruption.
        slots: T, at least 5.
        per_slot: Samples per slot.
        ratio: Part of them that the retrained student is trained on in every slot.
        seed: Of images and retraining.
        method: What examples are explained by, in `orric.explanation.explain.METHODS`. The signal "attention" is always
            that of `Attention`, which drift triggers go by.
        student_layer: Dotted name; left out, the last one with positions.
        teacher_layer: Likewise.
        examples: How many images are explained: of the last slot, first those that the frozen student gets wrong and
            the retrained one right.
        progress: Called with the part that is done.

    Raises:
        ExplanationError: There are too few slots or samples, or something cannot be explained.
    """
    if slots < 5 or per_slot < 2:
        found = f"{slots} slots of {per_slot} samples"
        raise ExplanationError("stream", found, "give 5 slots or more, one for each severity, of 2 samples or more")
    students = {FROZEN: Student(profile), RETRAINED: Student(profile)}
    dataset, attention = students[FROZEN].dataset, Attention(profile)
    pictured = Attention(profile, method)
    # What cannot be explained is told before anything is run.
    first, nothing = dataset.images[dataset.held_out[:1]], np.zeros(1, np.int64)
    pictured.maps(students[FROZEN].network, first, nothing, student_layer)
    pictured.maps(pictured.teacher, first, nothing, teacher_layer)
    drift = Steps(corruption=corruption).by_slot(slots, seed)
    accuracy = {name: np.empty(slots) for name in students}
    signals = {signal: {name: np.empty(slots) for name in students} for signal in SIGNALS}
    images, truth = dataset.images[:0], dataset.labels[:0]
    for slot in range(1, slots + 1):
        severity = int(drift.severities[slot - 1])
        images, truth = drifted(dataset, seed, slot, per_slot, corruption, severity)
        taught = students[FROZEN].label(images)
        for name, student in students.items():
            accuracy[name][slot - 1] = (_predicted(student, images) == truth).mean()
            for signal, value in signals_of(student, attention, images, taught).items():
                signals[signal][name][slot - 1] = value
        rng, student = generator(seed, "retraining", 0, slot), students[RETRAINED]
        sample = sampled(student, images, Sampling(ratio), rng, taught)
        student.retrain(images[sample.chosen], rng, sample.labels)
        student.swap()
        progress(slot / slots)
    # The same images, as they would have come without drift.
    clean, _ = drifted(dataset, seed, slots, per_slot, CLEAN, 0)
    predicted = {name: _predicted(student, images) for name, student in students.items()}
    chosen = _telling(predicted[FROZEN] == truth, predicted[RETRAINED] == truth)[:examples]
    classes = students[FROZEN].label(images[chosen])
    looks: list[list[Look]] = []
    layers: dict[str, str] = {}

    def look(name: str, network: nn.Module, some: Pixels, whether: bool, labels: Labels, layer: str | None) -> None:
        maps = pictured.maps(network, some, classes, layer)
        layers[name] = maps.layer
        pairs = zip(labels, maps.upsampled, strict=True)
        looks.append([Look(name, whether, int(label), values) for label, values in pairs])

    for whether, some in ((False, clean[chosen]), (True, images[chosen])):
        look(TEACHER, pictured.teacher, some, whether, students[FROZEN].label(some), teacher_layer)
    for name, whether in ((FROZEN, False), (FROZEN, True), (RETRAINED, True)):
        some, student = (images if whether else clean)[chosen], students[name]
        look(name, student.network, some, whether, _predicted(student, some), student_layer)
    shown = zip(clean[chosen], images[chosen], truth[chosen], zip(*looks, strict=True), strict=True)
    return ExplainedStream(
        corruption, drift.severities, accuracy, signals,
        tuple(Example(one, other, int(label), seen) for one, other, label, seen in shown),
        dataset.classes, method, layers[FROZEN], layers[TEACHER],
    )  # fmt: skip


def _predicted(student: Student, images: Pixels) -> Labels:
    return student.classify(images, FULL_PX)


def _telling(frozen: np.ndarray[Any, np.dtype[np.bool_]], retrained: np.ndarray[Any, np.dtype[np.bool_]]) -> Indices:
    """Order samples by what they tell: first what retraining put right, then what it did not, then the rest."""
    return np.argsort(np.where(~frozen & retrained, 0, np.where(~frozen, 1, 2)), kind="stable")
