"""The slot problem where serving suffers while retraining is under way: with retraining, or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orric.allocators.base import Array, StreamTask
from orric.allocators.timely import Choices, Demand, Plan, SharedChoices, TimelyStreams
from orric.devices import Device

# The least that is left of a deadline.
LEAST_S = 1e-9


class InterferingStreams(TimelyStreams):
    """Streams with deadlines on a GPU where retraining slows down serving or holds it up.

    While anybody retrains, whoever is served takes `slowdown` times as long of the GPU, and leaves so much less for
    retraining, which would else never be done; and whoever comes waits for half a grain of it on average, by which
    deadlines are taken to be shorter. While nobody does, nothing is slower.

    Args:
        streams: As of `TimelyStreams`.
        device: One of which who has work gets what others leave.
        capacity_macs: As of `TimelyStreams`.
    """

    def __init__(self, streams: Sequence[StreamTask], device: Device, capacity_macs: float) -> None:
        super().__init__([_held_up(stream, device.grain_s) for stream in streams], device, capacity_macs)
        self.costs = self.costs * device.slowdown
        alone = [replace(stream, retraining=stream.retraining[:1]) for stream in streams]
        self.quiet = TimelyStreams(alone, replace(device, slowdown=1.0), capacity_macs)

    def beside(self, retraining: Array) -> TimelyStreams:
        return self if retraining.any() else self.quiet

    def choices(self, demand: Demand) -> Choices:
        return InterferingChoices(SharedChoices(self, demand), SharedChoices(self.quiet, demand))


class InterferingChoices(Choices):
    """What there is to choose from with retraining, all of the slot, and without.

    Args:
        busy: With it.
        quiet: Without it.
    """

    def __init__(self, busy: SharedChoices, quiet: SharedChoices) -> None:
        super().__init__(quiet.demand)
        self._busy, self._quiet = busy, quiet

    def best(self, weights: Array, gap: float) -> Plan:
        quiet, busy = self._quiet.best(weights, gap), self._busy.best(weights, gap)
        best = busy if busy.value > quiet.value else quiet
        return best.weighed(best.value, max(quiet.bound, busy.bound))

    def bound(self, weights: Array) -> float:
        return max(self._quiet.bound(weights), self._busy.bound(weights))

    def plan(self, retraining: Array, inference: Array, shares: Array, weights: Array) -> Plan:
        return (self._busy if retraining.any() else self._quiet).plan(retraining, inference, shares, weights)

    def value(self, plan: Plan, weights: Array) -> float:
        return self._busy.value(plan, weights)


def timely_streams(streams: Sequence[StreamTask], device: Device, capacity_macs: float) -> TimelyStreams:
    """Return the streams of one GPU, of which some have a deadline; see `TimelyStreams`."""
    interfering = device.conserving and (device.slowdown > 1 or device.grain_s > 0)
    return (InterferingStreams if interfering else TimelyStreams)(streams, device, capacity_macs)


def _held_up(stream: StreamTask, grain_s: float) -> StreamTask:
    """Return a stream whose requests wait for half a grain before anything else."""
    told = stream.timeliness
    if told is None or not grain_s:
        return stream
    deadline_s = max(told.deadline_s - grain_s / 2, LEAST_S)
    return replace(stream, timeliness=replace(told, deadline_s=deadline_s))
