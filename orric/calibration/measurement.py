"""Measure a student and a teacher by ONNX Runtime: accuracy, latency by batch, what retraining and swapping take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from orric.calibration.colocation import Requests, Served, Server, Turns, batch_seconds, colocated
from orric.exceptions import CalibrationError
from orric.profile import BatchLatency, Colocation, Profile, Swap
from orric.retraining.loop import FULL_PX, Student
from orric.retraining.training import optimizer_for, single_threaded, train
from orric.vision.datasets import Dataset, to_input
from orric.vision.onnx_sessions import open_session, run

Array = np.ndarray[Any, np.dtype[np.float64]]
CLEAN_SAMPLES = 3000
SIZES = (1, 2, 4, 8, 16, 32, 64)
USUAL = 32
REPEATS, COLOCATED = 6, 4
BATCHES = 100
ROUND_S = 0.1
# Rounds that a switch is looked at in, and how long after it requests may still take longer.
SWITCHES, AWAKE_S = 5, 2e-3


def accuracies_by_resolution(model: bytes, dataset: Dataset, resolutions_px: list[int], seed: int) -> dict[int, float]:
    """Return the accuracy on clean held-out images at each resolution."""
    session = open_session(model)
    images, labels = dataset.draw(CLEAN_SAMPLES, np.random.default_rng(seed), "held_out")
    return {px: float((run(session, to_input(images, px)).argmax(axis=1) == labels).mean()) for px in resolutions_px}


@dataclass(frozen=True)
class Latency:
    """How long batches take at one resolution, on one thread.

    Attributes:
        seconds: Median time of a batch of each of `SIZES`.
        fixed_s: Seconds for any batch, fitted.
        each_s: Seconds for each of its images, fitted.
    """

    seconds: tuple[float, ...]
    fixed_s: float
    each_s: float

    @property
    def usual_s(self) -> float:
        """Seconds per image in batches of 32."""
        return self.seconds[SIZES.index(USUAL)] / USUAL

    def table(self, inference: str) -> BatchLatency:
        """Return it as a profile keeps it."""
        return BatchLatency(inference=inference, fixed_s=shortened(self.fixed_s), each_s=shortened(self.each_s))


def latencies(profile: Profile, models: Sequence[Served]) -> list[Latency]:
    """Measure batches of models through a server process on a core of its own, as requests will be served.

    Args:
        profile: With [models].
        models: What is measured, side by side.
    """
    with colocated(profile, models) as server:
        seconds = batch_seconds(server, len(models), SIZES, REPEATS)
    return [Latency(tuple(row.tolist()), *affine(np.array(SIZES, float), row)) for row in seconds]


def affine(sizes: Array, seconds: Array) -> tuple[float, float]:
    """Fit seconds = fixed + size x each, by least squares of the relative errors; neither is negative.

    >>> fixed, each = affine(np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0, 9.0]))
    >>> round(fixed, 9), round(each, 9)
    (1.0, 2.0)
    """
    from scipy.optimize import nnls

    terms = np.stack([np.ones_like(sizes), sizes], axis=1) / seconds[:, None]
    (fixed, each), _ = nnls(terms, np.ones_like(seconds))
    return float(fixed), float(each)


def colocation(profile: Profile, served: Served) -> Colocation:
    """Measure what serving suffers from retraining beside it on the same core.

    Alone, beside and in turns alternate, so that a machine that slows down slows all three.
    """
    alone, beside, lost = [], [], []
    requests = Requests(np.zeros(BATCHES * USUAL), USUAL)
    with colocated(profile, [served], beside=True) as server:
        for _ in range(min(REPEATS, COLOCATED)):
            # With all of a round for itself the server is alone: the trainer stands still.
            alone.append(server.run(requests, Turns(ROUND_S, 1.0))[-1] / BATCHES)
            beside.append(server.run(requests)[-1] / BATCHES)
            lost.append(switch_seconds(server, Turns(ROUND_S, 0.5), SWITCHES * ROUND_S))
    return Colocation(
        slowdown=shortened(float(np.median(beside) / np.median(alone))), switch_s=shortened(float(np.median(lost)))
    )


def switch_seconds(server: Server, turns: Turns, seconds: float) -> float:
    """Return what is lost at the begin of a turn: until the server is awake, and its caches know the model again.

    The server always has requests meanwhile. A turn begins somewhere within the request that the last one cut off, so
    half of it is left on average; what the first requests of a turn take beyond that and beyond what requests usually
    take is lost.

    Args:
        server: With a trainer beside it.
        turns: How they take turns.
        seconds: How long to look, some rounds.
    """
    each = float(np.median(np.diff(server.run(Requests(np.zeros(BATCHES)), Turns(turns.round_s, 1.0)))))
    slice_s = turns.serving * turns.round_s
    done = server.run(Requests(np.zeros(max(round(seconds * turns.serving / each), 1))), turns)
    begun = np.floor(done / turns.round_s)
    phases = done - begun * turns.round_s
    usual = float(np.median(np.diff(done)))
    first = max(min(round(AWAKE_S / usual), int(slice_s / usual) // 2), 1)
    # The first round comes without a turn of the trainer before it, and a run may end within the last.
    lost = []
    for number in range(1, int(begun[-1])):
        there = phases[begun == number]
        if len(there) >= first:
            lost.append(there[first - 1] - (first - 0.5) * usual)
    if not lost:
        found = f"a request takes {1e3 * usual:.3g} ms, too long for turns of {1e3 * slice_s:.3g} ms"
        raise CalibrationError("colocation", found, "take a smaller model")
    # By chance the loss may come out a little below nothing.
    return max(float(np.median(lost)), 0.0)


@dataclass(frozen=True)
class RetrainingTimes:
    """What retraining takes on one thread, in seconds.

    Attributes:
        labelling_s: Per sample, by the teacher.
        training_s: Per sample, for the steps and the statistics.
        staging_s: Per retraining: agreement with the teacher, new weights into the model, a session of it, the checks.
        swapping_s: Per retraining: how long serving stands still.
    """

    labelling_s: float
    training_s: float
    staging_s: float
    swapping_s: float

    def swap(self, samples: int) -> Swap:
        """Return the swap's part of retraining on a number of samples."""
        whole = samples * (self.labelling_s + self.training_s) + self.staging_s
        return Swap(pause_s=shortened(self.swapping_s), swapping_part=shortened(min(self.staging_s / whole, 0.49)))


