"""Random tasks of many streams, and scenarios on two GPUs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import orric
from orric.allocators.base import Task
from orric.allocators.orric import slot_weights
from orric.scenario import Gpu, Scenario, Stream

from ..builders import build_task

RNG = np.random.default_rng


def random_task(rng, streams, gpus=1, horizon=6):
    """Return streams of different profiles, memories and ranges of requests, spread over GPUs."""
    found = []
    for k in range(streams):
        retraining = [(0.0, 0.0), *sorted((float(rng.uniform(0.1, 1)), float(rng.uniform(1, 30))) for _ in range(3))]
        inference = sorted((float(rng.uniform(0.2, 1)), float(rng.uniform(1, 10))) for _ in range(3))
        memory = [
            orric.LearningExtent(),
            orric.LearningExtent(kind="window", slots=2),
            orric.LearningExtent(kind="decay", factor=0.7),
        ][k % 3]
        one = build_task(horizon, retraining, inference, (100.0, 1000.0), memory).streams[0]
        found.append(replace(one, name=f"s{k}", gpu=f"gpu{int(rng.integers(gpus))}", slope_floor=0.1))
    return Task(horizon, tuple(found), tuple(f"gpu{g}" for g in range(gpus)))


def costs_of(task, decided):
    """Return what the chosen pairs cost per request, retraining and inference apart."""
    retraining, inference = [], []
    for stream, one in zip(task.streams, decided, strict=True):
        retraining += [x.cost_macs for x in stream.retraining if x.name == one.retraining]
        inference += [x.cost_macs for x in stream.inference if x.name == one.inference]
    return np.array(retraining), np.array(inference)


def value_of(task, slot, decided):
    """Return sum_k D_k (V A^T + W A^I), straight from the weights of a single stream."""
    total = 0.0
    for stream, one, count in zip(task.streams, decided, slot.requests, strict=True):
        v, w = slot_weights(stream, task.horizon)
        retraining = next(x.profit for x in stream.retraining if x.name == one.retraining)
        inference = next(x.profit for x in stream.inference if x.name == one.inference)
        total += count * (v[slot.index - 1] * retraining + w[slot.index - 1] * inference)
    return total


def brute_force(task, slot, gpu=0):
    """Return the best value over all joint choices of the streams on one GPU."""
    values, costs = np.zeros(1), np.zeros(1)
    for stream, count in zip(task.streams, slot.requests, strict=True):
        if stream.gpu != task.gpus[gpu]:
            continue
        v, w = (weights[slot.index - 1] for weights in slot_weights(stream, task.horizon))
        pairs = [(i, j) for i in stream.retraining for j in stream.inference]
        more = np.array([count * (v * i.profit + w * j.profit) for i, j in pairs])
        spent = np.array([count * (i.cost_macs + j.cost_macs) for i, j in pairs])
        values, costs = (values[:, None] + more).ravel(), (costs[:, None] + spent).ravel()
    return values[costs <= slot.budgets_macs[gpu]].max()


def random_slot(rng, task, index, low=0.0, high=1.1):
    requests = tuple(float(x) for x in rng.integers(100, 1000, len(task.streams)))
    budgets = []
    for gpu in task.gpus:
        mine = [(s, d) for s, d in zip(task.streams, requests, strict=True) if s.gpu == gpu]
        least = sum(d * s.cheapest_macs for s, d in mine)
        most = sum(d * (s.retraining[-1].cost_macs + s.inference[-1].cost_macs) for s, d in mine)
        budgets.append(least + (most - least) * float(rng.uniform(low, high)))
    return orric.Slot(index, tuple(budgets), requests)


def two_gpus(folder, profiles, gpus=2, low=0.3, high=1.0, slots=12, requests=(200, 400), capacities=(1e9, 1e9), **more):
    """Return a scenario with one stream per profile file, all at home on the first GPU."""
    return Scenario(
        name="two",
        slots=slots,
        slot_s=8.0,
        spare="idle",
        allocators=("orric-placing",),
        gpu=tuple(
            Gpu(
                name=f"gpu{g}",
                macs_per_s=capacities[g],
                budget={"kind": "uniform", "low": low, "high": high},
                memory_bytes=more.get("memory_bytes"),
                sharing=more.get("sharing", {"model": "fluid"}),
                power={"idle_w": 10.0, "busy_w": 50.0},
            )
            for g in range(gpus)
        ),
        stream=tuple(
            Stream(
                name=f"camera-{k}",
                profile=str(path),
                gpu="gpu0",
                requests={"kind": "uniform", "low": requests[0], "high": requests[1]},
                **more.get("stream", {}),
            )
            for k, path in enumerate(profiles)
        ),
    )
