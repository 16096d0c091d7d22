"""The figure of point removal."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")

from orric.report.plots import as_svg
from orric.report.valuation import LOOKS, point_removal_figure


def rows(half_width):
    lines = [("random", "random"), ("loss", "least"), ("loss", "most")]
    return [
        {
            "method": method, "first": first, "part": part, "accuracy": 0.8 - part * drop,
            "accuracies": [0.8 - part * drop], "half_width": half_width,
        }
        for (method, first), drop in zip(lines, (0.5, 0.25, 1.0), strict=True)
        for part in (0.0, 0.2)
    ]  # fmt: skip


@pytest.mark.parametrize("half_width", [None, 0.02, 1.5])
def test_axes_have_names_and_units_and_lines_lie_where_they_belong(half_width):
    figure = point_removal_figure(rows(half_width), "It falls by 10.0 points")
    most, least = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["Samples removed (%)"] * 2
    assert most.get_ylabel() == "Accuracy on clean held-out images (%)"
    assert "It falls by 10.0" in figure.get_suptitle()
    ends = {
        axes: {line.get_color(): line.get_ydata()[-1] for line in axes.lines if len(line.get_xdata()) == 2
               and line.get_color() in {LOOKS[name]["color"] for name in ("random", "loss")}
               and line.get_linestyle() != "None"}
        for axes in (most, least)
    }  # fmt: skip
    assert ends[most][LOOKS["loss"]["color"]] == pytest.approx(60)
    assert ends[least][LOOKS["loss"]["color"]] == pytest.approx(75)
    assert ends[most][LOOKS["random"]["color"]] == ends[least][LOOKS["random"]["color"]] == pytest.approx(70)
    # Wide intervals do not flatten what was measured.
    assert most.get_ylim()[0] > 50
    assert as_svg(figure) == as_svg(point_removal_figure(rows(half_width), "It falls by 10.0 points"))
