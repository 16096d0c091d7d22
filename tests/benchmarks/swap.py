"""Report where the time between two sets of weights goes: label, train, fuse, replace, open, check, swap.

usage: python tests/benchmarks/swap.py      (about half a minute on two cores)

The shipped student under contrast, retrained on 100 images a slot, medians over slots; then the same student as a
user's own ONNX model. The target is on what comes on top of labelling and of the training step.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import orric
from orric.retraining import loop
from orric.retraining.accuracy import drifted
from orric.retraining.models import ServedNetwork, load_network

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SLOTS = 40
SAMPLES = 100
TARGET_MS = 25.0
PARTS = ("labelling", "agreement", "training", "fusing", "replacing", "opening", "checking", "swap")


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Add the milliseconds of every part to `spent` while the block runs; parts inside parts count once each."""
    depth: list[float] = []

    def watched(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **settings: Any) -> Any:
            depth.append(0.0)
            begun = time.perf_counter()
            try:
                return function(*args, **settings)
            finally:
                whole, inside = 1e3 * (time.perf_counter() - begun), depth.pop()
                spent[part] += whole - inside
                if depth:
                    depth[-1] += whole

        return call

    places = [
        (loop.Student, "label", "labelling"),
        (loop.Student, "classify", "agreement"),
        (loop, "train", "training"),
        (ServedNetwork, "weights", "fusing"),
        (ServedNetwork, "replaced", "replacing"),
        (loop, "open_session", "opening"),
        (loop.Student, "_check", "checking"),
        (loop.Student, "swap", "swap"),
    ]
    patches = [mock.patch.object(owner, name, watched(part, getattr(owner, name))) for owner, name, part in places]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def measure(profile: orric.Profile) -> dict[str, float]:
    """Return the medians in ms of every part, and of the whole of retraining and swapping."""
    student, rng = loop.Student(profile), np.random.default_rng(1)
    rows: list[dict[str, float]] = []
    for slot in range(1, SLOTS + 1):
        images, _ = drifted(student.dataset, 1, slot, SAMPLES, "contrast", 5)
        spent: dict[str, float] = defaultdict(float)
        with timed(spent):
            begun = time.perf_counter()
            labels = student.label(images)
            student.agreement(images, labels)
            student.retrain(images, rng, labels)
            student.swap()
            spent["whole"] = 1e3 * (time.perf_counter() - begun)
        spent["overhead"] = spent["whole"] - spent["labelling"] - spent["training"]
        rows.append(spent)
    # The first slots load and allocate.
    return {part: float(np.median([row[part] for row in rows[3:]])) for part in (*PARTS, "whole", "overhead")}


def own_model(folder: Path) -> Path:
    """Export the shipped student as a user would who keeps its batch norms."""
    from tests.vision.own_models import exported_whole, saved

    network = load_network(ROOT / "traces/models/digits-student.safetensors", "student", 10)
    return saved(exported_whole(network), folder / "student.onnx")


def main() -> None:
    """Print one row per part, and the overhead beside its target."""
    profile = orric.Profile.load(ROOT / "traces/profiles/digits.toml")
    assert profile.models is not None
    with tempfile.TemporaryDirectory() as folder:
        models = profile.models.model_copy(update={"student": str(own_model(Path(folder)))})
        found = [measure(profile), measure(profile.model_copy(update={"models": models}))]
    print(f"{'ms':12}{'small student':>16}{'own ONNX model':>16}")
    for part in (*PARTS, "whole", "overhead"):
        print(f"{part:12}" + "".join(f"{row[part]:16.2f}" for row in found))
    print(f"overhead beyond labelling and training: {found[0]['overhead']:.1f} ms (target {TARGET_MS:g})")


if __name__ == "__main__":
    main()
