"""What allocators are told of a daemon before the first slot, and how a journal holds it."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from pydantic import TypeAdapter

from orric.allocators.base import StreamTask, Task
from orric.configuration import undominated
from orric.devices import Device
from orric.edge.config import EdgeConfig, Retraining, StreamKeys
from orric.edge.groups import SERVING_WEIGHT
from orric.edge.journal import Record
from orric.profile import Profile
from orric.timeliness import ArrivalProcess, Timeliness

_NEVER = float("inf")


def task_of(config: EdgeConfig) -> Task:
    """Return what an allocator is told first: what is configured and measured, and nothing of what will come."""
    late = any(config.deadline_s(one) is not None for one in config.stream)
    streams = tuple(
        StreamTask.of(
            profile, *one.requests, name=one.name, timeliness=timeliness_of(config, one, profile) if late else None
        )
        for one, profile in zip(config.stream, config.profiles, strict=True)
    )
    capacities = (config.macs_per_s * config.slot_s,)
    return Task(config.horizon_slots, streams, capacities_macs=capacities, devices=devices_of(config))


def timeliness_of(config: EdgeConfig, keys: StreamKeys, profile: Profile) -> Timeliness:
    """Return how a stream's images wait and are served, by the batches that the profile measured.

    Where another stack serves, its batches are unknown, and images are served one by one. A part of the device that is
    fixed bounds what a slot may spend; nothing holds a batch back to it. So batches are told to be the quicker, as much
    as such a part seems to slow them down. A part that was probed is what others leave, and slows them down indeed.

    Args:
        config: The daemon's.
        keys: The stream's.
        profile: The stream's.
    """
    deadline_s, server = config.deadline_s(keys), config.server
    batches = [profile.batch_seconds(one, config.macs_per_s) for one in undominated(profile.inference)]
    part = config.budget.fraction if config.mode != "decisions" and config.budget.probe == "fixed" else 1.0
    waiting: dict[str, Any] = {"most": server.most_batch, "wait_s": server.longest_wait_s}
    waiting["queue_limit"] = float(server.queue_images)
    return Timeliness(
        slot_s=config.slot_s,
        deadline_s=_NEVER if deadline_s is None else deadline_s,
        arrivals=ArrivalProcess(drawn=True, **keys.arrivals.model_dump()),
        fixed_s=tuple(fixed_s * part for fixed_s, _ in batches),
        each_s=tuple(each_s * part for _, each_s in batches),
        **({} if config.mode == "decisions" else waiting),
    )


def devices_of(config: EdgeConfig) -> tuple[Device, ...]:
    """Return how serving and retraining share the device; () where another stack sees to that.

    The retraining process steps back behind serving where it is nice, works in the gaps alone, or weighs less.
    """
    if config.mode == "decisions":
        return ()
    measured = config.profiles[0].colocation
    slowdown = 1.0 if measured is None else max(measured.slowdown, 1.0)
    return (Device("priority" if _steps_back(config.retraining) else "weighted", slowdown=slowdown),)


def _steps_back(keys: Retraining) -> bool:
    """Say whether serving goes first; niceness does where groups cannot be made."""
    return keys.idle or keys.nice > 0 or (keys.cpu_weight or SERVING_WEIGHT) < SERVING_WEIGHT


def told_of(task: Task) -> Record:
    """Return what an allocator is told first, as plain values that no release writes otherwise.

    Every value is named here. One that a later release adds must be left out where it is the default, so that an
    episode that was begun before is still the same. Devices matter to those who heed a deadline, and are left out where
    there is none.
    """
    streams = []
    for one in task.streams:
        inference = [
            {"name": it.name, "profit": it.profit, "cost_macs": it.cost_macs}
            | ({} if it.latency_s is None else {"latency_s": it.latency_s})
            for it in one.inference
        ]
        memory = {"kind": one.memory.kind, "slots": one.memory.slots, "factor": one.memory.factor}
        streams.append(
            {
                "name": one.name,
                "requests": [one.least_requests, one.most_requests],
                "best_accuracy": one.best_accuracy,
                "slope_floor": one.slope_floor,
                "retraining": [
                    {"name": it.name, "profit": it.profit, "cost_macs": it.cost_macs} for it in one.retraining
                ],
                "inference": inference,
                "memory": {name: value for name, value in memory.items() if value is not None},
            }
            | ({} if one.timeliness is None else {"timeliness": _told_of_timeliness(one.timeliness)})
        )
    found = {"horizon_slots": task.horizon, "capacities_macs": list(task.capacities_macs), "streams": streams}
    if any(one.timeliness is not None for one in task.streams):
        found["devices"] = [_told(one) for one in task.devices]
    return found


def heeded(told: Record) -> tuple[Timeliness | None, tuple[Device, ...]]:
    """Return the timeliness of a journal's one stream, and the devices, as `told_of` wrote them.

    Raises:
        ValueError: They are something else.
    """
    (stream,) = told["streams"]
    given = stream.get("timeliness")
    if given is None:
        return None, ()
    devices = TypeAdapter(tuple[Device, ...]).validate_python(told["devices"])
    endless = {"deadline_s": _NEVER} if given["deadline_s"] is None else {}
    timeliness = TypeAdapter(Timeliness).validate_python(given | endless)
    if _told_of_timeliness(timeliness) != given or [_told(one) for one in devices] != told["devices"]:
        raise ValueError(given)
    return timeliness, devices


def _told_of_timeliness(timeliness: Timeliness) -> Record:
    found = _told(timeliness) | {"arrivals": _told(timeliness.arrivals)}
    return found | {"fixed_s": list(timeliness.fixed_s), "each_s": list(timeliness.each_s)}


def _told(given: Any) -> Record:
    """Return the fields of a dataclass that are not their defaults; None for infinity."""
    values = asdict(given)
    return {
        one.name: None if values[one.name] == _NEVER else values[one.name]
        for one in fields(given)
        if values[one.name] != one.default
    }
