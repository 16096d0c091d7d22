"""Report how far simulated accuracies are off the real loop, on streams that no profile was fitted to.

usage: python tests/benchmarks/prediction.py --data FOLDER [--output OUTPUT]      (about 15 minutes on two cores)

FOLDER holds CIFAR-10 in a published layout. The profiles traces/profiles/cifar10-*.toml were calibrated on training
images, in rising severities, at ratios that do not follow any budget. Here are test images under other orders of
severity, horizons, budgets and allocators. Every allocator decides once, with the real models, and the learning curve
and the accuracy table predict its mean accuracy on the same allocations. Two more settings drift by a corruption that
the profile never measured. Beside OUTPUT finished runs are kept, so an interrupted report goes on
from there.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import orric
from orric.calibration.checkpoint import Checkpoint
from orric.calibration.plan import GROUPS
from orric.comparison import Failure, Model, paired_line
from orric.drift import Drift, Periodic, Ramp, RandomWalk, Steps
from orric.profile import Profile
from orric.workers import in_parallel

ROOT = Path(__file__).resolve().parents[2]
ALLOCATORS = ("orric", "retraining-greedy", "focus-shift", "uniform-90", "random", "inference-only")
GOOD, WORST, TAU = 1.5, 4.0, 0.8


@dataclass(frozen=True)
class Setting:
    """A stream that was not used in calibration."""

    corruption: str
    order: str
    slots: int
    low: float
    high: float
    seed: int
    measured: bool = True

    @property
    def drift(self) -> Drift:
        """How severity goes."""
        name = self.corruption
        kinds: dict[str, Drift] = {
            "falling": Steps(corruption=name, severities=(5, 4, 3, 2, 1)),
            "shuffled": Steps(corruption=name, severities=(3, 1, 5, 2, 4)),
            "sudden": Steps(corruption=name, severities=(1, 5)),
            "there and back": Periodic(corruption=name, low=1, high=5, period_slots=20),
            "random walk": RandomWalk(corruption=name, low=1, high=5, move=0.4, start=2),
            "ramp": Ramp(corruption=name, start=5, end=1),
        }
        return kinds[self.order]

    @property
    def budgets(self) -> str:
        """Name of the budgets."""
        return f"{self.low:g} to {self.high:g}"


SETTINGS = (
    Setting("gaussian_noise", "falling", 50, 0.11, 0.5, 11),
    Setting("impulse_noise", "random walk", 80, 0.3, 1.0, 12),
    Setting("speckle_noise", "there and back", 40, 0.11, 1.0, 13),
    Setting("defocus_blur", "shuffled", 30, 0.11, 0.4, 14),
    Setting("glass_blur", "random walk", 60, 0.5, 0.9, 15),
    Setting("zoom_blur", "ramp", 100, 0.11, 1.0, 16),
    Setting("snow", "sudden", 40, 0.11, 0.7, 17),
    Setting("fog", "there and back", 80, 0.2, 0.6, 18),
    Setting("brightness", "falling", 30, 0.11, 1.0, 19),
    Setting("contrast", "shuffled", 60, 0.11, 0.5, 20),
    Setting("jpeg_compression", "random walk", 40, 0.4, 1.0, 21),
    Setting("saturate", "sudden", 100, 0.11, 0.8, 22),
    Setting("shot_noise", "shuffled", 60, 0.11, 1.0, 25),
    Setting("motion_blur", "sudden", 80, 0.2, 0.8, 26),
    Setting("gaussian_blur", "there and back", 60, 0.11, 0.6, 27),
    Setting("frost", "ramp", 50, 0.11, 1.0, 28),
    Setting("spatter", "random walk", 100, 0.3, 0.9, 29),
    Setting("elastic_transform", "falling", 60, 0.11, 0.7, 30),
    Setting("pixelate", "shuffled", 80, 0.11, 1.0, 31),
    Setting("motion_blur", "falling", 50, 0.11, 0.9, 23, measured=False),
    Setting("frost", "random walk", 50, 0.11, 0.9, 24, measured=False),
)
PER_SLOT = 200
# Whose overall curve predicts a corruption that it never saw.
ELSEWHERE = {"blur": "weather", "weather": "digital"}


def profile_of(setting: Setting, data: Path | None) -> Profile:
    """Return the profile of a setting's group, or of one that knows nothing of it, with its overall curve alone."""
    group = next(name for name, members in GROUPS.items() if setting.corruption in members)
    if not setting.measured:
        group = ELSEWHERE[group]
    profile = Profile.load(ROOT / f"traces/profiles/cifar10-{group}.toml")
    if not setting.measured:
        profile = profile.model_copy(update={"drift_curve": (), "table": ()})
    return profile if data is None else profile.with_data(data)


def scenario_of(setting: Setting, data: Path | None) -> orric.Scenario:
    """Return the setting as a scenario."""
    profile = profile_of(setting, data)
    assert profile.teacher is not None
    scenario = orric.load_scenario(ROOT / "simulations/paper-cifar10c.toml")
    base = scenario.stream[0]
    stream = base.model_copy(
        update={
            "drift": setting.drift,
            "requests": base.requests.model_copy(update={"per_slot": PER_SLOT}),
        }
    )
    budget = scenario.gpu[0].budget.model_copy(update={"low": setting.low, "high": setting.high})
    whole = PER_SLOT * profile.teacher.cost_macs / scenario.slot_s
    gpu = scenario.gpu[0].model_copy(update={"macs_per_s": whole, "budget": budget})
    made = scenario.model_copy(update={"stream": (stream,), "gpu": (gpu,), "slots": setting.slots})
    made._profiles = {stream.profile: profile}
    return made


