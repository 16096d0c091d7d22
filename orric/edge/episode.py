"""An episode's decisions: asked, written down before they count, and replayed after a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orric.allocators import make_allocator
from orric.allocators.base import Slot, StreamTask, Task
from orric.allocators.choice import Choice
from orric.allocators.guard import Guard
from orric.allocators.split import for_task
from orric.configuration import Allocation, StreamAllocation
from orric.devices import Device
from orric.edge.config import EdgeConfig
from orric.edge.journal import Record, whole_records
from orric.edge.recorded import follows
from orric.edge.told import heeded, task_of, told_of
from orric.exceptions import EdgeError, OrricError
from orric.objective import feasible_together, long_term_accuracy
from orric.profile import Profile
from orric.randomness import generator
from orric.records import Observation
from orric.timeliness import Timeliness

# Of an episode's head. Those of landed versions have none.
HEAD = 2
# Of an episode at most, as of `EdgeConfig.horizon_slots`.
MOST_SLOTS = 1_000_000
OVERLOADED = "overloaded: cheapest inference, the rest shed"


@dataclass(frozen=True)
class Decision:
    """What was decided for a slot.

    Attributes:
        slot: Of the episode, from 1.
        budget_macs: C(t).
        requests: D(t) of every stream, as forecast.
        streams: Of every stream.
        reason: The allocator's words.
        overloaded: Whether not even the cheapest pairs fit, so that requests are shed.
        beside: What other allocators would have decided.
        backlogs: Requests of every stream that waited at its begin; () where that was unknown.
    """

    slot: int
    budget_macs: float
    requests: tuple[float, ...]
    streams: tuple[StreamAllocation, ...]
    reason: str
    overloaded: bool
    beside: dict[str, tuple[StreamAllocation, ...]]
    backlogs: tuple[float, ...] = ()

    def record(self) -> Record:
        """Return it as a journal keeps it."""
        return {"kind": "decision", **asdict(self)}


def profile_hash(profile: Profile) -> str:
    """Return the hash of what a profile says."""
    return hashlib.sha256(profile.model_dump_json().encode()).hexdigest()


def head_of(config: EdgeConfig) -> Record:
    """Return what an episode's decisions rest on; another episode begins where it is another."""
    asked = config.mode == "decisions"
    return {
        "format": HEAD, "asked": asked, "allocator": config.allocator, "seed": config.seed,
        "told": told_of(task_of(config)),
    }  # fmt: skip


def resumed(config: EdgeConfig, records: Sequence[Record], decider: Decider) -> tuple[int, list[int]] | None:
    """Bring a decider to where a journal ends, if the episode there is the configuration's.

    Heads of landed versions hash the whole profile. With those, the episode is the configuration's where the other
    values are the same and all that was decided is decided again as it was.

    Args:
        config: The daemon's.
        records: Of the episode, closed and in order (`orric.edge.recorded.follows`).
        decider: Just made; where None is returned, it is of no use any more.

    Returns:
        The last slot that was decided, and the slots that are decided otherwise now; None where it is another episode.
    """
    head = records[0]["of"]
    landed = _as_landed(head, config)
    if head != head_of(config) and not landed:
        return None
    for record in records:
        if record["kind"] == "decision" and not _known(record, config):
            return None
    try:
        last, other = replayed(decider, records)
    except OrricError:
        return None  # the allocator refuses what it was asked before
    return None if landed and other else (last, other)


def _as_landed(head: Record, config: EdgeConfig) -> bool:
    """Say whether a head is one of a landed version, and the same as the configuration's but for the profiles."""
    if "format" in head:
        return False
    asked = config.mode == "decisions"
    streams = [[one.name, list(one.requests)] for one in config.stream]
    ours: Record = {"allocator": config.allocator, "horizon_slots": config.horizon_slots, "seed": config.seed}
    if asked:
        ours |= {"streams": streams}
    else:
        ours |= {"names": [one[0] for one in streams], "requests": [one[1] for one in streams]}
        ours |= {"slot_s": config.slot_s, "macs_per_s": config.macs_per_s}
    return all(head.get(name) == value for name, value in ours.items())


def _known(record: Record, config: EdgeConfig) -> bool:
    """Say whether a decision is one on the streams, and names configurations that they have."""
    if len(record["streams"]) != len(config.profiles):
        return False
    return all(
        taken["retraining"] in {one.name for one in profile.retraining}
        and taken["inference"] in {one.name for one in profile.inference}
        for taken, profile in zip(record["streams"], config.profiles, strict=True)
    )


