"""The thief's loop, which hurries through the published one, and what it estimates of a window."""

from __future__ import annotations

import numpy as np
import pytest

from orric.allocators.stealing import steal
from orric.allocators.window import Prospects, RetrainingWindow

from . import reference_thief
from .random_windows import random_window

FULL_SIZE = (10, 8.0, 18)


@pytest.mark.parametrize("seed", range(220))
def test_split_is_that_of_the_published_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    streams = int(rng.integers(1, 5))
    window = random_window(rng, streams, float(rng.uniform(0.2, 1.0)) * streams, int(rng.integers(1, 9)), seed % 2 == 1)
    delta, rounds = float(rng.choice([0.05, 0.1, 0.3])), int(rng.integers(0, 4))
    found = steal(window, delta, rounds)
    *_, best = reference_thief.plain_loop(window, delta, rounds)
    own = [list(found.inference_shares), list(found.retraining_shares), list(found.retraining)]
    judged = reference_thief.accuracy(list(window.streams), window.length_s, *own)
    assert judged >= best - 1e-12
    assert found.accuracy == pytest.approx(judged, rel=0, abs=1e-12)
    assert window.accuracy(*own) == pytest.approx(judged, rel=0, abs=1e-12)
    assert sum(own[0]) + sum(own[1]) == pytest.approx(window.resources)
    assert all(share >= stream.least_share for share, stream in zip(own[0], window.streams, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_full_size_split_is_that_of_the_published_loop_by_fewer_estimates(seed: int) -> None:
    window = random_window(np.random.default_rng(seed), *FULL_SIZE)
    found = steal(window, 0.1, 3)
    inference, retraining, picks, best = reference_thief.plain_loop(window, 0.1, 3)
    assert (list(found.inference_shares), list(found.retraining_shares)) == (inference, retraining)
    assert list(found.retraining) == picks
    assert found.accuracy == pytest.approx(best, rel=0, abs=1e-12)
    assert found.accuracy > steal(window, 0.1, 0).accuracy + 0.005
    # Three rounds of twenty thieves and nineteen victims, and a success more than once each.
    assert found.stolen < found.estimates < 3 * 20 * 19 + found.stolen


def test_estimates_agree_on_any_shares_and_picks() -> None:
    rng = np.random.default_rng(5)
    unfinished = 0
    for _ in range(300):
        window = random_window(rng, int(rng.integers(1, 6)), 2.0, 5)
        shares = rng.dirichlet(np.ones(2 * len(window.streams))) * 2.0 * (rng.random(2 * len(window.streams)) < 0.8)
        inference, retraining = shares[::2].tolist(), shares[1::2].tolist()
        picks = rng.integers(0, 6, len(window.streams)).tolist()
        plain = reference_thief.accuracy(list(window.streams), window.length_s, inference, retraining, picks)
        assert window.accuracy(inference, retraining, picks) == pytest.approx(plain, rel=0, abs=1e-12)
        works = [stream.retraining[pick][1] for stream, pick in zip(window.streams, picks, strict=True)]
        unfinished += any(work > window.length_s * 2.0 for work in works)
    assert unfinished < 300


def test_two_streams_by_hand() -> None:
    """The first stream profits from retraining, the second has nothing to retrain."""
    first = Prospects(0.5, ((0.5, 1.0),), ((0.5, 0.0), (0.9, 40.0)))
    second = Prospects(0.8, ((0.5, 1.0),), ((0.8, 0.0),))
    window = RetrainingWindow(2.0, 100.0, (first, second))
    # The second's half GPU goes to three jobs: the first retrains at 2/3 of a GPU, for 60 s.
    fair = steal(window, 0.5, 0)
    assert fair.accuracy == pytest.approx(((0.5 * 60 + 0.9 * 40) / 100 + 0.8) / 2)
    assert (fair.inference_shares, fair.retraining_shares, fair.retraining) == ((0.5, 0.5), (0.5, 0.5), (1, 0))
    # Taken whole, it lets the first retrain on one GPU, for 40 s. Nothing else pays.
    found = steal(window, 0.5, 3)
    assert (found.inference_shares, found.retraining_shares) == ((0.5, 0.5), (1.0, 0.0))
    assert found.accuracy == pytest.approx(((0.5 * 40 + 0.9 * 60) / 100 + 0.8) / 2)
    assert found.stolen == 1


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 1.1])
def test_retraining_that_completes_on_a_whole_second_is_complete(share: float) -> None:
    """Stepping through time by floats left it unfinished for ever; on the window's end it is complete as well."""
    for complete_s in range(1, 101):
        stream = Prospects(0.4, ((0.5, 1.0),), ((0.4, 0.0), (0.8, share * complete_s)))
        other = Prospects(0.6, ((0.5, 1.0),), ((0.6, 0.0), (0.7, (share + 0.2) * complete_s)))
        window = RetrainingWindow(2.0, 100.0, (stream, other))
        expected = (0.4 * complete_s + 0.8 * (100 - complete_s) + 0.6 * complete_s + 0.7 * (100 - complete_s)) / 200
        assert window.accuracy([0.5, 0.5], [share, share + 0.2], [1, 1]) == pytest.approx(expected, abs=1e-12)
        assert window.pick(0, 0.5, share) == (complete_s < 100)
    # Not to retrain may lose what the present weights have: then even what is complete at the very end pays.
    for work, picked in ((share * 100, 1), (share * 100.001, 0)):
        fading = Prospects(0.4, ((0.5, 1.0),), ((0.3, 0.0), (0.8, work)))
        assert RetrainingWindow(2.0, 100.0, (fading,)).pick(0, 0.5, share) == picked


