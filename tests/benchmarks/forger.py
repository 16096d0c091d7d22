"""Try to have false claims verified, and to break whoever reads a certificate.

usage: python tests/benchmarks/forger.py [--seconds 3600] [--seed 1]

Each round begins at genuine certificates of small instances and goes one of three ways. A *graft* joins what proves one
thing to a claim about another: evidence of an instance with a lower curve, smaller budgets, fewer configurations or
another memory, allocations that earn little, an upper end between what they earn and the optimum. An *edit* changes
values of the claim and of the evidence, knowing what each of them is: keys of other forms, numbers of other kinds and
sizes, points moved, lowered and left out. A *wreck* changes bytes of the file. Certificates that are refused are
edited further half of the time. What is verified is held against the optimum of what was claimed, found by trying
everything by plain formulas that are this file's own. Anything but one line that refuses, or a true claim, is a fault.
The status is 1 when there is one.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import orric
from orric.competitive import archive
from tests.competitive.instances import MEMORIES, random_instance

Array = np.ndarray[Any, Any]
Claim = dict[str, Any]
# What is verified may be off by what the checker allows for.
AGREEMENT = 2e-9
# Values that numbers, names and tables are replaced by.
NUMBERS = (0, -0.0, 1, -1, 1e-320, 1e-12, 0.5, 1e17, -1e17, 1e299, 1e308, 10**400, math.inf, -math.inf, math.nan)
OTHERS: tuple[Any, ...] = (None, True, False, "", "0.5", "r0", "none", [], {}, [[]], {"form": "exponential"})
KEYS = ("alpha", "a", "b", "c", "k", "x", "y", "form", "slots", "factor", "in_time", "profit", "cost_macs", "margin")


@dataclass
class Tally:
    """What became of what was tried.

    Attributes:
        refused: Number of refusals, by where they say the fault is.
        true: Number of verified claims that are true.
        faults: What should not have happened, a sentence each.
        slowest_s: The longest verification.
    """

    refused: Counter[str] = field(default_factory=Counter)
    true: int = 0
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0


def optimum(claim: Claim) -> float:
    """Return the optimum of what a claim is about, by trying every sequence of pairs."""
    profile, trace = claim["profile"], claim["trace"]
    retraining, inference = profile["retraining"], profile["inference"]
    requests, budgets = trace["requests"], trace["budget_macs"]
    parts = claim.get("in_time")
    choices, curves = [], []
    for slot, (asked, budget) in enumerate(zip(requests, budgets, strict=True)):
        pairs: dict[float, float] = {}
        for i, j in itertools.product(retraining, inference):
            part = 1.0
            if parts is not None:
                if i["name"] not in parts["retraining"] or j["name"] not in parts["inference"]:
                    continue
                row = parts["parts"][slot][parts["retraining"].index(i["name"])]
                part = row[parts["inference"].index(j["name"])]
            if asked * (i["cost_macs"] + j["cost_macs"]) <= budget:
                pairs[i["profit"]] = max(pairs.get(i["profit"], 0.0), j["profit"] * part * asked)
        if not pairs:
            cheapest = min(inference, key=lambda one: (one["cost_macs"], -one["profit"]))
            served = budget // cheapest["cost_macs"] + 1
            while served * cheapest["cost_macs"] > budget:
                served -= 1
            pairs = {0.0: cheapest["profit"] * min(asked, served)}
        choices.append(list(pairs.items()))
        curves.append(curve_of(profile, trace, slot))
    best = 0.0
    for path in itertools.product(*choices):
        earned = 0.0
        past: list[tuple[float, float]] = []
        for slot, (profit, reward) in enumerate(path):
            earned += reward * accuracy(curves[slot], extent(profile["memory"], past))
            past.append((requests[slot], profit))
        best = max(best, earned)
    return best


def extent(memory: Claim, past: list[tuple[float, float]]) -> float:
    """Return the learning extent after some slots, term by term."""
    while past and past[-1][0] == 0:
        past = past[:-1]
    if memory["kind"] == "window":
        past = past[-memory["slots"] :]
    factor = memory.get("factor", 1.0)
    weighed = [(factor ** (len(past) - 1 - n) * asked, profit) for n, (asked, profit) in enumerate(past)]
    total = sum(weight for weight, _ in weighed)
    return sum(weight * profit for weight, profit in weighed) / total if total > 0 else 0.0


def curve_of(profile: Claim, trace: Claim, slot: int) -> Claim:
    """Return the curve of a slot, counted from 0."""
    chosen = profile["curve"]
    drift = [None if trace[name] is None else trace[name][slot] for name in ("corruption", "severity")]
    if drift[0] == "none" or drift[1] == 0:
        drift = ["none", 0]
    for one in profile.get("drift_curve", []):
        if [one["corruption"], one["severity"]] == drift:
            chosen = one["curve"]
    while chosen["form"] == "time-varying":
        chosen = [piece for start, piece in zip(chosen["starts"], chosen["curves"], strict=True) if start <= slot + 1][
            -1
        ]
    return dict(chosen)


def accuracy(curve: Claim, x: float) -> float:
    """Return f(x) as the documentation writes it."""
    if curve["form"] == "exponential":
        return float(curve["c"] - curve["a"] * math.exp(-curve["k"] * x))
    if curve["form"] == "power":
        return float(curve["c"] - curve["a"] * (x + curve["b"]) ** -curve["alpha"])
    if curve["form"] == "logarithmic":
        return float(curve["a"] + curve["b"] * math.log1p(curve["k"] * x))
    return float(np.interp(x, curve["x"], curve["y"]))


class Forger:
    """Makes certificates that nobody should believe.

    Args:
        seed: Of all that is drawn.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.seed = seed

    def genuine(self) -> orric.Certificate:
        """Solve an instance of at most four slots."""
        memory, seed = str(self.rng.choice(MEMORIES)), int(self.rng.integers(10**6))
        compete = bool(self.rng.integers(2))
        profile, trace = random_instance(seed, memory, compete=compete, slots=4, choices=3)
        overload: Literal["error", "shed"] = "error"
        if self.rng.random() < 0.2:
            scarce = self.rng.choice([0.02, 1.0], trace.slots)
            trace = orric.Trace(requests=trace.requests, budget_macs=trace.budget_macs * scarce)
            overload = "shed"
        return orric.offline_optimum(
            profile, trace, float(self.rng.choice([1e-2, 1e-5])), overload=overload
        ).certificate

    def graft(self) -> orric.Certificate:
        """Join a claim to the evidence of one about less, and let it claim what that evidence says."""
        one = self.genuine()
        claim = copy.deepcopy(one.claim)
        lesser = copy.deepcopy(claim)
        self._lessened(lesser)
        evidence = one.evidence
        if solved := self._solved(lesser):
            evidence = {name: array.copy() for name, array in solved.evidence.items()}
            for name in ("retraining", "inference"):
                known = {one["name"] for one in claim["profile"][name]}
                claim[name] = [chosen if chosen in known else min(known) for chosen in solved.claim[name]]
            claim.update(lower=solved.claim["lower"], upper=solved.claim["upper"])
        if self.rng.random() < 0.5:
            self._impoverished(claim)
            if "bounds" in evidence and evidence["bounds"][0] > 0:
                end = claim["lower"] + self.rng.uniform(0, 1) * (claim["upper"] - claim["lower"])
                evidence["bounds"] = self._ending_at(evidence, end)
                claim["upper"] = float(evidence["bounds"][0])
            elif self.rng.random() < 0.5:
                claim["upper"] = claim["lower"]
        return orric.Certificate(claim, evidence)

    def _impoverished(self, claim: Claim) -> None:
        """Let every slot take the cheapest pair, and claim what that earns."""
        profile, trace = claim["profile"], claim["trace"]
        cheapest = {
            kind: min(profile[kind], key=lambda one: (one["cost_macs"], -one["profit"]))
            for kind in ("retraining", "inference")
        }
        alone = copy.deepcopy(claim)
        for kind, one in cheapest.items():
            alone["profile"][kind] = [one]
            claim[kind] = [one["name"]] * len(trace["requests"])
        claim["lower"] = optimum(alone) * (1 - 2e-10)

    def _ending_at(self, evidence: dict[str, Array], end: float) -> Array:
        """Return the evidence's bounds, bent so that they end at less, in one of several ways."""
        bounds = evidence["bounds"]
        first = float(bounds[0])
        first_slot = np.arange(len(bounds)) < evidence["starts"][1]
        ways: list[Callable[[], Array]] = [
            lambda: bounds * (end / first),
            lambda: np.maximum(bounds - (first - end), 0),
            lambda: np.minimum(bounds, end),
            lambda: np.where(first_slot, bounds * (end / first), bounds),
            lambda: np.where(np.arange(len(bounds)) == 0, end, bounds),
        ]
        # Claims may be beyond what single precision holds.
        with np.errstate(all="ignore"):
            return np.asarray(ways[self.rng.integers(len(ways))]())

    def _lessened(self, claim: Claim) -> None:
        """Change what a claim is about so that less can be earned."""
        profile, trace = claim["profile"], claim["trace"]
        way = self.rng.integers(6)
        if way == 0 and len(profile["retraining"]) > 1:
            profile["retraining"].pop()
        elif way == 1:
            trace["budget_macs"] = [budget * self.rng.uniform(0.7, 1) for budget in trace["budget_macs"]]
            claim["overload"] = "shed"
        elif way == 2:
            curve = profile["curve"]
            for name, factor in (("c", 0.9), ("b", 0.9), ("k", 0.5)):
                if isinstance(curve.get(name), float):
                    curve[name] *= factor
        elif way == 3:
            profile["memory"] = [{"kind": "uniform"}, {"kind": "decay", "factor": 0.3}][self.rng.integers(2)]
        elif way == 4:
            for one in profile["inference"]:
                one["profit"] *= 0.9
        else:
            place = self.rng.integers(len(trace["requests"]))
            trace["requests"][place] = trace["requests"][place] // 2

    def _solved(self, claim: Claim) -> orric.Certificate | None:
        try:
            profile = orric.Profile(**{**claim["profile"], "best_accuracy": 1.0})
            trace = orric.Trace(**{name: value for name, value in claim["trace"].items() if value is not None})
            return orric.offline_optimum(profile, trace, 1e-5, overload=claim["overload"]).certificate
        except orric.OrricError:
            return None

    def _lowered(self, claim: Claim, evidence: dict[str, Array]) -> None:
        """Let the evidence end at less, and claim that."""
        claim["upper"] *= 1 - 10 ** self.rng.uniform(-8, -0.5)
        if "bounds" in evidence and evidence["bounds"][0] > 0:
            evidence["bounds"] = self._ending_at(evidence, claim["upper"])
        claim["lower"] = min(claim["lower"], claim["upper"])

    def edit(self, certificate: orric.Certificate) -> orric.Certificate:
        """Change up to three values of the claim or of the evidence."""
        claim, evidence = copy.deepcopy(certificate.claim), dict(certificate.evidence)
        for _ in range(self.rng.integers(1, 4)):
            if self.rng.random() < 0.4 and evidence:
                self._edit_evidence(evidence)
            else:
                self._edit_claim(claim)
        usable = [evidence.get(name) for name in ("bounds", "starts")]
        whole = all(isinstance(claim.get(end), float) for end in ("lower", "upper")) and all(
            one is None or (one.ndim == 1 and len(one) > 1 and one.dtype.kind in "if") for one in usable
        )
        if self.rng.random() < 0.3 and whole and ("bounds" not in evidence or "starts" in evidence):
            self._lowered(claim, evidence)
        return orric.Certificate(claim, evidence)

    def _edit_claim(self, claim: Claim) -> None:
        place: Any = claim
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                return
            key = keys[self.rng.integers(len(keys))]
            deeper = isinstance(place[key], dict | list) and len(place[key]) > 0
            if deeper and self.rng.random() < 0.85:
                place = place[key]
                continue
            break
        value, way = place[key], self.rng.integers(6)
        if way == 0 and isinstance(value, float):
            place[key] = value * float(self.rng.choice([1 - 1e-15, 1 + 1e-9, 0.99, 1.01, 0.5, 2.0, -1.0]))
        elif way <= 1:
            place[key] = NUMBERS[self.rng.integers(len(NUMBERS))]
        elif way == 2:
            place[key] = copy.deepcopy(OTHERS[self.rng.integers(len(OTHERS))])
        elif way == 3 and isinstance(place, dict):
            place[KEYS[self.rng.integers(len(KEYS))]] = NUMBERS[self.rng.integers(len(NUMBERS))]
        elif way == 4:
            del place[key]
        else:
            other = keys[self.rng.integers(len(keys))]
            place[key], place[other] = copy.deepcopy(place[other]), copy.deepcopy(value)

    def _edit_evidence(self, evidence: dict[str, Array]) -> None:
        with np.errstate(all="ignore"):
            self._edit_array(evidence)

    def _edit_array(self, evidence: dict[str, Array]) -> None:
        name = list(evidence)[self.rng.integers(len(evidence))]
        array = np.array(evidence[name])
        if not array.size or not array.ndim or array.dtype.kind not in "if":
            return
        place = int(self.rng.integers(array.shape[0]))
        way = self.rng.integers(8)
        if way == 0 and array.dtype.kind == "f":
            array[place] = float(min(NUMBERS[self.rng.integers(len(NUMBERS))], 1e308))
        elif way == 1:
            array[place] = array[place] + array.dtype.type(self.rng.integers(-2, 3))
        elif way == 2 and array.dtype.kind == "f":
            array[place] *= self.rng.choice([1 - 1e-15, 1 + 1e-12, 0.999, 0.5, -1.0])
        elif way == 3:
            array = np.delete(array, place)
        elif way == 4:
            array = np.insert(array, place, array[place])
        elif way == 5:
            array = array[self.rng.permutation(len(array))]
        elif way == 6:
            array = [array.astype(np.float32), array[:, None], array[:0], array.astype(str)][self.rng.integers(4)]
        else:
            evidence[str(self.rng.choice(["prices", "starts", "extents", "states"]))] = array
            return
        evidence[name] = array

    def wreck(self, content: bytes) -> bytes:
        """Change some bytes of a file, or leave out or repeat a part of it."""
        room = bytearray(content)
        for _ in range(self.rng.integers(1, 5)):
            begin, end = sorted(self.rng.integers(0, len(room), 2).tolist())
            way = self.rng.integers(4)
            if way == 0:
                del room[begin : min(end, begin + 40)]
            elif way == 1:
                room[begin:begin] = room[begin : min(end, begin + 40)]
            else:
                room[begin] = int(self.rng.integers(256))
        return bytes(room)


