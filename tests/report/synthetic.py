"""Results of any size, made of arrays and not simulated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orric.latency import LatencyHistogram
from orric.records import STAGES, Result

DEADLINE_S = 2.0


def synthetic(
    slots: int, streams: int, allocators: Sequence[str], gpus: int = 2, seed: int = 1, deadlines: bool = True
) -> list[Result]:
    """Return one result per allocator: waves of requests, queues that fill at the peaks, drift, and some faults."""
    rng = np.random.default_rng(seed)
    names, places = [f"cam-{k:03d}" for k in range(streams)], np.arange(streams) % gpus
    time = np.arange(slots)[:, None]
    rate = 200 * (1 + 0.6 * np.sin(2 * np.pi * (time / max(slots / 5, 2) + np.arange(streams) / streams)))
    requests = rng.poisson(rate).astype(float)
    severity = (time * 6 // slots + np.arange(streams)[None] // 3) % 6
    found = []
    for n, allocator in enumerate(allocators):
        capacity = rng.normal(300 - 12 * n, 40, (slots, streams)).clip(60)
        backlog = np.minimum(requests - capacity, 900 / (n + 1))
        waiting = np.floor(np.maximum(0, backlog))
        before = np.vstack([np.zeros(streams), waiting[:-1]])
        ended = before + requests - waiting
        shed = np.floor(0.02 * ended * (waiting > 100))
        served = ended - shed
        late = np.floor(served * np.clip(waiting / 400, 0, 0.9)) if deadlines else np.zeros_like(served)
        accuracy = np.clip(0.93 - 0.07 * severity - 0.02 * n + rng.normal(0, 0.02, served.shape), 0, 1)
        correct, p50_s = served * accuracy, 0.2 + waiting / 300 + rng.exponential(0.02, served.shape)
        training = np.where((time + n) % 4 == 0, 0.3, 0.0) / streams * gpus
        serving = served / 300 / streams * gpus * 0.6
        uses = {"serving": serving, "training": training, "labelling": training / 4, "sampling": 0 * training}
        uses["swapping"] = training / 20
        uses = {name: np.broadcast_to(uses[name], served.shape).ravel() for name in STAGES}
        columns = {
            "slot": np.repeat(np.arange(1, slots + 1), streams),
            "stream": np.tile(names, slots), "gpu": np.tile([f"gpu{k}" for k in places], slots),
            "corruption": np.full(slots * streams, "fog"), "severity": severity.ravel(),
            "requests": requests, "forecast": requests, "budget_macs": np.full(slots * streams, 6e9),
            "retraining": np.where(np.broadcast_to(training, served.shape).ravel() > 0, "full", "none"),
            "inference": np.full(slots * streams, "32px"),
            "retraining_macs": 1e9 * training + 0 * served, "inference_macs": 1e7 * served, "extent": 0 * served,
            "served": served, "shed": shed, "abandoned": 0 * served, "lost": 0 * served, "waiting": waiting,
            "late": late, "correct": correct, "correct_in_time": correct * (1 - late / np.maximum(served, 1)),
            "accuracy": np.where(served > 0, accuracy, np.nan), "batches": served, "busy": 0 * served + 0.5,
            "latency_mean_s": p50_s, "latency_p50_s": p50_s, "latency_p99_s": 4 * p50_s,
            "retrained": (training > 0) + 0 * served, "agreement": accuracy,
            "reason": np.full(slots * streams, "as ever"), **uses,
        }  # fmt: skip
        columns = {name: np.ravel(values) for name, values in columns.items()}
        gpu_columns = {
            "slot": np.repeat(np.arange(1, slots + 1), gpus),
            "gpu": np.tile([f"gpu{k}" for k in range(gpus)], slots),
            "budget_macs": np.full(slots * gpus, 6e9),
            "down": np.where(np.arange(slots * gpus) // gpus % 997 == 5, 0.4, 0.0),
            "energy_j": np.full(slots * gpus, 900.0 - 50 * n),
        }
        for name in STAGES:
            rows = uses[name].reshape(slots, streams)
            gpu_columns[name] = np.stack([rows[:, places == k].sum(axis=1) for k in range(gpus)], axis=1).ravel()
        latencies = {
            name: [LatencyHistogram.of(rng.lognormal(-1 + 0.2 * n + part / 3, 0.8, 400)) for part in range(3)]
            for name in names
        }
        found.append(
            Result(
                allocator, "simulator", "curve", seed, columns, gpu_columns, latencies, (), {}, 1.0,
                has_deadlines=deadlines,
            )
        )  # fmt: skip
    return found
