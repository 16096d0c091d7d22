"""What an allocator is told, and what it must answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from orric.configuration import (
    Allocation,
    InferenceConfiguration,
    RetrainingConfiguration,
    StreamAllocation,
    undominated,
)
from orric.devices import Device
from orric.exceptions import AllocatorError, ScenarioError
from orric.learning import UNIFORM, LearningCurve, LearningExtent
from orric.objective import feasible
from orric.profile import Profile
from orric.records import Observation
from orric.timeliness import Timeliness

Array = np.ndarray[Any, Any]
Indices = np.ndarray[Any, np.dtype[np.intp]]


@dataclass(frozen=True)
class StreamTask:
    """What is known of a stream before the first slot. Never its learning curve.

    Attributes:
        name: Name of the stream.
        retraining: Configurations without dominated ones, ascending in cost and profit, "none" first.
        inference: Configurations without dominated ones, ascending in cost and profit.
        best_accuracy: The accuracy that stands for f(A^T_max).
        slope_floor: L.
        least_requests: D_min, above 0, as slots tell it: declared, or else what the first slot tells.
        most_requests: D_max, likewise. What comes may lie outside; see `orric.allocators.ranges`.
        memory: How past retraining adds up.
        gpu: Name of the GPU that it is placed on.
        memory_bytes: What its models take of a GPU's memory.
        timeliness: Which part of its requests is answered by the deadline; None where nobody has one.
        headroom: By which part more requests slots tell, and the range, than are expected to come.
        least_profit: What stands for A^I_min where answers count by their deadline; None for A^I_min itself. See
            `orric.allocators.orric.profit_floor`.
        start_accuracy: A lower bound of f(0); None where none is known.
        end_accuracy: A lower bound of f(A^T_max); likewise.
    """

    name: str
    retraining: tuple[RetrainingConfiguration, ...]
    inference: tuple[InferenceConfiguration, ...]
    best_accuracy: float
    slope_floor: float
    least_requests: float
    most_requests: float
    memory: LearningExtent = UNIFORM
    gpu: str = "gpu0"
    memory_bytes: float = 0.0
    timeliness: Timeliness | None = None
    headroom: float = 0.0
    least_profit: float | None = None
    start_accuracy: float | None = None
    end_accuracy: float | None = None

    @classmethod
    def of(
        cls,
        profile: Profile,
        least_requests: float,
        most_requests: float,
        name: str = "stream-1",
        gpu: str = "gpu0",
        memory_bytes: float = 0.0,
        timeliness: Timeliness | None = None,
        headroom: float = 0.0,
    ) -> StreamTask:
        """Take from a profile what an allocator may know."""
        return cls(
            name=name,
            retraining=undominated(profile.retraining),
            inference=undominated(profile.inference),
            best_accuracy=profile.best_accuracy,
            slope_floor=profile.slope_floor,
            least_requests=least_requests,
            most_requests=most_requests,
            memory=profile.memory,
            gpu=gpu,
            memory_bytes=memory_bytes,
            timeliness=timeliness,
            headroom=headroom,
            start_accuracy=profile.start_accuracy,
            end_accuracy=profile.end_accuracy,
        )

    @property
    def cheapest_macs(self) -> float:
        """Cost per request of the cheapest pair."""
        return self.retraining[0].cost_macs + self.inference[0].cost_macs


@dataclass(frozen=True)
class Task:
    """What is known before the first slot.

    Attributes:
        horizon: T, the number of slots.
        streams: One entry per stream.
        gpus: Names of the GPUs.
        memories_bytes: Room for models on every GPU; empty where none is limited.
        cloud: Whether retraining may be sent to a cloud.
        capacities_macs: What each whole GPU does in a slot, so that shares of it can be given; () where it is unknown.
        devices: How the jobs of each GPU share it; () where it is unknown.
    """

    horizon: int
    streams: tuple[StreamTask, ...]
    gpus: tuple[str, ...] = ("gpu0",)
    memories_bytes: tuple[float, ...] = ()
    cloud: bool = False
    capacities_macs: tuple[float, ...] = ()
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True)
class Slot:
    """What is known at the start of a slot.

    Attributes:
        index: t, from 1.
        budgets_macs: C(t) of every GPU.
        requests: D(t) of every stream, exact or a forecast.
        backlogs: Requests of every stream that wait, or are in service, at the slot's start; () where it is unknown.
        in_time: Of every stream q_t(i, j), the part of its requests that is answered by the deadline when it is given
            the retraining configuration i and the inference configuration j of its task, M rows of N; () where that
            is not told.
    """

    index: int
    budgets_macs: tuple[float, ...]
    requests: tuple[float, ...]
    backlogs: tuple[float, ...] = ()
    in_time: tuple[tuple[tuple[float, ...], ...], ...] = ()


class Allocator(ABC):
    """Decide each slot's split of compute between retraining and inference.

    An allocator has no clock, no input or output, no global randomness, and does not know whether it is
    evaluated, simulated or deployed. A restart is `reset` and the replayed records.

    When no pair fits a slot's budget it answers with the cheapest pair; the engine that asked then raises
    `BudgetError` or sheds requests.
    """

    name: ClassVar[str]
    # What must be there for it to differ from others, for people, e.g. "a [cloud]".
    needs: ClassVar[str] = ""

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        """Begin an episode.

        Args:
            task: What is known beforehand.
            rng: The allocator's own source of randomness.
        """
        self.task = task

    @abstractmethod
    def decide(self, slot: Slot) -> Allocation:
        """Choose the configurations of every stream for a slot."""

    def observe(self, record: Observation) -> None:  # noqa: B027 (most allocators have nothing to learn)
        """Take note of what happened to one stream in the slot just over."""


class MicroProfiled(ABC):
    """What an allocator inherits from as well when it tries configurations out on the slot's data before it decides.

    A trial tells what a configuration would attain, which no allocator is told. Where nothing can be tried out, in a
    simulation by learning curves, whoever runs it hands those in, and the allocator reads off them what its trials
    would have measured. Where none are handed in, it goes by what every allocator is told.
    """

    @abstractmethod
    def profiled_by(self, curves: Sequence[Sequence[LearningCurve]]) -> Allocator:
        """Return a copy of this allocator whose trials measure these curves; the original goes on without.

        Args:
            curves: Of every stream, in the task's order, the curve that holds in each slot t = 1..T. It may read those
                of the present slot only.
        """


class SingleStreamAllocator(Allocator):
    """An allocator for one stream on one GPU whose decisions need no feedback.

    Subclasses say which of the undominated configurations they choose; deciding one slot and deciding all of
    them at once go through the same code, so they cannot differ.
    """

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        if len(task.streams) != 1 or len(task.gpus) != 1:
            raise ScenarioError(
                f"allocator {self.name!r}",
                f"asked to decide for {len(task.streams)} streams on {len(task.gpus)} GPUs",
                "it takes one stream on one GPU",
            )
        super().reset(task, rng)
        stream = task.streams[0]
        self.retraining_profits = np.array([one.profit for one in stream.retraining])
        self.retraining_costs_macs = np.array([one.cost_macs for one in stream.retraining])
        self.inference_profits = np.array([one.profit for one in stream.inference])
        self.inference_costs_macs = np.array([one.cost_macs for one in stream.inference])

    @abstractmethod
    def choose(self, slots: Array, requests: Array, budgets_macs: Array) -> tuple[Indices, Indices]:
        """Choose for many slots. The arrays given can be read only.

        Args:
            slots: t of each slot, from 1, shape (n,).
            requests: D(t), shape (n,).
            budgets_macs: C(t), shape (n,).

        Returns:
            Indices of the retraining and of the inference configurations of the stream's task, shape (n,) each.
        """

    def choose_in_time(
        self, slots: Array, requests: Array, budgets_macs: Array, in_time: Array
    ) -> tuple[Indices, Indices]:
        """Choose where it is told which part of the requests each pair answers by the deadline; unheeded by default.

        Args:
            slots: As for `choose`.
            requests: As for `choose`.
            budgets_macs: As for `choose`.
            in_time: q_t(i, j) of the task's configurations, shape (n, M, N).

        Returns:
            As `choose` does.
        """
        return self.choose(slots, requests, budgets_macs)

    def choose_many(
        self, tasks: Sequence[Task], rngs: Sequence[np.random.Generator], requests: Array, budgets_macs: Array
    ) -> tuple[Indices, Indices]:
        """Choose for all slots of many tasks, which lie end to end; what `reset` and `choose` give, task by task.

        Where choices depend on the configurations alone, or on what can be laid end to end, too, a subclass answers for
        all tasks by the same few array operations.

        Args:
            tasks: Of the same configurations; horizons and ranges of requests may differ.
            rngs: One for each task.
            requests: D(t) of all tasks, one after the other.
            budgets_macs: C(t), likewise.

        Returns:
            As `choose` does.
        """
        found, start = [], 0
        for task, rng in zip(tasks, rngs, strict=True):
            end = start + task.horizon
            self.reset(task, rng)
            found.append(self.choose(np.arange(1, task.horizon + 1), requests[start:end], budgets_macs[start:end]))
            start = end
        retraining, inference = zip(*found, strict=True)
        return np.concatenate(retraining), np.concatenate(inference)

    def _chosen(
        self, slots: Array, requests: Array, budgets_macs: Array, in_time: Array | None = None
    ) -> list[list[int]]:
        """Choose, and refuse what is no index: a negative one would silently count from the dearest."""
        stream, found = self.task.streams[0], []
        given = (
            self.choose(slots, requests, budgets_macs)
            if in_time is None
            else self.choose_in_time(slots, requests, budgets_macs, in_time)
        )
        if not isinstance(given, (tuple, list, np.ndarray)) or len(given) != 2:
            raise AllocatorError(
                self.name,
                int(slots[0]),
                f"chooses by {type(given).__name__}",
                "return two arrays: indices of retraining and of inference configurations",
            )
        for kind, configurations, chosen in zip(
            ("retraining", "inference"), (stream.retraining, stream.inference), given, strict=True
        ):
            indices = np.asarray(chosen)
            if indices.dtype.kind not in "iu" or indices.shape != slots.shape:
                raise AllocatorError(
                    self.name,
                    int(slots[0]),
                    f"chooses {kind} by an array of {indices.dtype} of shape {indices.shape}",
                    f"return integers of shape {slots.shape}",
                )
            found.append(indices.tolist())
            if min(found[-1]) < 0 or max(found[-1]) >= len(configurations):
                first = int(np.flatnonzero((indices < 0) | (indices >= len(configurations)))[0])
                raise AllocatorError(
                    self.name,
                    int(slots[first]),
                    f"chooses the {kind} configuration of index {indices[first]}",
                    f"return indices from 0 to {len(configurations) - 1}",
                )
        return found

    def decide(self, slot: Slot) -> Allocation:
        index, numbers = np.array([slot.index]), np.array([slot.requests[0], slot.budgets_macs[0]])
        index.setflags(write=False)
        numbers.setflags(write=False)
        in_time = None
        if slot.in_time:
            in_time = np.array(slot.in_time)
            in_time.setflags(write=False)
        retraining, inference = self._chosen(index, numbers[:1], numbers[1:], in_time)
        stream = self.task.streams[0]
        chosen_retraining, chosen_inference = stream.retraining[retraining[0]], stream.inference[inference[0]]
        return Allocation(
            (StreamAllocation(chosen_retraining.name, chosen_inference.name),),
            self.reason(slot, chosen_retraining, chosen_inference),
        )

    def decide_all(self, requests: Array, budgets_macs: Array, in_time: Array | None = None) -> list[Allocation]:
        """Decide slots 1..T at once.

        Args:
            requests: D(t), shape (T,).
            budgets_macs: C(t), shape (T,).
            in_time: q_t(i, j), shape (T, M, N), or None where that is not told.

        Returns:
            The allocations that `decide` would give slot by slot, without reasons.
        """
        # Views, so that the caller may go on writing to what an allocator may only read.
        given = [np.arange(1, len(requests) + 1), requests[:], budgets_macs[:]]
        for values in given:
            values.setflags(write=False)
        if in_time is not None:
            given.append(in_time[:])
            given[-1].setflags(write=False)
        chosen = list(zip(*self._chosen(*given), strict=True))
        stream = self.task.streams[0]
        allocations = {
            (i, j): Allocation((StreamAllocation(stream.retraining[i].name, stream.inference[j].name),))
            for i, j in dict.fromkeys(chosen)
        }
        return [allocations[pair] for pair in chosen]

    def reason(self, slot: Slot, retraining: RetrainingConfiguration, inference: InferenceConfiguration) -> str:
        """Say in a few words why the pair was chosen."""
        stream = self.task.streams[0]
        if not feasible(slot.requests[0], 0.0, stream.cheapest_macs, slot.budgets_macs[0]):
            return "no pair fits the budget"
        spent = slot.requests[0] * (retraining.cost_macs + inference.cost_macs)
        return f"uses {spent / slot.budgets_macs[0]:.0%} of the budget" if slot.budgets_macs[0] else "no work"

    def affordable(self, requests: Array, budgets_macs: Array, retraining: Any, inference: Any) -> Any:
        """Say which pairs of configuration indices fit; arguments broadcast against one another."""
        return feasible(
            requests, self.retraining_costs_macs[retraining], self.inference_costs_macs[inference], budgets_macs
        )


def best_affordable(fits: Sequence[Any] | Array) -> Indices:
    """Return the largest index that fits per slot, 0 when none does; `fits` has shape (n, configurations).

    Costs ascend, so what fits is a prefix.
    """
    affordable: Indices = np.maximum(np.asarray(fits).sum(axis=1) - 1, 0)
    return affordable
