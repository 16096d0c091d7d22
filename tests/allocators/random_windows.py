"""Random windows to split."""

from __future__ import annotations

import numpy as np

from orric.allocators.window import Prospects, RetrainingWindow


def random_window(
    rng: np.random.Generator, streams: int, gpus: float, retraining: int, needs: bool = False
) -> RetrainingWindow:
    """Draw a window of 200 s.

    Args:
        rng: Source of randomness.
        streams: How many.
        gpus: What they share.
        retraining: Configurations beside that of not retraining.
        needs: Whether inference may not go below its cheapest configuration, as far as there is room for all.
    """
    drawn = []
    for _ in range(streams):
        accuracy, count = rng.uniform(0.3, 0.8), int(rng.integers(1, 5))
        shares = np.sort(rng.uniform(0.02, 0.7, count)) * gpus / streams
        factors = np.sort(rng.uniform(0.4, 1.0, count))
        works = np.sort(rng.uniform(2.0, 200.0, retraining)) * gpus / streams
        ends = np.minimum(accuracy + np.sort(rng.uniform(-0.05, 0.4, retraining)), 1.0)
        drawn.append(
            Prospects(
                float(accuracy),
                tuple(zip(shares.tolist(), factors.tolist(), strict=True)),
                ((float(accuracy), 0.0), *zip(ends.tolist(), works.tolist(), strict=True)),
                float(shares[0]) if needs else 0.0,
            )
        )
    return RetrainingWindow(gpus, 200.0, tuple(drawn))
