"""How the jobs of a GPU share it, as far as allocators are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True)
class Device:
    """How the jobs of a GPU share it; all of it is known of a device, and nothing of what will happen on it.

    Attributes:
        sharing: "fluid", "saturating" and "time-slice" are hard partitions; under "weighted" who has work gets what
            others leave, in proportion to the shares; under "priority" inference goes first.
        fixed: Of "saturating": the part of the work that takes the same time at any share.
        round_s: Of "time-slice": the length of a round.
        switch_s: Of "time-slice": what a change of jobs costs.
        slowdown: How many times as long a batch takes while a retraining is under way.
        grain_s: Of "priority": for how long retraining cannot be interrupted, in seconds at the whole GPU.
        lends: Whether a partition lends the share of retraining that is not under way to inference.
    """

    sharing: Literal["fluid", "saturating", "time-slice", "weighted", "priority"] = "weighted"
    fixed: float = 0.0
    round_s: float = 0.0
    switch_s: float = 0.0
    slowdown: float = 1.0
    grain_s: float = 0.0
    lends: bool = True

    @property
    def conserving(self) -> bool:
        """Whether who has work gets what others leave."""
        return self.sharing in ("weighted", "priority")

    def speed(self, share: Any) -> Any:
        """Return how many seconds of work at the whole GPU a job gets done in a second while it alone has work.

        Args:
            share: Of the GPU, in [0, 1]; a number or an array.
        """
        share = np.asarray(share, float)
        if self.sharing == "time-slice":
            return np.maximum(share - self.switch_s / self.round_s, 0.0)
        if not self.fixed:
            return share
        with np.errstate(divide="ignore"):
            return np.where(share > 0, 1.0 / (self.fixed + (1 - self.fixed) / share), 0.0)

    def share(self, speed: Any) -> Any:
        """Return the share that a speed takes, which may be above 1 where no share gives it."""
        speed = np.asarray(speed, float)
        if self.sharing == "time-slice":
            return speed + self.switch_s / self.round_s
        if not self.fixed:
            return speed
        with np.errstate(divide="ignore"):
            slowed = 1.0 / speed - self.fixed
            return np.where(speed <= 0, 0.0, np.where(slowed > 0, (1 - self.fixed) / slowed, np.inf))