def test_what_cannot_complete_changes_nothing_and_is_not_picked() -> None:
    stream = Prospects(0.4, ((0.2, 0.7), (0.5, 1.0)), ((0.4, 0.0), (0.8, 50.1)))
    window = RetrainingWindow(1.0, 100.0, (stream,))
    assert window.pick(0, 0.5, 0.5) == 0
    assert window.accuracy([0.5], [0.5], [1]) == pytest.approx(0.4)
    # Unpicked, its share would have gone to inference.
    assert window.accuracy([0.1], [0.5], [0]) == pytest.approx(0.4)
    assert window.accuracy([0.1], [0.5], [1]) == pytest.approx(0.4 * 0.7 * 0.5)


def test_inference_below_its_cheapest_configuration_serves_a_part() -> None:
    window = RetrainingWindow(1.0, 1.0, (Prospects(0.5, ((0.2, 0.6), (0.4, 1.0)), ((0.5, 0.0),)),))
    shares = [0.0, 0.05, 0.1, 0.2, 0.399, 0.4, 0.9]
    assert [window.serving(0, share) for share in shares] == pytest.approx([0.0, 0.15, 0.3, 0.6, 0.6, 1.0, 1.0])
    assert [window.sustained(0, share) for share in shares] == [0, 0, 0, 0, 0, 1, 1]


def test_needs_come_before_fairness() -> None:
    needy = Prospects(0.5, ((0.6, 1.0),), ((0.5, 0.0),), least_share=0.6)
    modest = Prospects(0.5, ((0.1, 1.0),), ((0.5, 0.0),), least_share=0.1)
    inference, retraining = RetrainingWindow(1.0, 1.0, (needy, modest)).fair()
    # 0.35 is lacking; of the 0.15, 0.25 and 0.25 that the others have to spare, 7/13 are kept for it.
    assert inference == pytest.approx([0.6, 0.1 + 0.15 * (1 - 0.35 / 0.65)])
    assert retraining == pytest.approx([0.25 * (1 - 0.35 / 0.65)] * 2)
    assert sum(inference) + sum(retraining) == pytest.approx(1.0)
