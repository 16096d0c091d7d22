"""Point removal: what becomes of a network that is trained anew without the least or the most worthy samples.

Two curves are drawn for every method, each beside random removal (Ghorbani and Zou, Data Shapley, ICML 2019):

- *most first*: without the samples of the largest values. Values that mean something hurt more than chance does, so
  this curve lies **below** random removal.
- *least first*: without the samples of the smallest values. It lies **above** random removal.

Networks are trained from scratch, always for the same number of epochs, and judged by clean images that are not valued.
The seed of a training is shared by all methods and parts, so that differences are taken seed by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.exceptions import SelectionError
from orric.randomness import generator
from orric.selection.gradients import Array
from orric.statistics import Interval, mean_interval
from orric.valuation.spoiling import Subject, samples_of
from orric.valuation.training import LEAST_IMAGES, Recipe, accuracy, fit, network_of
from orric.vision.datasets import Indices
from orric.workers import in_parallel

RANDOM = "random"
LEAST, MOST = "least", "most"
# Seeds of trainings are children of the subject's seed from here on; 0 is that of the valuation.
FIRST = 1


@dataclass(frozen=True)
class Point:
    """One point of a curve.

    Attributes:
        method: By whose values samples are removed, or "random".
        first: "least" or "most"; random removal has "random" here, too.
        part: Of the samples that are removed, 0 to 1.
        accuracies: On clean held-out images, one for each seed.
        against_random: Points of difference from random removal, seed by seed; None for random removal itself.
    """

    method: str
    first: str
    part: float
    accuracies: tuple[float, ...]
    against_random: Interval | None = None

    @property
    def accuracy(self) -> Interval:
        """The mean over the seeds, with its 95 % interval."""
        return mean_interval(self.accuracies)


def point_removal(
    subject: Subject,
    places: Mapping[str, Array],
    parts: Sequence[float],
    seeds: int = 3,
    model: str = "small-student",
    recipe: Recipe | None = None,
    jobs: int | None = None,
    progress: Callable[[float], Any] = lambda part: None,
) -> list[Point]:
    """Train without the least or most worthy samples, and without random ones.

    (2 methods + 1) x parts + 1 trainings for every seed.

    Args:
        subject: What was valued.
        places: Every method's, shape (n,), from `orric.valuation.valuing.value_samples`.
        parts: That are removed, within 0 to 1; 0 is always there.
        seeds: Trainings for every point, at least 1.
        model: As for the valuation.
        recipe: How networks are trained.
        jobs: Worker processes.
        progress: Called with the part that is done.

    Returns:
        Of random removal and of every method and direction one point for each part, 0 included, by rising part.

    Raises:
        SelectionError: A part is not within 0 to 1, or leaves too few images.
    """
    count = len(samples_of(subject))
    removed = demand_parts(parts, count)
    how = recipe or Recipe()
    lines = [(RANDOM, RANDOM), *((method, first) for method in places for first in (LEAST, MOST))]
    keys, calls = [], []
    for seed in range(FIRST, FIRST + seeds):
        random = generator(subject.seed, "images", 3, seed).permutation(count)
        orders = {(RANDOM, RANDOM): random}
        for method in places:
            least = np.argsort(places[method], kind="stable")
            orders |= {(method, LEAST): least, (method, MOST): least[::-1]}
        keys.append((RANDOM, RANDOM, 0.0, seed))
        calls.append((subject, np.arange(count), model, how, seed))
        for part in removed:
            for line in lines:
                keys.append((*line, part, seed))
                # In the samples' own order, which is random: only what is left out differs.
                kept = np.sort(orders[line][round(part * count) :])
                calls.append((subject, kept, model, how, seed))
    reached: dict[tuple[str, str, float, int], float] = {}
    for place, found in in_parallel(_trained, calls, jobs):
        reached[keys[place]] = found
        progress(len(reached) / len(calls))

    def accuracies(method: str, first: str, part: float) -> tuple[float, ...]:
        line = (method, first) if part else (RANDOM, RANDOM)
        return tuple(reached[(*line, part, seed)] for seed in range(FIRST, FIRST + seeds))

    points = []
    for method, first in lines:
        for part in (0.0, *removed):
            mine, random = accuracies(method, first, part), np.array(accuracies(RANDOM, RANDOM, part))
            against = None if method == RANDOM else mean_interval(np.array(mine) - random)
            points.append(Point(method, first, part, mine, against))
    return points


def demand_parts(parts: Sequence[float], count: int) -> list[float]:
    """Return the parts above 0, each once and rising.

    Args:
        parts: That are removed.
        count: How many samples there are.

    Raises:
        SelectionError: A part is not within 0 to 1, or leaves too few images.
    """
    for part in parts:
        if not 0.0 <= part < 1.0:
            raise SelectionError("curve", f"found {part:g}", "give parts from 0 to below 1")
        if count - round(part * count) < LEAST_IMAGES:
            found = f"removing {part:g} of {count} images leaves {count - round(part * count)}"
            raise SelectionError("curve", found, f"leave at least {LEAST_IMAGES}")
    return sorted({float(part) for part in parts if part > 0})


def _trained(subject: Subject, kept: Indices, model: str, recipe: Recipe, seed: int) -> float:
    """Train on some of the samples as a worker does, and return the accuracy on clean held-out images."""
    samples = samples_of(subject)
    network = network_of(
        model, len(samples.source.classes), int(generator(subject.seed, "retraining", seed).integers(2**31))
    )
    fit(network, samples.images[kept], samples.labels[kept], recipe, generator(subject.seed, "retraining", seed, 1))
    return accuracy(network, *samples.held_out)
