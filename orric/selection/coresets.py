"""Coresets: samples whose gradients or features stand for those of all, each within the classes.

They find weights as well; here the chosen samples count alike, as the student is trained on them without weights.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lstsq

from orric.selection.base import ByClass, best_first
from orric.selection.candidates import Candidates
from orric.selection.gradients import Array, Indices


class GradMatch(ByClass):
    """Orthogonal matching pursuit of the mean gradient (Killamsetty et al., GRAD-MATCH, ICML 2021).

    One sample after the other: the one whose gradient goes furthest along what is not matched yet; then the weights of
    all chosen ones are fitted anew. O(m^2) memory and O(m k^3) time for k of m samples of a class.
    """

    name = "grad-match"

    # What keeps the fit from following noise, as in the publication.
    ridge = 0.5

    def within(self, candidates: Candidates, members: Indices, count: int, rng: np.random.Generator) -> Indices:
        products = candidates.gradients.rows(members).products()
        wanted = products.mean(axis=1)
        chosen: list[int] = []
        left, free = wanted.copy(), np.ones(len(members), bool)
        ties = rng.permutation(len(members))
        while len(chosen) < count:
            order = ties[np.argsort(-left[ties], kind="stable")]
            chosen.append(int(order[free[order]][0]))
            free[chosen[-1]] = False
            # Ridge regression of the mean on the chosen, in terms of their products alone.
            inner = products[np.ix_(chosen, chosen)] + self.ridge * np.eye(len(chosen)) * _scale(products)
            weights = lstsq(inner, wanted[chosen], lapack_driver="gelsy")[0]
            left = wanted - products[:, chosen] @ weights
        return np.array(chosen, np.intp)


class Craig(ByClass):
    """Facility location: every sample's gradient has a chosen one near (Mirzasoleiman et al., CRAIG, ICML 2020).

    Greedy, O(m^2) memory and O(k m^2) time for k of m samples of a class; at least 1 - 1/e of the best possible.
    """

    name = "craig"

    def within(self, candidates: Candidates, members: Indices, count: int, rng: np.random.Generator) -> Indices:
        distances = _distances(candidates.gradients.rows(members).products())
        nearness = distances.max(initial=0.0) - distances
        covered = np.zeros(len(members))
        chosen: list[int] = []
        free = np.ones(len(members), bool)
        for _ in range(count):
            gains = np.maximum(nearness - covered[:, None], 0.0).sum(axis=0)
            order = best_first(np.where(free, gains, -1.0), rng)
            chosen.append(int(order[0]))
            free[chosen[-1]] = False
            covered = np.maximum(covered, nearness[:, chosen[-1]])
        return np.array(chosen, np.intp)


class KCenter(ByClass):
    """Farthest first: the features of every sample have a chosen one near (Sener and Savarese, ICLR 2018).

    Begins with the sample next to the middle of its class. O(m k) time for k of m samples; within twice the best
    possible distance.
    """

    name = "k-center"

    def within(self, candidates: Candidates, members: Indices, count: int, rng: np.random.Generator) -> Indices:
        features = np.asarray(candidates.features[members], np.float64)
        order = best_first(-((features - features.mean(axis=0)) ** 2).sum(axis=1), rng)
        chosen = [int(order[0])]
        nearest = ((features - features[chosen[0]]) ** 2).sum(axis=1)
        nearest[chosen[0]] = -1.0
        while len(chosen) < count:
            chosen.append(int(best_first(nearest, rng)[0]))
            nearest = np.minimum(nearest, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
            nearest[chosen] = -1.0
        return np.array(chosen, np.intp)


def _distances(products: Array) -> Array:
    """Return distances from scalar products, shape (m, m)."""
    norms = np.diag(products)
    return np.asarray(np.sqrt(np.maximum(norms[:, None] + norms[None, :] - 2 * products, 0.0)))


def _scale(products: Array) -> float:
    """Return the mean squared norm, so that a ridge means the same whatever the gradients' scale."""
    return float(np.diag(products).mean()) / len(products)
