"""The paper's slot model: every upload is served in its slot, accuracy follows the learning curve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

import numpy as np

from orric.allocators.base import Allocator, Array, Slot, StreamTask, Task
from orric.allocators.choice import Choice
from orric.allocators.guard import Guard
from orric.configuration import Allocation, StreamAllocation, undominated
from orric.exceptions import BudgetError
from orric.learning import LearningCurve, RunningExtent
from orric.objective import feasible, long_term_accuracy, servable
from orric.profile import Profile
from orric.randomness import generator
from orric.records import STAGES, Observation, Result
from orric.trace import Trace

Overload = Literal["error", "shed"]


def evaluate(
    profile: Profile, trace: Trace, allocator: Allocator, *, overload: Overload = "error", seed: int = 0
) -> Result:
    """Evaluate an allocator in the slot model.

    Complexity O(T (M + N)), vectorised where the allocator's decisions need no feedback.

    Args:
        profile: Configurations and learning curve.
        trace: Requests and budgets.
        allocator: Any allocator for one stream.
        overload: "error" raises when a slot's budget is below its cheapest pair; "shed" serves what fits with
            the cheapest inference and counts the rest as shed, which scores 0.
        seed: For allocators that draw random numbers.

    Returns:
        A result whose `value` is the objective (P).

    Raises:
        BudgetError: No pair fits the budget of a slot, and `overload` is "error".
        ProfileError: The profile has drift curves, and none for the corruption and severity of a slot.
        AllocatorError: The allocator names an unknown configuration, exceeds a budget, raises or the like.

    >>> import orric
    >>> profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    >>> trace = orric.Trace(requests=[1000, 1000], budget_macs=[8.636e10, 7.94e9])
    >>> result = orric.evaluate(profile, trace, orric.Orric())
    >>> [(step["retraining"], step["inference"]) for step in result.allocations]
    [('50%', '32px'), ('none', '32px')]
    """
    task = Task(trace.slots, (StreamTask.of(profile, trace.least_requests, trace.most_requests, trace.stream),))
    guard = Guard(allocator, task, generator(seed, "allocator"))
    cheapest = task.streams[0].cheapest_macs
    fitting = feasible(trace.requests, 0.0, cheapest, trace.budget_macs)
    if overload == "error" and not fitting.all():
        slot = int(np.flatnonzero(~fitting)[0])
        raise BudgetError(slot + 1, float(trace.budget_macs[slot]), float(trace.requests[slot] * cheapest))
    # Shedding cannot depend on the decision: a slot in which nothing fits has one defined outcome.
    served = servable(trace.requests, task.streams[0].inference[0].cost_macs, trace.budget_macs)
    corruptions, severities = _drift(trace)
    curves = profile.curves_for(corruptions, severities)
    begun = time.perf_counter()
    allocations = _decide(guard, profile, trace, fitting, served, curves)
    seconds = time.perf_counter() - begun

    overloaded = StreamAllocation(task.streams[0].retraining[0].name, task.streams[0].inference[0].name)
    rows = [
        allocation.streams[0] if fits else overloaded
        for allocation, fits in zip(allocations, fitting.tolist(), strict=True)
    ]
    choice, slots = Choice(profile, guard.name), np.arange(1, trace.slots + 1)
    pairs, chosen = choice.pairs(rows)
    figures = [(i.profit, i.cost_macs, j.profit, j.cost_macs) for i, j in pairs]
    retraining_profit, retraining_cost, inference_profit, inference_cost = np.array(figures).T[:, chosen]
    given = (slots, trace.requests, retraining_cost, inference_cost, trace.budget_macs)
    choice.check_budget(*(values[fitting] for values in given))
    correct, extents = long_term_accuracy(
        trace.requests, served, retraining_profit, inference_profit, curves, profile.memory
    )
    nothing, unknown = np.zeros(trace.slots), np.full(trace.slots, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = correct / served
    columns = {
        "slot": slots,
        "stream": np.full(trace.slots, trace.stream),
        "gpu": np.full(trace.slots, ""),
        "corruption": np.array([name or "" for name in corruptions]),
        "severity": np.array([-1 if level is None else level for level in severities]),
        "requests": trace.requests,
        "forecast": trace.requests,
        "budget_macs": trace.budget_macs,
        "retraining": np.array([retraining.name for retraining, _ in pairs])[chosen],
        "inference": np.array([inference.name for _, inference in pairs])[chosen],
        "retraining_macs": trace.requests * retraining_cost,
        "inference_macs": served * inference_cost,
        "extent": extents,
        "served": served,
        "shed": trace.requests - served,
        "abandoned": nothing,
        "lost": nothing,
        "waiting": nothing,
        "late": nothing,
        "correct": correct,
        "correct_in_time": correct,
        "accuracy": accuracy,
        "batches": unknown,
        "busy": unknown,
        "latency_mean_s": unknown,
        "latency_p50_s": unknown,
        "latency_p99_s": unknown,
        "retrained": (retraining_cost > 0).astype(float),
        "agreement": unknown,
        "reason": np.array([allocation.reason for allocation in allocations]),
        **dict.fromkeys(STAGES, unknown),
    }
    return Result(guard.name, "slot model", "curve", seed, columns, seconds_deciding=seconds)


def _decide(
    guard: Guard, profile: Profile, trace: Trace, fitting: Array, served: Array, curves: Sequence[LearningCurve]
) -> list[Allocation]:
    """Ask for every slot's allocation, and tell between them what a server would have seen."""
    if guard.decides_at_once:
        return guard.decide_all(trace.requests, trace.budget_macs)
    corruptions, severities = _drift(trace)
    choice, allocations, extent = Choice(profile, guard.name), [], RunningExtent(profile.memory)
    cheapest = undominated(profile.retraining)[0], undominated(profile.inference)[0]
    given = zip(trace.requests.tolist(), trace.budget_macs.tolist(), served.tolist(), strict=True)
    for slot, (requests, budget_macs, number) in enumerate(given, start=1):
        allocations.append(guard.decide(Slot(slot, (budget_macs,), (requests,), (0.0,))))
        agreement = None
        retraining, inference = choice.pair(slot, allocations[-1].streams[0])
        if not fitting[slot - 1]:
            retraining, inference = cheapest
        labelled = requests * profile.sampling_ratio(retraining.name) if fitting[slot - 1] else 0.0
        if labelled > 0:
            teacher = profile.teacher_accuracy(corruptions[slot - 1], severities[slot - 1])
            agreement = min(float(curves[slot - 1](extent.value)) * teacher, 1.0)
        extent.add(requests, retraining.profit)
        guard.observe(
            Observation(
                slot, trace.stream, requests, number, 0.0, requests - number, 1.0, agreement,
                retraining=retraining.name, inference=inference.name, labels=labelled, budget_macs=budget_macs,
            )
        )  # fmt: skip
    return allocations


def _drift(trace: Trace) -> tuple[Sequence[str | None], Sequence[int | None]]:
    return trace.corruption or [None] * trace.slots, trace.severity or [None] * trace.slots