def judged(certificate: orric.Certificate | Path, tally: Tally) -> bool:
    """Verify a certificate and count what becomes of it; return whether it was refused."""
    begun = time.perf_counter()
    try:
        loaded = orric.Certificate.load(certificate) if isinstance(certificate, Path) else certificate
        found = orric.verify(loaded)
    except orric.CertificateError as error:
        tally.slowest_s = max(tally.slowest_s, time.perf_counter() - begun)
        message = str(error)
        if "\n" in message or len(message) > 500:
            tally.faults.append(f"a refusal of {len(message)} characters: {message[:80]!r}")
        tally.refused[str(error.args[0]).split(":")[0].split(" ")[0].split("/")[-1]] += 1
        return True
    except Exception as error:  # whatever else it raises is what is looked for
        tally.faults.append(f"raised {type(error).__name__}: {str(error)[:80]}")
        return True
    tally.slowest_s = max(tally.slowest_s, time.perf_counter() - begun)
    truth = optimum(loaded.claim)
    if found.lower <= truth * (1 + AGREEMENT) + 1e-300 and truth <= found.upper * (1 + AGREEMENT) + 1e-300:
        tally.true += 1
    else:
        tally.faults.append(f"verified {found.lower!r} to {found.upper!r} where {truth!r} is true")
    return False


