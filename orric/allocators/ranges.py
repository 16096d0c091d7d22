"""The ranges of requests that ORRIC weighs retraining by: declared, and widened by what comes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orric.allocators.base import Array, StreamTask
from orric.records import Observation


class Ranges:
    """D_min and D_max of every stream: those of its task, widened by what came so far and by what a slot tells.

    Nobody knows beforehand what will come. ORRIC's V_t falls with D_min / D_max, so it falls for good when requests
    leave the declared range. What was told of earlier slots is forgotten once their requests were counted, so that
    observations alone restore the ranges. Slots without requests widen nothing: D_min is of those that have some.

    Args:
        streams: Of a task.

    Attributes:
        told: By which factor more requests slots tell of every stream than are expected, shape (K,).
    """

    def __init__(self, streams: Sequence[StreamTask]) -> None:
        self._numbers = {stream.name: k for k, stream in enumerate(streams)}
        self._least = np.array([stream.least_requests for stream in streams])
        self._most = np.array([stream.most_requests for stream in streams])
        self._declared = self._least / self._most
        self.told = np.array([1 + stream.headroom for stream in streams])

    def observe(self, record: Observation) -> None:
        """Widen a stream's range by the requests of a slot, in the measure of what slots tell."""
        if record.requests > 0:
            k = self._numbers[record.stream]
            told = record.requests * self.told[k]
            self._least[k], self._most[k] = min(self._least[k], told), max(self._most[k], told)

    def narrowed(self, requests: Array, streams: Array | slice = slice(None)) -> Array:
        """Return by which factor D_min / D_max is less than was declared, in (0, 1].

        Args:
            requests: D(t) as the slot tells it, of the streams meant, shape (n,).
            streams: Their indices; left out, all.
        """
        least = np.minimum(self._least[streams], np.where(requests > 0, requests, np.inf))
        found: Array = least / np.maximum(self._most[streams], requests) / self._declared[streams]
        return found

    def narrowed_alone(self, requests: float, stream: int = 0) -> float:
        """Return what `narrowed` does for one stream, given by its index, without arrays."""
        least, most = self._least.item(stream), self._most.item(stream)
        if requests > 0:
            least, most = min(least, requests), max(most, requests)
        return float(least / most / self._declared.item(stream))