def replay_log(path: Path, profile: Profile) -> dict[str, Any]:
    """Have the slots of a daemon's journal decided again.

    Args:
        path: The journal of an episode of one stream.
        profile: The one that it was recorded with.

    Returns:
        Plain values: the allocator, its allocations slot by slot, the slots in which they are others than recorded, and
        which record is damaged, None where all are whole; those before it were decided again.

    Raises:
        EdgeError: It is no such journal.
    """
    found = whole_records(path.resolve(), follows)
    records = found.records
    try:
        of = records[0]["of"]
        timeliness: Timeliness | None = None
        devices: tuple[Device, ...] = ()
        if "told" in of:
            told = of["told"]
            timeliness, devices = heeded(told)
            (stream,) = told["streams"]
            name, (least, most), horizon = stream["name"], stream["requests"], told["horizon_slots"]
            (capacity,), recorded = told["capacities_macs"], records[0]["profile"]
        else:
            ((least, most),) = of["requests"]
            (name,) = of["names"]
            horizon, capacity, recorded = of["horizon_slots"], of["macs_per_s"] * of["slot_s"], of["profile"]
        allocator, seed = str(of["allocator"]), int(of["seed"])
        stream_task = StreamTask.of(profile, float(least), float(most), name=str(name), timeliness=timeliness)
        task = Task(int(horizon), (stream_task,), capacities_macs=(float(capacity),), devices=devices)
        heedful = timeliness is None or len(timeliness.fixed_s) == len(timeliness.each_s) == len(stream_task.inference)
        possible = heedful and 1 <= task.horizon <= MOST_SLOTS and seed >= 0 and 0 < float(least) <= float(most)
        if not possible or any(len(one.get("streams", "1")) != 1 for one in records):
            raise ValueError(of)
    except (IndexError, KeyError, TypeError, ValueError):
        raise EdgeError(
            str(path), "is no journal of a daemon of one stream", "give a file of its journal folder"
        ) from None
    if recorded != profile.name:
        raise EdgeError(str(path), f"was recorded with profile {recorded!r}", f"not with {profile.name!r}")
    episode = int(path.stem) if path.stem.isascii() and path.stem.isdigit() else 1
    decider = Decider(task, (profile,), allocator, (), seed, episode)
    last, different = replayed(decider, records)
    decisions = [record for record in records if record["kind"] == "decision"]
    allocations = [
        {
            "slot": one["slot"],
            "retraining": one["streams"][0]["retraining"],
            "inference": one["streams"][0]["inference"],
        }
        for one in decisions
    ]
    damaged = len(records) + 1 if found.damaged else None
    return {
        "allocator": allocator, "slots": last, "different": different, "damaged": damaged, "allocations": allocations,
    }  # fmt: skip


class Decider:
    """Asks an allocator and those beside it, slot by slot, under the rules of every engine.

    Args:
        task: What they are told.
        profiles: Of the streams.
        name: Who decides.
        beside: Whose decisions are shown.
        seed: Of those who draw.
        episode: Number of the episode.
    """

    def __init__(
        self, task: Task, profiles: Sequence[Profile], name: str, beside: Sequence[str], seed: int, episode: int
    ) -> None:
        self._task = task

        def guarded(one: str) -> Guard:
            return Guard(for_task(make_allocator(one), task), task, generator(seed, "allocator", episode))

        self._guard = guarded(name)
        self._beside: dict[str, Guard] = {}
        for one in beside:
            try:
                self._beside[one] = guarded(one)
            except OrricError:
                continue  # one that takes a single stream, say, is not shown beside several
        self._choices = [Choice(profile, name) for profile in profiles]

    def decide(
        self, slot: int, budget_macs: float, requests: tuple[float, ...], backlogs: tuple[float, ...] = ()
    ) -> Decision:
        """Have a slot decided.

        Raises:
            AllocatorError: The allocator misbehaves, or its allocation exceeds the budget.
        """
        asked = Slot(slot, (budget_macs,), requests, backlogs)
        allocation = self._guard.decide(asked)
        cheapest = np.array([stream.cheapest_macs for stream in self._task.streams])
        fits = feasible_together(np.array(requests), 0.0, cheapest, budget_macs)
        streams, reason = allocation.streams, allocation.reason
        if fits:
            self._check(slot, allocation, budget_macs, requests)
        else:
            streams, reason = self._cheapest(), OVERLOADED
        beside = {}
        for name, guard in list(self._beside.items()):
            try:
                beside[name] = guard.decide(asked).streams if fits else self._cheapest()
            except OrricError:
                del self._beside[name]  # it is only shown
        return Decision(slot, budget_macs, requests, streams, reason, not fits, beside, backlogs)

    def observe(self, observation: Observation) -> None:
        """Tell all of them what happened."""
        self._guard.observe(observation)
        for name, guard in list(self._beside.items()):
            try:
                guard.observe(observation)
            except OrricError:
                del self._beside[name]

    def _cheapest(self) -> tuple[StreamAllocation, ...]:
        return tuple(StreamAllocation(one.retraining[0].name, one.inference[0].name) for one in self._task.streams)

    def _check(self, slot: int, allocation: Allocation, budget_macs: float, requests: tuple[float, ...]) -> None:
        """Refuse what exceeds the budget."""
        chosen = [choice.pair(slot, one) for choice, one in zip(self._choices, allocation.streams, strict=True)]
        for choice, (retraining, inference), count in zip(self._choices, chosen, requests, strict=True):
            choice.check_budget(slot, count, retraining.cost_macs, inference.cost_macs, budget_macs)
        labelling = np.array([retraining.cost_macs for retraining, _ in chosen])
        serving = np.array([inference.cost_macs for _, inference in chosen])
        if not feasible_together(np.array(requests), labelling, serving, budget_macs):
            found = f"the allocations of slot {slot} exceed the budget of {budget_macs:g} MACs together"
            raise EdgeError("allocator", found, "an allocation must fit")


