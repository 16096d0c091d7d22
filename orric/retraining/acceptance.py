"""What becomes of a newly trained student: compared before it serves, on probation then, taken back when it is worse.

The rules are the daemon's (`orric.retraining.evidence`), with the values below, which are its defaults.
Where it trusts no upload, a simulated loop knows whose its samples are: too few of them to tell a loss do not speak
against a student.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.retraining.evidence import Comparison, Probation, fewest_compared, objection

Mask = np.ndarray[Any, np.dtype[np.bool_]]
# Part of the labelled samples that is kept from training, and by which part of them, or of those labelled while it is
# on probation, a student may be worse beyond chance.
HELD_OUT, MARGIN = 0.1, 0.05
# Loss that a comparison must find, and with which probability.
DETECTED_LOSS, POWER = 0.2, 0.9
# Retrainings that a student serves on probation at least, and samples that it is compared on at least.
CANARY_SLOTS, FEWEST = 2, fewest_compared(DETECTED_LOSS, POWER, MARGIN)


@dataclass(frozen=True)
class Version:
    """A student as it serves.

    Attributes:
        number: Ascends, 0 for the given one.
        session: At the full resolution.
        others: The same with the statistics of other resolutions.
        weights: That training goes on from.
    """

    number: int
    session: Any
    others: Any
    weights: dict[str, Any]


def compared(before: Mask, after: Mask) -> Comparison:
    """Return a student beside another one on the same samples.

    Args:
        before: On which the other is right, shape (n,).
        after: On which this one is, shape (n,).
    """
    return Comparison(len(before), int((before & ~after).sum()), int((after & ~before).sum()))


class Acceptance:
    """Which student of a loop serves.

    Args:
        given: The student as it was given.

    Attributes:
        serving: What serves.
        good: The last one that has proved itself.
        refused: How many new ones were.
        rollbacks: How often an older one took over.
    """

    def __init__(self, given: Version) -> None:
        self.serving = self.good = given
        self.refused = self.rollbacks = 0
        self._slot = 0
        self._probation = Probation()
        self._waiting: dict[int, Version] = {}

    @property
    def on_probation(self) -> bool:
        """Whether what serves has yet to prove itself."""
        return self.serving.number in self._probation

    def held_out(self, count: int) -> int:
        """Return how many of labelled samples are kept from training."""
        return round(HELD_OUT * count)

    def refuses(self, found: Comparison) -> bool:
        """Say whether a new student must not serve.

        Args:
            found: Beside what serves, on samples that it was not trained on.
        """
        refused = objection(found, None, 0, MARGIN, 0.0) is not None
        self.refused += refused
        return refused

    def serve(self, version: Version) -> None:
        """Take note of another one that serves from now on, on probation."""
        self.serving = self._waiting[version.number] = version
        self._probation.begin(version.number, self._slot)

    def judge(self, found: Comparison | None) -> Version | None:
        """Look at what serves when a slot's samples are labelled.

        Args:
            found: It beside the last one that has proved itself, on samples that neither was trained on; None where it
                is not on probation.

        Returns:
            What must serve in its place; None where it may go on.
        """
        self._slot += 1
        if found is not None and self._probation.add(self.serving.number, found, MARGIN) is not None:
            self.serving = self.good
            self.rollbacks += 1
            self._probation.clear()
            self._waiting.clear()
            return self.good
        best = self._probation.proved(self._slot, CANARY_SLOTS, FEWEST)
        if best is not None:
            self.good = self._waiting[best]
            self._waiting = {number: one for number, one in self._waiting.items() if number > best}
        return None
