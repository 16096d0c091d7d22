"""What is measured under one drift: the learning curve and the accuracy table of a profile are made of it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self, TypeVar

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


class Floors(Section):
    """What may be known of every learning curve of a profile, besides its largest accuracy and its least slope.

    Attributes:
        start_accuracy: A lower bound of f(0) under every drift, as allocators are told; None where none is known.
        end_accuracy: A lower bound of f(A^T_max), likewise; None for what follows from `start_accuracy` and L.
    """

    start_accuracy: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    end_accuracy: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _below_the_curves(self) -> Self:
        whole: Any = self
        if (self.start_accuracy is None and self.end_accuracy is None) or not whole.retraining:
            return self
        pieces = [piece for curve in (whole.curve, *(one.curve for one in whole.drift_curve)) for piece in curve.pieces]
        for name, extent in (("start_accuracy", 0.0), ("end_accuracy", whole.most_profit)):
            told, least = getattr(self, name), min(float(piece(extent)) for piece in pieces)
            if told is not None and told > least + 1e-9:
                raise ValueError(
                    f"{name} is {told:g} but a curve has {least:g} at x = {extent:g}; set {name} to {least:g} at most, "
                    "or what is proved of orric-chord would not hold"
                )
        if self.end_accuracy is not None and self.start_accuracy is None:
            raise ValueError("end_accuracy is given without start_accuracy; give both, or start_accuracy alone")
        return self


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
