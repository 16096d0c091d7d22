"""What a sweep says: means by allocator, paired differences, and what each axis does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from math import nan
from typing import Any

import numpy as np

from orric.randomness import generator
from orric.statistics import Interval, bootstrap_interval, difference_p, holm, in_words, mean_interval
from orric.sweep.axes import Points
from orric.sweep.measures import MEASURES
from orric.sweep.plan import Sweep

Array = np.ndarray[Any, Any]
# Of the range of an axis that is drawn.
PARTS = 5


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
        return mean_interval(values, pilot=self.pilot)


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
        line: {name: _told(figures.interval(figures.by_seed(name)[place])) for name in known}
        for place, line in enumerate(lines)
    }
    others = [place for place in range(len(lines)) if place != baseline]
    differences = {}
    if "mean_accuracy" in known:
        by_seed = figures.by_seed("mean_accuracy")
        apart = [by_seed[place] - by_seed[baseline] for place in others]
        adjusted = holm([difference_p(one, figures.pilot) for one in apart])
        for place, one, probability in zip(others, apart, adjusted, strict=True):
            # Resampling knows nothing of a number of seeds that was chosen by their spread.
            drawn = Interval(nan, nan, nan, 0)
            if figures.pilot is None:
                drawn = bootstrap_interval(one, generator(1, "ensemble", place))
            differences[lines[place]] = {
                **_told(figures.interval(one)),
                "bootstrap_low": _plain(drawn.low),
                "bootstrap_high": _plain(drawn.high),
                "p_holm": _plain(probability),
                "beyond_chance": bool(probability < 0.05),
            }
    return {
        "points": len(sweep.points),
        "whole_points": int(figures.whole.sum()),
        "seeds": figures.seeds,
        "pairs": max((one["count"] for one in differences.values()), default=figures.seeds),
        "precision": _reached(figures),
        "asked": _asked(sweep),
        "baseline": sweep.compared_with,
        "means": means,
        "differences": differences,
        "multiplicity": in_words(len(others)) if figures.seeds > 1 else "",
        "axes": _effects(figures, "mean_accuracy") if "mean_accuracy" in known else [],
    }


def _effects(figures: Figures, measure: str) -> list[dict[str, Any]]:
    """Return, for each axis and value, every allocator's mean over the points of that value.

    Axes that go together are one; of a drawn axis the points are parted into as many equal parts, by value.
    """
    points, found = figures.sweep.points, []
    lines = figures.sweep.lines
    baseline = lines.index(figures.sweep.compared_with)
    for title, levels in _levels(points):
        for value, chosen in levels:
            by_seed = figures.by_seed(measure, chosen)
            found.append(
                {
                    "axis": title,
                    "value": value,
                    "means": {line: _told(figures.interval(by_seed[place])) for place, line in enumerate(lines)},
                    "differences": {
                        line: _told(figures.interval(by_seed[place] - by_seed[baseline]))
                        for place, line in enumerate(lines)
                        if place != baseline
                    },
                }
            )
    return found


def _levels(points: Points) -> Iterator[tuple[str, list[tuple[Any, Array]]]]:
    """Yield every axis with its values, and of each value which points have it."""
    seen: set[str] = set()
    for number, axis in enumerate(points.axes):
        which = points.which[:, number]
        if axis.drawn:
            values = np.array(points.levels[number])[which]
            edges = np.quantile(values, np.linspace(0, 1, PARTS + 1)[1:-1])
            part = np.searchsorted(edges, values, side="right")
            known = [place for place in range(PARTS) if (part == place).any()]
            yield axis.title, [(float(np.median(values[part == place])), part == place) for place in known]
            continue
        if axis.together is None:
            yield axis.title, [(_shown(one), which == level) for level, one in enumerate(points.shown[number])]
        elif axis.together not in seen:
            seen.add(axis.together)
            members = [place for place, one in enumerate(points.axes) if one.together == axis.together]
            title = ", ".join(points.axes[place].title for place in members)
            rows = zip(*(points.shown[place] for place in members), strict=True)
            yield title, [(", ".join(map(str, row)), which == level) for level, row in enumerate(rows)]


def _reached(figures: Figures) -> dict[str, Any] | None:
    """Say how wide the widest interval of a point is, where a precision was asked for."""
    precision = figures.sweep.precision
    if precision is None:
        return None
    values, lines = figures.of(precision.of), list(figures.sweep.lines)
    if precision.against is not None:
        place = lines.index(precision.against)
        values = np.delete(values - values[:, place : place + 1], place, axis=1)
    widths = [figures.interval(line).half_width for point in values for line in point]
    widest = float(np.nanmax(widths)) if np.isfinite(widths).any() else float("nan")
    asked = {"of": precision.of, "against": precision.against, "half_width": precision.half_width}
    return {**asked, "widest": _plain(widest), "reached": bool(widest <= precision.half_width * (1 + 1e-9))}


def _asked(sweep: Sweep) -> dict[str, Any]:
    """Return what the results come from, for telling two sweeps apart."""
    base = sweep.base.model_dump(mode="json", exclude_none=True, exclude={"name", "allocators", "references"})
    table = sweep.model_dump(mode="json", exclude_none=True, exclude={"name", "note", "scenario", "allocators"})
    return {"sweep": table, "scenario": base, "files": sweep.file_hashes}


def _shown(value: Any) -> Any:
    return value if isinstance(value, (int, float, str)) else str(value)


def _told(interval: Interval) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(interval).items()}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value
