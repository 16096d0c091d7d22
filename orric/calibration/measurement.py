"""Measure a student and a teacher by ONNX Runtime: accuracy, latency, cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from orric.vision.datasets import Dataset, to_input
from orric.vision.onnx_export import BATCH, open_session, run

CLEAN_SAMPLES = 3000
REPEATS = 40


def accuracies_by_resolution(model: bytes, dataset: Dataset, resolutions_px: list[int], seed: int) -> dict[int, float]:
    """Return the accuracy on clean held-out images at each resolution."""
    session = open_session(model)
    images, labels = dataset.draw(CLEAN_SAMPLES, np.random.default_rng(seed), "held_out")
    return {px: float((run(session, to_input(images, px)).argmax(axis=1) == labels).mean()) for px in resolutions_px}


def latencies_by_resolution(model: bytes, resolutions_px: list[int]) -> dict[int, float]:
    """Return the seconds per image at each resolution, in batches of `BATCH` on one thread.

    The resolutions take turns, so that a passing disturbance hits all alike, and the median is taken.
    """
    session = open_session(model)
    name = session.get_inputs()[0].name
    inputs = {px: np.zeros((BATCH, 3, px, px), np.float32) for px in resolutions_px}
    seconds: dict[int, list[float]] = {px: [] for px in resolutions_px}
    for repeat in range(REPEATS + 5):
        for px in resolutions_px:
            begun = time.perf_counter()
            session.run(None, {name: inputs[px]})
            if repeat >= 5:  # the first calls allocate memory
                seconds[px].append((time.perf_counter() - begun) / BATCH)
    return {px: float(np.median(values)) for px, values in seconds.items()}


def processor() -> str:
    """Name the processor, for provenance."""
    import platform
    from pathlib import Path

    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def package_versions() -> dict[str, Any]:
    """Return the versions of the packages that a measurement depends on."""
    from importlib.metadata import version

    return {name: version(name) for name in ("orric", "numpy", "scipy", "torch", "onnx", "onnxruntime", "scikit-learn")}
