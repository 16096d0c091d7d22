"""The paper's slot model: every upload is served in its slot, accuracy follows the learning curve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from orric.allocators.base import Allocator, Array, StreamTask, Task
from orric.allocators.choice import Choice, Pair
from orric.allocators.guard import Guard, told_slots
from orric.allocators.orric import profit_floor
from orric.configuration import Allocation, StreamAllocation
from orric.exceptions import AllocatorError, BudgetError
from orric.learning import LearningCurve, RunningExtent
from orric.objective import feasible, in_time_parts, long_term_accuracy, offered_profits, servable
from orric.profile import Profile
from orric.randomness import generator
from orric.records import STAGES, Observation, Result
from orric.trace import Trace

Overload = Literal["error", "shed"]


def evaluate(
    profile: Profile,
    trace: Trace,
    allocator: Allocator,
    *,
    overload: Overload = "error",
    seed: int = 0,
    in_time: Any = None,
    requests_range: tuple[float, float] | None = None,
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
        in_time: q_t(i, j), which part of slot t's requests is answered by the deadline when the slot is split by the
            retraining configuration i and the inference configuration j; shape (T, M, N), in the order of the
            undominated configurations, in [0, 1]. Allocators are told each slot's parts at its start, and what an
            answer is worth at the least beforehand, as they are told the range of requests. None: all are in time.
        requests_range: D_min and D_max that the allocator is told; left out, those of the trace.

    Returns:
        A result whose `value` is the objective (P), which counts late answers too; its column `correct_in_time` sums
        up to the objective in which they do not count.

    Raises:
        BudgetError: No pair fits the budget of a slot, and `overload` is "error".
        ScenarioError: `in_time` has another shape, or a part is not in [0, 1].
        ProfileError: The profile has drift curves, and none for the corruption and severity of a slot.
        AllocatorError: The allocator names an unknown configuration, exceeds a budget, raises or the like.

    >>> import orric
    >>> profile = orric.Profile.load("traces/profiles/cifar10c-fog.toml")
    >>> trace = orric.Trace(requests=[1000, 1000], budget_macs=[8.636e10, 7.94e9])
    >>> result = orric.evaluate(profile, trace, orric.Orric())
    >>> [(step["retraining"], step["inference"]) for step in result.allocations]
    [('50%', '32px'), ('none', '32px')]
    """
    least, most = requests_range or (trace.least_requests, trace.most_requests)
    stream = StreamTask.of(profile, least, most, trace.stream)
    if in_time is not None:
        in_time, offered = profits_in_time(stream, trace, in_time)
        stream = replace(stream, least_profit=profit_floor(stream, offered))
    task = Task(trace.slots, (stream,))
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
    allocations = _decide(guard, stream, profile, trace, fitting, served, curves, in_time)
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
    timely = served
    if in_time is not None:
        timely = np.minimum(_parts_chosen(stream, guard.name, slots, pairs, chosen, in_time) * trace.requests, served)
    nothing, unknown = np.zeros(trace.slots), np.full(trace.slots, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = correct / served
        correct_in_time = np.where(served > 0, correct * (timely / served), 0.0) if in_time is not None else correct
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
        "late": served - timely,
        "correct": correct,
        "correct_in_time": correct_in_time,
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


def profits_in_time(stream: StreamTask, trace: Trace, in_time: Any) -> tuple[Array, Array]:
    """Check the in-time parts of a trace; return them, and what an answer is worth by each pair in each slot.

    Returns:
        q_t(i, j), and a_t(i, j) as `profit_floor` takes it; shape (T, M, N) each.

    Raises:
        ScenarioError: The shape is another one, or a part is not in [0, 1].
    """
    parts = in_time_parts(in_time, trace.slots, len(stream.retraining), len(stream.inference))
    retraining = np.array([one.cost_macs for one in stream.retraining])
    inference = np.array([one.cost_macs for one in stream.inference])
    profits = np.array([one.profit for one in stream.inference])
    offered = offered_profits(trace.requests, trace.budget_macs, retraining, inference, profits, parts)
    offered[trace.requests == 0] = np.nan
    return parts, offered


def _parts_chosen(
    stream: StreamTask, name: str, slots: Array, pairs: Sequence[Pair], chosen: Array, in_time: Array
) -> Array:
    """Return the in-time part of each of the slots' pairs; there is none of a dominated configuration."""
    places = np.zeros((len(pairs), 2), np.intp)
    for number, (retraining, inference) in enumerate(pairs):
        try:
            places[number] = stream.retraining.index(retraining), stream.inference.index(inference)
        except ValueError:
            slot = int(slots[np.flatnonzero(chosen == number)[0]])
            found = f"chooses {retraining.name!r} beside {inference.name!r}, of which one is dominated"
            wanted = "in-time parts are given of undominated configurations only; choose among those of the task"
            raise AllocatorError(name, slot, found, wanted) from None
    i, j = places[chosen].T
    parts: Array = in_time[slots - 1, i, j]
    return parts


def _decide(
    guard: Guard,
    stream: StreamTask,
    profile: Profile,
    trace: Trace,
    fitting: Array,
    served: Array,
    curves: Sequence[LearningCurve],
    in_time: Array | None,
) -> list[Allocation]:
    """Ask for every slot's allocation, and tell between them what a server would have seen."""
    if guard.decides_at_once:
        return guard.decide_all(trace.requests, trace.budget_macs, in_time)
    corruptions, severities = _drift(trace)
    choice, allocations, extent = Choice(profile, guard.name), [], RunningExtent(profile.memory)
    for told, number in zip(told_slots(trace.requests, trace.budget_macs, in_time), served.tolist(), strict=True):
        slot, requests, fits = told.index, told.requests[0], bool(fitting[told.index - 1])
        allocations.append(guard.decide(told))
        agreement, late, labelled = None, 0.0, 0.0
        pair = choice.pair(slot, allocations[-1].streams[0])
        retraining, inference = pair if fits else (stream.retraining[0], stream.inference[0])
        if in_time is not None:
            done = [(retraining, inference)]
            (part,) = _parts_chosen(stream, guard.name, np.array([slot]), done, np.zeros(1, np.intp), in_time)
            late = number - min(part * requests, number)
        if fits and requests:
            labelled = requests * profile.sampling_ratio(retraining.name)
        if labelled > 0:
            teacher = profile.teacher_accuracy(corruptions[slot - 1], severities[slot - 1])
            agreement = min(float(curves[slot - 1](extent.value)) * teacher, 1.0)
        extent.add(requests, retraining.profit)
        guard.observe(
            Observation(
                slot, trace.stream, requests, number, late, requests - number, 1.0, agreement,
                retraining=retraining.name, inference=inference.name, labels=labelled,
                budget_macs=told.budgets_macs[0], told=requests,
            )
        )  # fmt: skip
    return allocations


def _drift(trace: Trace) -> tuple[Sequence[str | None], Sequence[int | None]]:
    return trace.corruption or [None] * trace.slots, trace.severity or [None] * trace.slots
