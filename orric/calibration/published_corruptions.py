"""Hold orric's own corruptions against the images published as CIFAR-10-C.

Random corruptions cannot agree pixel by pixel, so what is compared is how far the images of either kind are from the
clean ones, what their channels look like on average, and how well classifiers do on them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from orric.drift import SEVERITIES, Array
from orric.exceptions import ScenarioError
from orric.randomness import generator
from orric.vision.arrays import Labels, Pixels
from orric.vision.corruptions import CORRUPTIONS, corrupt
from orric.vision.datasets import load_dataset

Classifier = Callable[[Pixels], Labels]


@dataclass(frozen=True)
class CorruptionComparison:
    """One corruption at one severity, as published and as computed. Lengths are in grey levels of 0 to 255.

    Attributes:
        corruption: Its name.
        severity: 1 to 5.
        published_rms: Root of the mean squared difference between the published and the clean images.
        own_rms: The same for the computed images.
        mean_difference: How far the means of the three channels differ, published against computed, root of the mean
            square over the channels.
        std_difference: The same for the standard deviations of the channels.
        published_accuracy: Part of the published images that each classifier gets right, by its name.
        own_accuracy: The same for the computed images.
    """

    corruption: str
    severity: int
    published_rms: float
    own_rms: float
    mean_difference: float
    std_difference: float
    published_accuracy: Mapping[str, float] = field(default_factory=dict)
    own_accuracy: Mapping[str, float] = field(default_factory=dict)


def compare_corruptions(
    path: Path, classify: Mapping[str, Classifier] | None = None, samples: int = 1000, seed: int = 1
) -> list[CorruptionComparison]:
    """Compare every corruption and severity of a published CIFAR-10-C with orric's own.

    Both are taken of the same clean test images. Files of corruptions that orric has none of are left out.

    Args:
        path: The folder CIFAR-10-C or one that holds it; the clean CIFAR-10 lies beside it.
        classify: Classifiers by name, from images of shape (n, 32, 32, 3) to labels of shape (n,).
        samples: Number of test images, or all of them where there are fewer.
        seed: Decides which images, and what is random in the computed corruptions.

    Returns:
        One row for each pair, in the order of `CORRUPTIONS` and of severity.

    Raises:
        ScenarioError: The files are unusable, or hold no corruption that orric knows.
    """
    if samples < 1:
        raise ScenarioError("samples", f"{samples}", "give at least 1")
    dataset = load_dataset("cifar10-c", path)
    names = [name for name in CORRUPTIONS if name in (dataset.published or {})]
    if not names:
        found = f"none of {', '.join(dataset.published or {})} is known"
        raise ScenarioError(f"CIFAR-10-C in {path}", found, "give files named as in orric.vision.corruptions")
    tested = np.concatenate([dataset.calibrated, dataset.streamed])
    rng = generator(seed, "images")
    chosen = np.sort(rng.choice(tested, min(samples, len(tested)), replace=False))
    clean, labels = dataset.images[chosen], dataset.labels[chosen]
    rows = []
    for name in names:
        for severity in SEVERITIES:
            published = dataset.looked_up(chosen, name, severity)
            own = corrupt(clean, name, severity, generator(seed, "drift", list(CORRUPTIONS).index(name), severity))
            rows.append(
                CorruptionComparison(
                    corruption=name,
                    severity=severity,
                    published_rms=_rms(published.astype(float) - clean),
                    own_rms=_rms(own.astype(float) - clean),
                    mean_difference=_rms(published.mean(axis=(0, 1, 2)) - own.mean(axis=(0, 1, 2))),
                    std_difference=_rms(published.std(axis=(0, 1, 2)) - own.std(axis=(0, 1, 2))),
                    published_accuracy=_accuracies(classify, published, labels),
                    own_accuracy=_accuracies(classify, own, labels),
                )
            )
    return rows


def _rms(differences: Array) -> float:
    return float(np.sqrt((differences**2).mean()))


def _accuracies(classify: Mapping[str, Classifier] | None, images: Pixels, labels: Labels) -> dict[str, float]:
    return {name: float((one(images) == labels).mean()) for name, one in (classify or {}).items()}
