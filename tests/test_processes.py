"""Arrival processes against theory: how counts of slots vary, and how those of neighbouring slots go together."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate, stats

pytest.importorskip("numba", reason="needs orric[sim]")

from orric.processes import BURST, Bursty, Chain, Hawkes, Process, Rate, Renewal

PER_S, SLOT_S, SLOTS = 4.0, 5.0, 400_000
BATCHES = 40
RATIO, BURST_S, CALM_S = 8.0, 2.0, 18.0
BRANCHING, DECAY_S = 0.6, 3.0
VARIATION = 2.0
Rng = np.random.Generator


def constant(slots: int = SLOTS, slot_s: float = SLOT_S) -> Rate:
    return Rate.of_slots(np.full(slots, PER_S), slot_s)


def bursty(rate: Rate, rng: Rng) -> Process:
    return Bursty(rate, rng, Chain(rng.spawn(1)[0], RATIO, BURST_S, CALM_S))


MAKERS: dict[str, Callable[[Rate, Rng], Process]] = {
    "poisson": Renewal,
    "erlang": lambda rate, rng: Renewal(rate, rng, math.sqrt(0.5)),
    "gamma": lambda rate, rng: Renewal(rate, rng, VARIATION),
    "bursty": bursty,
    "hawkes": lambda rate, rng: Hawkes(rate, rng, BRANCHING, DECAY_S),
}
every_process = pytest.mark.parametrize("kind", MAKERS)


def build(kind: str, rate: Rate, seed: int = 1) -> Process:
    return MAKERS[kind](rate, np.random.default_rng(seed))


def all_of(process: Process, size: int = 10_000) -> np.ndarray:
    found = [process.take(size)]
    while len(found[-1]) == size:
        found.append(process.take(size))
    return np.concatenate(found)


def variance(kind: str, length_s: float) -> float:
    """Return the variance of the count within a length of time, by theory."""
    mean = PER_S * length_s
    if kind == "erlang":
        # Cox, Renewal Theory: every second one of a Poisson process.
        return mean / 2 + (1 - math.exp(-4 * mean)) / 8
    if kind == "gamma":
        # Cox, Renewal Theory: what the variance tends to, here within a thousandth.
        return VARIATION**2 * mean + (1 - VARIATION**4) / 6
    if kind == "bursty":
        # Fischer and Meier-Hellstern.
        part, change = BURST_S / (BURST_S + CALM_S), 1 / BURST_S + 1 / CALM_S
        calm = PER_S / (1 + (RATIO - 1) * part)
        spread = part * (1 - part) * (RATIO - 1) ** 2 * calm**2
        return mean + 2 * spread * (length_s / change - (1 - math.exp(-change * length_s)) / change**2)
    if kind == "hawkes":
        # Hawkes 1971: the covariance density is exponential.
        jump, rest = BRANCHING / DECAY_S, (1 - BRANCHING) / DECAY_S
        height = PER_S * jump * (2 / DECAY_S - jump) / (2 * rest)
        return mean + 2 * height * (length_s / rest - (1 - math.exp(-rest * length_s)) / rest**2)
    return mean


def check(batches: np.ndarray, theory: float, least: float) -> None:
    """Assert that theory lies in the 99 % confidence interval of batch means, and that the interval says something."""
    half = stats.t.ppf(0.995, len(batches) - 1) * batches.std(ddof=1) / math.sqrt(len(batches))
    assert abs(batches.mean() - theory) < half
    assert half < least


@every_process
def test_counts_vary_and_go_together_over_the_edges_as_in_theory(kind: str) -> None:
    counts = build(kind, constant()).counts(SLOTS, SLOT_S)
    batches = counts.reshape(BATCHES, -1)
    mean, here = PER_S * SLOT_S, variance(kind, SLOT_S)
    check(batches.mean(axis=1), mean, 0.02 * mean)
    check(((batches - mean) ** 2).mean(axis=1), here, 0.05 * here)
    together = ((batches[:, 1:] - mean) * (batches[:, :-1] - mean)).mean(axis=1)
    check(together, variance(kind, 2 * SLOT_S) / 2 - here, 0.05 * here)


@every_process
def test_long_counts_are_as_dispersed_as_the_module_says(kind: str) -> None:
    long = 200
    counts = build(kind, constant(), 2).counts(SLOTS, SLOT_S).reshape(-1, long).sum(axis=1)
    mean = PER_S * SLOT_S * long
    part = BURST_S / (BURST_S + CALM_S)
    calm = PER_S / (1 + (RATIO - 1) * part)
    chain = 2 * part * (1 - part) * ((RATIO - 1) * calm) ** 2 / (PER_S * (1 / BURST_S + 1 / CALM_S))
    index = {
        "poisson": 1, "erlang": 0.5, "gamma": VARIATION**2, "bursty": 1 + chain, "hawkes": 1 / (1 - BRANCHING) ** 2,
    }[kind]  # fmt: skip
    check(((counts.reshape(BATCHES, -1) - mean) ** 2).mean(axis=1) / mean, index, 0.12 * index)


@every_process
def test_a_process_begins_as_if_it_had_gone_on_for_ever(kind: str) -> None:
    """Mean and variance of the first seconds of many runs are those of any others."""
    first = 0.7
    runs = np.array([len(all_of(build(kind, constant(1, first), seed))) for seed in range(12_000)])
    batches, mean = runs.reshape(BATCHES, -1), PER_S * first
    check(batches.mean(axis=1), mean, 0.06 * mean)
    if kind != "gamma":  # so short a one's variance has no closed form
        check(((batches - mean) ** 2).mean(axis=1), variance(kind, first), 0.25 * variance(kind, first))


@every_process
def test_slots_do_not_change_what_is_drawn(kind: str) -> None:
    short, long = (all_of(build(kind, constant(slots, slot_s))) for slots, slot_s in ((1440, 5.0), (2, 3600.0)))
    assert len(short) > 20_000
    assert np.array_equal(short, long)


@every_process
def test_what_is_drawn_at_once_does_not_matter(kind: str) -> None:
    rate = Rate.of_slots(np.array([4.0, 0.0, 9.0, 9.0, 1.0]), 40.0, swing=0.7, period_s=60.0, peak_s=11.0)
    assert np.array_equal(all_of(build(kind, rate), 7), all_of(build(kind, rate), 10_000))
    counts, _ = np.histogram(all_of(build(kind, rate)), np.arange(6) * 40.0)
    assert build(kind, rate).counts(5, 40.0).tolist() == counts.tolist()


@pytest.mark.parametrize("kind", ["poisson", "gamma", "erlang"])
def test_gaps_in_operational_time_are_those_of_a_constant_rate(kind: str) -> None:
    """Integrating the rate up to each arrival gives the very same draws, one due in each unit."""
    rate = Rate.of_slots(np.array([3.0, 3.0, 0.5, 0.0, 20.0]), 700.0, swing=1.0, period_s=900.0, peak_s=250.0)
    times = all_of(build(kind, rate))
    fine = np.linspace(0.0, 3500.0, 3_500_001)
    levels = rate.per_s[np.searchsorted(rate.edges_s, fine, side="right").clip(1, 4) - 1]
    curve = levels * (1 + np.cos(2 * math.pi * (fine - 250.0) / 900.0))
    due = np.interp(times, fine, integrate.cumulative_trapezoid(curve, fine, initial=0))
    plain = all_of(build(kind, Rate.of_slots(np.full(1, 1.0), 1e5)))[: len(times)]
    assert len(times) > 10_000
    np.testing.assert_allclose(due, plain, atol=0.05)
    gaps = np.diff(due)
    shape = {"poisson": 1.0, "gamma": VARIATION**-2, "erlang": 2.0}[kind]
    assert stats.kstest(gaps, stats.gamma(shape, scale=1 / shape).cdf).pvalue > 0.01


@every_process
def test_counts_follow_the_day(kind: str) -> None:
    """The mean of each tenth of a day is the integral of the rate over it; an excitement comes later."""
    days, tenth_s = 4000, 30.0
    rate = Rate.of_slots(np.full(1, 0.5), days * 300.0, swing=0.9, period_s=300.0, peak_s=100.0)
    counts = build(kind, rate, 3).counts(days * 10, tenth_s).reshape(days, 10)
    omega, lag, height = 2 * math.pi / 300.0, 0.0, 1.0
    if kind == "hawkes":
        # What others excite answers the day like a filter: the response at its frequency, by its argument and modulus.
        response = (1 - BRANCHING) / (1 - BRANCHING / (1 + 1j * omega * DECAY_S))
        lag, height = -np.angle(response), abs(response)
    ends = omega * (np.arange(11) * tenth_s - 100.0) - lag
    theory = 0.5 * (tenth_s + 0.9 * height * np.diff(np.sin(ends)) / omega)
    # Ten intervals at once.
    half = stats.t.ppf(1 - 0.005 / 10, BATCHES - 1) / math.sqrt(BATCHES)
    batches = counts.reshape(BATCHES, -1, 10).mean(axis=1)
    assert (np.abs(batches.mean(axis=0) - theory) < half * batches.std(axis=0, ddof=1)).all()


def test_gaps_across_the_edges_of_slots_are_no_others() -> None:
    """Of gaps that a slot's edge lies in, more are long: a gap's chance to meet one is in proportion to its length."""
    times = all_of(build("gamma", constant(40_000, 1.0), 4))
    gaps = np.diff(times)
    shape = VARIATION**-2
    assert stats.kstest(gaps, stats.gamma(shape, scale=1 / (shape * PER_S)).cdf).pvalue > 0.01
    across = gaps[np.floor(times[1:]) > np.floor(times[:-1])]
    # The expected number of edges in a gap is its length; gaps below 1 s hold one at most.
    theory = stats.gamma(shape + 1, scale=1 / (shape * PER_S))
    met = across[across < 1.0]
    assert stats.kstest(met, lambda x: theory.cdf(x) / theory.cdf(1.0)).pvalue > 0.01


def test_bursts_are_where_the_chain_has_them() -> None:
    """Where hardly anybody comes between bursts, everybody comes in one."""
    seen, chain = (Chain(np.random.default_rng(5), 1e9, BURST_S, CALM_S) for _ in range(2))
    times = all_of(Bursty(constant(1000), np.random.default_rng(6), chain))
    assert len(times) > 10_000
    for until_s in times:
        seen.weigh(until_s)
        assert seen.place[BURST] == 1


def test_a_chain_maps_back_what_it_weighs() -> None:
    ahead, chain = (Chain(np.random.default_rng(7), RATIO, BURST_S, CALM_S) for _ in range(2))
    edges = np.cumsum(np.random.default_rng(8).exponential(5.0, 2000))
    weights = np.cumsum([ahead.weigh(edge) for edge in edges])
    np.testing.assert_allclose(chain.map(weights), edges, rtol=1e-9)
    # Over time the factors are 1 in the mean.
    assert weights[-1] / edges[-1] == pytest.approx(1.0, abs=0.1)


def test_nothing_comes_at_no_rate() -> None:
    for kind in MAKERS:
        counts = build(kind, Rate.of_slots(np.array([0.0, 0.0, 5.0]), 1000.0)).counts(3, 1000.0)
        assert counts[:2].tolist() == [0, 0]
        assert counts[2] > 1000
        assert len(all_of(build(kind, Rate.of_slots(np.zeros(3), 1000.0)))) == 0
