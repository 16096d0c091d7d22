"""Which of a slot's samples are labelled, and which of these the student is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orric.retraining.loop import Student
from orric.selection.gradients import Indices
from orric.selection.sampling import Sampling
from orric.vision.arrays import Labels
from orric.vision.datasets import Pixels


@dataclass(frozen=True)
class Sample:
    """What came of sampling a slot. Indices are into the slot's samples.

    Attributes:
        chosen: What the student is to be trained on, shape (n,).
        labels: The teacher's labels of it, shape (n,).
        labelled: Everything that the teacher labelled, shape (m,), m at least n.
        taught: Its labels, shape (m,).
    """

    chosen: Indices
    labels: Labels
    labelled: Indices
    taught: Labels


def sampled(
    student: Student,
    images: Pixels,
    sampling: Sampling,
    rng: np.random.Generator,
    known: Labels | None = None,
) -> Sample:
    """Choose samples of a slot and have the teacher label them.

    Args:
        student: Looks at them as far as the selector wants to know, and has them labelled.
        images: The slot's, shape (n, height, width, 3).
        sampling: How.
        rng: Draws what is looked at.
        known: The teacher's labels of all images, where somebody asked for them before, shape (n,).
    """
    looked, count = sampling.counts(len(images))
    pool = rng.permutation(len(images))[:looked]

    def taught(some: Indices) -> Labels:
        return student.label(images[some]) if known is None else known[some]

    labels = taught(pool) if sampling.labels == "teacher" else None
    places = np.arange(count)
    if sampling.selector.looks and count < looked:
        places = sampling.selector.select(student.candidates(images[pool], labels), count, rng)
    chosen = pool[places]
    if labels is not None:
        return Sample(chosen, labels[places], pool, labels)
    labels = taught(chosen)
    return Sample(chosen, labels, chosen, labels)
