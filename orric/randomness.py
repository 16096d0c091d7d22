"""Independent random generators from one seed, one for each purpose."""

from __future__ import annotations

import numpy as np

PURPOSES = (
    "budget", "arrivals", "images", "retraining", "allocator", "adversary", "ensemble", "drift", "service", "faults",
    "agreement", "patience", "probes",
)  # fmt: skip


def generator(seed: int, purpose: str, *indices: int) -> np.random.Generator:
    """Return the generator of one purpose, the same whatever else was drawn before.

    It is the child that `SeedSequence(seed).spawn` would give at that place, reached directly, so that any
    stream and slot can be drawn in any order and in any process.

    Args:
        seed: Seed of the run, at least 0.
        purpose: One of `PURPOSES`.
        indices: Stream and slot, say.

    >>> float(generator(1, "budget").random()) == float(generator(1, "budget").random())
    True
    >>> float(generator(1, "budget").random()) == float(generator(1, "images").random())
    False
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PURPOSES.index(purpose), *indices)))
