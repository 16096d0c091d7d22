"""The daemon under a load with a deadline, with retraining and without; `edge.py deadline` runs it.

One image a request, at times drawn beforehand that no answer puts off; a latency counts from that time, by the client's
clock, so that whoever has to wait for a connection waits all the same.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from orric.profile import Profile
from orric.retraining.accuracy import drifted
from orric.retraining.anchors import Anchors
from orric.vision.datasets import Dataset, load_dataset

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "simulations"))
from edge_demo import BUDGET_MACS, CORRUPTION, PER_SLOT, SEED, SEVERITIES, Client, daemon, reasons  # noqa: E402

DEADLINE_S, CONNECTIONS = 0.1, 32
# What is left of a slot after the last image, to be answered and to pause in.
SPARE_S = 0.3
ALLOCATOR = "orric-guided"
WITHOUT = "without retraining"
RUNS = {
    "retraining.nice = 10": {},
    "retraining.idle = true": {"RETRAINING__IDLE": "true"},
    WITHOUT: {"ALLOCATOR": '"inference-only"'},
}
TARGET_PART, TARGET_POINTS = 0.97, 1.0


@dataclass(frozen=True)
class Subject:
    """Whose images come.

    Attributes:
        name: Of the data set, and of the model that the daemon serves.
        profile: Of the models.
        data: Folder of the data set, None where none is needed.
    """

    name: str
    profile: Path
    data: Path | None = None

    def images(self) -> Dataset:
        """Return the data set."""
        return load_dataset(self.name, self.data)

    def __str__(self) -> str:
        return self.name


DIGITS = Subject("digits", ROOT / "traces/profiles/digits.toml")


def cifar10(data: Path) -> Subject:
    """Return CIFAR-10, in a folder, with the models that are shipped for it."""
    return Subject("cifar10", ROOT / "traces/profiles/cifar10-weather.toml", data)


@dataclass(frozen=True)
class Load:
    """A load on the daemon.

    Attributes:
        images: In every slot.
        slots: How many.
        slot_s: How long each is.
    """

    images: int
    slots: int
    slot_s: float

    def severity(self, slot: int) -> int:
        """Return how thick the fog is in a slot."""
        return 1 + SEVERITIES * (slot - 1) // self.slots

    def __str__(self) -> str:
        return f"{self.images} images at random times in each of {self.slots} slots of {self.slot_s:g} s"


LIGHT, HEAVY = Load(200, 20, 3.0), Load(800, 20, 3.0)


@dataclass
class Found:
    """What clients saw of a daemon.

    Attributes:
        latencies_s: Of every request from the time that it was due; infinite where it failed.
        right: Whether its answer was right.
        chosen: How many slots had which configurations.
        unlearnt: Why retraining came to nothing, and how often.
        swaps: New versions that took over.
        failed: What the daemon failed at.
    """

    latencies_s: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    chosen: Counter[str] = field(default_factory=Counter)
    unlearnt: Counter[str] = field(default_factory=Counter)
    swaps: int = 0
    failed: Counter[str] = field(default_factory=Counter)

    def add(self, other: Found) -> None:
        """Take in what was seen in another run."""
        self.latencies_s += other.latencies_s
        self.right += other.right
        self.chosen += other.chosen
        self.unlearnt += other.unlearnt
        self.swaps += other.swaps
        self.failed += other.failed

    @property
    def in_time(self) -> np.ndarray:
        """Whether requests were answered in time."""
        return np.array(self.latencies_s) <= DEADLINE_S

    @property
    def answered(self) -> np.ndarray:
        """Whether they were answered at all."""
        return np.isfinite(self.latencies_s)

    def told(self) -> str:
        """Say it in a line."""
        latencies_s, right = np.array(self.latencies_s), np.array(self.right)
        p50_s, p99_s = np.quantile(latencies_s, [0.5, 0.99])
        return (
            f"in time {self.in_time.mean():8.3%}, right {right[self.answered].mean():7.2%} of the answers, "
            f"right and in time {(right & self.in_time).mean():7.2%}; "
            f"p50 {1e3 * p50_s:.1f} ms, p99 {1e3 * p99_s:.1f} ms"
        )


class Sender:
    """Sends images at given times over connections that stay open.

    Args:
        address: Of the daemon.
        model: Name of the model that is asked.
    """

    def __init__(self, address: str, model: str) -> None:
        self._model = model
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._free: asyncio.LifoQueue[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None] = asyncio.LifoQueue()
        for _ in range(CONNECTIONS):
            self._free.put_nowait(None)

    async def send(self, images: np.ndarray, truth: np.ndarray, due_s: np.ndarray, found: Found) -> None:
        """Send images, each when it is due by the loop's clock, and wait for all answers."""
        loop = asyncio.get_running_loop()

        async def one(image: np.ndarray, right: int, at_s: float) -> None:
            await asyncio.sleep(at_s - loop.time())
            answer = await self._ask(request_of(image, self._model))
            found.latencies_s.append(loop.time() - at_s if answer is not None else float("inf"))
            found.right.append(answer == right)

        await asyncio.gather(*(one(*given) for given in zip(images, truth.tolist(), due_s.tolist(), strict=True)))

    async def _ask(self, request: bytes) -> int | None:
        """Return the class that a request is answered with, None where it fails."""
        there = await self._free.get()
        try:
            reader, writer = there or await asyncio.open_connection(self._host, self._port)
            there = None
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            body = await reader.readexactly(int(headers[b"content-length"]))
            there = reader, writer
            if not head.startswith(b"http/1.1 200"):
                return None
            outputs = np.frombuffer(body[int(headers[b"inference-header-content-length"]) :], "<f4")
            return int(outputs.argmax())
        except (OSError, asyncio.IncompleteReadError):
            return None
        finally:
            self._free.put_nowait(there)


