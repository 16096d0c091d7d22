"""Selectors that draw: uniformly, as the ORRIC paper does, or as many of every class."""

from __future__ import annotations

import numpy as np

from orric.selection.base import Selector, interleaved
from orric.selection.candidates import Candidates
from orric.selection.gradients import Indices


class Uniform(Selector):
    """Every sample is as likely (Cai et al., INFOCOM 2024). It looks at nothing and costs nothing."""

    name = "uniform"
    looks = False

    def _select(self, candidates: Candidates, count: int, rng: np.random.Generator) -> Indices:
        return rng.permutation(len(candidates))[:count]


class ClassBalanced(Selector):
    """As many samples of every class as there are, or as many as the others, drawn uniformly within each."""

    name = "class-balanced"

    def _select(self, candidates: Candidates, count: int, rng: np.random.Generator) -> Indices:
        members = [rng.permutation(np.flatnonzero(candidates.labels == one)) for one in np.unique(candidates.labels)]
        quotas = [0] * len(members)
        # The smallest classes first: what they cannot give, the larger ones share.
        for left, place in enumerate(sorted(range(len(members)), key=lambda place: len(members[place]))):
            share = (count - sum(quotas)) // (len(members) - left)
            quotas[place] = min(share, len(members[place]))
        # What rounding left over: one more of each that has more.
        spare = [place for place in rng.permutation(len(members)) if quotas[place] < len(members[place])]
        for place in spare[: count - sum(quotas)]:
            quotas[place] += 1
        return interleaved([one[:quota] for one, quota in zip(members, quotas, strict=True) if quota])
