"""Traces that are drawn instead of measured, by the kind of their requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from orric.exceptions import TraceError, nearest
from orric.randomness import generator
from orric.timestamps import demand_slots
from orric.trace import Trace

Array = np.ndarray[Any, np.dtype[np.float64]]
# A slot's place between the fewest and the most requests, from 0 to 1.
Shape = Callable[[int, int, np.random.Generator], Array]
# Of the range, the part that calm slots and bursts take at its two ends, and the noise of a periodic trace.
ENDS, NOISE = 0.2, 0.1
# A burst begins in a calm slot with the first probability and ends with the second.
BEGIN, END = 0.05, 0.25


def uniform(slots: int, period: int, rng: np.random.Generator) -> Array:
    """Draw every slot on its own, uniformly."""
    return rng.random(slots)


def bursty(slots: int, period: int, rng: np.random.Generator) -> Array:
    """Stay near the fewest requests, and now and then near the most, for 4 slots on average (a Markov chain)."""
    places, changes = ENDS * rng.random(slots), rng.random(slots)
    burst = False
    for slot in range(slots):
        burst = changes[slot] >= END if burst else bool(changes[slot] < BEGIN)
        if burst:
            places[slot] = 1 - places[slot]
    return places


def periodic(slots: int, period: int, rng: np.random.Generator) -> Array:
    """Rise and fall as a sine with a period of so many slots, with some noise; begin at the fewest."""
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(slots) / period)
    return np.clip(wave + NOISE * (rng.random(slots) - 0.5), 0.0, 1.0)


KINDS: dict[str, Shape] = {"uniform": uniform, "bursty": bursty, "periodic": periodic}


def generate(
    kind: str,
    slots: int,
    requests: tuple[float, float],
    budget_macs: tuple[float, float],
    seed: int,
    period: int = 24,
) -> Trace:
    """Draw a trace whose requests and budgets lie within given ranges.

    Args:
        kind: One of `KINDS`.
        slots: Number of slots.
        requests: Fewest and most per slot; whole numbers between them are drawn.
        budget_macs: Least and most per slot, drawn uniformly.
        seed: Seed of every random draw, at least 0.
        period: Slots after which a periodic trace repeats, at least 2.

    Raises:
        TraceError: A range or a number cannot be used, or by chance no slot has any requests.

    >>> trace = generate("bursty", slots=100, requests=(10, 20), budget_macs=(1e9, 2e9), seed=1)
    >>> trace.slots, trace.least_requests >= 10, trace.most_requests <= 20
    (100, True, True)
    """
    if kind not in KINDS:
        raise TraceError("kind", f"{kind!r} is unknown", nearest(kind, KINDS))
    demand_slots(slots, kind)
    if period < 2:
        raise TraceError(f"{kind}: period", f"found {period}", "give 2 slots at least")
    for name, (low, high) in (("requests", requests), ("budget_macs", budget_macs)):
        if not (0 <= low <= high < np.inf):
            raise TraceError(f"{kind}: {name}", f"found {low:g} to {high:g}", "give 0 <= least <= most, both finite")
    fewest, most = np.ceil(requests[0]), np.floor(requests[1])
    if not max(fewest, 1) <= most:
        found = f"no whole number of requests, one at least, lies between {requests[0]:g} and {requests[1]:g}"
        raise TraceError(f"{kind}: requests", found, "widen the range")
    places = KINDS[kind](slots, period, generator(seed, "arrivals"))
    least, span = budget_macs[0], budget_macs[1] - budget_macs[0]
    # Each whole number has an equal part of the range from 0 to 1.
    drawn = np.minimum(fewest + np.floor(places * (most - fewest + 1)), most)
    budgets = np.minimum(least + span * generator(seed, "budget").random(slots), budget_macs[1])
    return Trace(requests=drawn, budget_macs=budgets, source=f"{kind} trace of seed {seed}")
