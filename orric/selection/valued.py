"""Selectors by data values: CHG Shapley and its two halves, each within the classes (Cai, arXiv 2406.11730)."""

from __future__ import annotations

from orric.selection.base import RankingByClass
from orric.selection.candidates import Candidates
from orric.selection.gradients import Array, Gradients, Indices
from orric.selection.shapley import shapley_values


def hardened(candidates: Candidates) -> Gradients:
    """Return the gradients that CHG Shapley values: each one weighted by the sample's own loss."""
    return candidates.gradients.scaled(candidates.losses)


class ChgShapley(RankingByClass):
    """The largest values in the game of standing for the mean of all gradients, each weighted by its hardness."""

    name = "chg-shapley"

    def scores(self, candidates: Candidates, members: Indices) -> Array:
        return shapley_values(hardened(candidates).rows(members))


class GradientShapley(RankingByClass):
    """The same without weights: the better choice where labels are wrong."""

    name = "gradient-shapley"

    def scores(self, candidates: Candidates, members: Indices) -> Array:
        return shapley_values(candidates.gradients.rows(members))


class HardnessShapley(RankingByClass):
    """The largest losses of each class: the Shapley values of the game whose utility is the sum of losses."""

    name = "hardness-shapley"

    def scores(self, candidates: Candidates, members: Indices) -> Array:
        return candidates.losses[members]
