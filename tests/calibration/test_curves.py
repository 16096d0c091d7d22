"""Curves, memory and their uncertainty, on learning runs whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orric.calibration.curves import chosen_memory, described, fitted_curves, predicted
from orric.calibration.learning_run import CLEAN, SPELLS, LearningRun, Plan
from orric.drift import SEVERITIES
from orric.exceptions import CalibrationError
from orric.learning import UNIFORM, Exponential, LearningExtent

SLOTS, RATIOS = 50, (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
LEVELS = np.repeat(SEVERITIES, SLOTS // len(SEVERITIES))


def truth(corruption: str, severity: int) -> Exponential:
    """Return the curve that learning runs follow."""
    return Exponential(c=0.85 - 0.02 * severity, a=0.1 + 0.05 * severity + 0.05 * (corruption == "fog"), k=4.0)


def learning_run(
    corruption: str, ratio: float | str, seed: int, memory: LearningExtent = UNIFORM, noise: float = 0.0
) -> LearningRun:
    """Make a run that follows the true curves under a memory."""
    plan = Plan(ratio)
    ratios = plan.ratios(list(RATIOS), SLOTS, seed, corruption)
    extents = memory.extents(np.ones(SLOTS), ratios)[:-1]
    accuracies = np.array([float(truth(corruption, s)(x)) for s, x in zip(LEVELS, extents, strict=True)])
    place = [*RATIOS, SPELLS].index(ratio)
    rng = np.random.default_rng([seed, place, len(corruption)])
    accuracies += noise * rng.standard_normal(SLOTS)
    return LearningRun(corruption, seed, plan, ratios, LEVELS, {"32px": accuracies}, "32px", np.ones(SLOTS))


def runs(memory: LearningExtent = UNIFORM, noise: float = 0.0) -> list[LearningRun]:
    """Make the runs of a calibration."""
    plans = [*RATIOS, SPELLS]
    return [learning_run(c, ratio, seed, memory, noise) for c in ("fog", "frost") for seed in (1, 2) for ratio in plans]


def test_curves_of_drifts_are_found_again() -> None:
    curves = fitted_curves(runs(), 1)
    assert set(curves.by_drift) == {(c, s) for c in ("fog", "frost") for s in SEVERITIES}
    for (corruption, severity), fit in curves.by_drift.items():
        expected = truth(corruption, severity)
        grid = np.linspace(0, 1, 21)
        assert np.abs(fit.curve(grid) - expected(grid)).max() < 2e-3
    mean = np.mean([float(truth(c, s)(0.3)) for c, s in curves.by_drift])
    assert float(curves.overall.curve(0.3)) == pytest.approx(mean, abs=2e-3)


def test_the_interval_holds_the_truth_and_widens_with_noise() -> None:
    calm, noisy = (fitted_curves(runs(noise=noise), 1) for noise in (0.005, 0.03))
    for curves in (calm, noisy):
        means = [np.mean([float(truth(c, s)(x)) for c, s in curves.by_drift]) for x in curves.extents]
        # The errors at all extents are those of one draw, so they are held to twice the interval.
        middle, half = (curves.low + curves.high) / 2, (curves.high - curves.low) / 2
        assert (np.abs(means - middle) <= 2 * half + 1e-3).all()
        assert (half >= 0).all()
    assert (noisy.high - noisy.low).mean() > 2 * (calm.high - calm.low).mean()


def test_the_slope_floor_is_below_the_slope_the_further_the_more_noise() -> None:
    mean = np.mean([float(truth(c, s).slope(1.0)) for c in ("fog", "frost") for s in SEVERITIES])
    parts = []
    for noise in (0.001, 0.03):
        curves = fitted_curves(runs(noise=noise), 1)
        own = float(curves.overall.curve.slope(1.0))
        assert 0 < curves.slope_floor < own
        assert not curves.floored
        parts.append(curves.slope_floor / own)
    assert curves.slope_floor < 2 * mean
    assert parts[1] < parts[0]
    assert parts[0] > 0.9


def test_a_flat_curve_is_floored_and_says_so() -> None:
    flat = [replace(one, accuracies={"32px": np.full(SLOTS, 0.7)}) for one in runs()]
    curves = fitted_curves(flat, 1)
    assert curves.floored
    assert curves.slope_floor == 1e-6


def test_the_bootstrap_repeats_itself() -> None:
    first, again = (fitted_curves(runs(noise=0.02), 5) for _ in range(2))
    assert np.array_equal(first.low, again.low)
    assert first.slope_floor == again.slope_floor


@pytest.mark.parametrize(
    "memory",
    [LearningExtent(), LearningExtent(kind="window", slots=3), LearningExtent(kind="decay", factor=0.7)],
    ids=described,
)
def test_the_memory_is_found_again(memory: LearningExtent) -> None:
    made = runs(memory, noise=0.01)
    found, errors = chosen_memory(made, fitted_curves(made, 1).by_drift)
    assert found == memory
    assert errors[described(memory)] == min(errors.values())


def test_predictions_are_those_of_the_curves() -> None:
    run = learning_run("fog", SPELLS, 3)
    guess = predicted(run, fitted_curves(runs(), 1).by_drift, LearningExtent())
    np.testing.assert_allclose(guess, run.accuracy, atol=3e-3)


def test_clean_runs_alone_are_too_little() -> None:
    clean = replace(learning_run("fog", 0.0, 1), corruption=CLEAN)
    with pytest.raises(CalibrationError, match="no drifting run"):
        fitted_curves([clean], 1)


def test_varied_ratios_vary_and_repeat_themselves() -> None:
    first, again = (Plan(SPELLS).ratios(list(RATIOS), 200, 1, "fog") for _ in range(2))
    assert np.array_equal(first, again)
    assert set(first) <= set(RATIOS)
    assert len(set(first)) > 3
    assert not np.array_equal(first, Plan(SPELLS).ratios(list(RATIOS), 200, 1, "frost"))
    spells = Plan(SPELLS).ratios(list(RATIOS), 4000, 1, "fog")
    assert 0.5 < (spells == 0).mean() < 0.68
    assert 2.0 < len(spells) / (1 + (np.diff(spells) != 0).sum()) < 8.0


def test_a_run_survives_its_file() -> None:
    run = learning_run("fog", SPELLS, 2)
    again = LearningRun.from_table(run.as_table())
    assert again.plan == run.plan
    assert np.array_equal(again.accuracy, run.accuracy)
    assert np.array_equal(again.ratios, run.ratios)
