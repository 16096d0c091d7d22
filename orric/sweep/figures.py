"""The figures of a sweep's runs as arrays, and how intervals are told."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from orric.allocators import REFERENCES
from orric.statistics import TIE, Interval, difference_ps, holm, over_seeds, rows_over_seeds
from orric.sweep.plan import Sweep

Array = np.ndarray[Any, Any]
# What rounding alone may put between equal accuracies.
SAME = 1e-12


class Figures:
    """The figures of a sweep's runs as arrays.

    All allocators share their seeds, so that differences between them are paired: a seed's mean over points is one
    independent value, and runs of one seed at several points are not.

    Args:
        sweep: What was swept.
        table: All runs, from `orric.sweep.store.runs_table`.
    """

    def __init__(self, sweep: Sweep, table: Any) -> None:
        self.sweep = sweep
        self._table = table
        points, lines = len(sweep.points), len(sweep.lines)
        self._shape = points, lines, table.num_rows // (points * lines)
        self.seeds = self._shape[2]
        self.seed_numbers: list[int] = table["seed"][: self.seeds].to_pylist()
        self.pilot = None if sweep.precision is None else sweep.precision.pilot
        # Means are over points at which every run of every allocator that has results at all is known; where there is
        # no such point, over all points and the seeds that are known at each of them.
        known = np.isfinite(self.of("mean_accuracy"))
        alive = known.any(axis=(0, 2))
        self.whole = known[:, alive].all(axis=(1, 2)) if alive.any() else np.zeros(points, bool)
        if not self.whole.any():
            self.whole = np.ones(points, bool)

    def of(self, measure: str) -> Array:
        """Return a measure of the compared runs, shape (points, allocators, seeds); NaN where it is unknown."""
        column = self._table[measure].to_numpy(zero_copy_only=False).astype(float)
        return np.asarray(column.reshape(self._shape))

    def by_seed(self, measure: str, points: Array | None = None) -> Array:
        """Return each seed's mean over whole points, all of them or some, shape (allocators, seeds).

        It is NaN where a run failed, or where no point is left.
        """
        chosen = self.whole if points is None else self.whole & points
        if not chosen.any():
            return np.full(self._shape[1:], np.nan)
        return np.asarray(self.of(measure)[chosen].mean(axis=0))

    def interval(self, values: Array) -> Interval:
        """Return the mean of one value per seed, with its interval."""
        return over_seeds(values, pilot=self.pilot)

    def intervals(self, values: Array) -> tuple[Array, Array, Array, Array]:
        """Return means, lower and upper ends and numbers of values along the last axis, one value per seed."""
        return rows_over_seeds(values, self.pilot)

    def alike(self, measure: str) -> list[str]:
        """Return the allocators, and reference lines, of which a measure is the same under every seed at every point.

        With one seed there are none.
        """
        values = self.of(measure)
        if self.seeds < 2:
            return []
        same = np.asarray((~np.isfinite(values) | (values == values[..., :1])).all(axis=(0, 2)))
        known = np.asarray(np.isfinite(values).all(axis=2).any(axis=0))
        return [line for place, line in enumerate(self.sweep.lines) if same[place] and known[place]]

    def winners(self, values: Array) -> list[dict[str, Any] | None]:
        """Say of every row who is best, who comes next, and whether the difference may be chance.

        Reference lines, which are no allocators, are passed over; where ORRIC ties with the best it is called best. The
        difference is paired, seed by seed; probabilities are corrected for the number of rows (Holm).

        Args:
            values: Of the leading measure, shape (rows, allocators, seeds).

        Returns:
            For each row "best", "same" (who earned just as much under every seed), "runner_up", "tie" (within 0.05
            points), the difference's "mean", "low", "high" and "count", "p_holm" and "beyond_chance"; None where fewer
            than two allocators are known, or all earned the same.
        """
        lines = self.sweep.lines
        able = [place for place, line in enumerate(lines) if line not in REFERENCES]
        if len(able) < 2:
            return [None] * len(values)
        means = np.where(np.isfinite(means := self.intervals(values[:, able])[0]), means, -np.inf)
        rows = np.arange(len(values))
        best = means.argmax(axis=1)
        if "orric" in lines:
            orric = able.index(lines.index("orric"))
            best = np.where(means[:, orric] >= means.max(axis=1) - TIE, orric, best)
        # Who earned the same under every seed decided the same, and comes in with the best, not next.
        own = values[:, able][rows, best][:, None]
        given = values[:, able]
        apart = np.where(np.isfinite(given) | np.isfinite(own), np.abs(given - own), 0.0)
        same = np.asarray(np.all(apart < SAME, axis=2))
        others = np.where(same, -np.inf, means)
        others[rows, best] = -np.inf
        second = others.argmax(axis=1)
        apart = values[:, able][rows, best] - values[:, able][rows, second]
        intervals = self.intervals(apart)
        mean, _, _, count = intervals
        adjusted = holm(difference_ps(apart, self.pilot).tolist())
        return [
            {
                "best": lines[able[best[row]]],
                "same": [lines[able[n]] for n in np.flatnonzero(same[row]) if n != best[row]],
                "runner_up": lines[able[second[row]]],
                "tie": bool(abs(mean[row]) <= TIE),
                **told_of(intervals, row),
                "p_holm": plain(adjusted[row]),
                "beyond_chance": bool(adjusted[row] < 0.05),
            }
            if np.isfinite(others[row, second[row]]) and count[row]
            else None
            for row in rows.tolist()
        ]


def told(interval: Interval) -> dict[str, Any]:
    """Return an interval as plain values for a file."""
    return {name: plain(value) for name, value in asdict(interval).items()}


def told_of(intervals: tuple[Array, Array, Array, Array], *place: int) -> dict[str, Any]:
    """Return one of many intervals, from `Figures.intervals`, as plain values for a file."""
    mean, low, high, count = (part[place] for part in intervals)
    return told(Interval(float(mean), float(low), float(high), int(count)))


def plain(value: Any) -> Any:
    """Return a value for a file, which has no word for infinity and what is unknown but null."""
    return None if isinstance(value, float) and not np.isfinite(value) else value


def shown(value: Any) -> Any:
    """Return the value of an axis as files and tables have it."""
    return value if isinstance(value, (int, float, str)) else str(value)
