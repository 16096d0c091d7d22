"""How a retraining configuration comes by its samples, and at what price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orric.exceptions import ProfileError, SelectionError
from orric.profile import Profile
from orric.real_models import SelectorFigures
from orric.selection import SELECTORS, selector
from orric.selection.base import Selector

Whose = Literal["student", "teacher"]


@dataclass(frozen=True)
class Sampling:
    """How a retraining configuration comes by its samples.

    Attributes:
        ratio: Part of the slot's samples that the student is trained on.
        selector: Chooses them.
        pool: Samples that it looks at for each one that it chooses, as far as there are any.
        labels: Whose labels it judges by. Those of the "teacher" are paid for all that it looks at, the "student"'s
            own guesses cost no label, so that only chosen samples go to the teacher.
    """

    ratio: float
    selector: Selector = SELECTORS["uniform"]
    pool: float = 1.0
    labels: Whose = "student"

    @classmethod
    def by(cls, ratio: float, figures: SelectorFigures) -> Sampling:
        """Return what a profile's [selector.NAME] says, for a ratio.

        Raises:
            ProfileError: There is no such selector.
        """
        try:
            chosen = selector(figures.method)
        except SelectionError as error:
            raise ProfileError("selector.method", *error.args[1:]) from error
        return cls(ratio, chosen, figures.pool, figures.labels)

    @classmethod
    def of(cls, profile: Profile, retraining: str) -> Sampling:
        """Return how a retraining configuration of a profile with [models] comes by its samples."""
        models = profile.models
        assert models is not None, "the scenario or the calibration checks this"
        ratio, name = models.sampling_ratio[retraining], models.selector.get(retraining)
        return cls(ratio) if name is None else cls.by(ratio, profile.selector[name])

    def counts(self, samples: int) -> tuple[int, int]:
        """Return how many of a slot's samples are looked at, and how many of these are chosen."""
        chosen = round(self.ratio * samples)
        if self._takes_all_it_sees:
            return chosen, chosen
        return min(max(round(self.pool * chosen), chosen), samples), chosen

    def macs(self, student_macs: float, teacher_macs: float, passes: tuple[int, int]) -> float:
        """Return what it costs, in MACs per sample of the slot.

        Args:
            student_macs: Of one image through the student, at the full resolution.
            teacher_macs: Of one image through the teacher.
            passes: Of the student over an image that it is trained on, and over one of the slot, as
                `orric.real_models.Training` has them.
        """
        looked = self.ratio if self._takes_all_it_sees else min(self.pool * self.ratio, 1.0)
        labelled = looked if self.labels == "teacher" else self.ratio
        look = looked * student_macs if self.selector.looks and looked > self.ratio else 0.0
        sampled, received = passes
        of_all = received * student_macs if self.ratio else 0.0
        return self.ratio * sampled * student_macs + labelled * teacher_macs + look + of_all

    @property
    def _takes_all_it_sees(self) -> bool:
        return not self.selector.looks and self.labels == "student"
