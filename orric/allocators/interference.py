"""The slot problem where serving is slowed down while retraining is under way: with retraining, or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orric.allocators.base import Array, StreamTask
from orric.allocators.timely import Choices, Demand, Plan, SharedChoices, TimelyStreams
from orric.devices import Device


class InterferingStreams(TimelyStreams):
    """Streams with deadlines on a GPU where retraining slows down serving.

    While anybody retrains, whoever is served takes `slowdown` times as long of the GPU, and leaves so much less for
    retraining, which would else never be done. While nobody does, nothing is slower.

    Args:
        streams: As of `TimelyStreams`.
        device: One of which who has work gets what others leave.
        capacity_macs: As of `TimelyStreams`.
    """

    def __init__(self, streams: Sequence[StreamTask], device: Device, capacity_macs: float) -> None:
        super().__init__(streams, device, capacity_macs)
        self.costs = self.costs * device.slowdown
        alone = [replace(stream, retraining=stream.retraining[:1]) for stream in streams]
        self.quiet = TimelyStreams(alone, replace(device, slowdown=1.0), capacity_macs)

    def speeds(self, retraining: Array, inference: Array, shares: Array, demand: Demand) -> Array:
        if not retraining.any():
            return self.quiet.speeds(retraining, inference, shares, demand)
        return super().speeds(retraining, inference, shares, demand)

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
    interfering = device.conserving and device.slowdown > 1
    return (InterferingStreams if interfering else TimelyStreams)(streams, device, capacity_macs)
