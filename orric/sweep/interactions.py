"""What axes of a sweep do, each by itself and two at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from orric.allocators import REFERENCES
from orric.statistics import foremost
from orric.sweep.axes import Points
from orric.sweep.figures import Array, Figures, shown, told, told_of

# Of the range of an axis that is drawn.
PARTS = 5
# Pairs of axes that are told, and cells of a pair that a figure can show.
MOST_PAIRS, MOST_CELLS = 6, 600


@dataclass(frozen=True)
class Levels:
    """The values of an axis: axes that go together are one, and of a drawn axis they are parts of its range.

    Attributes:
        title: Of the axis.
        values: What stands for each.
        place: Of every point the index of its value, shape (points,).
    """

    title: str
    values: list[Any]
    place: Array


def effects(figures: Figures, measure: str) -> list[dict[str, Any]]:
    """Return, for each axis and value, every allocator's mean over the points of that value.

    Axes that go together are one; of a drawn axis the points are parted into as many equal parts, by value.
    """
    found = []
    lines = figures.sweep.lines
    baseline = lines.index(figures.sweep.compared_with)
    for axis in levels_of(figures.sweep.points):
        for number, value in enumerate(axis.values):
            by_seed = figures.by_seed(measure, axis.place == number)
            found.append(
                {
                    "axis": axis.title,
                    "value": value,
                    "means": {line: told(figures.interval(by_seed[place])) for place, line in enumerate(lines)},
                    "differences": {
                        line: told(figures.interval(by_seed[place] - by_seed[baseline]))
                        for place, line in enumerate(lines)
                        if place != baseline
                    },
                }
            )
    return found


def interactions(figures: Figures, measure: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what pairs of axes do together: every allocator's mean over the points of two values.

    Of many pairs those are told that do most together: for which the lead over the baseline is furthest from a sum of
    what each of the two does by itself.

    Args:
        figures: Of the sweep.
        measure: The leading one.

    Returns:
        The pairs, the strongest first, as plain values for a file; and the names of those left out.
    """
    axes = [axis for axis in levels_of(figures.sweep.points) if len(axis.values) > 1]
    values = figures.of(measure)
    found, left_out = [], []
    for one, other in combinations(axes, 2):
        title = f"{one.title} x {other.title}"
        if len(one.values) * len(other.values) > MOST_CELLS:
            left_out.append(title)
            continue
        found.append(_together(figures, values, one, other))
    found.sort(key=lambda pair: -pair["interaction"])
    left_out += [" x ".join(pair["axes"]) for pair in found[MOST_PAIRS:]]
    return found[:MOST_PAIRS], left_out


def _together(figures: Figures, values: Array, one: Levels, other: Levels) -> dict[str, Any]:
    lines, shape = figures.sweep.lines, (len(one.values), len(other.values))
    baseline = lines.index(figures.sweep.compared_with)
    cell = one.place * shape[1] + other.place
    count = np.bincount(cell[figures.whole], minlength=shape[0] * shape[1])
    sums = np.zeros((len(count), *values.shape[1:]))
    np.add.at(sums, cell[figures.whole], values[figures.whole])
    with np.errstate(invalid="ignore", divide="ignore"):
        by_seed = sums / count[:, None, None]
    apart = by_seed - by_seed[:, baseline : baseline + 1]
    own, differences = figures.intervals(by_seed), figures.intervals(apart)
    winners = figures.winners(by_seed)
    best = foremost(dict(zip(lines, _means(own[0]).tolist(), strict=True)), "orric", REFERENCES)
    subject = best
    if best == lines[baseline]:
        rest = {line: mean for line, mean in zip(lines, _means(own[0]).tolist(), strict=True) if line != best}
        subject = foremost(rest, "orric", REFERENCES)
    lead = differences[0][:, lines.index(subject)] if subject is not None else np.zeros(len(count))
    return {
        "axes": [one.title, other.title],
        "values": [one.values, other.values],
        "subject": subject,
        "interaction": _interaction(lead.reshape(shape)),
        "cells": [
            {
                "values": [one.values[number // shape[1]], other.values[number % shape[1]]],
                "points": int(count[number]),
                "means": {line: told_of(own, number, place) for place, line in enumerate(lines)},
                "differences": {
                    line: told_of(differences, number, place) for place, line in enumerate(lines) if place != baseline
                },
                "winner": winners[number],
            }
            for number in range(len(count))
        ],
    }


def _means(cells: Array) -> Array:
    """Return each allocator's mean over the cells that are known, NaN where none is."""
    known = np.isfinite(cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, cells, 0.0).sum(axis=0) / known.sum(axis=0))


def _interaction(lead: Array) -> float:
    """Return how far a table is from a sum of a row's and a column's part, as the root of the mean square."""
    known = np.isfinite(lead)
    if not known.any():
        return 0.0
    rest = np.where(known, lead, 0.0)
    # With cells missing, rows and columns are not told apart at once; some rounds suffice for a ranking.
    for _ in range(20):
        for axis in (0, 1):
            mean = rest.sum(axis=axis, keepdims=True) / np.maximum(known.sum(axis=axis, keepdims=True), 1)
            rest = np.where(known, rest - mean, 0.0)
    return float(np.sqrt((rest**2).sum() / known.sum()))


def levels_of(points: Points) -> Iterator[Levels]:
    """Yield every axis with its values, and of every point which value it has."""
    seen: set[str] = set()
    for number, axis in enumerate(points.axes):
        which = points.which[:, number]
        if axis.drawn:
            values = np.array(points.levels[number])[which]
            edges = np.quantile(values, np.linspace(0, 1, PARTS + 1)[1:-1])
            part = np.searchsorted(edges, values, side="right")
            known, place = np.unique(part, return_inverse=True)
            yield Levels(axis.title, [float(np.median(values[part == one])) for one in known], place)
            continue
        if axis.together is None:
            yield Levels(axis.title, [shown(one) for one in points.shown[number]], which)
        elif axis.together not in seen:
            seen.add(axis.together)
            members = [place for place, one in enumerate(points.axes) if one.together == axis.together]
            title = ", ".join(points.axes[place].title for place in members)
            rows = zip(*(points.shown[place] for place in members), strict=True)
            yield Levels(title, [", ".join(map(str, row)) for row in rows], which)
