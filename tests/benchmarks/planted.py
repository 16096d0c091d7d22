"""Allocators that the theorems are held against, and some with a planted fault, which must be noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

import orric
from orric.allocators.orric import slot_weights
from orric.learning import LearningExtent

Array = np.ndarray[Any, Any]


class _Faulty(orric.Orric):
    """ORRIC with V_t spoiled."""

    def spoiled(self, weights: Array, task: orric.Task) -> Array:
        """Return the wrong V_t, shape (T,)."""
        raise NotImplementedError

    def weights(self, task: orric.Task) -> tuple[Array, Array]:
        retraining, inference = super().weights(task)
        return self.spoiled(retraining, task), inference


class WrongEnd(_Faulty):
    """Sums h_t from the wrong end: V_t rises from slot to slot."""

    name: ClassVar[str] = "wrong-end"

    def spoiled(self, weights: Array, task: orric.Task) -> Array:
        return weights[::-1]


class WrongSign(_Faulty):
    """Counts retraining as a loss."""

    name: ClassVar[str] = "wrong-sign"

    def spoiled(self, weights: Array, task: orric.Task) -> Array:
        return -weights


class WithoutSlope(_Faulty):
    """Leaves out L."""

    name: ClassVar[str] = "without-slope"

    def spoiled(self, weights: Array, task: orric.Task) -> Array:
        return weights / task.streams[0].slope_floor


class Doubled(_Faulty):
    """Is right but for a factor of two, the subtlest fault of these."""

    name: ClassVar[str] = "doubled"

    def spoiled(self, weights: Array, task: orric.Task) -> Array:
        return 2 * weights


class Published(_Faulty):
    """Takes the published h_t, which belongs to uniform memory, whatever the memory."""

    name: ClassVar[str] = "published-weights"

    def spoiled(self, weights: Array, task: orric.Task) -> Array:
        return slot_weights(replace(task.streams[0], memory=LearningExtent()), task.horizon)[0]


class SteepChord(orric.ChordOrric):
    """Takes one and a half times what the chord grants."""

    name: ClassVar[str] = "steep-chord"

    def weights(self, task: orric.Task) -> tuple[Array, Array]:
        retraining, inference = super().weights(task)
        return 1.5 * retraining, inference


class AnyChord(orric.ChordOrric):
    """Takes any weight that the chord grants, in some slots all and in some nothing more than ORRIC."""

    name: ClassVar[str] = "any-chord"

    def weights(self, task: orric.Task) -> tuple[Array, Array]:
        most, inference = super().weights(task)
        share = np.random.default_rng(int(1e9 * task.streams[0].best_accuracy)).choice([0.0, 0.3, 1.0], len(most))
        least = slot_weights(task.streams[0], task.horizon)[0]
        return least + share * (most - least), inference


# Every allocator with the theorem that it is held to.
ALLOCATORS: dict[str, tuple[type[orric.Allocator], str]] = {
    "orric": (orric.Orric, "theorem4"),
    "orric-chord": (orric.ChordOrric, "chord"),
    "any-chord": (AnyChord, "chord"),
    "inference-only": (orric.InferenceOnly, "theorem2"),
    "steep-chord": (SteepChord, "chord"),
    **{fault.name: (fault, "theorem4") for fault in (WrongEnd, WrongSign, WithoutSlope, Doubled, Published)},
}
PROVED = ("orric", "orric-chord", "any-chord", "inference-only")
UNIFORM_FAULTS = ("wrong-end", "wrong-sign", "without-slope", "doubled")
