"""What selectors are worth: measured from the real models in small, priced, and fit for allocators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import orric
from orric.calibration.learning_run import Assignment, Plan, learning_runs
from orric.calibration.selectors import with_selectors
from orric.real_models import SelectorFigures
from orric.retraining.accuracy import OnnxAccuracy

from ..builders import PROFILES
from ..retraining.test_loop import steady

DIGITS = PROFILES / "digits.toml"


@pytest.fixture(scope="module")
def asked() -> dict[str, SelectorFigures]:
    return {
        "chg-shapley": SelectorFigures(method="chg-shapley", pool=2.0),
        "margin-by-teacher": SelectorFigures(method="margin", pool=3.0, labels="teacher"),
    }


@pytest.fixture(scope="module")
def measured(asked, tmp_path_factory) -> tuple[orric.Profile, Path]:
    path = tmp_path_factory.mktemp("selectors") / "found.toml"
    found = with_selectors(orric.Profile.load(DIGITS), str(DIGITS), path, asked, (1,), 10, 40, 1, ("contrast", "fog"))
    found.save(path)
    return orric.Profile.load(path), path


def test_every_selector_has_a_curve_and_configurations_at_their_true_price(measured) -> None:
    profile, plain = measured[0], orric.Profile.load(DIGITS)
    assert set(profile.selector) == {"uniform", "chg-shapley", "margin-by-teacher"}
    assert all(one.curve is not None for one in profile.selector.values())
    assert profile.models is not None
    assert profile.teacher is not None
    costs = {one.name: one.cost_macs for one in profile.retraining}
    profits = {one.name: one.profit for one in profile.retraining}
    student = next(one.cost_macs for one in plain.inference if one.name == "32px")
    for ratio in ("5%", "10%", "20%", "30%", "50%"):
        part = float(ratio.removesuffix("%")) / 100
        looked = {"chg-shapley": min(2 * part, 1), "margin-by-teacher": min(3 * part, 1)}
        more = costs[f"{ratio} chg-shapley"] - costs[ratio]
        assert more == pytest.approx(looked["chg-shapley"] * student, rel=1e-6)
        more = costs[f"{ratio} margin-by-teacher"] - costs[ratio]
        labels = (looked["margin-by-teacher"] - part) * profile.teacher.cost_macs
        assert more == pytest.approx(looked["margin-by-teacher"] * student + labels, rel=1e-6)
        for name in looked:
            assert 0 <= profits[f"{ratio} {name}"] <= profile.most_profit == plain.most_profit
            curve, base = profile.selector[name].curve, profile.selector["uniform"].curve
            assert curve is not None
            assert base is not None
            if 0 < profits[f"{ratio} {name}"] < 1:
                assert float(base(profits[f"{ratio} {name}"])) == pytest.approx(float(curve(part)), abs=1e-4)
    # Everything else is as it was.
    assert profile.curve == plain.curve
    assert profile.drift_curve == plain.drift_curve
    assert [one for one in profile.retraining if " " not in one.name] == list(plain.retraining)


def test_allocators_and_engines_take_it(measured) -> None:
    profile = measured[0]
    trace = orric.Trace(requests=[100.0] * 12, budget_macs=list(np.linspace(4e8, 3e9, 12)))
    result = orric.evaluate(profile, trace, orric.Orric())
    assert 0 < result.mean_accuracy <= 1
    assert orric.offline_optimum(profile, trace).upper >= result.value
    model = OnnxAccuracy(profile, steady("fog", 4, 1), 1)
    model.arrive(1, 60)
    assert 0 <= (model.retrain(1, "20% chg-shapley", 0.0) or 0.0) <= 1
    model.swap()
    assert model.student.swaps == 1


def test_runs_that_select_see_the_same_images_as_those_that_draw(asked) -> None:
    profile = orric.Profile.load(DIGITS).model_copy(update={"selector": asked})
    plans = (Plan(0.2), Plan(0.2, selector="chg-shapley"), Plan(1.0), Plan(1.0, selector="chg-shapley"))
    drawn, chosen, whole, all_of_them = learning_runs(profile, Assignment("fog", 1, plans), 5, 40)
    alone = learning_runs(profile, Assignment("fog", 1, plans[:1]), 5, 40)[0]
    np.testing.assert_array_equal(drawn.accuracy, alone.accuracy)
    assert drawn.accuracy[0] == chosen.accuracy[0]
    assert not np.array_equal(drawn.accuracy, chosen.accuracy)
    np.testing.assert_array_equal(whole.accuracy, all_of_them.accuracy)


def test_what_cannot_be_priced_is_refused_before_anything_is_measured(asked, tmp_path) -> None:
    profile, path = orric.Profile.load(DIGITS), tmp_path / "p.toml"
    with pytest.raises(orric.ProfileError, match=r"has no \[teacher\], so selecting has no price"):
        with_selectors(profile.model_copy(update={"teacher": None}), "p", path, asked)
    with pytest.raises(orric.ProfileError, match="'lots' is unknown"):
        with_selectors(profile, "p", path, {"x": SelectorFigures(method="lots")})
    with pytest.raises(orric.ProfileError, match="to say what streams drift through"):
        with_selectors(profile.model_copy(update={"drift_curve": ()}), "p", path, asked)
    with pytest.raises(orric.ProfileError, match=r"no \[models\]"):
        with_selectors(profile.model_copy(update={"models": None}), "p", path, asked)
