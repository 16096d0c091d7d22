"""What allocators are told of a simulated server before the first slot: what is declared.

Requests, faults, budgets and drift of later slots leave no trace in it.
"""

from __future__ import annotations

from collections.abc import Sequence

from orric.allocators.base import StreamTask, Task
from orric.configuration import undominated
from orric.devices import Device
from orric.profile import Profile
from orric.scenario import Scenario
from orric.scenario.gpu import Gpu, Priority, Saturating, TimeSlice, Weighted
from orric.scenario.requests import declared
from orric.scenario.stream import Burst, Gamma, Hawkes, Stream
from orric.simulation.stream import StreamState
from orric.timeliness import ArrivalProcess, Timeliness


def task_of(scenario: Scenario, streams: Sequence[StreamState], placement: Sequence[str]) -> Task:
    """Return what an allocator is told first.

    Args:
        scenario: What is simulated.
        streams: Its streams, before the first slot; of what they know of later ones nothing is taken.
        placement: The GPU of each.
    """
    gpus = {gpu.name: gpu for gpu in scenario.gpu}
    late = any(stream.spec.deadline_s is not None for stream in streams)
    tasks = [
        StreamTask.of(
            stream.profile,
            *requests_range(stream, scenario.slot_s),
            name=stream.name,
            gpu=there,
            memory_bytes=stream.spec.memory_bytes,
            timeliness=timeliness_of(scenario, stream.index, stream.profile, gpus[there]) if late else None,
            headroom=stream.spec.headroom,
        )
        for stream, there in zip(streams, placement, strict=True)
    ]
    memories = [float("inf") if gpu.memory_bytes is None else gpu.memory_bytes for gpu in scenario.gpu]
    return Task(
        scenario.slots,
        tuple(tasks),
        tuple(gpus),
        memories_bytes=tuple(memories) if min(memories) < float("inf") else (),
        cloud=scenario.cloud is not None,
        capacities_macs=tuple(gpu.macs_per_s * scenario.slot_s for gpu in scenario.gpu),
        devices=tuple(device_of(gpu, scenario.spare) for gpu in scenario.gpu),
    )


def requests_range(stream: StreamState, slot_s: float) -> tuple[float, float]:
    """Return D_min and D_max of a stream as slots tell them: declared, or else what the first slot tells.

    Where that has no requests, either is 1.

    Args:
        stream: Before the first slot.
        slot_s: Length of a slot.
    """
    found = declared(stream.spec.requests, slot_s)
    if found is None:
        first = stream.planned(1) or 1.0
        return first, first
    least, most = (count * (1 + stream.spec.headroom) for count in found)
    return least, most


def timeliness_of(scenario: Scenario, index: int, profile: Profile, gpu: Gpu) -> Timeliness:
    """Return how a stream's requests wait and are served, as it declares.

    Args:
        scenario: What is simulated.
        index: Place of the stream in it, from 0.
        profile: Its profile.
        gpu: Where it is at home.
    """
    spec = scenario.stream[index]
    limit = float("inf") if spec.queue_limit is None else float(spec.queue_limit)
    batches = [profile.batch_seconds(one, gpu.macs_per_s) for one in undominated(profile.inference)]
    return Timeliness(
        slot_s=scenario.slot_s,
        deadline_s=float("inf") if spec.deadline_s is None else spec.deadline_s,
        arrivals=arrivals_of(spec),
        fixed_s=tuple(fixed_s for fixed_s, _ in batches),
        each_s=tuple(each_s for _, each_s in batches),
        most=spec.batch.most,
        wait_s=spec.batch.wait_s,
        workers=spec.workers,
        queue_limit=1.0 if spec.shed == "keep-latest" else limit,
        service_variation=_variation(scenario, index),
    )


def arrivals_of(spec: Stream) -> ArrivalProcess:
    """Return how a stream's requests come within a slot."""
    burst, gamma, hawkes = spec.burst or Burst(), spec.gamma or Gamma(), spec.hawkes or Hawkes()
    if spec.arrivals == "bursty":
        return ArrivalProcess("bursty", spec.drawn, ratio=burst.ratio, burst_s=burst.burst_s, calm_s=burst.calm_s)
    if spec.arrivals == "gamma":
        return ArrivalProcess("gamma", spec.drawn, variation=gamma.variation)
    if spec.arrivals == "hawkes":
        return ArrivalProcess("hawkes", spec.drawn, branching=hawkes.branching, decay_s=hawkes.decay_s)
    return ArrivalProcess(spec.arrivals, spec.drawn)


def device_of(gpu: Gpu, spare: str) -> Device:
    """Return how the jobs of a GPU share it.

    Args:
        gpu: The GPU.
        spare: What becomes of budget that is left over, as of a scenario.
    """
    sharing, lends = gpu.sharing, spare == "inference"
    if isinstance(sharing, Weighted):
        return Device("weighted", slowdown=sharing.slowdown, lends=lends)
    if isinstance(sharing, Priority):
        return Device("priority", slowdown=sharing.slowdown, grain_s=sharing.grain_s, lends=lends)
    if isinstance(sharing, Saturating):
        return Device("saturating", fixed=sharing.fixed, lends=lends)
    if isinstance(sharing, TimeSlice):
        return Device("time-slice", round_s=sharing.round_s, switch_s=sharing.switch_s, lends=lends)
    return Device("fluid", lends=lends)


def _variation(scenario: Scenario, index: int) -> float:
    """Return the coefficient of variation of a stream's service times."""
    service = scenario.stream[index].service
    if service.variability == "empirical":
        return float(scenario.service_factors(index).std())
    if service.variability == "log-normal":
        return service.variation or 0.0
    return 1.0 if service.variability == "exponential" else 0.0
