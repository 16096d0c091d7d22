"""The selector: which samples of a slot the student is retrained on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from orric.exceptions import SelectionError
from orric.selection.candidates import Candidates
from orric.selection.gradients import Array, Indices


class Selector(ABC):
    """Chooses samples. It has no state: the same candidates, count and generator give the same choice.

    To add one, write a subclass in a file of its own and register it in `orric.selection.SELECTORS`.

    Attributes:
        name: In scenarios, profiles and commands.
        looks: Whether it looks at what the student makes of the samples; one that does not costs nothing.
    """

    name: ClassVar[str]
    looks: ClassVar[bool] = True

    def select(self, candidates: Candidates, count: int, rng: np.random.Generator) -> Indices:
        """Choose samples.

        Args:
            candidates: n samples.
            count: How many to choose, 0 to n.
            rng: Breaks ties, or draws.

        Returns:
            Indices into the candidates, shape (count,), each once, the one most wanted first.

        Raises:
            SelectionError: The count is not within 0 to n.
        """
        if not 0 <= count <= len(candidates):
            raise SelectionError("selector", f"asked for {count} of {len(candidates)} samples", "ask for no more")
        return self._select(candidates, count, rng)

    @abstractmethod
    def _select(self, candidates: Candidates, count: int, rng: np.random.Generator) -> Indices: ...


class Ranking(Selector):
    """Chooses the samples of the largest scores; ties in random order."""

    @abstractmethod
    def scores(self, candidates: Candidates) -> Array:
        """Return how much each sample is wanted, shape (n,)."""

    def _select(self, candidates: Candidates, count: int, rng: np.random.Generator) -> Indices:
        return best_first(self.scores(candidates), rng)[:count]


class ByClass(Selector):
    """Chooses within each class by itself, of every class the same part."""

    def _select(self, candidates: Candidates, count: int, rng: np.random.Generator) -> Indices:
        members = [np.flatnonzero(candidates.labels == label) for label in np.unique(candidates.labels)]
        quotas = apportioned([len(one) for one in members], count)
        chosen = [
            one[self.within(candidates, one, quota, rng)] for one, quota in zip(members, quotas, strict=True) if quota
        ]
        return interleaved(chosen)

    @abstractmethod
    def within(self, candidates: Candidates, members: Indices, count: int, rng: np.random.Generator) -> Indices:
        """Choose within one class.

        Args:
            candidates: All samples.
            members: Those of the class, shape (m,).
            count: How many to choose, 1 to m.
            rng: Breaks ties, or draws.

        Returns:
            Indices into `members`, shape (count,), the one most wanted first.
        """


class RankingByClass(ByClass):
    """Chooses in each class the samples of the largest scores."""

    @abstractmethod
    def scores(self, candidates: Candidates, members: Indices) -> Array:
        """Return how much each of a class's members is wanted, shape (m,)."""

    def within(self, candidates: Candidates, members: Indices, count: int, rng: np.random.Generator) -> Indices:
        return best_first(self.scores(candidates, members), rng)[:count]


def best_first(scores: Array, rng: np.random.Generator) -> Indices:
    """Return indices by falling score, ties in random order."""
    order = rng.permutation(len(scores))
    return np.asarray(order[np.argsort(-scores[order], kind="stable")])


def apportioned(sizes: list[int], count: int) -> list[int]:
    """Part a number among classes in proportion to their sizes, by largest remainders.

    Args:
        sizes: Of the classes, each at least 1.
        count: At most their sum.

    Returns:
        As many parts, none larger than its class, which add up to the count.

    >>> apportioned([6, 3, 1], 5)
    [3, 2, 0]
    """
    whole = sum(sizes)
    parts = [size * count // whole for size in sizes]
    remainders = [size * count % whole for size in sizes]
    for place in sorted(range(len(sizes)), key=lambda place: -remainders[place])[: count - sum(parts)]:
        parts[place] += 1
    return parts


def interleaved(orders: list[Indices]) -> Indices:
    """Return several orders as one in which each keeps its own, and all come to their ends together."""
    if not orders:
        return np.empty(0, np.intp)
    places = np.concatenate([(np.arange(len(one)) + 0.5) / len(one) for one in orders])
    return np.asarray(np.concatenate(orders)[np.argsort(places, kind="stable")])