def measured(setting: Setting, allocator: str, data: Path | None) -> dict[str, Any]:
    """Run one allocator in one setting under every accuracy model."""
    models: list[Model] = ["onnx", "curve", "table"] if setting.measured else ["onnx", "curve"]
    found: dict[str, Any] = {"setting": setting.corruption, "seed": setting.seed, "allocator": allocator}
    for result in paired_line(scenario_of(setting, data), models, allocator, setting.seed):
        assert not isinstance(result, Failure), result
        found[result.accuracy_model] = 100 * result.mean_accuracy
        if result.accuracy_model == "onnx":
            found["by_slot"] = [round(float(100 * one), 2) for one in result.columns["accuracy"]]
    return found


def significant(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether the real difference is beyond chance: both saw the same images, slot by slot."""
    differences = np.array(one["by_slot"]) - np.array(other["by_slot"])
    error = float(differences.std(ddof=1)) / np.sqrt(len(differences))
    return bool(abs(differences.mean()) > 2 * error) and bool(abs(one["onnx"] - other["onnx"]) > 0.2)


def ranking(runs: list[dict[str, Any]], model: str) -> tuple[float, int]:
    """Return Kendall's tau over the pairs of one setting whose real difference is significant, and their number."""
    agreeing = total = 0
    by_setting: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for one in runs:
        by_setting.setdefault((one["setting"], one["seed"]), []).append(one)
    for mine in by_setting.values():
        for place, one in enumerate(mine):
            for other in mine[:place]:
                if model in one and significant(one, other):
                    total += 1
                    agreeing += (one["onnx"] - other["onnx"]) * (one[model] - other[model]) > 0
    return (2 * agreeing - total) / max(total, 1), total


def told(runs: list[dict[str, Any]]) -> None:
    """Print the errors, by run and by regime."""
    by_key = {(one.corruption, one.seed): one for one in SETTINGS}
    print(
        f"{'corruption':18}{'order':16}{'slots':>6}{'budgets':>13}  {'allocator':20}{'real':>7}{'curve':>8}{'table':>8}"
    )
    for one in runs:
        setting = by_key[one["setting"], one["seed"]]
        off = {model: f"{one[model] - one['onnx']:+.2f}" if model in one else "-" for model in ("curve", "table")}
        errors = "".join(f"{text:>8}" for text in off.values())
        never = "" if setting.measured else "  never measured"
        print(
            f"{setting.corruption:18}{setting.order:16}{setting.slots:6}{setting.budgets:>13}  {one['allocator']:20}"
            f"{one['onnx']:8.2f}{errors}{never}"
        )
    known = [one for one in runs if by_key[one["setting"], one["seed"]].measured]
    never = [one for one in runs if one not in known]
    for model in ("table", "curve"):
        errors = np.array([abs(one[model] - one["onnx"]) for one in known])
        bias = float(np.mean([one[model] - one["onnx"] for one in known]))
        tau, pairs = ranking(known, model)
        print(
            f"{model}: {100 * (errors <= GOOD).mean():.0f} % of {len(errors)} held-out runs within {GOOD} points "
            f"(target 90 %), largest error {errors.max():.2f} (target {WORST:g}), mean {errors.mean():.2f}, "
            f"bias {bias:+.2f}; Kendall's tau {tau:.2f} over {pairs} significant pairs (target {TAU})"
        )
        regimes: dict[str, list[float]] = {}
        for one, error in zip(known, errors, strict=True):
            setting = by_key[one["setting"], one["seed"]]
            for name in (setting.corruption, f"order {setting.order}", f"{setting.slots} slots", one["allocator"]):
                regimes.setdefault(name, []).append(float(error))
        weakest = sorted(regimes.items(), key=lambda item: -float(np.mean(item[1])))[:5]
        named = ", ".join(f"{name} {np.mean(values):.2f} (worst {max(values):.2f})" for name, values in weakest)
        print(f"  weakest: {named}")
    if never:
        errors = np.array([abs(one["curve"] - one["onnx"]) for one in never])
        print(
            f"never measured, curve over all drifts of the group: mean {errors.mean():.2f}, largest {errors.max():.2f}"
        )


def _part(setting: Setting, name: str, data: Path | None) -> Any:
    """Return all that a run depends on."""
    return [asdict(setting), name, profile_of(setting, data).model_dump(mode="json")]


def main() -> None:
    """Run what is missing and report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of CIFAR-10 [default: $ORRIC_DATA]")
    parser.add_argument("--output", type=Path, help="name beside which finished runs are kept")
    asked = parser.parse_args()
    kept = None if asked.output is None else Checkpoint(asked.output, "held-out streams")
    runs, calls = [], []
    work = [(setting, name) for setting in SETTINGS for name in ALLOCATORS]
    for setting, name in work:
        known = None if kept is None else kept.load(_part(setting, name, asked.data))
        if known is None:
            calls.append((setting, name, asked.data))
        else:
            runs.append(known)
    for index, found in in_parallel(measured, calls):
        runs.append(found)
        if kept is not None:
            kept.keep(_part(*calls[index]), found)
    order = {(setting.corruption, setting.seed, name): place for place, (setting, name) in enumerate(work)}
    told(sorted(runs, key=lambda one: order[one["setting"], one["seed"], one["allocator"]]))


if __name__ == "__main__":
    main()
