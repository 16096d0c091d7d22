"""Detectors of drift: each watches one stream's agreement with its teacher, one value per slot that labelled samples.

Two come from the package river, whose own defaults are meant for thousands of values; here there are tens. Parameters
were chosen on simulated agreements of 100 labelled samples each (standard deviation 0.02 to 0.05): the mean falls from
0.95, 0.8 or 0.6 by 0.15 after 30 steady values. Detection delays are in values, false alarms per 1,000 values of steady
series; *second drop* is the part found of drops that follow a recovery of five values, and their median delay.
`tests/allocators/test_detectors.py` measures all anew.

============  ======  ============  ============  ===========
detector      delay   9 in 10 by    false alarms  second drop
============  ======  ============  ============  ===========
ADWIN         4       5             0.1           0.99, 4
Page-Hinkley  2       3             0.1           1.00, 2
KSWIN         4       6             0.2           0.97, 4
============  ======  ============  ============  ===========
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Sequence
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


class LevelDetector(Detector):
    """A detector that goes on after it has fired, as a stream that recovers may drop again within a few values.

    Whatever way the level changes, values are split where the two parts differ most (the change point of greatest
    likelihood under equal noise: Hinkley, Biometrika 1970), and the watch begins anew with those of the new level, not
    with nothing. The level that a drop ended is remembered, if it was `needed` values long: once the mean of three
    values has come back to it, it is the reference again, so that a second drop is found as soon as the first.
    O(`kept`) per change.

    Attributes:
        kept: How many values are remembered at most, of a level each.
        near: Three values are back when their mean lies at most this far below.
    """

    kept: ClassVar[int] = 32
    near: ClassVar[float] = 0.04

    def __init__(self) -> None:
        self._values: list[float] = []
        self._before_drop: list[float] = []
        self._begin(())

    @abstractmethod
    def _begin(self, values: Sequence[float]) -> None:
        """Watch anew, with these values as a beginning."""

    @abstractmethod
    def _changes(self, agreement: float) -> bool:
        """Take in the next agreement, the last of `_values`; say whether the level has changed in either direction."""

    def drops(self, agreement: float) -> bool:
        self._values = [*self._values, agreement][-self.kept :]
        fell = False
        if self._changes(agreement):
            cut = _change_point(self._values)
            earlier, now = self._values[:cut], self._values[cut:]
            fell = _mean(now) < _mean(earlier)
            if fell and len(earlier) >= self.needed:
                self._before_drop = earlier
            self._values = now
            self._begin(now)
        if not fell and self._recovers():
            self._values = [*self._before_drop, *self._values[-3:]][-self.kept :]
            self._before_drop = []
            self._begin(self._values)
        return fell

    def _recovers(self) -> bool:
        if not self._before_drop or len(self._values) < 3:
            return False
        return _mean(self._values[-3:]) >= _mean(self._before_drop) - self.near


class Adwin(LevelDetector):
    """ADWIN (Bifet and Gavalda, SDM 2007): two parts of an adaptive window differ in their means.

    Its bound supposes values that span [0, 1], where noise of 0.04 would drown. Agreements are therefore scaled by 40,
    so that their noise spans a unit; `delta` = 0.065 and parts of at least two values then find a drop in about four.
    The clock is 1: every value is looked at. Amortised O(log n) per value, and as much memory.

    Raises:
        MissingExtraError: `orric[sim]` is not installed.
    """

    name: ClassVar[str] = "adwin"
    needed: ClassVar[int] = 8
    scale: ClassVar[float] = 40.0

    def _begin(self, values: Sequence[float]) -> None:
        with extra("sim"):
            from river.drift import ADWIN
        made: Any = ADWIN
        self._river = made(delta=0.065, clock=1, min_window_length=2, grace_period=self.needed)
        for value in values:
            self._river.update(self.scale * value)

    def _changes(self, agreement: float) -> bool:
        self._river.update(self.scale * agreement)
        return bool(self._river.drift_detected)


class PageHinkley(LevelDetector):
    """Page-Hinkley (Page, Biometrika 1954): the sum of deviations below the running mean.

    A deviation counts by what it exceeds `delta` = 0.042, about the noise of 100 samples; their sum is a drop beyond
    `threshold` = 0.2, two values of a drop of 0.15. A rise is found likewise, by slower figures: what it ends is no
    level to compare a drop with. O(1) per value.

    Raises:
        MissingExtraError: `orric[sim]` is not installed.
    """

    name: ClassVar[str] = "page-hinkley"
    needed: ClassVar[int] = 8

    def _begin(self, values: Sequence[float]) -> None:
        with extra("sim"):
            from river.drift import PageHinkley as Watch
        self._river: tuple[Any, Any] = (
            Watch(min_instances=self.needed, delta=0.042, threshold=0.2, mode="down"),
            Watch(min_instances=self.needed, delta=0.05, threshold=0.3, mode="up"),
        )
        for value in values:
            self._changes(value)

    def _changes(self, agreement: float) -> bool:
        for watch in self._river:
            watch.update(agreement)
        return any(watch.drift_detected for watch in self._river)


class Kswin(LevelDetector):
    """KSWIN (Raab, Heusinger, Schleif, Neurocomputing 2020): recent values are distributed otherwise than earlier ones.

    The test of Kolmogorov and Smirnov in its exact, one-sided form, at `alpha` = 0.0002 in either direction, between
    the latest four to ten values and all before them, at least four. (KSWIN as published, and river's, compares recent
    values with as many drawn from the earlier ones, from a window of fixed length: blind till the window is full again,
    and to a recovery shorter than the recent part.) A part of four needs 17 earlier values that all lie on one side of
    it, a part of seven as many as eight. O(7 x 32 log 32) per value.
    """

    name: ClassVar[str] = "kswin"
    needed: ClassVar[int] = 15
    alpha: ClassVar[float] = 0.0002
    shortest: ClassVar[int] = 4
    longest: ClassVar[int] = 10

    def _begin(self, values: Sequence[float]) -> None:
        pass  # it looks at nothing but the values that are kept

    def _changes(self, agreement: float) -> bool:
        values = self._values
        lengths = range(self.shortest, min(self.longest, len(values) - self.shortest) + 1)
        return any(self._differ(values[-length:], values[:-length]) for length in lengths)

    def _differ(self, recent: Sequence[float], earlier: Sequence[float]) -> bool:
        """Say whether recent values lie significantly below earlier ones, or above."""
        return self._below(recent, earlier) or self._below(earlier, recent)

    def _below(self, lower: Sequence[float], upper: Sequence[float]) -> bool:
        ranked = sorted(upper)
        parts = [(i / len(lower), bisect_right(ranked, value) / len(upper)) for i, value in enumerate(sorted(lower), 1)]
        # No significant distance is smaller at these lengths, and an exact test takes 0.3 ms.
        if max(one - other for one, other in parts) < 0.75:
            return False
        from scipy.stats import ks_2samp

        return bool(ks_2samp(lower, upper, alternative="greater", method="exact").pvalue <= self.alpha)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _change_point(values: Sequence[float]) -> int:
    """Return where to cut values in two so that the parts' means differ most for their lengths; at least two values."""

    def contrast(cut: int) -> float:
        before, after = values[:cut], values[cut:]
        return (_mean(before) - _mean(after)) ** 2 * len(before) * len(after)

    return max(range(1, len(values)), key=contrast)
