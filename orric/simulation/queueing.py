"""A first-in-first-out queue solved by arrays: no event per request."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
ROUNDING = 1e-9


class FifoQueue:
    """One server whose speed is constant within a stretch of time and may differ in the next.

    A stretch is solved at once by Lindley's recursion in its cumulative form: with w_k the work of request k
    and S_k = w_1 + .. + w_k, it finishes at S_k + max_{m <= k} (ready_m - S_{m-1}). Requests not finished at
    the end of a stretch wait, the one in service with the part of its work that is left.
    """

    def __init__(self) -> None:
        self._arrivals: Array = np.empty(0)
        self._left_of_first = 1.0

    @property
    def waiting(self) -> int:
        """Number of requests that have arrived and not finished."""
        return len(self._arrivals)

    def advance(self, arrivals: Array, start_s: float, end_s: float, service_s: float) -> Array:
        """Serve from `start_s` to `end_s`.

        Args:
            arrivals: Times of the new requests, ascending, within the stretch; shape (n,).
            start_s: Begin of the stretch.
            end_s: End of the stretch.
            service_s: Time that one whole request takes at this stretch's speed; infinity serves nobody.

        Returns:
            Time from arrival to completion of every request that finished, in order; shape (m,).
        """
        arrivals = np.concatenate([self._arrivals, arrivals])
        self._arrivals = arrivals
        if not len(arrivals) or not np.isfinite(service_s):
            return np.empty(0)
        work = np.full(len(arrivals), service_s)
        work[0] *= self._left_of_first
        done_work = np.cumsum(work)
        begin_of_work = done_work - work
        ready = np.maximum(arrivals, start_s)
        finish = done_work + np.maximum.accumulate(ready - begin_of_work)
        # A share that is exactly enough ends with the stretch, but for rounding.
        done = int(np.searchsorted(finish, end_s + ROUNDING * (end_s - start_s), side="right"))
        latencies = finish[:done] - arrivals[:done]
        self._arrivals = arrivals[done:]
        left = self._left_of_first if done == 0 else 1.0
        if len(self._arrivals):
            begun = max(float(ready[done]), float(finish[done - 1]) if done else start_s)
            left -= max(end_s - begun, 0.0) / service_s
        else:
            left = 1.0
        self._left_of_first = max(left, 0.0)
        return np.maximum(latencies, 0.0)
