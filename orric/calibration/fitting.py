"""Fit the learning curve to measured accuracies and choose its form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from orric.exceptions import CalibrationError
from orric.learning import Exponential, LearningCurve, Logarithmic, Power

Array = np.ndarray[Any, np.dtype[np.float64]]
DIGITS = 6


@dataclass(frozen=True)
class Fit:
    """A fitted curve.

    Attributes:
        curve: Its parameters.
        criterion: Corrected Akaike information criterion; the smaller the better.
        residual: Root-mean-square residual, in accuracy.
    """

    curve: LearningCurve
    criterion: float
    residual: float


@dataclass(frozen=True)
class _Form:
    build: Callable[..., LearningCurve]
    starts: tuple[tuple[float, ...], ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]


# c and a are bounded by 1 because accuracies are; a and k stay positive so that curves increase.
_FORMS = {
    "exponential": _Form(
        lambda c, a, k: Exponential(c=c, a=a, k=k),
        ((0.9, 0.3, 3.0), (0.9, 0.3, 30.0), (0.9, 0.05, 10.0)),
        (0.0, 1e-6, 1e-2),
        (1.0, 1.0, 200.0),
    ),
    "power": _Form(
        lambda c, a, b, alpha: Power(c=c, a=a, b=b, alpha=alpha),
        ((0.95, 0.05, 0.1, 0.5), (0.95, 0.01, 0.05, 1.5)),
        (0.0, 1e-6, 1e-3, 0.05),
        (1.0, 1.0, 2.0, 4.0),
    ),
    "logarithmic": _Form(
        lambda a, b, k: Logarithmic(a=a, b=b, k=k),
        ((0.6, 0.1, 10.0), (0.6, 0.03, 100.0)),
        (0.0, 1e-6, 1e-2),
        (1.0, 1.0, 1e4),
    ),
}


def fit_curve(extents: Array, accuracies: Array) -> Fit:
    """Fit every form by least squares and return the best by the corrected Akaike criterion.

    Args:
        extents: Learning extents, at least 0, shape (n,), n at least 6.
        accuracies: Measured accuracies in [0, 1], shape (n,).

    Returns:
        The best fit; its curve is increasing and concave whatever the data.

    Raises:
        CalibrationError: There are too few points, or no form could be fitted.

    >>> extents = np.linspace(0, 1, 12)
    >>> fit_curve(extents, 0.9 - 0.3 * np.exp(-4 * extents)).curve.form
    'exponential'
    """
    fits = [fit for name in _FORMS if (fit := _fit(name, extents, accuracies)) is not None]
    if not fits:
        raise CalibrationError("learning curve", f"no form fits {len(extents)} points", "measure more ratios or seeds")
    return min(fits, key=lambda fit: fit.criterion)


def _fit(name: str, extents: Array, accuracies: Array) -> Fit | None:
    form, count = _FORMS[name], len(extents)
    parameters = len(form.lower) + 1  # the variance is estimated too
    if count <= parameters + 1:
        return None
    curve = min((_solved(form, start, extents, accuracies) for start in form.starts), key=lambda found: found[0])[1]
    if not float(curve(0.0)) > 0 or float(curve(float(extents.max()))) > 1:
        return None
    misses = np.asarray(curve(extents) - accuracies)
    return Fit(curve, criterion_of(misses, len(form.lower)), float(np.sqrt((misses**2).mean())))


def criterion_of(residuals: Array, parameters: int) -> float:
    """Return the corrected Akaike information criterion of a least-squares fit; the smaller the better.

    Args:
        residuals: Shape (n,), n above `parameters` + 2.
        parameters: Of the curve; the variance, which is estimated too, is counted here.
    """
    count, parameters = len(residuals), parameters + 1
    criterion = count * np.log(max(float((residuals**2).mean()), 1e-12)) + 2 * parameters
    return float(criterion + 2 * parameters * (parameters + 1) / (count - parameters - 1))


def _solved(form: _Form, start: tuple[float, ...], extents: Array, accuracies: Array) -> tuple[float, LearningCurve]:
    """Return the least sum of squares found from a start, and its curve."""

    def residuals(values: Array) -> Array:
        return np.asarray(form.build(*values.tolist())(extents) - accuracies)

    solution = least_squares(residuals, start, bounds=(form.lower, form.upper), x_scale="jac")
    return float(solution.cost), form.build(*(float(f"{value:.{DIGITS}g}") for value in solution.x))


def refitted(curve: LearningCurve, extents: Array, accuracies: Array) -> LearningCurve:
    """Fit a curve's own form to other accuracies, beginning at its parameters: one draw of a bootstrap.

    Args:
        curve: From `fit_curve`.
        extents: Learning extents, shape (n,).
        accuracies: Accuracies, shape (n,).
    """
    form = _FORMS[str(curve.form)]
    values = curve.model_dump(exclude={"form"}).values()
    start = tuple(
        float(np.clip(value, low * (1 + 1e-9), high * (1 - 1e-9)))
        for value, low, high in zip(values, form.lower, form.upper, strict=True)
    )
    return _solved(form, start, extents, accuracies)[1]