def forge(seed: int, rounds: int | None = None, seconds: float = math.inf) -> Tally:
    """Forge for so many rounds, or so long."""
    forger, tally, begun, done = Forger(seed), Tally(), time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")
        path = Path(folder) / "forged"
        while (rounds is None or done < rounds) and time.monotonic() - begun < seconds:
            done += 1
            certificate = forger.genuine() if done % 2 else forger.graft()
            judged(certificate, tally)
            for _ in range(8):
                edited = forger.edit(certificate)
                if judged(edited, tally) and forger.rng.random() < 0.5:
                    certificate = edited
            genuine = forger.genuine()
            genuine.save(path)
            content = path.read_bytes()
            for _ in range(4):
                path.write_bytes(forger.wreck(content))
                judged(path, tally)
            with path.open("wb") as file:  # a file is read like what is handed over
                archive.write(file, '{"format": 2}', {})
            judged(path, tally)
    return tally


def main() -> int:
    """Forge and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    tally = forge(given.seed, seconds=given.seconds)
    total = sum(tally.refused.values()) + tally.true + len(tally.faults)
    print(f"{total:,} certificates: {tally.true:,} verified and true, {sum(tally.refused.values()):,} refused")
    for where, count in tally.refused.most_common(20):
        print(f"  {count:8,} at {where}")
    print(f"longest verification {tally.slowest_s:.2f} s")
    for fault in tally.faults[:20]:
        print(f"FAULT: {fault}")
    print(f"{len(tally.faults)} faults")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
