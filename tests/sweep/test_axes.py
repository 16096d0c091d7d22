"""Axes and the points that they span."""

from __future__ import annotations

import numpy as np
import pytest

import orric
from orric.sweep.axes import Axis, Draws, Points


def test_crossed_and_side_by_side() -> None:
    axes = (
        Axis(key="slots", values=(1, 2)),
        Axis(key="a", values=(10, 20, 30), together="pair"),
        Axis(key="b", values=("x", "y", "z"), together="pair"),
    )
    points = Points.spanned(axes, None)
    found = [tuple(points.values(point)) for point in range(len(points))]
    assert found == [(slots, a, b) for slots in (1, 2) for a, b in ((10, "x"), (20, "y"), (30, "z"))]
    assert points.labels(4) == {"slots": 2, "a": 20, "b": "y"}


def test_no_axis_is_one_point() -> None:
    assert len(Points.spanned((), None)) == 1


def test_latin_hypercube_has_one_point_in_every_part_of_every_range() -> None:
    axes = (Axis(key="a", uniform=(2.0, 4.0)), Axis(key="b", log_uniform=(1e-3, 1e3)), Axis(key="c", values=(1, 2)))
    points = Points.spanned(axes, Draws(count=50, seed=3))
    assert len(points) == 100
    values = np.array([points.values(point) for point in range(0, 100, 2)])
    assert sorted(np.floor((values[:, 0] - 2) / 2 * 50).tolist()) == list(range(50))
    assert sorted(np.floor((np.log10(values[:, 1]) + 3) / 6 * 50).tolist()) == list(range(50))
    # Both values of the third axis at each of them.
    others = np.array([points.values(point) for point in range(1, 100, 2)])
    assert np.array_equal(values[:, :2], others[:, :2])
    random = Points.spanned(axes, Draws(count=50, method="random", seed=3))
    counts = np.bincount(np.floor((np.array(random.levels[0]) - 2) / 2 * 50).astype(int), minlength=50)
    assert counts.max() > 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "found no values; give one of values, times, uniform, log_uniform"),
        ({"values": (1,), "times": (2.0,)}, "found values and times"),
        ({"uniform": (2.0, 1.0)}, "goes from 2 to 1; give the smaller number first"),
        ({"log_uniform": (0.0, 1.0)}, "greater than 0"),
        ({"values": ({"kind": "constant"},)}, "values that are tables or lists need labels"),
        ({"values": (1, 2), "labels": ("one",)}, "2 values and 1 labels; give one for each"),
        ({"values": (1, 1)}, "a value stands twice"),
        ({"uniform": (1.0, 2.0), "together": "x"}, "what is drawn has no labels and no together"),
    ],
)
def test_an_axis_that_makes_no_sense(changes: dict, message: str) -> None:
    with pytest.raises(orric.ScenarioError) as caught:
        Axis(key="slots", **changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
