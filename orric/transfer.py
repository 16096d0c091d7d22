"""What a student that was retrained under one drift is worth under another: as measured, and kept track of.

The learning extent of the paper is one number: how much was retrained, whatever on. It is what the theorems speak of.
Predictions by the accuracy table know besides under which drift the student was retrained last, on how many samples,
and of which classes they were.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from orric.drift import Severity
from orric.exceptions import OrricError, ProfileError
from orric.section import Count, Name, Real, Section

Array = np.ndarray[Any, np.dtype[np.float64]]
Drift = tuple[str, int]
Part = Annotated[float, Field(strict=True, ge=0, le=1)]
# As many samples the batch-norm statistics before count as, beside those of all samples received: the mean of a channel
# over as many has a standard error of a quarter of the channel's deviation.
PRIOR_SAMPLES = 16


class Transfer(Section):
    """Accuracies of students that were retrained under one drift, served under another.

    Attributes:
        drifts: Corruption and severity of each row and column, ("none", 0) for clean images.
        accuracy: By inference configuration: under the drift of the column, of the student retrained under that of the
            row.
        samples_per_slot: Samples received in each of the slots that the students were retrained in.
        small_slots: Accuracy lost for each unit of the variance that few samples leave in batch-norm statistics, 1 / n
            where they are means over n samples, beyond what `samples_per_slot` leave.
        given_by_class: By how much each class is more often classified rightly than all of them on average, by the
            student that was never retrained; none where it was not measured.
        retrained_by_class: The same of the retrained one.
        few_classes: Accuracy lost for each unit of the distance of the classes, in total variation, from those of the
            data set.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    drifts: tuple[tuple[Name, Severity], ...]
    accuracy: dict[str, tuple[tuple[Part, ...], ...]]
    samples_per_slot: Count
    small_slots: Real = 0.0
    few_classes: Real = 0.0
    given_by_class: tuple[Real, ...] = ()
    retrained_by_class: tuple[Real, ...] = ()

    @model_validator(mode="after")
    def _square(self) -> Transfer:
        if len(set(self.drifts)) != len(self.drifts):
            raise ValueError("a drift stands twice; name each one once")
        for name, rows in self.accuracy.items():
            if len(rows) != len(self.drifts) or any(len(row) != len(self.drifts) for row in rows):
                raise ValueError(
                    f"accuracy of {name!r} is not {len(self.drifts)} rows of {len(self.drifts)} numbers; "
                    "give one row and one column for each drift"
                )
        return self

    @cached_property
    def _losses(self) -> dict[str, Array]:
        """What the student of the row loses beside that of the column, by inference configuration."""
        found = {}
        for name, rows in self.accuracy.items():
            table = np.array(rows)
            found[name] = np.diag(table)[None, :] - table
        return found

    @cached_property
    def _places(self) -> dict[Drift, int]:
        return {drift: place for place, drift in enumerate(self.drifts)}

    def loss(self, training: RetrainedOn, drift: Drift, inference: str) -> float:
        """Return by how much a student is less accurate than one that was retrained under the drift it meets.

        Args:
            training: What the student was retrained on.
            drift: What it meets. Drifts that were not measured lose nothing.
            inference: Name of the inference configuration.
        """
        here, losses = self._places.get(drift), self._losses.get(inference)
        lost = 0.0
        if here is not None and losses is not None:
            lost = sum(part * float(losses[self._places[one], here]) for one, part in training.parts.items()
                       if one in self._places)  # fmt: skip
        few = self.small_slots * (training.variance - training.usual_variance)
        return lost + few + self.few_classes * training.distance

    def gain(self, retrained: float, label_mix: Array) -> float:
        """Return by how much a student is more accurate than where all classes are alike, for its classes alone.

        Args:
            retrained: Part of its statistics that is not of the given student.
            label_mix: Part of each class, shape (classes,); of another number of classes than was measured it says
                nothing.
        """
        gains = [
            float(np.dot(label_mix, by_class)) if len(by_class) == len(label_mix) else 0.0
            for by_class in (self.given_by_class, self.retrained_by_class)
        ]
        return (1 - retrained) * gains[0] + retrained * gains[1]


@dataclass(frozen=True)
class RetrainedOn:
    """What the batch-norm statistics of a student are of: a mixture of the drifts that it was retrained under.

    Attributes:
        parts: By drift; what is missing to 1 is of the images that the given student was trained on.
        variance: Of a mean over the samples that they are of, in units of a single sample's.
        usual_variance: The same, had the slots been as large as those that the accuracies were measured on.
        distance: Mean distance of their classes, in total variation, from those of the data set.

    >>> RetrainedOn().after(("fog", 3), 16, usual=200).after(("none", 0), 48, usual=200).parts
    {('fog', 3): 0.125, ('none', 0): 0.75}
    """

    parts: dict[Drift, float] = field(default_factory=dict)
    variance: float = 0.0
    usual_variance: float = 0.0
    distance: float = 0.0

    @property
    def retrained(self) -> float:
        """Part that is not of the given student."""
        return sum(self.parts.values())

    def after(
        self, drift: Drift, count: int, usual: float, distance: float = 0.0, prior: int = PRIOR_SAMPLES
    ) -> RetrainedOn:
        """Return what they are of after one more retraining.

        Args:
            drift: Of the samples.
            count: Samples that statistics are taken from, at least 1.
            usual: As many they would be in a slot as large as those that were measured, above 0.
            distance: Of their classes from those of the data set, in total variation.
            prior: As many samples the statistics before count as.
        """
        newest = count / (count + prior)
        parts = {one: part * (1 - newest) for one, part in self.parts.items() if part * (1 - newest) > 1e-6}
        parts[drift] = parts.get(drift, 0.0) + newest

        def varied(before: float, size: float) -> float:
            part = size / (size + prior)
            return (1 - part) ** 2 * before + part**2 / size

        far = (1 - newest) * self.distance + newest * distance
        return RetrainedOn(parts, varied(self.variance, count), varied(self.usual_variance, usual), far)


def distance(label_mix: Array) -> float:
    """Return how far a mix of classes is from all classes alike, in total variation.

    >>> distance(np.array([0.5, 0.5, 0.0, 0.0]))
    0.5
    """
    return float(np.abs(label_mix - 1 / len(label_mix)).sum() / 2)
