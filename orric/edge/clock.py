"""When slots begin: slot t at start + t x slot_s, whatever became of those before it."""

from __future__ import annotations

import math
from collections.abc import Callable

# A slot of which more than this part has passed before it could begin is missed; the one after it begins in time.
LATE_PART = 0.25


class SlotClock:
    """Counts slots by the clock.

    Args:
        slot_s: Length of a slot.
        now: The time in seconds, which never goes back.

    Attributes:
        index: Of the present slot by the clock, from 0.
    """

    def __init__(self, slot_s: float, now: Callable[[], float]) -> None:
        self._slot_s, self._now, self._start_s = slot_s, now, now()
        self.index = 0

    @property
    def begin_s(self) -> float:
        """When the present slot begins, or began."""
        return self._start_s + self.index * self._slot_s

    @property
    def end_s(self) -> float:
        """When it ends."""
        return self._start_s + (self.index + 1) * self._slot_s

    def go_on(self) -> tuple[float, int]:
        """Go on to the next slot that can begin in time; its begin may be ahead.

        Returns:
            By how many seconds the present slot was overrun, and how many slots were missed for it.
        """
        overrun_s = max(self._now() - self.end_s, 0.0)
        missed = math.ceil(max(overrun_s / self._slot_s - LATE_PART, 0.0))
        self.index += 1 + missed
        return overrun_s, missed