def request_of(image: np.ndarray, model: str) -> bytes:
    """Return a request for one image as it goes over the wire."""
    raw = image.tobytes()
    tensor = {"name": "images", "datatype": "UINT8", "shape": [1, *image.shape]}
    tensor["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lines = (
        f"POST /v2/models/{model}/infer HTTP/1.1", "Host: localhost", "Content-Type: application/json",
        f"Inference-Header-Content-Length: {len(head)}", f"Content-Length: {len(head) + len(raw)}", "", "",
    )  # fmt: skip
    return "\r\n".join(lines).encode() + head + raw


def budget(subject: Subject, load: Load) -> tuple[float, float]:
    """Return what the device does in a second, and which part of it a slot may spend."""
    device = Profile.load(subject.profile).device
    assert device is not None
    return device.macs_per_s, BUDGET_MACS * load.images / PER_SLOT / load.slot_s / device.macs_per_s


def once(subject: Subject, load: Load, changes: dict[str, str], paused: Found | None = None) -> Found:
    """Run a daemon under a load.

    Args:
        subject: Whose images come.
        load: The load.
        changes: Keys of its configuration, as the environment names them.
        paused: Given, every other slot is one in which decisions change nothing and nothing is retrained; it is told
            what clients saw in those.

    Returns:
        What they saw in the other slots.
    """
    speed, fraction = budget(subject, load)
    stream = (
        f'{{name = "{subject.name}", profile = "{subject.profile}", requests = [50, 1000], deadline_s = {DEADLINE_S}}}'
    )
    given = {
        "ALLOCATOR": f'"{ALLOCATOR}"', "STREAM": f"[{stream}]", "BUDGET__MACS_PER_S": f"{speed:.6e}",
        "BUDGET__FRACTION": f"{fraction:.6e}", "FORECAST": '"last"', **changes,
    }  # fmt: skip
    found, slots, slot_s = Found(), load.slots, load.slot_s
    loads = [
        drifted(subject.images(), SEED, slot, load.images, CORRUPTION, load.severity(slot))
        for slot in range(1, slots + 1)
    ]
    rng = np.random.default_rng(SEED)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if subject.data is not None:
            # The digits' anchors are shipped; CIFAR-10's lie where its images do.
            Anchors.drawn(subject.images()).save(Path(folder, "anchors.npz"))
            given["EVIDENCE__ANCHORS"] = f'"{folder}/anchors.npz"'
        address, token = stack.enter_context(daemon(Path(folder), slot_s, slots + 10, **given))
        client = Client(address, token)

        async def drive() -> None:
            sender, seen = Sender(address, subject.name), found
            clock = began(client)
            for images, truth in loads:
                clock, left_s = await asyncio.to_thread(client.next_slot, clock)
                due_s = asyncio.get_running_loop().time() + np.sort(rng.uniform(0, left_s - SPARE_S, len(images)))
                await sender.send(images, truth, due_s, seen)
                if paused is not None:
                    seen = paused if seen is found else found
                    await asyncio.to_thread(client.ask, "POST", "/v1/pause" if seen is paused else "/v1/resume")

        asyncio.run(drive())
        told = client.status()
        found.swaps = told["swaps"]
        for row in told["slots"]:
            if row.get("arrived"):
                found.chosen[f"{row['executed'] or row['retraining']} {row['inference']}"] += 1
                found.unlearnt.update([row["unlearnt"]] if row["unlearnt"] else [])
        told_of = reasons(Path(folder, "log.jsonl"))
        found.failed = Counter({why: count for why, count in told_of.items() if not why.startswith("operator")})
    return found


