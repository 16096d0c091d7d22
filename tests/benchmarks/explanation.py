"""Report how faithful every method's maps are: clean and corrupted images, before and after retraining.

usage: python tests/benchmarks/explanation.py [--data FOLDER] [--images N] [--corruption NAME] [--severity S]
           [--slots N] [--methods NAME ...] [--layer NAME] [--processes N]
       (500 images of CIFAR-10: some ten minutes on two idle cores)

FOLDER holds CIFAR-10; without it the digits are explained. The student is retrained by the real loop over slots of one
corruption, on other images than those explained (of the digits there are too few: on the same, without their labels).
Every network is explained for what it predicts itself. The model is asked as an ONNX Runtime session, a black box,
by the mean of the image's colour where a patch is masked; activation maps come from the torch network's default layer.

Ends with the claim of MoXI's paper, condition by condition: its insertion AUC is at least that of every other method.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import orric
from orric.explanation.explain import METHODS, Maps, explain
from orric.explanation.faithfulness import Faithfulness, faithfulness
from orric.explanation.patches import BlackBox, PatchGrid
from orric.retraining.accuracy import drifted
from orric.retraining.loop import Student
from orric.vision.datasets import FULL_PX, to_input
from orric.vision.onnx_sessions import open_session

ROOT = Path(__file__).resolve().parents[2]
PATCH_PX = 4
PER_SLOT = 500
# Images on which maps of patches are drawn a second time for ADCC, at 2,080 passes each.
AGAIN = 100
COLUMNS = ("average_drop", "increase", "insertion_auc", "deletion_auc", "adcc")
RANDOM = "random order"
# The order of deletion costs as much as that of insertion and is no rival to it: it is measured where asked for.
DEFAULT = [*(method for method in METHODS if method != "moxi-deletion"), RANDOM]
Array = np.ndarray[Any, np.dtype[np.float32]]
# By method: the measures, images per second, and the standard error of insertion AUC.
Rows = dict[str, tuple[dict[str, float], float, float]]


@dataclass(frozen=True)
class Condition:
    """Images and the network that they are explained of."""

    name: str
    network: nn.Module
    model: bytes
    images: Array
    labels: np.ndarray[Any, np.dtype[np.int64]]


def black_box_of(model: bytes) -> BlackBox:
    """Return an ONNX model as a function from images to probabilities."""
    session = open_session(model)
    name = session.get_inputs()[0].name

    def probabilities(images: Any) -> Any:
        scores = session.run(None, {name: images})[0].astype(float)
        parts = np.exp(scores - scores.max(axis=1, keepdims=True))
        return parts / parts.sum(axis=1, keepdims=True)

    return probabilities


def random_maps(images: Array, classes: Any) -> Maps:
    """Return maps of patches that know nothing of the model."""
    grid = PatchGrid.over(*images.shape[2:], PATCH_PX)
    values = np.random.default_rng(1).random((len(images), grid.rows, grid.columns))
    return Maps(values, classes, RANDOM, "", "", images.shape[2:])


def explainer_of(
    condition: Condition, method: str, layer: str | None, black_box: BlackBox
) -> Callable[[Array, Any], Maps]:
    """Return what draws a method's maps."""
    if method == RANDOM:
        return random_maps
    asked = condition.network if METHODS[method].direction is None else black_box
    return lambda images, classes: explain(asked, images, classes, method, layer, patch_px=PATCH_PX)


