"""Which samples a retraining configuration labels and trains on, and what that costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs orric[models]")
pytest.importorskip("onnx", reason="needs orric[models]")
pytest.importorskip("onnxruntime", reason="needs orric[models]")
pytest.importorskip("sklearn", reason="needs orric[models]")

import orric
from orric.real_models import SelectorFigures, Training
from orric.retraining.accuracy import OnnxAccuracy, Shown
from orric.retraining.loop import Student
from orric.retraining.sampling import sampled
from orric.selection import SELECTORS
from orric.selection.sampling import Sampling

from ..builders import PROFILES
from .test_loop import images_of, steady

PASSES = Training().passes


@pytest.fixture(scope="module")
def profile() -> orric.Profile:
    """Return the digits' profile with configurations that select, at a tenth and at all of the samples."""
    plain = orric.Profile.load(PROFILES / "digits.toml")
    assert plain.models is not None
    table = plain.model_dump(exclude_none=True)
    table["retraining"] = [*table["retraining"], {"name": "10% picky", "profit": 0.15, "cost_macs": 7e6}]
    table["models"]["sampling_ratio"]["10% picky"] = 0.1
    table["models"]["selector"]["10% picky"] = "picky"
    table["selector"] = {"picky": {"method": "chg-shapley", "pool": 3.0}}
    return orric.Profile(**table).placed_in(PROFILES)


class Counting(Student):
    """A student that counts what is asked of it."""

    looked = labelled = 0

    def candidates(self, images, labels=None):
        self.looked += len(images)
        return super().candidates(images, labels)

    def label(self, images):
        self.labelled += len(images)
        return super().label(images)


@pytest.mark.parametrize("name", list(SELECTORS))
@pytest.mark.parametrize("whose", ["student", "teacher"])
@pytest.mark.parametrize(("ratio", "pool"), [(0.1, 3.0), (0.2, 100.0), (1.0, 2.0), (0.0, 2.0), (0.3, 1.0)])
def test_it_costs_what_it_asks_for(profile, name, whose, ratio, pool) -> None:
    student, sampling = Counting(profile), Sampling(ratio, SELECTORS[name], pool, whose)
    images, _ = images_of(1, 100)
    found = sampled(student, images, sampling, np.random.default_rng(1))
    assert len(found.chosen) == len(np.unique(found.chosen)) == round(100 * ratio)
    np.testing.assert_array_equal(found.labels, student.label(images)[found.chosen])
    student.labelled -= 100  # asked by this test
    np.testing.assert_array_equal(found.taught, Student.label(student, images)[found.labelled])
    assert len(found.labelled) == student.labelled
    paid = sampling.macs(2.0, 30.0, PASSES) * 100
    assert paid == pytest.approx(2.0 * student.looked + 30.0 * student.labelled + PASSES[0] * 2.0 * len(found.chosen))


def test_statistics_of_all_received_cost_a_pass_over_each() -> None:
    of_all = Training(statistics="received", epochs=2).passes
    assert of_all == (6, 1)
    assert Training(refresh=False).passes == (3, 0)
    assert Training().passes == (4, 0)
    # A tenth is labelled and trained on, all of them give statistics; whoever retrains nothing pays nothing.
    assert Sampling(0.1).macs(2.0, 30.0, of_all) == pytest.approx(0.1 * (30 + 6 * 2) + 2)
    assert Sampling(0.0).macs(2.0, 30.0, of_all) == 0


def test_statistics_that_nobody_takes_are_refused() -> None:
    with pytest.raises(orric.ProfileError, match=r'refresh is false.*statistics is "received"; leave out either'):
        Training(refresh=False, statistics="received")


def test_uniform_draws_as_ever(profile) -> None:
    images, _ = images_of(1, 60)
    found = sampled(Student(profile), images, Sampling(0.25), np.random.default_rng(3))
    np.testing.assert_array_equal(found.chosen, np.random.default_rng(3).permutation(60)[:15])
    np.testing.assert_array_equal(found.chosen, found.labelled)


def test_known_labels_change_nothing(profile) -> None:
    student = Student(profile)
    images, _ = images_of(2, 80)
    known = student.label(images)
    for whose in ("student", "teacher"):
        sampling = Sampling(0.1, SELECTORS["chg-shapley"], 4.0, whose)  # type: ignore[arg-type]
        asked = sampled(student, images, sampling, np.random.default_rng(1))
        told = sampled(student, images, sampling, np.random.default_rng(1), known)
        np.testing.assert_array_equal(asked.chosen, told.chosen)
        np.testing.assert_array_equal(asked.labels, told.labels)
        np.testing.assert_array_equal(asked.labelled, told.labelled)


def test_the_loop_selects_where_the_profile_says_so(profile) -> None:
    """The same samples, whether streams are shown to several simulations or not; others than uniform ones."""
    found = []
    for retraining, shown in (("10% picky", None), ("10% picky", Shown()), ("10%", None)):
        model = OnnxAccuracy(profile, steady("contrast", 5, 3), 1, shown=shown)
        agreements = []
        for slot in (1, 2, 3):
            model.arrive(slot, 200)
            right = int(model.right("32px", np.arange(200 * slot - 200, 200 * slot)).sum())
            agreements.append((right, model.retrain(slot, retraining, 0.0)))
            model.swap()
        assert model.student.swaps == 3
        found.append(agreements)
    assert found[0] == found[1]
    assert found[0][0][0] == found[2][0][0]
    assert found[0] != found[2]
    assert found[0][-1][0] > found[0][0][0], "it learns"


def test_what_the_profile_names_must_exist() -> None:
    with pytest.raises(orric.ProfileError, match="'chg-shaply' is unknown; did you mean 'chg-shapley'"):
        Sampling.by(0.1, SelectorFigures(method="chg-shaply"))


def test_the_simulator_parts_labelling_from_training(profile) -> None:
    from orric.scenario import Gpu
    from orric.simulation.work import stages

    gpu = Gpu(macs_per_s=1e9, budget={"kind": "constant", "fraction": 1.0})
    picky = next(one for one in profile.retraining if one.name == "10% picky")
    work = stages(profile, picky, 100, gpu)
    assert profile.teacher is not None
    assert work["label"] == pytest.approx(100 * 0.1 * profile.teacher.cost_macs / 1e9, rel=0.05)


def test_profiles_that_select_are_saved_and_loaded(profile, tmp_path: Path) -> None:
    profile.moved(tmp_path).save(tmp_path / "p.toml")
    again = orric.Profile.load(tmp_path / "p.toml")
    assert again.selector == profile.selector
    assert Sampling.of(again, "10% picky") == Sampling.of(profile, "10% picky")
