"""Small profiles, tasks, traces and scenarios for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

import orric
from orric.configuration import undominated
from orric.learning import LearningExtent
from orric.scenario import Gpu, Stream

ROOT = Path(__file__).resolve().parents[1]
PROFILES = ROOT / "traces" / "profiles"
CIFAR = sorted(PROFILES.glob("cifar10c-*.toml"))
Pairs = Sequence[tuple[float, float]]

RETRAINING: Pairs = ((0.0, 0.0), (0.1, 1e6), (0.3, 3e6), (1.0, 1e7))
INFERENCE: Pairs = ((0.6, 1e6), (0.9, 2e6), (1.0, 4e6))


def retraining_of(pairs: Pairs) -> tuple[orric.RetrainingConfiguration, ...]:
    """Name retraining configurations r0, r1, ... from (profit, cost)."""
    return tuple(
        orric.RetrainingConfiguration(name=f"r{k}", profit=profit, cost_macs=cost)
        for k, (profit, cost) in enumerate(pairs)
    )


def inference_of(pairs: Pairs) -> tuple[orric.InferenceConfiguration, ...]:
    """Name inference configurations i0, i1, ... from (profit, cost)."""
    return tuple(
        orric.InferenceConfiguration(name=f"i{k}", profit=profit, cost_macs=cost)
        for k, (profit, cost) in enumerate(pairs)
    )


def build_profile(retraining: Pairs = RETRAINING, inference: Pairs = INFERENCE, **changes: Any) -> orric.Profile:
    """Return a valid profile with a few things changed."""
    values: dict[str, Any] = {
        "name": "small",
        "best_accuracy": 0.9,
        "slope_floor": 0.01,
        "retraining": retraining_of(retraining),
        "inference": inference_of(inference),
        "curve": orric.Exponential(c=0.85, a=0.35, k=3.0),
    }
    return orric.Profile(**{**values, **changes})


def write_profile(profile: orric.Profile, path: Path) -> Path:
    """Write a profile as a TOML file, format 1."""
    path.write_text(tomli_w.dumps({"format": 1, **profile.model_dump(exclude_none=True)}))
    return path


def build_task(
    horizon: int,
    retraining: Pairs = RETRAINING,
    inference: Pairs = INFERENCE,
    requests: tuple[float, float] = (1.0, 1000.0),
    memory: LearningExtent | None = None,
) -> orric.Task:
    """Return the task of one stream."""
    stream = orric.StreamTask(
        name="stream-1",
        retraining=undominated(retraining_of(retraining)),
        inference=undominated(inference_of(inference)),
        best_accuracy=0.9,
        slope_floor=0.01,
        least_requests=requests[0],
        most_requests=requests[1],
        memory=memory or LearningExtent(),
    )
    return orric.Task(horizon, (stream,))


def build_scenario(profile_path: Path, **changes: Any) -> orric.Scenario:
    """Return a valid scenario; keys of Gpu and Stream are given plainly beside those of Scenario."""
    # What is served when is easiest to say by hand where nobody waits for others.
    gpu: dict[str, Any] = {
        "macs_per_s": 1e9,
        "budget": {"kind": "uniform", "low": 0.1, "high": 1.0},
        "sharing": {"model": "fluid"},
    }
    stream: dict[str, Any] = {
        "name": "camera-1",
        "profile": str(profile_path),
        "requests": {"kind": "constant", "per_slot": 500},
    }
    values: dict[str, Any] = {"name": "small", "slots": 12, "slot_s": 8.0, "spare": "idle", "allocators": ("orric",)}
    for key, value in changes.items():
        owner = gpu if key in ("macs_per_s", "budget", "sharing") else stream if key in Stream.model_fields else values
        owner[key] = value
    return orric.Scenario(**{**values, "gpu": (Gpu(**gpu),), "stream": (Stream(**stream),)})


def random_trace(seed: int, slots: int = 40, most: int = 1000, **changes: Any) -> orric.Trace:
    """Return a trace with budgets between the cheapest and beyond the dearest pair of the small profile."""
    rng = np.random.default_rng(seed)
    requests = rng.integers(1, most + 1, slots).astype(float)
    return orric.Trace(requests=requests, budget_macs=requests * rng.uniform(1e6, 1.6e7, slots), **changes)
