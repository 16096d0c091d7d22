"""Fitting the learning curve: parameters recovered, the right form chosen, shape kept."""

from __future__ import annotations

import numpy as np
import pytest

from orric.calibration.fitting import fit_curve
from orric.exceptions import CalibrationError
from orric.learning import Exponential, Logarithmic, Power

EXTENTS = np.repeat([0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0], 3)
CURVES = [
    Exponential(c=0.9, a=0.3, k=8.0),
    Power(c=0.97, a=0.02, b=0.02, alpha=0.8),
    Logarithmic(a=0.5, b=0.06, k=40.0),
]


@pytest.mark.parametrize("curve", CURVES, ids=lambda curve: curve.form)
def test_the_form_is_recognized_and_the_curve_recovered(curve):
    noise = np.random.default_rng(1).normal(0, 1e-4, len(EXTENTS))
    fit = fit_curve(EXTENTS, curve(EXTENTS) + noise)
    assert fit.curve.form == curve.form
    assert fit.residual < 3e-4
    assert fit.curve(EXTENTS) == pytest.approx(curve(EXTENTS), abs=5e-4)


def test_falling_data_still_give_an_increasing_curve():
    fit = fit_curve(EXTENTS, 0.9 - 0.05 * EXTENTS)
    assert np.all(np.diff(fit.curve(np.linspace(0, 1, 50))) >= 0)
    assert fit.residual > 0.01


def test_accuracies_above_one_are_never_predicted():
    fit = fit_curve(EXTENTS, np.minimum(0.6 + 0.5 * EXTENTS, 1.0))
    assert float(fit.curve(1.0)) <= 1.0


def test_too_few_points_are_refused():
    with pytest.raises(CalibrationError, match="measure more"):
        fit_curve(EXTENTS[:3], EXTENTS[:3])
