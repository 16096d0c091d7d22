"""What an allocator decides for a slot, and what becomes of it: moves, checks, sheds, shares."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from orric.allocators.base import Slot, Task
from orric.allocators.guard import Guard
from orric.configuration import StreamAllocation
from orric.exceptions import AllocatorError, BudgetError
from orric.objective import feasible_together, servable
from orric.scenario import Scenario
from orric.simulation.gpu import GpuState
from orric.simulation.pipeline import Retrainings
from orric.simulation.queueing import ROUNDING
from orric.simulation.stream import StreamState


class Decisions:
    """Asks the allocator slot by slot, refuses what breaks the budgets, and sets everybody's shares.

    Args:
        scenario: Says what becomes of overloaded slots and of spare budget.
        guard: Asks the allocator.
        task: What it was told.
        streams: The streams, in the task's order.
        gpus: The GPUs, in the task's order.
        retrainings: Retraining in progress.
        tell: Writes a line of the log: of whom, and what.
    """

    def __init__(
        self,
        scenario: Scenario,
        guard: Guard,
        task: Task,
        streams: Sequence[StreamState],
        gpus: Sequence[GpuState],
        retrainings: Retrainings,
        tell: Callable[[str, str], None],
    ) -> None:
        self.overload, self.spare, self.slot_s = scenario.overload, scenario.spare, scenario.slot_s
        self.guard, self.task, self.streams, self.gpus = guard, task, streams, gpus
        self._retrainings = retrainings
        self._tell = tell
        self.seconds = 0.0

    def decide(self, slot: int, waiting: Sequence[int]) -> tuple[list[StreamAllocation], str, list[int]]:
        """Ask the allocator.

        Args:
            slot: Index from 1.
            waiting: Requests of every stream that wait, or are in service, at its start.

        Returns:
            Its decisions, its reason, and how many requests of each stream must be shed: of a closed loop none, whose
            clients would only ask again.
        """
        planned = [stream.planned(slot) for stream in self.streams]
        budgets = tuple(float(gpu.budgets_macs[slot - 1]) for gpu in self.gpus)
        begun = time.perf_counter()
        allocation = self.guard.decide(Slot(slot, budgets, tuple(planned), tuple(map(float, waiting))))
        self.seconds += time.perf_counter() - begun
        decided, refused, reason = list(allocation.streams), [0] * len(self.streams), allocation.reason
        moved = self._move(slot, decided)
        for gpu, budget_macs in zip(self.gpus, budgets, strict=True):
            there = [stream.index for stream in gpu.streams]
            cheapest = [self.task.streams[k].cheapest_macs for k in there]
            asked = np.array([planned[k] for k in there])
            # Whoever moves streams to where they do not fit has exceeded the budget.
            if moved & set(there) or feasible_together(asked, 0.0, np.array(cheapest), budget_macs):
                self._check(slot, gpu, [(k, decided[k], planned[k]) for k in there], budget_macs)
            elif self.overload == "error":
                raise BudgetError(slot, budget_macs, float(asked @ cheapest))
            else:
                reason = "overloaded: cheapest inference, the rest shed"
                needed = float(asked @ cheapest)
                for k in there:
                    task, part = self.task.streams[k], 1.0
                    if len(there) > 1:
                        part = planned[k] * task.cheapest_macs / needed
                    decided[k] = StreamAllocation(task.retraining[0].name, task.inference[0].name)
                    cost_macs = task.inference[0].cost_macs
                    arrived = self.streams[k].given[slot - 1]
                    refused[k] = int(arrived - servable(arrived, cost_macs, budget_macs * part))
            self._share(slot, gpu, [(k, decided[k], planned[k]) for k in there], budget_macs)
        return decided, reason, refused

    def _move(self, slot: int, decided: Sequence[StreamAllocation]) -> set[int]:
        """Move streams to the GPUs that the allocator names, or back home; return the indices of those not at home.

        A stream that moves stands still while its weights are loaded, as for new ones; retraining in progress goes on.
        """
        away = set()
        for k, (stream, one) in enumerate(zip(self.streams, decided, strict=True)):
            home, old = self.task.streams[k].gpu, stream.gpu
            name = one.gpu or home
            if name != home:
                away.add(k)
            if name == old.spec.name:
                continue
            begin_s = (slot - 1) * self.slot_s
            new = next(gpu for gpu in self.gpus if gpu.spec.name == name)
            old.account(begin_s)
            old.lose(stream)
            new.take(stream)
            if stream.index in self._retrainings.jobs:
                new.scale(stream, old.spec.macs_per_s / new.spec.macs_per_s)
            stream.serving.pause(begin_s, begin_s + stream.profile.swap.pause_s)
            self._tell(stream.name, f"moved to {name}")
        for gpu in self.gpus if away else ():
            used, room = sum(stream.spec.memory_bytes for stream in gpu.streams), gpu.spec.memory_bytes
            if room is not None and used > room:
                raise AllocatorError(
                    self.guard.name,
                    slot,
                    f"moves models of {used:g} bytes to GPU {gpu.spec.name!r}, which has room for {room:g}",
                    "heed memories_bytes of the task",
                )
        return away

    def _check(
        self, slot: int, gpu: GpuState, chosen: list[tuple[int, StreamAllocation, float]], budget_macs: float
    ) -> None:
        """Refuse configurations or shares beyond a GPU's budget."""
        total, costs = 0.0, []
        for k, one, requests in chosen:
            stream = self.streams[k]
            retraining, inference = stream.choice.pair(slot, one)
            # What is retrained in the cloud costs nothing here.
            labelling_macs = 0.0 if one.cloud else retraining.cost_macs
            if len(chosen) == 1:
                stream.choice.check_budget(slot, requests, labelling_macs, inference.cost_macs, budget_macs)
            costs.append((requests, labelling_macs, inference.cost_macs))
            for share, cost in (
                (one.retraining_share, labelling_macs),
                (one.inference_share, inference.cost_macs),
            ):
                if share is not None and not 0 <= share <= 1:
                    raise AllocatorError(self.guard.name, slot, f"gives the share {share:g}", "give shares from 0 to 1")
                total += requests * cost / gpu.whole_macs if share is None else share
        asked, labelling, serving = np.array(costs).T if costs else np.empty((3, 0))
        if not feasible_together(asked, labelling, serving, budget_macs):
            spent = float((asked * (labelling + serving)).sum())
            raise AllocatorError(
                self.guard.name,
                slot,
                f"exceeds the budget of {budget_macs:g} MACs of GPU {gpu.spec.name!r} by pairs that cost {spent:g}",
                "an allocation must fit",
            )
        if total > budget_macs / gpu.whole_macs * (1 + ROUNDING):
            raise AllocatorError(
                self.guard.name,
                slot,
                f"gives shares that sum to {total:g}, beyond the budget of {budget_macs / gpu.whole_macs:g} of the GPU",
                "an allocation must fit",
            )

    def _share(
        self, slot: int, gpu: GpuState, chosen: list[tuple[int, StreamAllocation, float]], budget_macs: float
    ) -> None:
        """Set every stream's shares: as given, else what its configurations cost of the whole GPU.

        What the budget then leaves over idles or speeds up inference, in proportion to its shares.
        """
        whole, free = gpu.whole_macs, []
        for k, one, requests in chosen:
            retraining, inference = self.streams[k].choice.pair(slot, one)
            share = one.retraining_share
            if share is None:
                share = 0.0 if one.cloud else requests * retraining.cost_macs / whole
            serving = one.inference_share
            if serving is None:
                serving = requests * inference.cost_macs / whole
                free.append(k)
            gpu.shares[self.streams[k].name] = share, serving
        # In the order of the streams: sums must not depend on that of a set.
        names = {self.streams[k].name: None for k in free}
        fixed = sum(
            retraining + (0.0 if name in names else serving) for name, (retraining, serving) in gpu.shares.items()
        )
        wanted = sum(gpu.shares[name][1] for name in names)
        left = max(budget_macs / whole - fixed, 0.0)
        # An overloaded slot asks for more than there is.
        if wanted > left or self.spare == "inference":
            for name in names:
                retraining_share, serving = gpu.shares[name]
                part = serving / wanted if wanted > 0 else 1 / len(names)
                gpu.shares[name] = retraining_share, left if len(names) == 1 else left * part
