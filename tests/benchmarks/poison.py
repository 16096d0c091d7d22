"""Report what uploads that are meant to spoil the student do to the accuracy of honest clients.

usage: python tests/benchmarks/poison.py [--only PART ...] [--jobs N] [--output FILE]      (all: some ninety minutes)

parts: gain (under fog without an attack, beside the plain loop, which trusts everybody), continuing (an attack in every
slot, by share of the images), burst (in three slots), sources (from an address of its own), few (few honest images),
limit (below which share of honest images it fails).

A real daemon on the digits, slot by slot, with its retraining process; only its clock is the benchmark's. An attack
comes from the honest client's own address unless the part says otherwise: the worst case, in which sources tell
nothing. Honest accuracy is that of the student that serves when a slot begins, on 1,000 images under the slot's drift
that nobody sends. Figures are points of accuracy below the runs without the attack, the mean of the seeds: in the last
three slots, and in the worst slot. How well a student learns from a few dozen samples hangs on which ones: the runs
without the attack are done four times a seed. What is beyond a target by more than two standard errors is marked "!",
what is beyond it at all "*".
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "traces/profiles/digits.toml"
SLOTS, HONEST, SEEDS, RATIO = 12, 200, (1, 2, 3), 0.3
# Runs without an attack for each seed.
REPEATS = 4
ATTACKS = ("noise", "black", "white", "one class", "inverted", "duplicated", "label-shifted", "false labels")
FEW_ATTACKS = ("noise", "black", "one class", "inverted")
SHARES, BURST = (0.1, 0.5, 0.75), (4, 5, 6)
STREAMS = ("none", "fog")
PARTS = ("gain", "continuing", "burst", "sources", "few", "limit")
HERE, THERE = "192.0.2.1", "192.0.2.2"  # addresses of documentation


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
        stream: Corruption of the honest stream, "none" for a clean one.
        seed: Of images and training.
        attack: Name, "" for none.
        share: Part of the slot's images that the attack sends.
        honest: Honest images of a slot.
        burst: Whether the attack lasts for three slots alone.
        apart: Whether it comes from another address.
        plain: Whether everything is learnt from, as it was before learning asked for evidence.
        repeat: Number of the run, for other draws of what is trained on.
    """

    stream: str
    seed: int
    attack: str = ""
    share: float = 0.0
    honest: int = HONEST
    burst: bool = False
    apart: bool = False
    plain: bool = False
    repeat: int = 0


def severity(case: Case, slot: int) -> int:
    """Return the severity of the honest stream's corruption in a slot from 1."""
    return 0 if case.stream == "none" else 1 + 5 * (slot - 1) // SLOTS