def began(client: Client) -> int:
    """Wait until the daemon can retrain; return the number of the slot."""
    while not (told := client.status())["retraining"]["ready"]:
        time.sleep(0.1)
    return int(told["clock"]["number"])


@cache
def simulated(subject: Subject, load: Load, allocator: str) -> tuple[float, float]:
    """Return what the simulator's real loop says of the same slots: accuracy over all answers, and in time."""
    import orric
    from orric.comparison import simulate_line

    speed, fraction = budget(subject, load)
    scenario = orric.Scenario(
        name="edge", slots=load.slots, slot_s=load.slot_s, allocators=(allocator,), accuracy={"model": "onnx"},
        gpu=(
            {
                "macs_per_s": speed, "budget": {"kind": "constant", "fraction": fraction},
                "sharing": {"model": "priority"},
            },
        ),
        stream=(
            {
                "name": subject.name, "profile": str(subject.profile), "deadline_s": DEADLINE_S, "arrivals": "poisson",
                "requests": {"kind": "constant", "per_slot": load.images, "count": "exact"}, "forecast": "last",
                "drift": {"kind": "steps", "corruption": CORRUPTION, "severities": tuple(range(1, SEVERITIES + 1))},
            },
        ),
    )  # fmt: skip
    if subject.data is not None:
        scenario = scenario.with_data(subject.data)
    told = simulate_line(scenario, "onnx", allocator, SEED).summary()
    return float(told["mean_accuracy"]), float(told["in_time_accuracy"])


def deadline(data: Path | None = None, rounds: int = 2) -> None:
    """Compare what is answered in time with retraining and without, and how much of it is right.

    Args:
        data: Folder with CIFAR-10; left out, the digits alone.
        rounds: How often everything is run.
    """
    print(f"under fog that thickens, with a deadline of {1e3 * DEADLINE_S:g} ms")
    for subject in (DIGITS, *([cifar10(data)] if data else [])):
        compare(subject, LIGHT, rounds)
    print(f"{DIGITS}: {HEAVY}, retraining in every other one:")
    for name in RUNS:
        if name == WITHOUT:
            continue
        without = Found()
        beside = once(DIGITS, HEAVY, RUNS[name], without)
        part = beside.in_time.mean() / without.in_time.mean()
        print(
            f"  {name}: {beside.told()}\n  {WITHOUT:{len(name)}}: {without.told()}\n"
            f"    part in time by that without: {part:.4f} (target {TARGET_PART}); {beside.swaps} swaps; failed: "
            f"{listed(beside.failed)}",
            flush=True,
        )


def listed(counts: Counter[str]) -> str:
    """Say what was counted."""
    return ", ".join(f"{count} x {what}" for what, count in counts.most_common()) or "nothing"


def compare(subject: Subject, load: Load, rounds: int) -> None:
    """Do so run by run, beside the simulator."""
    found = {name: Found() for name in RUNS}
    print(f"{subject}: {load}, {rounds} runs each:", flush=True)
    for number in range(rounds):
        # To and fro, so that whatever else runs here falls upon none of them alone.
        for name in list(RUNS)[:: 1 if number % 2 == 0 else -1]:
            one = once(subject, load, RUNS[name])
            found[name].add(one)
            print(f"  {name:24} {one.told()}", flush=True)
    part = found[WITHOUT].in_time.mean()
    for name, all_runs in found.items():
        allocator = "inference-only" if name == WITHOUT else ALLOCATOR
        accuracy, in_time = simulated(subject, load, allocator)
        right = np.array(all_runs.right)
        apart = 100 * (right[all_runs.answered].mean() - accuracy)
        timely = 100 * ((right & all_runs.in_time).mean() - in_time)
        print(
            f"  {name}, {allocator}, together: {all_runs.told()}\n"
            f"    part in time by that without: {all_runs.in_time.mean() / part:.4f} (target {TARGET_PART})\n"
            f"    simulator: {accuracy:.2%} right, {in_time:.2%} right and in time; the daemon is {apart:+.2f} and "
            f"{timely:+.2f} points apart (target {TARGET_POINTS:g})\n"
            f"    {all_runs.swaps} swaps; {listed(all_runs.chosen)}; failed or without effect: "
            f"{listed(all_runs.failed + all_runs.unlearnt)}",
            flush=True,
        )
