"""Where a simulated student's accuracy comes from: one protocol, two models.

`CurveAccuracy` reads the profile's learning curve. The real loop (`orric.retraining.accuracy`) implements the
same protocol with ONNX Runtime and real retraining; whoever starts a simulation hands one of them in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orric.learning import LearningCurve
from orric.profile import Profile


class AccuracyModel(Protocol):
    """What the simulator asks of the student of one stream, in the order of time."""

    name: str

    def arrive(self, slot: int, count: int) -> None:
        """Take in the samples that arrive in a slot (from 1), in order."""
        ...

    def shed(self, count: int) -> None:
        """Drop the newest `count` samples unserved."""
        ...

    def serve(self, slot: int, extent: float, inference: str, count: int) -> float:
        """Classify the oldest `count` waiting samples with an inference configuration.

        Returns:
            How many of them were right, or the expected number.
        """
        ...

    def retrain(self, collected: int, retraining: str) -> float | None:
        """Label samples that arrived in the slot `collected` and train on them; the weights wait for `swap`.

        Returns:
            The part of the labelled samples on which the student, before training, agreed with the teacher;
            None where nothing is really labelled.
        """
        ...

    def collect(self, slot: int) -> None:
        """Keep the samples that arrived in a slot until the retraining on them, which begins now, is over."""
        ...

    def discard(self) -> None:
        """Forget the retraining that has begun: it was lost, or its weights were refused."""
        ...

    def swap(self) -> None:
        """Let the retrained weights serve from now on."""
        ...


class CurveAccuracy:
    """f_t(x_t) A^I_j, as in the slot model.

    Args:
        profile: Profits and curves.
        corruptions: Corruption of each slot.
        severities: Severity of each slot.
    """

    name = "curve"

    def __init__(self, profile: Profile, corruptions: Sequence[str | None], severities: Sequence[int | None]) -> None:
        self._profits = {configuration.name: configuration.profit for configuration in profile.inference}
        self._curves: list[LearningCurve] = profile.curves_for(corruptions, severities)

    def arrive(self, slot: int, count: int) -> None:
        """A curve has no samples."""

    def shed(self, count: int) -> None:
        """A curve has no samples."""

    def serve(self, slot: int, extent: float, inference: str, count: int) -> float:
        return float(self._curves[slot - 1](extent)) * self._profits[inference] * count

    def retrain(self, collected: int, retraining: str) -> float | None:
        return None

    def collect(self, slot: int) -> None:
        """A curve has no samples."""

    def discard(self) -> None:
        """A curve has no weights."""

    def swap(self) -> None:
        """A curve has no weights."""