def sent(case: Case, slot: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images that honest clients send in a slot, and those of the attack."""
    from orric.retraining.accuracy import drifted
    from orric.vision.datasets import digits

    drift = case.stream, severity(case, slot)
    honest = pictures(case.seed, slot, HONEST, *drift)[0][: case.honest]
    if not case.attack or (case.burst and slot not in BURST):
        return honest, honest[:0]
    count = round(case.honest * case.share / (1 - case.share))
    rng = np.random.default_rng([case.seed, slot])
    shape = (count, 32, 32, 3)
    if case.attack == "noise":
        return honest, rng.integers(0, 256, shape, np.uint8)
    if case.attack in ("black", "white"):
        return honest, np.full(shape, 255 * (case.attack == "white"), np.uint8)
    # Of the same kind as the honest ones, so that nothing but what is done to them tells them apart.
    classes = {"one class": (3,), "label-shifted": (1, 4, 7)}.get(case.attack, range(10))
    mix = np.isin(np.arange(10), classes).astype(float)
    like, _ = drifted(digits(), 1000 + case.seed, slot, count, *drift, label_mix=mix)
    if case.attack == "inverted":
        return honest, 255 - like
    if case.attack == "duplicated":
        return honest, np.repeat(like[:1], count, axis=0)
    return honest, like  # false labels are told by `defended`


def judged(case: Case, slot: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images under the slot's drift that nobody sends, and their true labels."""
    return pictures(5000 + case.seed, slot, 1000, case.stream, severity(case, slot))


@lru_cache(maxsize=200)
def pictures(seed: int, slot: int, count: int, corruption: str, level: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a slot's images and their true labels; many runs see the same."""
    from orric.retraining.accuracy import drifted
    from orric.vision.datasets import digits

    return drifted(digits(), seed, slot, count, corruption, level)


def plain(case: Case) -> list[float]:
    """Run the plain loop: label, train on whatever came, and let it serve."""
    from orric.profile import Profile
    from orric.retraining.loop import Student

    student, accuracies = Student(Profile.load(PROFILE)), []
    for slot in range(1, SLOTS + 1):
        images, labels = judged(case, slot)
        accuracies.append(float((student.classify(images, 32) == labels).mean()))
        pool = np.concatenate(sent(case, slot))
        rng = np.random.default_rng([case.seed, slot, case.repeat])
        student.retrain(pool[rng.permutation(len(pool))[: round(RATIO * len(pool))]], rng)
        student.swap()
    return accuracies


class Kept:
    """A retraining process that lasts from run to run: to start one takes longer than a run."""

    def __init__(self) -> None:
        self.process: Any = None

    def __call__(self, *given: Any) -> Any:
        if self.process is None:
            from orric.edge.retraining import RetrainingProcess

            self.process = RetrainingProcess(*given)
            self._first = self.process.first()
            self.process.first = lambda: self._first
            self.process.stop = lambda: None
        from orric.edge.store import WEIGHTS

        self.process.restore(self._first.files[WEIGHTS])
        return self.process


KEPT = Kept()


def configured(folder: Path, seed: int) -> Path:
    """Write a daemon's configuration: the digits, with one way to retrain and compute for all of it."""
    import tomli_w

    from orric.profile import Profile

    table = Profile.load(PROFILE).moved(folder).model_dump(exclude_none=True)
    name = f"{RATIO:.0%}"
    table["table"] = []
    table["retraining"] = [one for one in table["retraining"] if one["name"] in ("none", name)]
    table["models"]["sampling_ratio"] = {"none": 0.0, name: RATIO}
    Profile(**table).save(folder / "profile.toml")
    keys = {
        "format": 1, "seed": seed, "slot_s": 600.0, "horizon_slots": 1000,
        "allocator": "inference-greedy", "shadow": [],
        "stream": [{"name": "digits", "profile": "profile.toml", "requests": [1.0, 2000.0]}],
        "budget": {"macs_per_s": 1e9}, "store": {"folder": "state"}, "server": {"port": 0},
        "retraining": {"nice": 0}, "samples": {"retention_s": 1e6},
    }  # fmt: skip
    (folder / "edge.toml").write_text(tomli_w.dumps(keys))
    return folder / "edge.toml"


def defended(case: Case) -> list[float]:
    """Run the daemon."""
    import orric.edge.daemon as module
    from orric.edge.config import EdgeConfig
    from orric.edge.sender import Sender
    from orric.vision.datasets import to_input

    module.RetrainingProcess = KEPT  # type: ignore[assignment,misc]
    accuracies = []
    with tempfile.TemporaryDirectory() as folder:
        daemon = module.Daemon(EdgeConfig.load(configured(Path(folder), 100 * case.repeat + case.seed), {}))
        assert daemon.loop is not None, "it serves"
        try:
            for slot in range(1, SLOTS + 1):
                images, labels = judged(case, slot)
                assert daemon.versions.model is not None, "one serves"
                accuracies.append(
                    float((daemon.versions.model.logits(to_input(images, 32)).argmax(axis=1) == labels).mean())
                )
                honest, spoilt = sent(case, slot)
                # What comes in this slot is learnt from in the next one; both are passed at once.
                for images, address in ((honest, HERE), (spoilt, THERE if case.apart else HERE)):
                    for at in range(0, len(images), 20):
                        some, sender = images[at : at + 20], Sender(address)
                        if case.attack == "false labels" and images is spoilt:
                            tell_falsely(daemon, some, sender, f"{slot} {at}")
                        else:
                            daemon.uploads.arrive(some, sender)
                daemon.uploads.close_slot()
                daemon.loop.learner.prepare()
                daemon.loop.learner.wait()
                daemon.loop.begin()
                daemon.loop.learner.wait()
                daemon.loop.finish()
        finally:
            daemon.stop()
    return accuracies


def tell_falsely(daemon: Any, images: np.ndarray, sender: Any, identity: str) -> None:
    """Send images, and tell for each the class after the one that it was answered with."""
    from orric.vision.datasets import to_input

    classes = daemon.versions.model.logits(to_input(images, 32)).argmax(axis=1)
    daemon.uploads.remember(identity, classes, daemon.uploads.arrive(images, sender), sender)
    daemon.uploads.label(identity, ((classes + 1) % 10).tolist())


def run(case: Case) -> list[float]:
    """Return the honest accuracy of every slot."""
    return plain(case) if case.plain else defended(case)


def cases(part: str) -> Iterator[Case]:
    """Yield the runs of a part, without those that they are compared with."""
    for seed in SEEDS:
        for stream in STREAMS:
            if part == "gain" and stream == "fog":
                yield from (Case(stream, seed, plain=True, repeat=repeat) for repeat in range(REPEATS))
            for attack in ATTACKS:
                if part == "continuing":
                    yield from (Case(stream, seed, attack, share) for share in SHARES)
                elif part == "burst":
                    yield Case(stream, seed, attack, 0.75, burst=True)
                elif part == "sources":
                    yield Case(stream, seed, attack, 0.75, apart=True)
                elif part == "few" and attack in FEW_ATTACKS:
                    yield from (Case(stream, seed, attack, 0.75, honest=honest) for honest in (1, 2, 5, 20))
                elif part == "limit" and attack in ("inverted", "one class"):
                    yield from (Case(stream, seed, attack, share, honest=20) for share in (0.9, 0.95, 0.98))


def without(case: Case) -> list[Case]:
    """Return the runs that one is compared with."""
    return [Case(case.stream, case.seed, honest=case.honest, repeat=repeat) for repeat in range(REPEATS)]


def report(part: str, found: dict[Case, list[float]]) -> None:
    """Print a part's figures."""
    if part == "gain":
        rows = {
            name: np.mean(
                [found[Case("fog", seed, plain=plainly, repeat=n)] for seed in SEEDS for n in range(REPEATS)], axis=0
            )
            for name, plainly in (("the daemon", False), ("the plain loop", True))
        }
        frozen = np.mean([found[Case("fog", seed, honest=0)] for seed in SEEDS])
        print("\ngain under fog without an attack, in points over the student that does not learn")
        for name, row in rows.items():
            print(f"  {name}: {100 * (row.mean() - frozen):.1f} (accuracy {100 * row.mean():.1f} %)")
        part_of = (rows["the daemon"].mean() - frozen) / (rows["the plain loop"].mean() - frozen)
        print(f"  the daemon has {part_of:.1%} of the plain loop's gain (target 95 %)")
        return
    print(f"\n{part}: points below the run without the attack (targets: 2 at the end, 5 in any slot)")
    print(f"{'stream':7}{'attack':15}{'share':>6}{'honest':>7}{'at the end':>16}{'worst slot':>16}")
    groups: dict[tuple[Any, ...], list[Case]] = {}
    for case in cases(part):
        groups.setdefault((case.stream, case.attack, case.share, case.honest), []).append(case)
    for key, group in groups.items():
        before = 100 * np.array([[found[one] for one in without(case)] for case in group])
        after = 100 * np.array([found[case] for case in group])
        slots = before.mean(axis=(0, 1)) - after.mean(axis=0)
        # What a run's own draws do is seen where the same seed is run again; both sides have it.
        parts = (slice(-3, None), slice(int(slots.argmax()), int(slots.argmax()) + 1))
        texts, marks = [], ""
        for part_of, target in zip(parts, (2.0, 5.0), strict=True):
            apart = slots[part_of].mean()
            spread = before[:, :, part_of].mean(axis=2).std(axis=1, ddof=1)
            error = float(np.sqrt((spread**2).mean() * (1 + 1 / REPEATS) / len(group)))
            texts.append(f"{apart:.1f} +- {2 * error:.1f}")
            if apart > target:
                marks += "!" if apart - 2 * error > target else "*"
        print(f"{key[0]:7}{key[1]:15}{key[2]:6.0%}{key[3]:7d}{texts[0]:>16}{texts[1]:>16}  {marks}", flush=True)


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts [all]")
    parser.add_argument("--jobs", type=int, default=1, help="processes [1]")
    parser.add_argument("--output", type=Path, help="runs are kept here (JSON lines), and not run again")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    wanted = dict.fromkeys(case for part in asked.only for case in cases(part))
    wanted |= dict.fromkeys(one for case in list(wanted) for one in without(case))
    if "gain" in asked.only:
        wanted |= dict.fromkeys(Case("fog", seed, honest=0) for seed in SEEDS)
    found: dict[Case, list[float]] = {}
    if asked.output is not None and asked.output.exists():
        for line in asked.output.read_text().splitlines():
            row = json.loads(line)
            found[Case(**row["case"])] = row["accuracies"]
    left = [case for case in wanted if case not in found]
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        for number, (case, row) in enumerate(zip(left, pool.map(run, left), strict=True), start=1):
            found[case] = row
            if asked.output is not None:
                with asked.output.open("a") as file:
                    file.write(json.dumps({"case": asdict(case), "accuracies": row}) + "\n")
            if sys.stderr.isatty() or number % 20 == 0:
                print(f"{number} of {len(left)} runs", file=sys.stderr, flush=True)
    for part in asked.only:
        report(part, found)


if __name__ == "__main__":
    main()
