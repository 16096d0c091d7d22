"""Scenarios that nobody tuned anything to, drawn at random: `python tests/benchmarks/drawn.py FOLDER [--seed N]`.

What is drawn, and from what, was settled before any allocator ran on them, and so was the seed, 22. One to three
GPUs, each shared by weights (half of the time), by priority, in a hard partition or in time slices; two to four cameras
on each, of the digits or of CIFAR-10 in one kind of weather; all kinds of arrivals, forecasts, batches and drift;
deadlines from a fiftieth to a fifth of a slot. Serving all at the best resolution takes 35 to 80 % of the mean budget.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import orric

ROOT = Path(__file__).resolve().parents[2]
SEED, COUNT = 22, 4
PROFILES = {
    "digits": ("gaussian_noise", "gaussian_blur", "fog", "contrast", "brightness"),
    "cifar10-weather": ("snow", "frost", "fog", "brightness"),
}


def _text(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_text(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _table(header: str, values: dict[str, Any]) -> str:
    return f"\n{header}\n" + "".join(f"{key} = {_text(value)}\n" for key, value in values.items())


def _drift(rng: np.random.Generator, corruption: str) -> dict[str, Any]:
    low, high = sorted(rng.choice(6, 2, replace=False).tolist())
    kind = str(rng.choice(["steps", "ramp", "periodic", "random-walk"]))
    if kind == "steps":
        return {"kind": kind, "corruption": corruption, "severities": list(range(low, high + 1))}
    if kind == "ramp":
        return {"kind": kind, "corruption": corruption, "start": low, "end": high}
    if kind == "periodic":
        return {
            "kind": kind, "corruption": corruption, "low": low, "high": high,
            "period_slots": int(rng.integers(10, 41)),
        }  # fmt: skip
    return {
        "kind": kind, "corruption": corruption, "low": low, "high": high,
        "move": round(float(rng.uniform(0.1, 0.5)), 2),
    }  # fmt: skip


def _budget(rng: np.random.Generator) -> tuple[dict[str, Any], float]:
    """Return a budget, and its mean as a part of the GPU."""
    kind = str(rng.choice(["uniform", "constant", "background"]))
    if kind == "uniform":
        low = round(float(rng.uniform(0.4, 0.7)), 2)
        return {"kind": kind, "low": low, "high": 1.0}, (low + 1) / 2
    if kind == "constant":
        part = round(float(rng.uniform(0.7, 1.0)), 2)
        return {"kind": kind, "fraction": part}, part
    mean, swing = round(float(rng.uniform(0.1, 0.35)), 2), round(float(rng.uniform(0.05, 0.2)), 2)
    return {"kind": kind, "mean": mean, "swing": swing, "period_slots": int(rng.integers(12, 41))}, 1 - mean


def _sharing(rng: np.random.Generator) -> Any:
    kind = str(rng.choice(["weighted", "weighted", "weighted", "priority", "fluid", "time-slice"]))
    return {"model": kind, "round_s": 0.2, "switch_s": 0.002} if kind == "time-slice" else {"model": kind}


def _stream(rng: np.random.Generator, name: str, gpu: str, slot_s: float, most: int) -> tuple[dict[str, Any], float]:
    """Return a camera, and what serving its mean requests costs at the best configuration."""
    profile = str(rng.choice(list(PROFILES)))
    corruption = str(rng.choice(PROFILES[profile]))
    mean = float(np.exp(rng.uniform(np.log(100), np.log(most))))
    spread = float(rng.uniform(0.1, 0.7))
    low, high = round(mean * (1 - spread)), round(mean * (1 + spread))
    arrivals = str(rng.choice(["poisson", "poisson", "bursty", "gamma", "upload", "deterministic"]))
    requests: dict[str, Any] = {"kind": str(rng.choice(["uniform", "periodic", "bursty"])), "low": low, "high": high}
    if requests["kind"] == "periodic":
        requests["period_slots"] = int(rng.integers(12, 41))
    if arrivals in ("poisson", "bursty", "gamma"):
        requests["count"] = "drawn"
    told: dict[str, Any] = {
        "name": name,
        "profile": (ROOT / f"traces/profiles/{profile}.toml").as_posix(),
        "requests": requests,
        "arrivals": arrivals,
        "gpu": gpu,
        "deadline_s": round(slot_s * float(np.exp(rng.uniform(np.log(1 / 50), np.log(1 / 5)))), 2),
        "drift": _drift(rng, corruption),
    }
    if arrivals == "bursty":
        told["burst"] = {
            "ratio": round(float(rng.uniform(2, 8)), 1), "burst_s": round(slot_s * float(rng.uniform(0.02, 0.1)), 2),
            "calm_s": round(slot_s * float(rng.uniform(0.1, 0.4)), 2),
        }  # fmt: skip
    if arrivals == "gamma":
        told["gamma"] = {"variation": round(float(rng.uniform(0.5, 2.5)), 2)}
    if arrivals == "upload":
        # Uploads wait for one another: a fifth of a slot would be hard on anybody.
        told["deadline_s"] = round(slot_s / 2, 2)
    else:
        told["forecast"] = str(rng.choice(["last", "ewma"]))
    if rng.random() < 0.4:
        told["batch"] = {"most": int(rng.choice([4, 8, 16])), "wait_s": round(float(rng.uniform(0, 0.2)), 3)}
    if rng.random() < 0.5:
        told["retraining"] = {"overrun": "continue", "takeover": "completion"}
    dearest = max(one.cost_macs for one in orric.Profile.load(told["profile"]).inference)
    return told, mean * dearest


def draw(rng: np.random.Generator, number: int) -> str:
    """Return a scenario as TOML."""
    slot_s = float(rng.choice([30.0, 60.0, 120.0]))
    gpus, streams = [], []
    for g in range(int(rng.integers(1, 4))):
        budget, part = _budget(rng)
        cost = 0.0
        for k in range(int(rng.integers(2, 5))):
            told, macs = _stream(rng, f"camera-{g}-{k}", f"gpu{g}", slot_s, 900)
            streams.append(told)
            cost += macs
        load = float(rng.uniform(0.35, 0.8))
        gpus.append(
            {
                "name": f"gpu{g}", "macs_per_s": float(f"{cost / slot_s / load / part:.4g}"), "assumed": "true",
                "budget": budget, "sharing": _sharing(rng),
            }
        )  # fmt: skip
    text = (
        f'format = 1\nname = "drawn-{number}"\nseed = 1\nslots = 60\nslot_s = {slot_s}\nallocators = ["orric-guided"]\n'
    )
    text += "".join(_table("[[gpu]]", gpu) for gpu in gpus) + "".join(_table("[[stream]]", one) for one in streams)
    return text.replace('"true"', "true")


def write(folder: Path, seed: int = SEED, count: int = COUNT) -> list[Path]:
    """Write scenarios into a folder; return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, files = np.random.default_rng(seed), []
    for number in range(1, count + 1):
        files.append(folder / f"drawn-{number}.toml")
        files[-1].write_text(draw(rng, number), encoding="utf-8")
    return files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args()
    for file in write(given.folder, given.seed):
        scenario = orric.load_scenario(file)
        shared = ", ".join(gpu.sharing.model for gpu in scenario.gpu)
        print(f"{file}: {len(scenario.stream)} cameras on {len(scenario.gpu)} GPUs ({shared})")


if __name__ == "__main__":
    main()
