"""What a sweep says: means by allocator, paired differences, and what each axis does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from orric.randomness import generator
from orric.sweep.measures import MEASURES
from orric.sweep.plan import Sweep
from orric.sweep.statistics import Interval, bootstrap_interval, difference_p, holm, in_words, mean_interval

Array = np.ndarray[Any, np.dtype[np.float64]]


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
        point = table["point"].to_numpy() - 1
        # Where points have seeds of different number, those that all have are compared.
        self.counts = np.bincount(point, minlength=points) // lines
        self.seeds = int(self.counts.min())
        starts = np.concatenate([[0], np.cumsum(self.counts * lines)[:-1]])
        place = np.arange(lines)[None, :, None] * self.counts[:, None, None] + np.arange(self.seeds)[None, None, :]
        self._rows = starts[:, None, None] + place

    def of(self, measure: str) -> Array:
        """Return a measure of the compared runs, shape (points, allocators, seeds); NaN where it is unknown."""
        column = self._table[measure].to_numpy(zero_copy_only=False).astype(float)
        return np.asarray(column[self._rows])

    def by_seed(self, measure: str, points: Array | None = None) -> Array:
        """Return each seed's mean over points, all of them or some, shape (allocators, seeds); NaN where one failed."""
        values = self.of(measure)
        return np.asarray((values if points is None else values[points]).mean(axis=0))


def summarised(sweep: Sweep, table: Any) -> dict[str, Any]:
    """Return what the sweep says, as plain values for a file.

    Args:
        sweep: What was swept.
        table: All runs.
    """
    figures = Figures(sweep, table)
    lines, baseline = sweep.lines, sweep.lines.index(sweep.compared_with)
    known = [name for name in MEASURES if np.isfinite(figures.of(name)).any()]
    means = {
        line: {name: _told(mean_interval(figures.by_seed(name)[place])) for name in known}
        for place, line in enumerate(lines)
    }
    others = [place for place in range(len(lines)) if place != baseline]
    differences = {}
    if "mean_accuracy" in known:
        by_seed = figures.by_seed("mean_accuracy")
        apart = [by_seed[place] - by_seed[baseline] for place in others]
        adjusted = holm([difference_p(one) for one in apart])
        for place, one, probability in zip(others, apart, adjusted, strict=True):
            drawn = bootstrap_interval(one, generator(1, "ensemble", place))
            differences[lines[place]] = {
                **_told(mean_interval(one)),
                "bootstrap_low": _plain(drawn.low),
                "bootstrap_high": _plain(drawn.high),
                "p_holm": _plain(probability),
                "beyond_chance": bool(probability < 0.05),
            }
    return {
        "points": len(sweep.points),
        "seeds": figures.seeds,
        "seeds_most": int(figures.counts.max()),
        "baseline": sweep.compared_with,
        "means": means,
        "differences": differences,
        "multiplicity": in_words(len(others)),
        "axes": _effects(figures, "mean_accuracy") if "mean_accuracy" in known else [],
    }


def _effects(figures: Figures, measure: str) -> list[dict[str, Any]]:
    """Return, for each axis and value, every allocator's mean over the points of that value."""
    points, found = figures.sweep.points, []
    baseline = figures.sweep.lines.index(figures.sweep.compared_with)
    for number, axis in enumerate(points.axes):
        if axis.drawn:
            continue
        for level, shown in enumerate(points.shown[number]):
            by_seed = figures.by_seed(measure, points.which[:, number] == level)
            found.append(
                {
                    "axis": axis.title,
                    "value": shown if isinstance(shown, (int, float, str)) else str(shown),
                    "means": {
                        line: _told(mean_interval(by_seed[place])) for place, line in enumerate(figures.sweep.lines)
                    },
                    "differences": {
                        line: _told(mean_interval(by_seed[place] - by_seed[baseline]))
                        for place, line in enumerate(figures.sweep.lines)
                        if place != baseline
                    },
                }
            )
    return found


def _told(interval: Interval) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(interval).items()}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
