"""Values over training, what is spoiled on purpose, and how well it is found: on a few digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from orric.exceptions import ProfileError, ScenarioError, SelectionError
from orric.randomness import generator
from orric.selection.gradients import OuterGradients
from orric.selection.shapley import shapley_values
from orric.valuation.detection import detection_auc, precision_among_lowest
from orric.valuation.methods import METHODS, known_methods
from orric.valuation.removal import demand_parts, point_removal
from orric.valuation.spoiling import Subject, samples_of
from orric.valuation.training import Recipe, accuracy, fit, network_of, recipe_for
from orric.valuation.valuing import value_samples

FLIPPED = Subject("digits", count=400, flip=0.3)
QUICK = Recipe(epochs=6, batch=20, shift_px=1, mirrored=False)


@pytest.fixture(scope="module")
def valued():
    samples, seen = samples_of(FLIPPED), []
    values = value_samples(samples.images, samples.labels, 10, recipe=QUICK, progress=seen.append)
    return samples, values, seen


def test_wrong_labels_are_found_well_above_chance(valued):
    samples, values, _ = valued
    for name in METHODS:
        assert detection_auc(values.places[name], samples.flipped) > 0.7, name
    assert detection_auc(values.places["gradient-shapley"], samples.flipped) > 0.8
    assert precision_among_lowest(values.places["gradient-shapley"], samples.flipped) > 0.5


def test_values_of_every_epoch_are_kept_and_progress_is_told(valued):
    samples, values, seen = valued
    assert {name: one.shape for name, one in values.by_epoch.items()} == dict.fromkeys(METHODS, (6, len(samples)))
    assert seen == pytest.approx(np.arange(1, 7) / 6)
    assert np.array_equal(values.mean("loss"), values.by_epoch["loss"].mean(axis=0))
    assert np.array_equal(values.by_epoch["loss"], values.by_epoch["hardness-shapley"])
    # Of one the places are those among all, of the other those within the class.
    assert not np.array_equal(values.places["loss"], values.places["hardness-shapley"])


def test_shapley_values_of_every_class_and_epoch_add_up_to_its_utility(monkeypatch):
    """The utility of a class, |mean gradient|^2, is calculated here from what the network makes of its samples."""
    from orric.valuation import valuing

    samples, seen = samples_of(replace(FLIPPED, count=60)), []
    original = valuing._seen

    def watched(network, images, labels):
        seen.append(original(network, images, labels))
        return seen[-1]

    monkeypatch.setattr(valuing, "_seen", watched)
    methods = ("gradient-shapley", "chg-shapley")
    values = value_samples(samples.images, samples.labels, 10, methods=methods, recipe=replace(QUICK, epochs=2))
    assert len(seen) == 2
    for epoch, one in enumerate(seen):
        weights = {"gradient-shapley": np.ones(len(samples)), "chg-shapley": one.losses}
        for name in methods:
            for label in np.unique(samples.labels):
                members = np.flatnonzero(samples.labels == label)
                probabilities = np.exp(one.log_probabilities[members])
                residuals = (probabilities - np.eye(10)[samples.labels[members]]) * weights[name][members, None]
                inputs = np.column_stack([one.features[members], np.ones(len(members))])
                mean = residuals.T @ inputs / len(members)
                found = values.by_epoch[name][epoch][members].sum()
                assert found == pytest.approx((mean * mean).sum(), rel=1e-9, abs=1e-12)


def test_a_shapley_value_falls_with_the_squared_distance_from_the_mean():
    """What the docstring of `orric.valuation.methods` says about the sign, on random gradients."""
    rng = np.random.default_rng(3)
    gradients = OuterGradients(rng.normal(size=(3000, 3)), rng.normal(size=(3000, 4)) + 1)
    dense = np.einsum("ni,nj->nij", gradients._residuals, np.column_stack([gradients._features, np.ones(3000)]))
    distances = ((dense - dense.mean(axis=0)) ** 2).sum(axis=(1, 2))
    values = shapley_values(gradients) * 3000
    slope, _ = np.polyfit(distances, values, 1)
    assert np.corrcoef(values, distances)[0, 1] < -0.999
    assert slope == pytest.approx(-(np.pi**2) / 6, rel=0.01)


def test_the_same_seed_gives_the_same_values_and_another_does_not():
    samples = samples_of(replace(FLIPPED, count=40))
    how = {"methods": ("chg-shapley",), "recipe": replace(QUICK, epochs=1)}
    first, again, other = (value_samples(samples.images, samples.labels, 10, seed=s, **how) for s in (1, 1, 2))
    assert first.by_epoch["chg-shapley"].tobytes() == again.by_epoch["chg-shapley"].tobytes()
    assert first.by_epoch["chg-shapley"].tobytes() != other.by_epoch["chg-shapley"].tobytes()


def test_places_go_from_the_most_suspicious_and_ties_share_theirs():
    labels = np.array([0, 0, 0, 1, 1])
    values = np.array([5.0, 1.0, 1.0, -3.0, 9.0])
    assert METHODS["gradient-shapley"].places(values, labels) == pytest.approx([5 / 6, 1 / 3, 1 / 3, 1 / 4, 3 / 4])
    assert METHODS["hardness-shapley"].places(values, labels) == pytest.approx([1 / 6, 2 / 3, 2 / 3, 3 / 4, 1 / 4])
    assert METHODS["loss"].places(values, labels) == pytest.approx([0.3, 0.6, 0.6, 0.9, 0.1])


def test_auc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(5)
    places, spoiled = rng.integers(0, 6, 60) / 5, rng.random(60) < 0.3
    pairs = [(float(b > a) + 0.5 * float(b == a)) for a in places[spoiled] for b in places[~spoiled]]
    assert detection_auc(places, spoiled) == pytest.approx(np.mean(pairs))
    assert detection_auc(np.ones(60), spoiled) == 0.5
    for all_alike in (np.ones(60, bool), np.zeros(60, bool)):
        with pytest.raises(SelectionError, match="of 60 samples are spoiled; spoil some, and not all"):
            detection_auc(places, all_alike)


def test_spoiling_does_what_it_says_and_no_more():
    clean, spoiled = samples_of(replace(FLIPPED, flip=0.0)), samples_of(replace(FLIPPED, corrupt=0.25))
    assert np.array_equal(clean.index, spoiled.index)
    assert len(np.unique(clean.index)) == 400
    assert not set(clean.index) & set(clean.source.held_out)
    assert np.array_equal(clean.labels, clean.true_labels)
    assert spoiled.flipped.sum() == 120
    assert np.array_equal(spoiled.labels != spoiled.true_labels, spoiled.flipped)
    assert len(np.unique((spoiled.labels - spoiled.true_labels)[spoiled.flipped] % 10)) == 9
    changed = (spoiled.images != clean.images).any(axis=(1, 2, 3))
    assert spoiled.corrupted.sum() == 100
    assert np.array_equal(changed, spoiled.corrupted)
    # Flips stay the same whether or not images are corrupted.
    assert np.array_equal(samples_of(FLIPPED).flipped, spoiled.flipped)
    assert not np.array_equal(samples_of(replace(FLIPPED, seed=2)).index, clean.index)
    # The data set itself stays clean.
    assert np.array_equal(clean.source.images[spoiled.index], clean.images)


def test_removing_the_worthy_hurts_more_than_removing_as_many_spoiled_ones():
    subject = replace(FLIPPED, count=300)
    samples = samples_of(subject)
    # Places as good as they can be: every wrong label comes first.
    places = np.where(samples.flipped, 0.0, 1.0) + generator(1, "images", 9).random(len(samples)) / 10
    points = point_removal(subject, {"loss": places}, (0.3,), 1, recipe=replace(QUICK, epochs=4), jobs=1)
    lines = [(point.method, point.first, point.part) for point in points]
    assert lines == [
        (method, first, part)
        for method, first in (("random", "random"), ("loss", "least"), ("loss", "most"))
        for part in (0.0, 0.3)
    ]
    found = dict(zip(lines, points, strict=True))
    assert found["loss", "least", 0.0].accuracies == found["random", "random", 0.0].accuracies
    least, most = found["loss", "least", 0.3], found["loss", "most", 0.3]
    assert least.accuracy.mean > most.accuracy.mean + 0.1
    random = found["random", "random", 0.3]
    assert least.against_random.mean == pytest.approx(least.accuracy.mean - random.accuracy.mean)
    assert random.against_random is None


def test_a_file_of_weights_is_where_training_begins():
    samples = samples_of(Subject("digits", count=40))
    weights = "traces/models/digits-student.safetensors"
    network = network_of(weights, 10, 1)
    before = accuracy(network, *samples.held_out)
    fit(network, samples.images, samples.labels, Recipe(1, 20, 1e-5, 0, False), np.random.default_rng(1))
    assert before > 0.9
    assert accuracy(network, *samples.held_out) > 0.85
    assert recipe_for("digits").mirrored is False


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"dataset": "digts"}, ScenarioError, "did you mean 'digits'"),
        ({"flip": 1.5}, SelectionError, "flip: found 1.5; give a part from 0 to 1"),
        ({"corrupt": float("nan")}, SelectionError, "corrupt: found nan"),
        ({"count": 3}, SelectionError, "images: asked for 3 of 1500; give 20 to 1500"),
        ({"count": 5000}, SelectionError, "images: asked for 5000 of 1500"),
        ({"corruption": "fogg", "corrupt": 0.1}, ScenarioError, "did you mean 'fog'"),
    ],
)
def test_unusable_subjects_are_refused_in_one_line(wrong, error, words):
    with pytest.raises(error) as told:
        samples_of(replace(FLIPPED, **wrong))
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_unusable_names_parts_and_files_are_refused():
    with pytest.raises(SelectionError, match="did you mean 'chg-shapley'"):
        known_methods(["chg-shaply"])
    with pytest.raises(SelectionError, match="there is none"):
        known_methods([])
    with pytest.raises(SelectionError, match="model: 'small-studnt' is unknown; did you mean 'small-student'"):
        network_of("small-studnt", 10, 1)
    with pytest.raises(ProfileError, match="no such file"):
        network_of("nowhere.safetensors", 10, 1)
    with pytest.raises(SelectionError, match="found 1; give parts from 0 to below 1"):
        demand_parts([1.0], 400)
    with pytest.raises(SelectionError, match="leaves 10; leave at least 20"):
        demand_parts([0.9], 100)
    assert demand_parts([0.3, 0.0, 0.1, 0.3], 400) == [0.1, 0.3]
    with pytest.raises(SelectionError, match="there are 5 to train on"):
        fit(network_of("small-student", 10, 1), *_few(5), QUICK, np.random.default_rng(1))


def _few(count):
    samples = samples_of(FLIPPED)
    return samples.images[:count], samples.labels[:count]
