"""Selectors by how unsure the student is, or how wrong."""

from __future__ import annotations

import numpy as np

from orric.selection.base import Ranking
from orric.selection.candidates import Candidates
from orric.selection.gradients import Array


class Loss(Ranking):
    """The largest losses, whatever their class.

    By the student's own predictions that is the least confidence (Lewis and Gale, SIGIR 1994).
    """

    name = "loss"

    def scores(self, candidates: Candidates) -> Array:
        return candidates.losses


class Entropy(Ranking):
    """The largest entropies of the student's probabilities (Settles, 2009). It needs no labels."""

    name = "entropy"

    def scores(self, candidates: Candidates) -> Array:
        logs = candidates.log_probabilities
        return np.asarray(-(np.exp(logs) * logs).sum(axis=1))


class Margin(Ranking):
    """The smallest differences between the two largest probabilities (Scheffer et al., 2001). It needs no labels."""

    name = "margin"

    def scores(self, candidates: Candidates) -> Array:
        if candidates.classes < 2:
            return np.zeros(len(candidates))
        largest = np.partition(np.exp(candidates.log_probabilities), -2, axis=1)
        return np.asarray(largest[:, -2] - largest[:, -1])
