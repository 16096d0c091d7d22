from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from orric.exceptions import ExplanationError
from orric.explanation.games import patch_game, position_game
from orric.explanation.shapley import exact_shapley, sampled_shapley

from .networks import Transformer, convolutional, noise, pictures, seeded, shipped


def by_permutations(game, players):
    """Average what a player adds over all orders in which players may come."""
    found = np.zeros(players)
    for order in itertools.permutations(range(players)):
        present = np.zeros(players, bool)
        value = game(present[None])[0]
        for player in order:
            present[player] = True
            grown = game(present[None])[0]
            found[player] += grown - value
            value = grown
    return found / math.factorial(players)


def random_game(players, seed):
    values = np.random.default_rng(seed).normal(size=1 << players)
    return lambda present: values[present @ (1 << np.arange(players))]


@pytest.mark.parametrize("players", [1, 2, 3, 4, 5, 6])
def test_exact_values_are_those_of_all_orders(players):
    for seed in range(5):
        game = random_game(players, seed)
        assert np.allclose(exact_shapley(game, players), by_permutations(game, players), atol=1e-12)


def test_values_are_efficient_and_know_dummies_and_equals():
    game = random_game(10, 3)
    everyone, nobody = np.ones((1, 10), bool), np.zeros((1, 10), bool)
    assert exact_shapley(game, 10).sum() == pytest.approx(float((game(everyone) - game(nobody))[0]))

    def glove(present):  # player 0 has a left glove, 1 and 2 a right one each, 3 none
        return (present[:, 0] & (present[:, 1] | present[:, 2])).astype(float)

    assert np.allclose(exact_shapley(glove, 4), [4 / 6, 1 / 6, 1 / 6, 0])


def test_sampled_values_lie_within_their_own_error():
    game = random_game(8, 5)
    exact = exact_shapley(game, 8)
    shares = []
    for seed in range(20):
        found = sampled_shapley(game, 8, 60, np.random.default_rng(seed))
        assert found.values.sum() == pytest.approx(exact.sum())
        assert (found.errors > 0).all()
        shares.append(np.abs(found.values - exact) / found.errors)
    shares = np.array(shares)
    # As normal numbers would: no worse than 4 errors ever, and about 5 % beyond two; nor are errors too large.
    assert shares.max() < 4.5
    assert 0.01 < (shares > 2).mean() < 0.11
    assert 0.8 < np.sqrt((shares**2).mean()) < 1.25


def test_errors_fall_with_the_root_of_the_pairs():
    game = random_game(8, 5)
    few, many = (sampled_shapley(game, 8, pairs, np.random.default_rng(1)) for pairs in (50, 1250))
    assert 4 < np.mean(few.errors) / np.mean(many.errors) < 6.2
    assert many.pairs == 1250


def test_a_pair_of_orders_is_exact_where_players_meet_in_pairs():
    def game(present):
        weights = np.arange(1.0, 7.0)
        return (present @ weights) ** 2

    found = sampled_shapley(game, 6, 2, np.random.default_rng(1))
    assert np.allclose(found.values, exact_shapley(game, 6))
    assert np.allclose(found.errors, 0, atol=1e-12)


def test_the_same_generator_gives_the_same_values():
    game = random_game(6, 1)
    one, other = (sampled_shapley(game, 6, 10, np.random.default_rng(4)) for _ in range(2))
    assert (one.values == other.values).all()
    assert (one.values != sampled_shapley(game, 6, 10, np.random.default_rng(5)).values).any()


def test_the_game_of_patches_shows_them_and_masks_the_rest():
    network, image = shipped(), pictures(1)
    game, grid = patch_game(network, image, 2, patch_px=8, baseline=0.25)
    present = np.random.default_rng(1).random((6, 16)) < 0.5
    shown = np.full((6, 3, 32, 32), 0.25, np.float32)
    for row, who in enumerate(present):
        for player in np.flatnonzero(who):
            top, left = 8 * (player // 4), 8 * (player % 4)
            shown[row, :, top : top + 8, left : left + 8] = image[0, :, top : top + 8, left : left + 8]
    with torch.no_grad():
        expected = network(torch.from_numpy(shown)).softmax(dim=1)[:, 2].numpy()
    assert np.allclose(game(present), expected, atol=1e-6)
    values = exact_shapley(patch_game(network, image, patch_px=16)[0], 4)
    ends = patch_game(network, image, patch_px=16)[0](np.array([[False] * 4, [True] * 4]))
    assert values.sum() == pytest.approx(ends[1] - ends[0])
    assert grid.players == 16


def test_the_game_of_positions_zeroes_all_channels():
    network, image = seeded(convolutional), torch.from_numpy(noise(1, 16))
    present = np.random.default_rng(1).random((7, 49)) < 0.5
    with position_game(network, image, 3, "1", batch=3) as (game, shape):
        assert shape == (7, 7)
        found = game(present)
    with torch.no_grad():
        middle = network[:2](image) * torch.from_numpy(present.reshape(7, 1, 7, 7))
        assert np.allclose(found, network[2:](middle)[:, 3].numpy(), atol=1e-6)


def test_the_class_token_is_no_player():
    network, image = seeded(Transformer), torch.from_numpy(noise(1))
    with position_game(network, image, 1, "blocks.0") as (game, shape):
        assert shape == (4, 4)
        found = game(np.zeros((1, 16), bool))
    with torch.no_grad():
        tokens = torch.cat([network.token, network.embed(image).flatten(2).transpose(1, 2)], dim=1)
        tokens = network.blocks[0](tokens)
        tokens[:, 1:] = 0
        assert np.allclose(found, network.head(network.blocks[1](tokens)[:, 0])[:, 1].numpy(), atol=1e-6)


def test_unusable_games_are_told():
    game = random_game(3, 1)
    with pytest.raises(ExplanationError, match="players: 17; give 1 to 16"):
        exact_shapley(game, 17)
    with pytest.raises(ExplanationError, match="players: 0"):
        exact_shapley(game, 0)
    with pytest.raises(ExplanationError, match="players: 0"):
        sampled_shapley(game, 0, 5, np.random.default_rng(1))
    with pytest.raises(ExplanationError, match="pairs: 1"):
        sampled_shapley(game, 3, 1, np.random.default_rng(1))
    with pytest.raises(ExplanationError, match="game: gives values that are not finite"):
        exact_shapley(lambda present: np.full(len(present), np.nan), 3)
    with pytest.raises(ExplanationError, match="image: 2 images"):
        patch_game(shipped(), pictures(2))
    with pytest.raises(ExplanationError, match="layer 'here': is unknown"):
        position_game(shipped(), pictures(1), 1, "here").__enter__()