def measured(condition: Condition, methods: list[str], layer: str | None) -> tuple[float, Rows]:
    """Return the accuracy of a condition, and the row of every method."""
    torch.set_num_threads(1)
    black_box, rows = black_box_of(condition.model), {}
    images = condition.images
    classes = np.concatenate([black_box(part) for part in np.array_split(images, len(images) // 50 + 1)]).argmax(axis=1)
    for method in methods:
        draw = explainer_of(condition, method, layer, black_box)
        draw(images[:1], classes[:1])  # the first call loads and allocates
        begun = time.perf_counter()
        maps = draw(images, classes)
        speed = len(images) / (time.perf_counter() - begun)
        costly = method.startswith("moxi")
        found = faithfulness(black_box, images, maps, None if costly else draw, PATCH_PX)
        means = found.means
        if costly:
            means["adcc"] = adcc_of_some(condition, maps, draw, black_box).means["adcc"]
        error = float(found.insertion_auc.std(ddof=1) / np.sqrt(len(images)))
        rows[method] = means, speed, error
        print(f"{condition.name}: {method}, {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return float((classes == condition.labels).mean()), rows


def adcc_of_some(condition: Condition, maps: Maps, draw: Callable[..., Maps], black_box: BlackBox) -> Faithfulness:
    """Measure the first images alone, maps drawn anew."""
    part = Maps(maps.values[:AGAIN], maps.classes[:AGAIN], maps.method, "", maps.utility, maps.size_px)
    return faithfulness(black_box, condition.images[:AGAIN], part, draw, PATCH_PX)


def conditions(options: argparse.Namespace) -> list[Condition]:
    """Retrain the student, and return it before and after, on the same images clean and corrupted."""
    profile = orric.Profile.load(ROOT / "traces/profiles" / ("cifar10-weather.toml" if options.data else "digits.toml"))
    assert profile.models is not None
    if options.data:
        models = profile.models.model_copy(update={"data": str(Path(options.data).resolve())})
        profile = profile.model_copy(update={"models": models})
    student = Student(profile)
    dataset, rng = student.dataset, np.random.default_rng(1)
    chosen = np.sort(rng.choice(dataset.streamed, options.images, replace=False))
    shown = {
        "clean": to_input(dataset.images[chosen], FULL_PX),
        f"{options.corruption} {options.severity}": to_input(
            dataset.corrupted(chosen, rng, options.corruption, options.severity)[0], FULL_PX
        ),
    }
    networks = {"before": (copy.deepcopy(student.network), student.served()[0])}
    for slot in range(1, options.slots + 1):
        seen, _ = drifted(dataset, 1, slot, PER_SLOT, options.corruption, options.severity, part="calibrated")
        student.retrain(seen, rng)
        student.swap()
        print(f"retrained on slot {slot} of {options.slots}", file=sys.stderr, flush=True)
    networks["after"] = (copy.deepcopy(student.network), student.served()[0])
    return [
        Condition(f"{kind}, {when} retraining", network.to(memory_format=torch.contiguous_format), model, images,
                  dataset.labels[chosen])
        for kind, images in shown.items()
        for when, (network, model) in networks.items()
    ]  # fmt: skip


def report(name: str, images: int, accuracy: float, rows: Rows) -> None:
    """Print a condition's table, and whether MoXI's insertion AUC is the highest."""
    print(f"\n{name}: {images} images, accuracy {100 * accuracy:.1f} %")
    heads = ("avg drop", "increase", "insertion", "deletion", "ADCC", "images/s")
    print(f"{'method':16}" + "".join(f"{head:>11}" for head in heads))
    for method, (means, speed, _) in rows.items():
        cells = [f"{means[column]:11.3f}" for column in COLUMNS]
        print(f"{method:16}" + "".join(cells) + (f"{'-':>11}" if method == RANDOM else f"{speed:11.1f}"))
    if "moxi" not in rows or len(rows) < 2:
        return
    scores = {method: means["insertion_auc"] for method, (means, _, _) in rows.items()}
    ours = scores.pop("moxi")
    best = max(scores, key=scores.__getitem__)
    verdict = "pass" if ours >= scores[best] else "FAIL"
    errors = max(error for _, _, error in rows.values())
    print(f"insertion AUC of moxi {ours:.3f}, the highest other {scores[best]:.3f} ({best}): {verdict}")
    print(f"(standard errors of insertion AUC at most {errors:.3f}; ADCC of moxi on {min(AGAIN, images)} images)")


def main() -> int:
    """Print one table for each condition."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of CIFAR-10; left out, the digits")
    parser.add_argument("--images", type=int, default=500, help="how many are explained (default 500)")
    parser.add_argument("--corruption", default="fog")
    parser.add_argument("--severity", type=int, default=4)
    parser.add_argument("--slots", type=int, default=8, help=f"slots of {PER_SLOT} images to retrain on (default 8)")
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, RANDOM], default=DEFAULT)
    parser.add_argument("--layer", help="dotted name of the layer of activation maps (default: the last)")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    begun = time.perf_counter()
    found = conditions(options)
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        every = len(found)
        results = list(pool.map(measured, found, [options.methods] * every, [options.layer] * every))
    for condition, (accuracy, rows) in zip(found, results, strict=True):
        report(condition.name, len(condition.images), accuracy, rows)
    print(f"\n{time.perf_counter() - begun:.0f} s in {options.processes} processes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
