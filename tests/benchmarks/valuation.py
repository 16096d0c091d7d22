"""What values of samples cost, how well they find wrong labels and corrupted images, and what removal by them does.

usage: python tests/benchmarks/valuation.py [--data FOLDER] [--images N] [--seeds N] [--parts P,...]
                                            [--only cost|detection|removal]

Cost: gradients of 10 classes x 512 features as outer products, each number of samples in a process of its own; the
least of several repetitions. Detection and removal: CIFAR-10 in FOLDER, else the digits, with 30 % of the labels
flipped. CIFAR-10: a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

import orric
from orric.randomness import generator
from orric.selection.gradients import OuterGradients
from orric.selection.shapley import shapley_values_by_class
from orric.statistics import Interval, mean_interval
from orric.valuation.detection import detection_auc, precision_among_lowest
from orric.valuation.methods import METHODS
from orric.valuation.removal import point_removal
from orric.valuation.spoiling import Subject, samples_of
from orric.valuation.training import recipe_for
from orric.valuation.valuing import value_samples
from orric.workers import in_parallel

SIZES = (5_000, 10_000, 20_000, 50_000, 100_000)
CLASSES, FEATURES, REPETITIONS = 10, 512, 5
METHOD_NAMES = ("gradient-shapley", "chg-shapley", "loss")


def measure(count: int) -> None:
    """Print the seconds of Gradient and CHG Shapley, and the peak memory of this process, inputs included."""
    rng = np.random.default_rng(1)
    features = rng.standard_normal((count, FEATURES), np.float32)
    labels = rng.integers(0, CLASSES, count)
    residuals = rng.dirichlet(np.ones(CLASSES), count)
    losses = -np.log(residuals[np.arange(count), labels])
    residuals[np.arange(count), labels] -= 1.0
    seconds = []
    for weights in (None, losses):
        taken = []
        for _ in range(REPETITIONS):
            begun = time.perf_counter()
            gradients = OuterGradients(residuals, features)
            shapley_values_by_class(gradients if weights is None else gradients.scaled(weights), labels)
            taken.append(time.perf_counter() - begun)
        seconds.append(min(taken))
    print(*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def cost() -> None:
    """Print what the closed form costs for rising numbers of samples."""
    print("| samples | Gradient Shapley, s | CHG Shapley, s | CHG, µs per sample | peak memory, MB |")
    print("|---|---|---|---|---|")
    for count in SIZES:
        command = [sys.executable, __file__, "--measure", str(count)]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        gradient, chg, kilobytes = map(float, answer.split())
        print(f"| {count:,} | {gradient:.3f} | {chg:.3f} | {1e6 * chg / count:.1f} | {kilobytes / 1024:.0f} |")


def found(subject: Subject) -> dict[str, tuple[float, float]]:
    """Return the AUC and the precision of every method on one subject."""
    samples = samples_of(subject)
    spoiled = samples.flipped | samples.corrupted
    values = value_samples(
        samples.images, samples.labels, len(samples.source.classes), recipe=recipe_for(subject.dataset),
        seed=subject.seed,
    )  # fmt: skip
    places = {**values.places, "random": generator(subject.seed, "images", 4).random(len(samples))}
    return {
        name: (detection_auc(one, spoiled), precision_among_lowest(one, spoiled)) for name, one in places.items()
    }  # fmt: skip


def detection(subject: Subject, seeds: int) -> None:
    """Print how well every method finds what is spoiled, one kind after the other."""
    noisy = replace(subject, flip=0.0, corrupt=0.2, corruption="gaussian_noise", severity=5)
    kinds = {"30 % flipped labels": subject, "20 % images under Gaussian noise, severity 5": noisy}
    calls = [(replace(one, seed=seed),) for one in kinds.values() for seed in range(1, seeds + 1)]
    answers = dict(in_parallel(found, calls))
    print(f"| method | {' | '.join(f'AUC, {kind} | precision' for kind in kinds)} |")
    print("|---|" + "---|---|" * len(kinds))
    for name in (*METHODS, "random"):
        cells = []
        for number in range(len(kinds)):
            mine = [answers[place][name] for place in range(number * seeds, (number + 1) * seeds)]
            cells += [shown(mean_interval([auc for auc, _ in mine]), 3), f"{100 * np.mean([p for _, p in mine]):.1f} %"]
        print(f"| {name} | {' | '.join(cells)} |")
    for first, second in (("chg-shapley", "loss"), ("gradient-shapley", "loss"), ("chg-shapley", "gradient-shapley")):
        told = []
        for number, kind in enumerate(kinds):
            places = range(number * seeds, (number + 1) * seeds)
            gain = mean_interval([answers[place][first][0] - answers[place][second][0] for place in places])
            told.append(f"{shown(gain, 3, '+')} on {kind}")
        print(f"\n{first} against {second}, difference of AUC: {'; '.join(told)}.")


def removal(subject: Subject, seeds: int, removed: tuple[float, ...]) -> None:
    """Print the point-removal curves."""
    samples = samples_of(subject)
    recipe = recipe_for(subject.dataset)
    values = value_samples(
        samples.images, samples.labels, len(samples.source.classes), methods=METHOD_NAMES, recipe=recipe,
        seed=subject.seed,
    )  # fmt: skip
    points = point_removal(subject, values.places, removed, seeds, recipe=recipe)
    parts = (0.0, *removed)
    print(f"| removed first | {' | '.join(f'{part:.0%} removed' for part in parts)} |")
    print("|---|" + "---|" * len(parts))
    for method, first in dict.fromkeys((point.method, point.first) for point in points):
        cells = []
        for point in [one for one in points if (one.method, one.first) == (method, first)]:
            against = point.against_random
            text = shown(mean_interval([100 * one for one in point.accuracies]), 1)
            if against is not None and point.part:
                text += f" ({shown(mean_interval(differences(points, point)), 1, '+')})"
            cells.append(text)
        print(f"| {'random' if method == first else f'{first} worthy, {method}'} | {' | '.join(cells)} |")


def differences(points, point) -> list[float]:
    """Return the points of accuracy between a point and random removal of as much, seed by seed."""
    random = next(one for one in points if one.method == "random" and one.part == point.part)
    return [100 * (mine - other) for mine, other in zip(point.accuracies, random.accuracies, strict=True)]


def shown(one: Interval, digits: int, sign: str = "") -> str:
    """Phrase a mean with its interval."""
    return f"{one.mean:{sign}.{digits}f} ± {one.half_width:.{digits}f}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="Folder of CIFAR-10; left out, the digits.")
    parser.add_argument("--images", type=int, help="How many are valued. [5,000 of CIFAR-10, 1,000 digits]")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--parts", default="0.3", help="Of the samples that are removed, rising, by commas.")
    parser.add_argument("--only", choices=("cost", "detection", "removal"))
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure)
        return
    dataset = "digits" if given.data is None else "cifar10"
    count = given.images or (1_000 if given.data is None else 5_000)
    data = None if given.data is None else given.data.resolve()
    subject = Subject(dataset, data, count, flip=0.3)
    print(f"orric {orric.__version__}, {dataset}, {count:,} images, small-student, {recipe_for(dataset)}")
    if given.only in (None, "cost"):
        print(f"\nCost, {CLASSES} classes x {FEATURES} features, values within classes\n")
        cost()
    if given.only in (None, "detection"):
        print(
            f"\nDetection, means and 95 % intervals over {given.seeds} draws of images, flips and weights\n", flush=True
        )
        detection(subject, given.seeds)
    if given.only in (None, "removal"):
        print(
            f"\nPoint removal with 30 % flipped labels: accuracy on clean held-out images in %, over {given.seeds} "
            "seeds of training; in brackets the difference from random removal, seed by seed\n", flush=True,
        )  # fmt: skip
        removal(subject, given.seeds, tuple(map(float, given.parts.split(","))))


if __name__ == "__main__":
    main()
