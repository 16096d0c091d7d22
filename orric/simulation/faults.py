"""When a scenario's faults happen: at given slots, or drawn from the seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from orric.randomness import generator
from orric.scenario import Scenario
from orric.scenario.fault import Fault

Array = np.ndarray[Any, Any]


def schedule(scenario: Scenario, seed: int) -> dict[int, list[Fault]]:
    """Return the faults of every slot that has any, in the scenario's order."""
    found: dict[int, list[Fault]] = {}
    for number, fault in enumerate(scenario.fault):
        slots = fault.slots
        if fault.probability is not None:
            draws = generator(seed, "faults", number).random(scenario.slots)
            slots = tuple((np.flatnonzero(draws < fault.probability) + 1).tolist())
        for slot in slots:
            found.setdefault(slot, []).append(fault)
    return found


def bursts(scenario: Scenario, faults: dict[int, list[Fault]], stream: str) -> Array:
    """Return what the requests of each slot are multiplied by, shape (T,)."""
    factors = np.ones(scenario.slots)
    for slot, ones in faults.items():
        for fault in ones:
            if fault.kind == "burst" and fault.stream == stream:
                factors[slot - 1] *= fault.factor
    return factors


def skews_s(scenario: Scenario, faults: dict[int, list[Fault]], stream: str) -> Array:
    """Return how much later a stream's requests arrive in each slot than its clock says, shape (T,)."""
    skews = np.zeros(scenario.slots)
    for slot in sorted(faults):
        for fault in faults[slot]:
            if fault.kind == "clock-skew" and fault.stream == stream:
                skews[slot - 1 :] = fault.skew_s
    return skews
