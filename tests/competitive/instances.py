"""Random instances of the offline problem, small enough to be solved exactly."""

from __future__ import annotations

import itertools

import numpy as np

import orric
from orric.competitive import relaxation
from orric.competitive.optimum import curve_tables
from orric.competitive.problem import OfflineProblem
from orric.learning import LearningCurve, LearningExtent

from ..builders import build_profile

FORMS = ("exponential", "power", "logarithmic", "tabulated", "time-varying")
MEMORIES = ("uniform", "decay", "window")
Instance = tuple[orric.Profile, orric.Trace]


def random_curve(rng: np.random.Generator, form: str) -> LearningCurve:
    """Draw a curve of a form, rising from between .1 and .6 to .95 at most."""
    if form == "exponential":
        return orric.Exponential(c=0.9, a=rng.uniform(0.3, 0.8), k=rng.uniform(0.5, 8.0))
    if form == "power":
        offset, exponent = rng.uniform(0.1, 1.0), rng.uniform(0.3, 2.0)
        return orric.Power(c=0.95, a=rng.uniform(0.3, 0.8) * offset**exponent, b=offset, alpha=exponent)
    if form == "logarithmic":
        rate = rng.uniform(1.0, 50.0)
        return orric.Logarithmic(a=rng.uniform(0.1, 0.4), b=float(0.5 / np.log1p(rate)), k=rate)
    if form == "tabulated":
        rises = np.sort(rng.uniform(0.0, 0.25, 5))[::-1]
        heights = 0.1 + np.concatenate([[0.0], np.cumsum(rises * (0.8 / rises.sum()))])
        return orric.Tabulated(x=tuple(np.linspace(0.0, 1.0, 6).tolist()), y=tuple(heights.tolist()))
    pieces = tuple(random_curve(rng, str(rng.choice(FORMS[:-1]))) for _ in range(3))
    return orric.TimeVarying(starts=(1, 3, 5), curves=pieces)


def random_memory(rng: np.random.Generator, kind: str) -> LearningExtent:
    """Draw the parameter of a kind of memory."""
    if kind == "window":
        return LearningExtent(kind="window", slots=int(rng.integers(1, 4)))
    return LearningExtent(kind="decay", factor=rng.uniform(0.2, 0.95)) if kind == "decay" else LearningExtent()


def random_instance(seed: int, memory: str, *, compete: bool = False, slots: int = 8, choices: int = 5) -> Instance:
    """Draw an instance in which some pairs do not fit and one in five has a slot without requests.

    Args:
        seed: Also settles the form of the curve, in turn.
        memory: Kind of memory.
        compete: Let every slot's budget pay for the best retraining or for the best inference, where what the one
            loses now is about what it gains later, and half of both is worth little.
        slots: Most slots.
        choices: Most configurations of each kind.
    """
    rng = np.random.default_rng([seed, MEMORIES.index(memory), compete])
    curve = random_curve(rng, FORMS[seed % len(FORMS)])
    fewest = 2 if compete else 1
    horizon = int(rng.integers(max(slots - 2, 1) if compete else 1, slots + 1))
    costs, serving = (np.sort(rng.uniform(0.5, 10.0, rng.integers(fewest, choices + 1))) for _ in range(2))
    profits, accuracies = np.sort(rng.uniform(0.05, 1.0, len(costs))), np.sort(rng.uniform(0.4, 1.0, len(serving)))
    each = rng.uniform(serving[0], costs[-1] + serving[-1], horizon)
    if compete:
        costs, serving[0] = costs * (serving[-1] / costs[-1]), 0.05 * serving[-1]
        first, top = float(curve(0.0)), float(curve(1.0))
        worst = max(1 - rng.uniform(1.1, 1.3) * (top - first) / top, 0.02)
        profits, accuracies = (costs / costs[-1]) ** 2, worst + (1 - worst) * (serving / serving[-1]) ** 2
        each = serving[-1] * rng.uniform(1.05, 1.1, horizon)
    profits[0] = costs[0] = 0.0
    profile = build_profile(
        tuple(zip(profits.tolist(), costs.tolist(), strict=True)),
        tuple(zip((accuracies / accuracies[-1]).tolist(), serving.tolist(), strict=True)),
        best_accuracy=1.0,
        slope_floor=1e-4,
        curve=curve,
        memory=random_memory(rng, memory),
    )
    requests = rng.integers(10 if compete else 1, 50, horizon).astype(float)
    if horizon > 1 and rng.random() < 0.2:
        requests[rng.integers(horizon)] = 0.0
    return profile, orric.Trace(requests=requests, budget_macs=requests * each * (1 + 1e-9))


def envelope_gap(profile: orric.Profile, trace: orric.Trace) -> float:
    """Return how far the bound by concave functions alone is above the optimum, relative to the bound."""
    problem = OfflineProblem.of(profile, trace)
    keep, weight = problem.transition()
    low, high = problem.reach(keep, weight)
    most, slots = float(problem.gains.max()), trace.slots
    tables = curve_tables(problem.curves, most, 1e-7)
    starts, extents = np.arange(slots + 1) * 2, np.stack([low, high], axis=1).ravel()
    tolerance = np.full(2 * slots, 1e-7 * float(problem.rewards[:, 0].sum()) / slots)
    _, _, bounds = relaxation.bound_backward(
        low, high, keep, weight, problem.gains, problem.rewards, problem.counts, *tables, most,
        starts, extents, tolerance, True, 2**24,
    )  # fmt: skip
    optimum, _ = orric.exact_optimum(profile, trace)
    return float((bounds[0] - optimum) / bounds[0])


def plain_extents(requests: list[float], profits: list[float], memory: LearningExtent) -> list[float]:
    """Return x_1 .. x_T as model and docstrings write them, term by term."""
    extents = [0.0]
    for t in range(1, len(requests)):
        if requests[t - 1] == 0:
            extents.append(extents[-1])
            continue
        weights = [1.0] * t
        if memory.kind == "window":
            weights = [float(t - s <= memory.slots) for s in range(t)]
        elif memory.kind == "decay":
            weights = [memory.factor ** (t - 1 - s) for s in range(t)]
        total = sum(weight * requests[s] for s, weight in enumerate(weights))
        extents.append(sum(weight * requests[s] * profits[s] for s, weight in enumerate(weights)) / total)
    return extents


def slot_choices(profile: orric.Profile, requests: float, budget: float) -> list[tuple[float, float]]:
    """Return A^T and A^I D of every pair that a slot can choose; nobody retrains in a slot in which nothing fits."""
    fitting = [
        (one.profit, other.profit * requests)
        for one in profile.retraining
        for other in profile.inference
        if requests * (one.cost_macs + other.cost_macs) <= budget
    ]
    if fitting:
        return fitting
    cheapest = min(profile.inference, key=lambda one: one.cost_macs)
    return [(0.0, cheapest.profit * (budget // cheapest.cost_macs))]


def brute_force(profile: orric.Profile, trace: orric.Trace) -> float:
    """Return the largest value of (P) over every sequence of pairs."""
    requests = trace.requests.tolist()
    choices = [slot_choices(profile, *given) for given in zip(requests, trace.budget_macs.tolist(), strict=True)]
    curves = [profile.curve.at(slot) for slot in range(1, trace.slots + 1)]
    best = 0.0
    for path in itertools.product(*choices):
        extents = plain_extents(requests, [profit for profit, _ in path], profile.memory)
        value = sum(
            float(curve(extent)) * reward for curve, extent, (_, reward) in zip(curves, extents, path, strict=True)
        )
        best = max(best, value)
    return best
