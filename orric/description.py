"""What a trace or timestamps look like, in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from orric.timestamps import Timestamps
from orric.trace import Trace

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Spread:
    """The least, the mean and the greatest of some numbers."""

    min: float
    mean: float
    max: float


@dataclass(frozen=True)
class Description:
    """Size and burstiness of a trace or of timestamps.

    Attributes:
        kind: "trace" or "timestamps".
        slots: Number of slots.
        slot_s: Their length in seconds; None where a trace gives none, or slots of several lengths.
        total_requests: Over all slots.
        requests: Per slot.
        budget_macs: Per slot; None for timestamps.
        peak_to_mean: Most requests in a slot over the mean.
        dispersion: Variance over mean of the requests per slot; 1 for a Poisson process, 0 for equal slots.
        interarrival_cv: Standard deviation over mean of the times between requests; 1 for a Poisson process; None for
            traces, which have no such times, and where all requests come at once.

    Numbers that a float cannot hold are None.
    """

    kind: Literal["trace", "timestamps"]
    slots: int
    slot_s: float | None
    total_requests: float | None
    requests: Spread
    budget_macs: Spread | None
    peak_to_mean: float
    dispersion: float | None
    interarrival_cv: float | None


def describe(subject: Trace | Timestamps, slot_s: float = 60.0) -> Description:
    """Describe a trace, or timestamps counted by slots of `slot_s` seconds.

    Raises:
        TraceError: `slot_s` cannot be used.

    >>> describe(Trace(requests=[0, 4], budget_macs=[1e9, 3e9])).dispersion
    2.0
    """
    budgets, gaps = None, None
    requests: Array
    if isinstance(subject, Trace):
        kind: Literal["trace", "timestamps"] = "trace"
        requests, budgets = subject.requests, _spread(subject.budget_macs)
        lengths = np.unique(subject.duration_s) if subject.duration_s is not None else np.empty(0)
        length = float(lengths[0]) if len(lengths) == 1 else None
    else:
        kind, length = "timestamps", float(slot_s)
        requests = subject.counts(slot_s).astype(np.float64)
        gaps = np.diff(subject.arrival_s)
    peak = float(requests.max())
    # Squares of what is at most 1 do not overflow.
    scaled = requests / peak
    with np.errstate(over="ignore"):
        return Description(
            kind=kind,
            slots=len(requests),
            slot_s=length,
            total_requests=_held(requests.sum()),
            requests=_spread(requests),
            budget_macs=budgets,
            peak_to_mean=float(1 / scaled.mean()),
            dispersion=_held(peak * (scaled.var() / scaled.mean())),
            interarrival_cv=_variation(gaps) if gaps is not None else None,
        )


def _variation(gaps: Array) -> float | None:
    """Return standard deviation over mean."""
    if not gaps.any():
        return None
    scaled = gaps / gaps.max()
    return float(scaled.std() / scaled.mean())


def _spread(values: Array) -> Spread:
    greatest = float(values.max())
    mean = greatest * float((values / greatest).mean()) if greatest else 0.0
    return Spread(float(values.min()), mean, greatest)


def _held(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
