"""Detectors of drift: each watches one stream's agreement with its teacher, one value per slot that labelled samples.

All come from the package river, whose own defaults are meant for thousands of values; here there are tens. Parameters
were chosen on simulated agreements of 100 labelled samples each (standard deviation 0.02 to 0.05): the mean falls from
0.95, 0.8 or 0.6 by 0.15 after 30 steady values. Detection delays are in values, false alarms per 1,000 values of steady
series; `tests/allocators/test_detectors.py` measures them anew.

============  ======  ============  ============
detector      delay   9 in 10 by    false alarms
============  ======  ============  ============
ADWIN         4       5             0.1
Page-Hinkley  2       3             0.1
KSWIN         7       8             0.3
============  ======  ============  ============
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from orric.exceptions import extra


class Detector(ABC):
    """Says when the level of a series of agreements has dropped.

    Attributes:
        name: As it stands before the "+" of an allocator's name.
        needed: How many values it wants before it can tell.
    """

    name: ClassVar[str]
    needed: ClassVar[int]

    @abstractmethod
    def drops(self, agreement: float) -> bool:
        """Take in the next agreement, in [0, 1]; say whether the level has dropped. A rise is no drop."""


class Adwin(Detector):
    """ADWIN (Bifet and Gavalda, SDM 2007): two parts of an adaptive window differ in their means.

    Its bound supposes values that span [0, 1], where noise of 0.04 would drown. Agreements are therefore scaled by 20,
    so that their noise spans a unit; `delta` = 0.2 and parts of at least two values then find a drop in about four. The
    clock is 1: every value is looked at. Amortised O(log n) per value, and as much memory.

    Raises:
        MissingExtraError: `orric[sim]` is not installed.
    """

    name: ClassVar[str] = "adwin"
    needed: ClassVar[int] = 8
    scale: ClassVar[float] = 20.0

    def __init__(self) -> None:
        with extra("sim"):
            from river.drift import ADWIN
        made: Any = ADWIN
        self._river = made(delta=0.2, clock=1, min_window_length=2, grace_period=self.needed)

    def drops(self, agreement: float) -> bool:
        before = self._river.estimation
        self._river.update(self.scale * agreement)
        return bool(self._river.drift_detected and self._river.estimation < before)


class PageHinkley(Detector):
    """Page-Hinkley (Page, Biometrika 1954): the sum of deviations below the running mean.

    A deviation counts by what it exceeds `delta` = 0.04, about the noise of 100 samples; their sum is a drop beyond
    `threshold` = 0.2, two values of a drop of 0.15. O(1) per value.

    Raises:
        MissingExtraError: `orric[sim]` is not installed.
    """

    name: ClassVar[str] = "page-hinkley"
    needed: ClassVar[int] = 8

    def __init__(self) -> None:
        with extra("sim"):
            from river.drift import PageHinkley as Watch
        self._river: Any = Watch(min_instances=self.needed, delta=0.04, threshold=0.2, mode="down")

    def drops(self, agreement: float) -> bool:
        self._river.update(agreement)
        return bool(self._river.drift_detected)


class Kswin(Detector):
    """KSWIN (Raab, Heusinger, Schleif, Neurocomputing 2020): recent values are distributed otherwise than earlier ones.

    The eight latest of the last 24 values against eight drawn from the rest, by a test of Kolmogorov and Smirnov at
    `alpha` = 0.005, which is reached where the two overlap by no more than one value; of five against five it never
    would be. O(24 log 24) per value.

    Raises:
        MissingExtraError: `orric[sim]` is not installed.
    """

    name: ClassVar[str] = "kswin"
    needed: ClassVar[int] = 24
    recent: ClassVar[int] = 8

    def __init__(self) -> None:
        with extra("sim"):
            from river.drift import KSWIN
        # A fixed seed: which earlier values are drawn must not differ from run to run.
        self._river: Any = KSWIN(alpha=0.005, window_size=self.needed, stat_size=self.recent, seed=1)

    def drops(self, agreement: float) -> bool:
        earlier = [*self._river.window, agreement][-self.needed : -self.recent]
        self._river.update(agreement)
        if not self._river.drift_detected:
            return False
        return bool(sum(self._river.window) / self.recent < sum(earlier) / len(earlier))
