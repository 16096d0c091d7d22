"""A lesson of the retraining process: label, set aside, train, and show what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from orric.edge.faults import point
from orric.edge.frames import Header
from orric.edge.screening import Screen, evenly
from orric.exceptions import EdgeError
from orric.retraining.acceptance import compared
from orric.retraining.anchors import Anchors
from orric.retraining.loop import Student
from orric.selection import selector
from orric.selection.gradients import Indices
from orric.vision.arrays import Labels, Pixels
from orric.vision.datasets import FULL_PX

Mask = np.ndarray[Any, np.dtype[np.bool_]]
# Part of the anchors that the teacher must know: with fewer their labels are not those of the models.
LEAST_KNOWN = 0.5


@dataclass(frozen=True)
class Labelled:
    """Samples of a slot with what the teacher says of them.

    Attributes:
        labels: The teacher's, shape (n,), -1 where it was not asked.
        outliers: Which of those it was asked for look like nothing that is known, shape (n,).
        chosen: Indices of those to be trained on, outliers among them.
        held: Samples, the first ones, that are kept from training.
        selected: Whether those to be trained on were selected, and do not stand for all.
    """

    labels: Labels
    outliers: Mask
    chosen: Indices
    held: int
    selected: bool


class Teaching:
    """Retrains a student on samples that may not be trusted.

    Args:
        student: Trained.
        anchors: Trusted images, None without.
        evidence: Keys of `orric.edge.config.Evidence`, and "fewest_compared" and "fewest_trained".
    """

    def __init__(self, student: Student, anchors: Anchors | None, evidence: dict[str, Any]) -> None:
        self._student, self._evidence = student, evidence
        self._screen: Screen | None = None
        self._again = self._compared = anchors
        if anchors is not None:
            self._again, self._compared = anchors.halves()
            known = float((student.taught(anchors.images)[0] == anchors.labels).mean())
            if known < LEAST_KNOWN:
                found = f"the teacher knows {known:.0%} of its images"
                raise EdgeError("anchor set", found, "its classes may stand in another order than the models'")
            # Of the student as it was given: nothing that a client sent has touched it.
            self._given = student.classify(self._compared.images, FULL_PX) == self._compared.labels
        self._anchors_of_all = anchors

    def look(self) -> None:
        """Learn what the anchors look like under drift; it takes a second."""
        if self._anchors_of_all is not None:
            seen, aside = self._student.taught, self._evidence["set_aside"]
            self._screen = Screen(
                self._anchors_of_all, lambda images: seen(images)[1], aside, np.random.default_rng(0)
            )  # fmt: skip

    def retrained(self, asked: Header, images: Pixels, truths: Labels) -> tuple[Any, ...]:
        """Label images, train on those that are fit for it, and return what is to be sent.

        Args:
            asked: "seed", "count", "held_out", "selector", "labels".
            images: Shape (n, height, width, 3), in an order drawn uniformly.
            truths: True labels, shape (n,), -1 where they are not known.
        """
        student, fewest = self._student, self._evidence["fewest_trained"]
        rng = np.random.default_rng(asked["seed"])
        point("worker.label")
        found = self._labelled(asked, images, truths, rng)
        fit = (found.labels >= 0) & ~found.outliers
        held, chosen = self._parted(found, fit, truths)
        trained = chosen[evenly(found.labels[chosen], fewest)]
        # What a selector chose because the student is unsure of it says nothing of how well the student does.
        standing = held if found.selected and len(held) else np.flatnonzero(fit)
        judged = np.where(truths >= 0, truths, found.labels)
        answer: Header = {
            "agreement": student.agreement(images[standing], found.labels[standing]) if len(standing) else None,
            "outcomes": {
                "outlier": int(found.outliers.sum()), "class_quota": len(chosen) - len(trained), "held_out": len(held),
                "learnt": 0,
            },
        }  # fmt: skip
        why = None
        if len(trained) < fewest:
            why = f"{len(trained)} of {int((found.labels >= 0).sum())} labelled samples are fit to learn from, {fewest}"
        elif self._compared is None and len(held) < self._evidence["fewest_compared"]:
            why = f"without anchors {len(held)} samples can be held out, {self._evidence['fewest_compared']}"
        if why is not None:
            return {**answer, "staged": False, "why": f"{why} are needed"}, standing, judged[standing]
        before = student.classify(images[held], FULL_PX) == judged[held]
        asked_for = point("worker.train")
        if asked_for == "nan":
            import torch

            with torch.no_grad():
                for values in student.network.parameters():
                    values.fill_(float("nan"))
        if asked_for == "oom":
            np.ones(1 << 40, np.uint8)
        # Statistics, too, are taken from no outlier.
        lesson, order, taught = self._lesson(images[trained], found.labels[trained], rng)
        student.retrain(lesson, order, taught, images[fit])
        point("worker.trained")
        answer["outcomes"]["learnt"] = len(trained)
        answer["held_out"] = vars(compared(before, student.classify_staged(images[held]) == judged[held]))
        answer["anchors"] = self._anchors()
        return {**answer, "staged": True}, standing, judged[standing], *student.served()

    def _labelled(self, asked: Header, images: Pixels, truths: Labels, rng: np.random.Generator) -> Labelled:
        """Choose what the student is to be trained on, and ask the teacher for no more than was decided."""
        count = min(asked["count"], len(images))
        held = round(asked["held_out"] * count)
        if self._compared is None:  # uploads alone must do, so that enough of them are compared on
            held = min(max(held, self._evidence["fewest_compared"]), count // 2)
        labels, outliers = np.full(len(images), -1), np.zeros(len(images), bool)

        def ask(which: Indices) -> None:
            if len(which):
                labels[which], features = self._student.taught(images[which])
                if self._screen is not None:
                    outliers[which] = self._screen.outliers(images[which], features)

        if count == len(images):
            ask(np.arange(count))
            return Labelled(labels, outliers, np.arange(held, count), held, False)
        if asked["labels"] == "teacher":
            ask(np.arange(len(images)))
        known = labels[held:] if asked["labels"] == "teacher" else None
        candidates = self._student.candidates(images[held:], known)
        chosen = held + selector(asked["selector"]).select(candidates, count - held, rng)
        missing = np.concatenate([np.arange(held), chosen])
        ask(missing[labels[missing] < 0])
        return Labelled(labels, outliers, chosen, held, True)

    def _parted(self, found: Labelled, fit: Mask, truths: Labels) -> tuple[Indices, Indices]:
        """Return which samples are compared on and which are trained on."""
        if found.selected:
            return np.flatnonzero(fit[: found.held]), found.chosen[fit[found.chosen]]
        usable = np.flatnonzero(fit)
        held = round(found.held * len(usable) / max(len(fit), 1))
        # Those whose true labels are known say most.
        order = usable[np.argsort(truths[usable] < 0, kind="stable")]
        return np.sort(order[:held]), np.sort(order[held:])

    def _lesson(
        self, images: Pixels, labels: Labels, rng: np.random.Generator
    ) -> tuple[Pixels, np.random.Generator, Labels]:
        """Return what the student is trained on: samples, and some anchors again, so that it forgets nothing."""
        if self._again is None:
            return images, rng, labels
        wanted = int(np.ceil(self._evidence["replay"] * len(labels)))
        again = np.resize(rng.permutation(len(self._again.labels)), wanted)
        return (
            np.concatenate([images, self._again.images[again]]),
            rng,
            np.concatenate([labels, self._again.labels[again]]),
        )

    def _anchors(self) -> dict[str, Any] | None:
        """Return how the staged student does on the anchors, beside the given one and the one that serves."""
        if self._compared is None:
            return None
        images, labels = self._compared.images, self._compared.labels
        after = self._student.classify_staged(images) == labels
        serving = self._student.classify(images, FULL_PX) == labels
        beside = {"given": self._given, "serving": serving}
        found = {name: vars(compared(before, after)) for name, before in beside.items()}
        return {**found, "right": int(after.sum())}
