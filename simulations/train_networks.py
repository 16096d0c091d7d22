r"""Train the networks of the ORRIC paper, or others, for the experiment of simulations/paper_cifar10c.py.

usage: python simulations/train_networks.py --data FOLDER --device cuda [--output results/published]

Trains MobileNetV2 as the student, ResNet50 as the teacher and a second teacher on clean images alone, all on the part
of CIFAR-10 that is for pretraining (20,000 images), and writes their weights, with their hashes in hashes.json. An
interrupted training goes on from its last whole epoch. Then calibrate them and run the experiment:

  orric calibrate --dataset cifar10 --data FOLDER --student OUT/cifar10-student.safetensors \\
    --teacher OUT/cifar10-teacher.safetensors --corruptions noise --name cifar10-noise --statistics sampled --newest \\
    --output OUT/cifar10-noise.toml
  (likewise blur, weather and digital)
  python simulations/paper_cifar10c.py --data FOLDER --profiles OUT --device cuda --output OUT/results
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from orric.calibration.pretraining import Pretraining, forget, pretrain_all, recipe_for
from orric.exceptions import OrricError
from orric.retraining.models import architecture_of, sha256
from orric.vision.datasets import load_dataset
from orric.vision.networks import NETWORKS


def main() -> None:
    """Train what is missing and record the hashes."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10 [default: $ORRIC_DATA]")
    parser.add_argument("--student", default="mobilenetv2", choices=sorted(NETWORKS), help="[mobilenetv2]")
    parser.add_argument("--teacher", default="resnet50", choices=sorted(NETWORKS), help="[resnet50]")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="[cpu]")
    parser.add_argument("--epochs", type=int, help="[as the recipe of photographs says]")
    parser.add_argument("--images", type=int, help="of the pretraining part, the first [all]")
    parser.add_argument("--output", type=Path, default=Path("results/published"), help="folder of weights")
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit("train_networks: --device cuda: there is no such device; leave --device out")
    recipe = recipe_for("cifar10")
    if asked.epochs is not None:
        recipe = replace(recipe, epochs=asked.epochs)
    try:
        load_dataset("cifar10", asked.data)
    except OrricError as error:
        sys.exit(f"train_networks: {error}")
    asked.output.mkdir(parents=True, exist_ok=True)
    work = [
        Pretraining(
            "cifar10", asked.data, role, asked.output / f"cifar10-{name}.safetensors", one, architecture, asked.images,
            asked.device,
        )
        for name, role, architecture, one in (
            ("student", "student", asked.student, recipe),
            ("teacher", "teacher", asked.teacher, recipe),
            ("clean-teacher", "teacher", asked.teacher, replace(recipe, corruptions=())),
        )
    ]  # fmt: skip
    missing = [one for one in work if not one.path.exists()]
    # One after the other on one device; side by side on a processor's cores.
    pretrain_all(
        missing,
        1 if asked.device == "cuda" else None,
        lambda part: print(f"{100 * part:.0f} % of training", flush=True),
    )
    forget(asked.output)
    hashes = {
        one.path.name: {"architecture": architecture_of(one.path, one.role), "sha256": sha256(one.path)} for one in work
    }
    (asked.output / "hashes.json").write_text(json.dumps(hashes, indent=2) + "\n")
    for name, one in hashes.items():
        print(f"{name}: {one['architecture']}, sha256 {one['sha256']}")


if __name__ == "__main__":
    main()
