"""How the images of a stream change from slot to slot."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from orric.exceptions import ScenarioError
from orric.section import Name, Section

SEVERITIES = (1, 2, 3, 4, 5)
Severity = Annotated[int, Field(strict=True, ge=0, le=5)]


class Drift(Section):
    """One corruption whose severity changes in steps.

    Attributes:
        kind: "steps": the slots are parted evenly among the severities, in the order given.
        corruption: Name of a corruption, or "none".
        severities: Severities from 0 (clean) to 5.

    >>> Drift(corruption="fog", severities=(1, 3)).severity_by_slot(5).tolist()
    [1, 1, 1, 3, 3]
    """

    kind: Literal["steps"] = "steps"
    corruption: Name
    severities: tuple[Severity, ...] = Field(SEVERITIES, min_length=1)

    def severity_by_slot(self, slots: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the severity of each of `slots` slots, shape (slots,)."""
        if not self.severities:
            raise ScenarioError("drift.severities", "is empty", "give at least one severity from 0 to 5")
        pieces = np.array_split(np.arange(slots), len(self.severities))
        return np.concatenate(
            [np.full(len(piece), severity) for piece, severity in zip(pieces, self.severities, strict=True)]
        ).astype(np.int64)
