"""The real models behind a profile, and how their student is retrained."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from orric.exceptions import OrricError, ProfileError
from orric.learning import AnyCurve
from orric.section import Count, Flag, Name, Positive, Section

# Passes of the student over a sample: three for a training step, one to take statistics.
STEP, REFRESH = 3, 1


class Training(Section):
    """How the student is retrained in a slot, and was when the learning curve was measured.

    Attributes:
        optimizer: "sgd" (with Nesterov momentum) or "adam"; its state lasts from slot to slot.
        learning_rate: Of every step.
        momentum: Of "sgd".
        batch: Samples of a step at most.
        epochs: Passes over the sampled part of a slot's samples.
        refresh: Whether the batch-norm statistics are taken anew after the steps.
        statistics: From which samples: "sampled", those that are trained on, or "received", all of the slot's at
            every resolution that serves, mixed with the statistics before, which count as 16 samples. The latter
            is charged as a pass of the student over every sample received, at the full resolution, and holds where
            slots are small or drift turns (docs/background/prediction.md). The daemon, which trusts nobody, takes those
            of the slot's that the teacher labelled and nothing speaks against, at the full resolution.
        fallback: Whether the student as it was given serves a slot where it is expected to be right as often as the
            retrained one, by the slot's first 16 samples and by those that were labelled before
            (`orric.retraining.fallback`).
        acceptance: Whether a newly trained student serves only where held-out labelled samples do not speak against it,
            and is taken back where later ones do (`orric.retraining.acceptance`). The daemon does so always.
        device: Where the steps are taken, "cpu" (on one thread) or "cuda".
    """

    error: ClassVar[type[OrricError]] = ProfileError
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: Positive = 2.5e-3
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.9
    batch: Count = 8
    epochs: Count = 1
    refresh: Flag = True
    statistics: Literal["sampled", "received"] = "sampled"
    fallback: Flag = False
    acceptance: Flag = False
    device: Literal["cpu", "cuda"] = "cpu"

    @model_validator(mode="after")
    def _statistics_of_something(self) -> Training:
        if not self.refresh and self.statistics == "received":
            raise ValueError(
                'refresh is false, so that no statistics are taken, and statistics is "received"; leave out either'
            )
        return self

    @property
    def passes(self) -> tuple[int, int]:
        """Passes of the student that a retraining takes, over each sample trained on and over each one received."""
        sampled = STEP * self.epochs
        if not self.refresh:
            return sampled, 0
        return (sampled + REFRESH, 0) if self.statistics == "sampled" else (sampled, REFRESH)


class SelectorFigures(Section):
    """How a selector works on a slot's samples, and what the student learns from what it selects.

    Attributes:
        method: Name of the selector in `orric.selection.SELECTORS`.
        pool: Samples that are looked at for each one that the student is trained on, as far as there are any.
        labels: Whose labels it judges by: the "student"'s own guesses, so that only what is selected is labelled by the
            teacher, or the "teacher"'s, which are paid for all that is looked at.
        curve: Accuracy by the part of the samples that the student is trained on; None where it was not measured.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    method: Name
    pool: Annotated[float, Field(strict=True, ge=1, allow_inf_nan=False)] = 1.0
    labels: Literal["student", "teacher"] = "student"
    curve: AnyCurve | None = None


class Models(Section):
    """The real models and data behind a profile, so that `accuracy = "onnx"` can run them.

    Attributes:
        dataset: Name of the data set.
        data: Where its files lie, relative to the profile's file; left out, where the command's option --data or the
            environment variable ORRIC_DATA says.
        student: Weights of the student, relative to the profile's file.
        teacher: Weights of the teacher, relative to the profile's file.
        resolution_px: Side of the input in pixels for every inference configuration.
        sampling_ratio: Part of the uploaded samples that every retraining configuration trains on.
        selector: Key in `Profile.selector` of what selects them, for retraining configurations that do not draw
            uniformly.
        anchors: Trusted images with labels, on which a daemon compares every new student, relative to the profile's
            file; optional.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    dataset: Name
    data: Name | None = None
    anchors: Name | None = None
    student: Name
    teacher: Name
    resolution_px: dict[str, Count]
    sampling_ratio: dict[str, Annotated[float, Field(strict=True, ge=0, le=1)]]
    selector: dict[str, Name] = Field(default_factory=dict)