def retraining_times(profile: Profile, samples: int = 100, repeats: int = 7) -> RetrainingTimes:
    """Time the parts of retraining on held-out images; medians."""
    student = Student(profile)
    images, _ = student.dataset.draw(samples, np.random.default_rng(0), "held_out")
    rng = np.random.default_rng(0)
    found = []
    for _ in range(repeats):
        begun = time.perf_counter()
        labels = student.label(images)
        labelled = time.perf_counter()
        student.retrain(images, rng, labels)
        staged = time.perf_counter()
        student.swap()
        swapped = time.perf_counter()
        steps_s = _steps_seconds(student, images, labels, profile)
        found.append((labelled - begun, steps_s, staged - labelled - steps_s, swapped - staged))
    labelling_s, training_s, staging_s, swapping_s = np.median(np.array(found), axis=0).tolist()
    return RetrainingTimes(labelling_s / samples, training_s / samples, max(staging_s, 0.0), swapping_s)


def _steps_seconds(student: Student, images: Any, labels: Any, profile: Profile) -> float:
    """Return what the training steps alone take, on a copy of the student's network."""
    import copy

    network = copy.deepcopy(student.network)
    optimizer = optimizer_for(network, profile.training)
    device, rng = profile.training.device, np.random.default_rng(0)
    inputs, targets = torch.from_numpy(to_input(images, FULL_PX)).to(device), torch.from_numpy(labels).to(device)
    with single_threaded():
        begun = time.perf_counter()
        train(network, optimizer, inputs, targets, rng, profile.training)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun


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
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("orric", "numpy", "scipy", "torch", "onnx", "onnxruntime", "scikit-learn", "pillow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def shortened(value: float) -> float:
    """Round to six digits, as profiles are written."""
    return float(f"{value:.6g}")
