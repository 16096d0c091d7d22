"""Random servers, small enough to be simulated plainly, and what is decided for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import orric

from ..builders import build_profile, write_profile
from .plain_state import Choice

CAPACITY, SLOT_S, MOST = 1e9, 8.0, 60
SHARINGS = ("fluid", "saturating", "time-slice", "stream", "batch", "priority")


class Scripted(orric.Allocator):
    """Wants what was drawn beforehand, and takes as much of it as fits.

    Args:
        wishes: What every stream wants, slot by slot.
        profiles: Of the streams.
    """

    name = "scripted"

    def __init__(self, wishes: list[list[Choice]], profiles: Sequence[orric.Profile]) -> None:
        self.wishes = wishes
        self.costs = [
            {one.name: one.cost_macs for one in (*profile.retraining, *profile.inference)} for profile in profiles
        ]

    def cost(self, k: int, *names: str) -> float:
        """Return what configurations of a stream cost."""
        return sum(self.costs[k][name] for name in names)

    def choose(self, slot: int, planned: Sequence[float], budgets_macs: Sequence[float]) -> list[Choice]:
        """Return what every stream is given."""
        given = list(self.wishes[slot - 1])
        for gpu, budget in enumerate(budgets_macs):
            there = [k for k, wish in enumerate(given) if wish[4] == gpu]
            while sum(planned[k] * self.cost(k, *given[k][:2]) for k in there) > budget * (1 - 1e-9):
                # The dearest retraining goes first.
                dearest = max(there, key=lambda k: planned[k] * self.cost(k, given[k][0]))
                if not planned[dearest] * self.cost(dearest, given[dearest][0]):
                    for k in there:
                        given[k] = "r0", "i0", *given[k][2:]
                    break
                given[dearest] = "r0", *given[dearest][1:]
            # Shares that are left out are what the configurations cost.
            implied = sum(
                planned[k] * self.cost(k, name)
                for k in there
                for name, share in zip(given[k][:2], given[k][2:4], strict=True)
                if share is None
            )
            wanted = sum(share or 0.0 for k in there for share in given[k][2:4])
            room = max(budget - implied, 0.0) / (CAPACITY * SLOT_S) * (1 - 1e-9)
            scale = min(room / wanted, 1.0) if wanted else 1.0
            for k in there:
                retraining, inference, *shares, _ = given[k]
                learning, serving = (None if share is None else share * scale for share in shares)
                given[k] = retraining, inference, learning, serving, gpu
        return given

    def decide(self, slot: orric.Slot) -> orric.Allocation:
        given = self.choose(slot.index, slot.requests, slot.budgets_macs)
        return orric.Allocation(
            tuple(
                orric.StreamAllocation(retraining, inference, serving, learning, f"gpu{gpu}")
                for retraining, inference, learning, serving, gpu in given
            )
        )


def draw(seed: int, folder: Path, sharing: str | None = None) -> tuple[dict[str, Any], list[orric.Profile], Scripted]:
    """Draw a scenario as a table, its streams' profiles, and what is decided in its slots.

    Args:
        seed: Of everything.
        folder: For the profiles.
        sharing: The one of `SHARINGS` by which all GPUs are shared; None draws it for each.
    """
    rng = np.random.default_rng(seed)
    slots, gpus, streams = int(rng.integers(2, 6)), int(rng.choice([1, 1, 2])), int(rng.choice([1, 2, 3, 4]))
    placed = rng.integers(0, gpus, streams).tolist()
    profiles = [draw_profile(rng) for _ in range(streams)]
    closed = [bool(rng.random() < 0.15) for _ in range(streams)]
    table = {
        "name": "random",
        "slots": slots,
        "slot_s": SLOT_S,
        "spare": str(rng.choice(["idle", "inference"])),
        "allocators": ("orric",),
        "gpu": tuple(draw_gpu(rng, n, sharing) for n in range(gpus)),
        "stream": tuple(
            {
                "name": f"s{k}", "gpu": f"gpu{placed[k]}",
                "profile": str(write_profile(profiles[k], folder / f"{seed}-{k}.toml")), **draw_stream(rng, closed[k]),
            }
            for k in range(streams)
        ),
        "fault": tuple(fault for _ in range(rng.integers(0, 6)) if (fault := draw_fault(rng, slots, gpus, closed))),
    }  # fmt: skip
    # Whoever moves streams must not overload a GPU.
    moves = 0.15 if all(gpu["budget"]["kind"] == "constant" for gpu in table["gpu"]) else 0.0
    wishes = []
    for _ in range(slots):
        there = [int(rng.integers(gpus)) if rng.random() < moves else place for place in placed]
        wishes.append([draw_wish(rng, gpu, there.count(gpu)) for gpu in there])
    return table, profiles, Scripted(wishes, profiles)


def draw_profile(rng: np.random.Generator) -> orric.Profile:
    """Draw what configurations cost, and how profits add up."""
    each, fixed = float(rng.uniform(0.005, 0.08)), float(rng.choice([0.0, 0.02]))
    dear = float(rng.choice([2.0, 8.0, 25.0]))
    memory = [{"kind": "uniform"}, {"kind": "window", "slots": 2}, {"kind": "decay", "factor": 0.7}]
    latencies = [
        {"inference": f"i{k}", "fixed_s": fixed, "each_s": each * (k + 1) / 3} for k in range(3) if rng.random() < 0.8
    ]
    return build_profile(
        # The last one costs nothing, but is of use.
        retraining=((0.0, 0.0), (0.1, dear * 1e6), (0.3, dear * 3e6), (1.0, dear * 1e7), (0.05, 0.0)),
        inference=tuple((profit, each * (k + 1) / 3 * CAPACITY) for k, profit in enumerate((0.6, 0.9, 1.0))),
        swap={"pause_s": float(rng.choice([0.0, rng.uniform(0.01, 3)]))},
        batch_latency=tuple(latencies),
        memory=orric.LearningExtent(**memory[rng.choice(3, p=[0.6, 0.2, 0.2])]),
    )


def draw_gpu(rng: np.random.Generator, number: int, model: str | None) -> dict[str, Any]:
    """Draw how a GPU is shared."""
    drawn = str(rng.choice(SHARINGS, p=[0.25, 0.1, 0.1, 0.2, 0.1, 0.25]))
    model = model or drawn
    slowdown = float(rng.choice([1.0, rng.uniform(1, 2)]))
    sharing: dict[str, Any] = {"model": model}
    if model == "saturating":
        sharing["fixed"] = float(rng.uniform(0, 0.6))
    elif model == "time-slice":
        sharing |= {"round_s": float(rng.uniform(0.05, 0.5)), "switch_s": float(rng.choice([0.0, 0.003]))}
    elif model == "priority":
        sharing |= {"grain_s": float(rng.choice([0.0, rng.uniform(0.02, 1)])), "slowdown": slowdown}
    elif model in ("stream", "batch"):
        sharing = {"model": "weighted", "per": model, "slowdown": slowdown}
    full = rng.random() < 0.6
    return {
        "name": f"gpu{number}",
        "macs_per_s": CAPACITY,
        "budget": {"kind": "constant", "fraction": 1.0} if full else {"kind": "uniform", "low": 0.02, "high": 0.9},
        "sharing": sharing,
        "fault_domain": str(rng.choice(["separate", "shared"])),
    }


def draw_stream(rng: np.random.Generator, closed: bool) -> dict[str, Any]:
    """Draw how requests come and how they are served."""
    most, shed = int(rng.choice([1, 1, 4, 8])), str(rng.choice(["even", "even", "newest", "oldest", "keep-latest"]))
    deadline_s = None if rng.random() < 0.2 else float(rng.uniform(0.3, 8))
    patience = [
        None, {"kind": "constant", "patience_s": float(rng.uniform(0.2, 6))},
        {"kind": "exponential", "patience_s": float(rng.uniform(0.2, 6))},
        None if deadline_s is None else {"kind": "deadline"},
    ]  # fmt: skip
    limited = shed != "keep-latest" and rng.random() < 0.5
    return {
        **draw_arrivals(rng, closed),
        "headroom": float(rng.choice([0.0, 0.2])),
        "workers": int(rng.choice([1, 1, 2, 3, 64])),
        "batch": {"most": most, "wait_s": float(rng.choice([0.0, 0.5])) if most > 1 else 0.0},
        "service": (
            {"variability": "none"}, {"variability": "exponential"},
            {"variability": "log-normal", "variation": 1.5},
        )[rng.integers(3)],
        "queue_limit": int(rng.integers(1, 20)) if limited else None,
        "shed": shed,
        "deadline_s": deadline_s,
        "abandonment": patience[rng.choice(4, p=[0.5, 0.15, 0.15, 0.2])],
        "retraining": {
            "overrun": str(rng.choice(["abandon", "continue", "skip"])),
            "takeover": str(rng.choice(["slot-end", "completion"])),
        },
    }  # fmt: skip


def draw_arrivals(rng: np.random.Generator, closed: bool) -> dict[str, Any]:
    """Draw the arrival process, its counts, and what is foreseen of them."""
    told = str(rng.choice(["oracle", "last", "ewma"]))
    if closed:
        clients = {"kind": "closed", "clients": int(rng.integers(1, 12)), "thinking_s": float(rng.uniform(0.5, 6))}
        return {"arrivals": "closed", "requests": clients, "forecast": "last" if told == "oracle" else told}
    arrivals = str(rng.choice(["upload", "deterministic", "poisson", "bursty", "gamma", "hawkes"]))
    if arrivals == "upload":
        told = "oracle"
    drawn = arrivals in ("gamma", "hawkes") or (arrivals in ("poisson", "bursty") and rng.random() < 0.5)
    requests: dict[str, Any] = {"kind": "uniform", "low": 1, "high": MOST}
    if drawn:
        rate = {"kind": "rate", "per_s": float(rng.uniform(1, MOST / SLOT_S))}
        day = {"swing": float(rng.uniform(0, 1)), "period_s": 30.0, "peak_s": 10.0}
        requests = (requests | {"count": "drawn"}, rate, rate | {"kind": "day"} | day)[rng.integers(3)]
    found = {"arrivals": arrivals, "requests": requests, "forecast": told}
    if arrivals == "gamma":
        found["gamma"] = {"variation": float(rng.uniform(0.3, 3))}
    if arrivals == "hawkes":
        found["hawkes"] = {"branching": float(rng.uniform(0, 0.8)), "decay_s": float(rng.uniform(0.5, 5))}
    if arrivals == "bursty" and rng.random() < 0.5:
        found["burst"] = {"ratio": float(rng.uniform(2, 20)), "burst_s": 3.0, "calm_s": 11.0}
    return found


def draw_fault(rng: np.random.Generator, slots: int, gpus: int, closed: Sequence[bool]) -> dict[str, Any] | None:
    """Draw what goes wrong, at a time that nothing else happens at."""
    kinds = ("gpu-stall", "gpu-loss", "client-crash", "retraining-crash", "corrupt-weights", "burst", "clock-skew")
    kind, stream = str(rng.choice(kinds)), int(rng.integers(len(closed)))
    offset_s = float(rng.uniform(0, SLOT_S * 0.9))
    fault: dict[str, Any] = {"kind": kind, "slots": (int(rng.integers(1, slots + 1)),), "offset_s": offset_s}
    if kind in ("gpu-stall", "gpu-loss"):
        fault |= {"gpu": f"gpu{rng.integers(gpus)}", "duration_s": float(rng.uniform(0.1, 6))}
    else:
        fault["stream"] = f"s{stream}"
    if kind in ("gpu-loss", "client-crash") and rng.random() < 0.5:
        fault["reload_s"] = float(rng.uniform(0.1, 3))
    if kind == "burst":
        fault["factor"] = float(rng.uniform(1.2, 3))
    if kind == "clock-skew":
        fault["skew_s"] = float(rng.uniform(0.1, 5))
    return None if closed[stream] and kind in ("burst", "clock-skew") else fault


def draw_wish(rng: np.random.Generator, gpu: int, neighbours: int) -> Choice:
    """Draw what a stream wants in a slot of the GPU that it shares with its neighbours."""
    serving = float(rng.choice([0.0, rng.uniform(0.2, 0.8)], p=[0.07, 0.93]))
    # Between far too little for the dearest retraining and several times enough.
    learning = float(rng.choice([0.0, rng.uniform(0, 1 - serving), rng.uniform(0, 0.1)], p=[0.1, 0.5, 0.4]))
    return (
        f"r{rng.choice(5, p=[0.1, 0.1, 0.2, 0.5, 0.1])}",
        f"i{rng.integers(3)}",
        None if rng.random() < 0.2 else learning / neighbours,
        None if rng.random() < 0.2 else serving / neighbours,
        gpu,
    )
