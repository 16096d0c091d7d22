"""How the requests of a slot are spread over it, window by window, so that memory does not grow with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from orric.compiled import compiled

Array = np.ndarray[Any, Any]
# Arrivals of one window: few enough for the processor's cache, many enough to hide what a window costs.
WINDOW = 2**15


@compiled
def _even(rng: np.random.Generator, times: Array, begin_s: float, length_s: float) -> None:
    """Fill in ascending, independent, even times: partial sums of exponential gaps, scaled (order statistics)."""
    total = 0.0
    for k in range(len(times)):
        total += rng.standard_exponential()
        times[k] = total
    scale = length_s / (total + rng.standard_exponential())
    # Rounding must not carry the last one to the end, which is the next window's.
    last_s = np.nextafter(begin_s + length_s, -np.inf)
    for k in range(len(times)):
        times[k] = min(begin_s + times[k] * scale, last_s)


def upload(count: int, begin_s: float, end_s: float) -> Iterator[tuple[float, Array]]:
    """All at the slot's start, as in the paper."""
    yield end_s, np.full(count, begin_s)


def deterministic(count: int, begin_s: float, end_s: float) -> Iterator[tuple[float, Array]]:
    """One every slot length / count seconds, the first at the start."""
    edges = _edges(count, begin_s, end_s)
    for k, until_s in enumerate(edges[1:]):
        numbers = np.arange(k * WINDOW, min((k + 1) * WINDOW, count))
        yield until_s, begin_s + numbers * ((end_s - begin_s) / max(count, 1))


def poisson(count: int, begin_s: float, end_s: float, rng: np.random.Generator) -> Iterator[tuple[float, Array]]:
    """A Poisson process given its number of arrivals, which are then independent and even."""
    edges = _edges(count, begin_s, end_s)
    lengths = np.diff(edges)
    shares = rng.multinomial(count, lengths / lengths.sum()) if len(lengths) > 1 else [count]
    for k, share in enumerate(shares):
        times = np.empty(share)
        _even(rng, times, edges[k], lengths[k])
        yield edges[k + 1], times


def bursty(
    count: int, begin_s: float, end_s: float, rng: np.random.Generator, ratio: float, burst_s: float, calm_s: float
) -> Iterator[tuple[float, Array]]:
    """A Poisson process of two rates, given its number of arrivals (Markov-modulated; Fischer, Meier-Hellstern 1993).

    Args:
        count: Number of arrivals.
        begin_s: Begin of the slot; the process begins anew, in the state that chance has it in.
        end_s: End of the slot.
        rng: Source of randomness.
        ratio: Rate in bursts divided by the rate between them.
        burst_s: Mean length of a burst.
        calm_s: Mean length of the time between two.
    """
    edges, rates = [begin_s], []
    burst = bool(rng.random() < burst_s / (burst_s + calm_s))
    while edges[-1] < end_s:
        edges.append(edges[-1] + rng.exponential(burst_s if burst else calm_s))
        rates.append(ratio if burst else 1.0)
        burst = not burst
    edges[-1] = end_s
    weights = np.array(rates) * np.diff(edges)
    if not weights.sum() > 0:
        weights = np.diff(edges)
    for k, share in enumerate(rng.multinomial(count, weights / weights.sum())):
        yield from poisson(int(share), edges[k], edges[k + 1], rng)


def timestamps(times_s: Array, begin_s: float, end_s: float) -> Iterator[tuple[float, Array]]:
    """Given times, ascending, within the slot."""
    for k in range(0, max(len(times_s), 1), WINDOW):
        last = k + WINDOW >= len(times_s)
        # Requests at the same instant stay in one window.
        until_s = end_s if last else float(times_s[k + WINDOW])
        low = np.searchsorted(times_s, times_s[k]) if k else 0
        high = len(times_s) if last else int(np.searchsorted(times_s, until_s))
        yield until_s, times_s[low:high]


def _edges(count: int, begin_s: float, end_s: float) -> Array:
    """Return the edges of windows."""
    windows = max(-(-count // WINDOW), 1)
    edges = begin_s + np.arange(windows + 1) * WINDOW * ((end_s - begin_s) / max(count, 1))
    edges[-1] = end_s
    return edges
