"""How many seeds a mean needs: Stein's two stages, whose intervals keep their word though the number was chosen."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from orric.sweep.plan import Sweep

LEVEL = 0.95
# Numbers of seeds are rounded up to multiples of this, so that points go together in chunks.
STEP = 5


def seeds_needed(sweep: Sweep, table: Any) -> int:
    """Return how many seeds the points need, by the spread of their pilot runs (Stein 1945).

    With n_0 pilot runs of standard deviation s, N = max(n_0, ceil((t s / d)^2)) runs, with t the quantile of n_0 - 1
    degrees of freedom, have a mean within d of the true one with the probability asked for, whatever the true
    spread, if runs are normal: s stems from the pilot alone, so that looking at it to choose N biases nothing. Of
    several points and allocators the one that needs most decides, because all of them share their seeds.

    Args:
        sweep: With a precision.
        table: Of the pilot's runs, see `orric.sweep.store.runs_table`.

    Returns:
        A number from `pilot` to `most`.
    """
    precision = sweep.precision
    assert precision is not None, "only such sweeps have a second stage"
    pilot, lines, count = precision.pilot, len(sweep.lines), len(sweep.points)
    values = table[sweep.made_precise].to_numpy(zero_copy_only=False).astype(float).reshape(count, lines, pilot)
    if precision.against is not None:
        place = sweep.lines.index(precision.against)
        values = np.delete(values - values[:, place : place + 1], place, axis=1)
    return max(most_needed(point, precision.half_width, precision.most) for point in values)


def most_needed(values: np.ndarray[Any, Any], half_width: float, most: int) -> int:
    """Return the number of seeds for several lines of pilot values, shape (lines, pilot); failed ones are NaN."""
    pilot = needed = int(values.shape[1])
    for line in values:
        known = line[np.isfinite(line)]
        if len(known) > 1:
            needed = max(needed, math.ceil((_quantile(len(known)) * float(known.std(ddof=1)) / half_width) ** 2))
    return min(pilot + STEP * math.ceil(max(needed - pilot, 0) / STEP), most)


def _quantile(count: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, count - 1))
