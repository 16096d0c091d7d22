"""Shapley values of any game: exact by enumeration, or sampled with an error that says how far off they may be.

phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S with i) - v(S))     (Shapley 1953)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orric.exceptions import ExplanationError
from orric.explanation.evaluation import Array
from orric.explanation.patches import Present

# Values of m coalitions, shape (m,), from who is present in each, shape (m, players).
Game = Callable[[Present], Array]
# Beyond it 2^n values take too long.
MOST_PLAYERS = 16
# Coalitions that a game is asked for at once.
ASKED = 4096


@dataclass(frozen=True)
class Sampled:
    """Shapley values from random orders of the players.

    Attributes:
        values: Means, shape (players,).
        errors: Their standard errors, shape (players,).
        pairs: How many pairs of orders were drawn.
    """

    values: Array
    errors: Array
    pairs: int


def exact_shapley(game: Game, players: int) -> Array:
    """Return the Shapley values of a game by its definition.

    Complexity: 2^n values of the game, n 2^n additions.

    Args:
        game: Tells the value of coalitions.
        players: n, 1 to `MOST_PLAYERS`.

    Returns:
        Shape (n,); they add up to v(all) - v(nobody).

    Raises:
        ExplanationError: There are too many players, or values that are not finite.

    >>> exact_shapley(lambda present: present.sum(axis=1) ** 2.0, 2)  # 0, 1 and 4 for nobody, one and both
    array([2., 2.])
    """
    if not 1 <= players <= MOST_PLAYERS:
        remedy = f"give 1 to {MOST_PLAYERS}, by larger patches or a later layer, or sample"
        raise ExplanationError("players", f"{players}", remedy)
    members = np.arange(1 << players)[:, None] >> np.arange(players) & 1
    values = _asked(game, members.astype(bool))
    sizes = members.sum(axis=1)
    orders = math.factorial(players)
    weights = np.array(
        [math.factorial(size) * math.factorial(players - size - 1) / orders for size in range(players)]
    )  # fmt: skip
    found = np.empty(players)
    for player in range(players):
        # Bit `player` is the middle axis: without and with that player, all others the same.
        without, with_ = values.reshape(-1, 2, 1 << player).transpose(1, 0, 2)
        others = sizes.reshape(-1, 2, 1 << player)[:, 0]
        found[player] = (weights[others] * (with_ - without)).sum()
    return found


def sampled_shapley(game: Game, players: int, pairs: int, rng: np.random.Generator) -> Sampled:
    """Estimate Shapley values by antithetic permutations (Mitchell et al., JMLR 23, 2022, section 4.1).

    Players join in a random order, and again in its reverse: what is random in the size of the coalition that a player
    meets cancels out. The error is that of means of independent pairs. Efficiency holds for every pair exactly.

    Complexity: 2 n values of the game for each pair.

    Args:
        game: Tells the value of coalitions.
        players: n, at least 1.
        pairs: How many pairs of orders, at least 2.
        rng: Source of randomness.

    Raises:
        ExplanationError: Too few pairs or players, or values that are not finite.
    """
    if players < 1:
        raise ExplanationError("players", f"{players}", "give at least 1")
    if pairs < 2:
        raise ExplanationError("pairs", f"{pairs}", "give at least 2, from which an error can be told")
    forward = np.stack([rng.permutation(players) for _ in range(pairs)])
    orders = np.stack([forward, forward[:, ::-1]], axis=1).reshape(-1, players)
    # Who is present after each step of an order: those whose place in it comes no later.
    places = np.argsort(orders, axis=1)
    present = places[:, None, :] < np.arange(players + 1)[:, None]
    values = _asked(game, present.reshape(-1, players)).reshape(len(orders), players + 1)
    gains = np.take_along_axis(np.diff(values, axis=1), places, axis=1)
    means = gains.reshape(pairs, 2, players).mean(axis=1)
    return Sampled(means.mean(axis=0), means.std(axis=0, ddof=1) / math.sqrt(pairs), pairs)


def _asked(game: Game, present: Present) -> Array:
    values = np.concatenate([game(present[at : at + ASKED]) for at in range(0, len(present), ASKED)]).astype(float)
    if not np.isfinite(values).all():
        raise ExplanationError("game", "gives values that are not finite", "look at what the network makes of parts")
    return values
