"""Turn real models into a profile."""

from __future__ import annotations

import datetime
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from orric.calibration.checkpoint import Checkpoint
from orric.calibration.colocation import Served, cores
from orric.calibration.learning import with_learning
from orric.calibration.learning_run import Progress
from orric.calibration.measurement import (
    SIZES,
    Latency,
    RetrainingTimes,
    colocation,
    latencies,
    package_versions,
    processor,
    retraining_times,
    shortened,
)
from orric.calibration.plan import Calibration
from orric.profile import Profile
from orric.real_models import Models
from orric.retraining.loop import FULL_PX
from orric.retraining.models import exported, macs_of, sha256
from orric.selection.sampling import Sampling
from orric.vision.datasets import load_dataset


def calibrate(plan: Calibration, output: Path, progress: Progress = lambda what, part: None) -> Profile:
    """Measure a student and a teacher into a profile.

    Through ONNX Runtime: accuracy, and latency by batch, at every resolution; what retraining beside it costs serving;
    what labelling, training and swapping take. Analytically: MACs. By the real loop: the student's accuracy on drifting
    streams at every sampling ratio, to which the learning curves are fitted and from which the accuracy table is taken.
    Streams whose ratio changes choose the memory, and others, on a seed that nothing was fitted to, validate.

    What is measured is kept beside the profile until that is written: interrupted, the same call goes on from there.

    Args:
        plan: What to measure.
        output: Where the profile will lie; the weights are named relative to it.
        progress: Called with what is being done and the part that is done.

    Returns:
        The profile; its provenance holds versions, processor, seeds, hashes, date and errors.

    Warns:
        UserWarning: The student is better than the teacher, the curve is flat at A^T_max, or there is one core only.
    """
    dataset, versions = load_dataset(plan.dataset, plan.data), package_versions()
    classes, resolutions = len(dataset.classes), list(plan.resolutions_px)
    student, teacher = exported(plan.student, "student", classes), exported(plan.teacher, "teacher", classes)
    macs = {px: macs_of(plan.student, "student", classes, px) for px in {*resolutions, FULL_PX}}
    teacher_macs = macs_of(plan.teacher, "teacher", classes, FULL_PX)
    table = _configurations(plan, output, macs, teacher_macs)
    # The loop needs a profile to run; only how the student learns is still unknown.
    unknown: dict[str, Any] = {
        "best_accuracy": 1.0, "slope_floor": 1e-6, "curve": {"form": "tabulated", "x": [0, 1], "y": [0.5, 0.5]}
    }  # fmt: skip
    draft = Profile(**table, **unknown).placed_in(output.parent)
    if plan.data is not None:
        draft = draft.with_data(plan.data)
    if len(cores()) < 2:
        found = "there is one core only, which server and measurement share; latencies come out too long"
        warnings.warn(f"{found}: measure where there are two", stacklevel=2)
    progress("latency at every resolution", 0.0)
    served = [*(Served(student, px) for px in resolutions), Served(teacher, FULL_PX)]
    *of_student, teacher_latency = latencies(draft, served)
    by_resolution = dict(zip(resolutions, of_student, strict=True))
    progress("retraining beside serving", 0.0)
    beside, times = colocation(draft, served[0]), retraining_times(draft)
    hashes = {"student": sha256(plan.student), "teacher": sha256(plan.teacher), "dataset": dataset.fingerprint}
    for row, px in zip(table["inference"], resolutions, strict=True):
        row["latency_s"] = shortened(by_resolution[px].usual_s)
    profile = Profile(
        **{**table, "device": {"macs_per_s": shortened(macs[resolutions[0]] / of_student[0].usual_s)}},
        **unknown,
        teacher={"accuracy": 1.0, "cost_macs": teacher_macs, "latency_s": shortened(teacher_latency.usual_s)},
        batch_latency=tuple(one.table(f"{px}px") for px, one in by_resolution.items()),
        swap=times.swap(round(plan.per_slot * float(np.mean(plan.ratios)))),
        colocation=beside,
        provenance={
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "command": "orric calibrate",
            "processor": processor(),
            "versions": versions,
            **{f"{role}_sha256": value for role, value in hashes.items()},
            **_told_of_times(by_resolution, times),
        },
    ).placed_in(output.parent)
    if plan.data is not None:
        profile = profile.with_data(plan.data)
    measured = with_learning(plan, profile, output, hashes, progress)
    return measured.model_copy(update={"models": Models(**table["models"])}).placed_in(output.parent)


def finished(output: Path) -> None:
    """Forget what was kept of a calibration, now that its profile is written."""
    Checkpoint(output, None).remove()


def _configurations(plan: Calibration, output: Path, macs: dict[int, float], teacher_macs: float) -> dict[str, Any]:
    """Return the parts of the profile that say what can be chosen; profits of inference and latencies come later."""

    def relative(path: Path) -> str:
        return Path(os.path.relpath(path.resolve(), output.resolve().parent)).as_posix()

    costs = {ratio: Sampling(ratio).macs(macs[FULL_PX], teacher_macs, plan.training.passes) for ratio in plan.ratios}
    # Published data sets lie somewhere else for everybody; one's own belongs to the profile.
    data = relative(plan.data) if plan.data is not None and plan.dataset == "images" else None
    return {
        "name": plan.name or plan.dataset,
        "retraining": [
            {"name": ratio_name(ratio), "profit": ratio, "cost_macs": costs[ratio]} for ratio in plan.ratios
        ],
        "inference": [{"name": f"{px}px", "profit": 1.0, "cost_macs": macs[px]} for px in plan.resolutions_px],
        "models": Models(
            dataset=plan.dataset,
            data=data,
            student=relative(plan.student),
            teacher=relative(plan.teacher),
            resolution_px={f"{px}px": px for px in plan.resolutions_px},
            sampling_ratio={ratio_name(ratio): ratio for ratio in plan.ratios},
        ).model_dump(exclude_none=True),
        "training": plan.training,
    }


def _told_of_times(by_resolution: dict[int, Latency], times: RetrainingTimes) -> dict[str, Any]:
    return {
        "latency": "median of batches of each size, ONNX Runtime on one thread in a process on one core; latency_s is "
        "that of batches of 32 by image, [[batch_latency]] the affine fit over all sizes",
        "batch_sizes": list(SIZES),
        "batch_seconds": {f"{px}px": [shortened(s) for s in one.seconds] for px, one in by_resolution.items()},
        "labelling_s_per_sample": shortened(times.labelling_s),
        "training_s_per_sample": shortened(times.training_s),
        "staging_s": shortened(times.staging_s),
        "swapping_s": shortened(times.swapping_s),
        "inference_cost": "convolutions and linear layers, counted analytically",
    }


def ratio_name(ratio: float) -> str:
    """Name a retraining configuration by its sampling ratio.

    >>> ratio_name(0.0), ratio_name(0.05), ratio_name(1.0)
    ('none', '5%', '100%')
    """
    return f"{100 * ratio:g}%" if ratio else "none"