def replayed(decider: Decider, records: Sequence[Record]) -> tuple[int, list[int]]:
    """Bring a decider to where a journal ends: every decision is asked again, every observation told again.

    Args:
        decider: Just made.
        records: Of the episode.

    Returns:
        The last slot that was decided, and the slots whose decision came out otherwise than it was written down.
    """
    last, other = 0, []
    for record in records:
        if record["kind"] == "decision":
            for seen in record.get("observed", ()):
                decider.observe(Observation(**seen))
            requests, backlogs = tuple(record["requests"]), tuple(record.get("backlogs", ()))
            again = decider.decide(record["slot"], record["budget_macs"], requests, backlogs)
            # As values of today: what a release adds to an allocation was its default before.
            if again.streams != tuple(StreamAllocation(**one) for one in record["streams"]):
                other.append(record["slot"])
            last = record["slot"]
        elif record["kind"] == "observation":
            decider.observe(Observation(**record["seen"]))
    return last, other


def ratio_floor(profile: Profile, decisions: Sequence[Any], observed: dict[int, float]) -> float | None:
    """Return a lower bound on the ratio to the offline optimum of an episode's slots so far.

    The value is that of the slot model: what was decided, with the retraining that really finished, on the profile's
    general curve. No offline solution can exceed serving every slot by the best inference that fits it alone, at the
    extent of the dearest retraining that fits each earlier slot alone.

    Args:
        profile: Curve, memory and configurations.
        decisions: Of slots 1 to t, of one stream each, as (requests, budget_macs, retraining, inference).
        observed: Part of the retraining that finished, by slot; 0 where it is missing.
    """
    if not decisions:
        return None
    requests = np.array([one[0] for one in decisions])
    budgets = np.array([one[1] for one in decisions])
    retraining = {one.name: one for one in profile.retraining}
    inference = {one.name: one for one in profile.inference}
    done = np.array(
        [retraining[one[2]].profit * observed.get(slot, 0.0) for slot, one in enumerate(decisions, start=1)]
    )
    served = np.array([inference[one[3]].profit for one in decisions])
    each = budgets / np.maximum(requests, 1e-300)
    dearest = np.zeros(len(decisions))
    for option in profile.retraining:
        dearest = np.where(option.cost_macs <= each * (1 + 1e-9), np.maximum(dearest, option.profit), dearest)
    best = np.zeros(len(decisions))
    for choice in profile.inference:
        best = np.where(choice.cost_macs <= each * (1 + 1e-9), np.maximum(best, choice.profit), best)
    # Where nothing fits, both serve the same part of the requests by the cheapest.
    best = np.where(best == 0, min(inference.values(), key=lambda one: one.cost_macs).profit, best)

    curves = [profile.curve.at(slot) for slot in range(1, len(decisions) + 1)]

    def value(profits: np.ndarray[Any, Any], factors: np.ndarray[Any, Any]) -> float:
        return float(long_term_accuracy(requests, requests, profits, factors, curves, profile.memory)[0].sum())

    most = value(dearest, best)
    return value(done, served) / most if most > 0 else None
