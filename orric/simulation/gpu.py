"""One GPU during a simulation: who works on it at which pace, and what that draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from orric.records import GpuRecord
from orric.scenario.gpu import Gpu
from orric.simulation.cloud import AnyJob
from orric.simulation.pipeline import Job
from orric.simulation.sharing import STILL, paces
from orric.simulation.stream import StreamState
from orric.simulation.work import STAGES

Array = np.ndarray[Any, Any]


class GpuState:
    """The state of one GPU.

    Args:
        spec: What the scenario says of it.
        budgets_macs: C(t), shape (T,).
        slot_s: Length of a slot.
        streams: Those placed on it.
        lends: Whether serving gets the share of retraining that is not under way.
    """

    def __init__(
        self, spec: Gpu, budgets_macs: Array, slot_s: float, streams: list[StreamState], lends: bool = False
    ) -> None:
        self.spec, self.budgets_macs, self.slot_s, self.streams = spec, budgets_macs, slot_s, streams
        self.lends = lends
        # Of every stream: the share of retraining and that of inference.
        self.shares: dict[str, tuple[float, float]] = {stream.name: (0.0, 0.0) for stream in streams}
        self.faults = 0
        self._down_since_s, self._down_s = 0.0, 0.0
        self._stages_s = dict.fromkeys(STAGES, 0.0)

    @property
    def whole_macs(self) -> float:
        """What it can do in a slot."""
        return self.spec.macs_per_s * self.slot_s

    def take(self, stream: StreamState) -> None:
        """Take a stream in, in the order of the streams: sums must not depend on who came last."""
        self.streams.append(stream)
        self.streams.sort(key=lambda one: one.index)
        self.shares = {one.name: self.shares.get(one.name, (0.0, 0.0)) for one in self.streams}

    def lose(self, stream: StreamState) -> None:
        """Let a stream go."""
        self.streams.remove(stream)
        del self.shares[stream.name]

    def set_paces(self, now_s: float, jobs: Mapping[str, AnyJob]) -> None:
        """Let everybody go on at the pace that the shares give from now on."""
        if not self.streams:
            return
        retraining_shares, serving_shares = (np.array(part) for part in zip(*self.shares.values(), strict=True))
        # What is retrained in the cloud uses nothing here.
        idle = np.array([not isinstance(jobs.get(stream.name), Job) for stream in self.streams])
        if self.lends and serving_shares.sum() > 0:
            serving_shares = serving_shares * (1 + retraining_shares[idle].sum() / serving_shares.sum())
        retraining_shares = np.where(idle, 0.0, retraining_shares)
        shares = np.stack([serving_shares, retraining_shares], axis=1).ravel().tolist()
        found = paces(self.spec.sharing, shares, now_s) if not self.faults else [STILL] * len(shares)
        for stream, serving, retraining in zip(self.streams, found[::2], found[1::2], strict=True):
            stream.change(now_s, serving)
            job = jobs.get(stream.name)
            if job is not None:
                job.change(retraining, now_s)

    def fail(self, now_s: float, jobs: Mapping[str, AnyJob]) -> None:
        """Stand still until `recover`; faults may overlap."""
        if not self.faults:
            self._down_since_s = now_s
        self.faults += 1
        self.set_paces(now_s, jobs)

    def recover(self, now_s: float, jobs: Mapping[str, AnyJob]) -> None:
        """Go on when the last fault is over."""
        self.faults -= 1
        if not self.faults:
            self._down_s += now_s - self._down_since_s
            self.set_paces(now_s, jobs)

    def spent(self, job: AnyJob) -> None:
        """Take over what a job used since it was last asked."""
        for stage, used_s in job.used_s.items():
            self._stages_s[stage] += used_s
            job.used_s[stage] = 0.0

    def record(self, slot: int, end_s: float, jobs: Mapping[str, AnyJob]) -> GpuRecord:
        """Write down a slot, and begin to count anew."""
        if self.faults:
            self._down_s += end_s - self._down_since_s
            self._down_since_s = end_s
        for stream in self.streams:
            if stream.name in jobs:
                self.spent(jobs[stream.name])
        serving_s = sum(stream.now.used_s for stream in self.streams)
        sampling_s, labelling_s, training_s, swapping_s = (self._stages_s[stage] for stage in STAGES)
        busy_s = serving_s + sampling_s + labelling_s + training_s + swapping_s
        power, energy_j = self.spec.power, float("nan")
        if power is not None:
            energy_j = power.idle_w * self.slot_s + (power.busy_w - power.idle_w) * busy_s
        record = GpuRecord(
            slot=slot,
            gpu=self.spec.name,
            budget_macs=float(self.budgets_macs[slot - 1]),
            serving=serving_s / self.slot_s,
            sampling=sampling_s / self.slot_s,
            labelling=labelling_s / self.slot_s,
            training=training_s / self.slot_s,
            swapping=swapping_s / self.slot_s,
            down=self._down_s / self.slot_s,
            energy_j=energy_j,
        )
        self._stages_s, self._down_s = dict.fromkeys(STAGES, 0.0), 0.0
        return record
