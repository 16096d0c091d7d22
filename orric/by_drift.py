"""What is measured under one drift: the learning curve and the accuracy table of a profile are made of it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self, TypeVar

from pydantic import Field, model_validator

from orric.drift import Severity
from orric.exceptions import OrricError, ProfileError
from orric.learning import AnyCurve
from orric.section import Name, Positive, Real, Section

# The drift of clean images, whatever they would be without their corruption.
CLEAN_DRIFT = ("none", 0)
Corruption = TypeVar("Corruption", str, str | None)
Level = TypeVar("Level", int, int | None)


def drift_of(corruption: Corruption, severity: Level) -> tuple[Corruption | str, Level | int]:
    """Return a corruption and severity as profiles have them: clean images go by one name."""
    return CLEAN_DRIFT if severity == 0 or corruption == "none" else (corruption, severity)


class Drifting(Section):
    """Something measured under one drift.

    Attributes:
        corruption: Name of the corruption, "none" for clean images.
        severity: 1 to 5, 0 for clean images.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    corruption: Name
    severity: Severity

    @model_validator(mode="after")
    def _clean_is_named_so(self) -> Self:
        if (self.corruption == "none") != (self.severity == 0):
            raise ValueError(
                f"found corruption {self.corruption!r} with severity {self.severity}; "
                'clean images have the corruption "none" and the severity 0, all others neither'
            )
        return self


class DriftCurve(Drifting):
    """What is measured under one corruption at one severity, or of clean images.

    Attributes:
        curve: The learning curve.
        teacher_accuracy: The teacher's, in (0, 1].
        excess_agreement: By how much student and teacher agree more than if they were right independently of one
            another: the student before any retraining, and the fully retrained one.
    """

    curve: AnyCurve
    teacher_accuracy: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    excess_agreement: tuple[Real, Real] | None = None


class TableEntry(Drifting):
    """Measured accuracies of one inference configuration under one drift.

    Attributes:
        inference: Name of the inference configuration.
        accuracy: Of the student before any retraining (x = 0), in (0, 1].
        retrained: Of the student retrained as much as possible (x = A^T_max); None where it was not measured.
        between: Learning extents between the two, ascending, and the accuracy at each. Retraining at one resolution
            may harm another, so these need not rise.
    """

    inference: Name
    accuracy: Annotated[float, Field(strict=True, gt=0, le=1)]
    retrained: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    between: tuple[tuple[Positive, Annotated[float, Field(strict=True, gt=0, le=1)]], ...] = ()

    @model_validator(mode="after")
    def _extents_ascend(self) -> TableEntry:
        extents = [extent for extent, _ in self.between]
        if extents != sorted(set(extents)):
            raise ValueError("the extents in between do not ascend; sort them, each once")
        if extents and self.retrained is None:
            raise ValueError("there are extents in between and no accuracy retrained; give it")
        return self
