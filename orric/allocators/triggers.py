"""Triggers: wrapped around any allocator, they let a stream retrain only when there is reason to."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np

from orric.allocators.base import Allocator, Slot, Task
from orric.allocators.detectors import Adwin, Detector, Kswin, PageHinkley
from orric.allocators.orric import future_weights
from orric.allocators.split import for_task
from orric.allocators.streams import Pair
from orric.configuration import Allocation, StreamAllocation
from orric.exceptions import ScenarioError
from orric.objective import feasible
from orric.records import Observation


class Trigger(Allocator):
    """Decide as another allocator does, but let a stream retrain only when there is reason to; subclasses say when.

    Agreement with the teacher is known only of slots that labelled samples, so a stream that does not retrain must be
    probed. A stream for which the inner allocator chooses retraining, while there is no reason for it, is

    - probed, when its last agreement is `probe_slots` slots old or older: it uses the cheapest retraining configuration
      that costs something, which fits in what the inner allocator gave it;
    - else left without retraining.

    What that saves goes to the stream's own inference: the best configuration that fits in what the inner pair costs.
    Where the inner allocator gives both shares explicitly, the retraining share falls with the cost, inference gets the
    difference, and a better inference configuration is taken only as far as its share keeps up with its cost. Where it
    gives one of the two, inference stays as it is. A stream for which the inner allocator chooses no retraining is left
    as decided. Budgets hold wherever they held for the inner allocator. O(K N) per slot beside the inner allocator.

    A trigger that goes by attention in place of agreement (`signal`) is told of it by real models alone; where it is
    not, the inner allocator decides.

    Args:
        inner: Any allocator, a trigger included; one that knows a single stream is given each stream's part.
        probe_slots: At least 1. The default 3 finds a drift three slots late at the worst, at a third of what
            probing in every slot would cost.

    Attributes:
        inner: The allocator that it was made with.
        key: What stands before the "+" of the name.
        signal: What it goes by: "agreement" with the teacher's labels, or "attention", how alike the places are that
            student and teacher look at.
    """

    name = "trigger"
    key: str = "trigger"
    signal: Literal["agreement", "attention"] = "agreement"

    def __init__(self, inner: Allocator, probe_slots: int = 3) -> None:
        _check_count(f"trigger {self.key!r}", "probe_slots", probe_slots)
        self.inner, self.probe_slots = inner, probe_slots
        self.name = f"{self.key}+{inner.name}"  # type: ignore[misc]  # composed, so not one for the class

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._asked = for_task(self.inner, task)
        self._asked.reset(task, rng)
        self._numbers = {stream.name: k for k, stream in enumerate(task.streams)}
        self._retraining = [{one.name: i for i, one in enumerate(stream.retraining)} for stream in task.streams]
        self._inference = [{one.name: j for j, one in enumerate(stream.inference)} for stream in task.streams]
        # Of every stream the last slot that labelled samples, and the agreement in it.
        self._labelled = [0] * len(task.streams)
        self._agreements: list[float | None] = [None] * len(task.streams)

    @abstractmethod
    def wants(self, k: int, slot: int, retraining: int) -> bool:
        """Say whether a stream has reason to retrain in a slot by a configuration, given by its index."""

    def doubts(self, k: int) -> bool:
        """Say whether a stream's last agreement is odd enough to look again in the next slot."""
        return False

    def decide(self, slot: Slot) -> Allocation:
        answer = self._asked.decide(slot)
        if not isinstance(answer, Allocation) or len(answer.streams) != len(self.task.streams):
            return answer  # wrong, and to be told by whoever asked
        streams, waiting, probed = [], 0, 0
        for k, one in enumerate(answer.streams):
            pair = self._pair(k, one)
            if pair is None or not self._cost(k, pair[0]) or self.wants(k, slot.index, pair[0]):
                streams.append(one)
                continue
            due = slot.index - self._labelled[k] >= (1 if self.doubts(k) else self.probe_slots)
            streams.append(self._lessened(k, slot.requests[k], one, pair, 1 if due else 0))
            waiting, probed = waiting + 1, probed + due
        said = f"; {self.key}: {waiting} waiting, of which {probed} probed" if waiting else ""
        return Allocation(tuple(streams), answer.reason + said)

    def observe(self, record: Observation) -> None:
        self._asked.observe(record)
        told = record.agreement if self.signal == "agreement" else record.attention
        if told is not None:
            k = self._numbers[record.stream]
            self._labelled[k], self._agreements[k] = record.slot, told
            self.learn(k, record.slot, told)

    def learn(self, k: int, slot: int, agreement: float) -> None:
        """Take note of a stream's agreement in a slot."""

    def _cost(self, k: int, retraining: int) -> float:
        return self.task.streams[k].retraining[retraining].cost_macs

    def _pair(self, k: int, one: Any) -> Pair | None:
        """Return the indices of an allocation's configurations; None where the task does not list them."""
        if not isinstance(one, StreamAllocation):
            return None
        if not isinstance(one.retraining, str) or not isinstance(one.inference, str):
            return None
        i, j = self._retraining[k].get(one.retraining), self._inference[k].get(one.inference)
        return None if i is None or j is None else (i, j)

    def _lessened(
        self, k: int, requests: float, one: StreamAllocation, pair: Pair, retraining: int
    ) -> StreamAllocation:
        """Return a stream's allocation with less retraining, given by its index, and what is saved to inference."""
        stream, (i, j) = self.task.streams[k], pair
        cost, before = self._cost(k, retraining), self._cost(k, i)
        if one.cloud:
            # It costs nothing here, so there is nothing to save.
            return replace(one, retraining=stream.retraining[retraining].name)
        spent = requests * (before + stream.inference[j].cost_macs)
        shares, most = (one.retraining_share, one.inference_share), len(stream.inference) - 1
        limit = float("inf")
        if shares[0] is not None:
            kept = shares[0] * (cost / before)
            if shares[1] is not None:
                serving = min(shares[1] + (shares[0] - kept), 1.0)
                limit = stream.inference[j].cost_macs * serving / shares[1] if shares[1] > 0 else 0.0
                shares = kept, serving
            else:
                shares = kept, None
        if (shares[0] is None) != (shares[1] is None):
            most = j
        while most > j and not (
            feasible(requests, cost, stream.inference[most].cost_macs, spent)
            and stream.inference[most].cost_macs <= limit
        ):
            most -= 1
        return replace(
            one,
            retraining=stream.retraining[retraining].name,
            inference=stream.inference[most].name,
            retraining_share=shares[0],
            inference_share=shares[1],
        )


class DriftTriggered(Trigger):
    """Retrain as another allocator does for some slots after a stream's agreement has dropped; see `Trigger`.

    Until a stream has given as many agreements as its detector needs, the inner allocator decides. After a drop it
    decides again for `hold_slots` slots, and anew when the detector fires anew. A stream whose last agreement lies more
    than `doubt` away from the mean since the last drop, in which the latest `recent` count most, is probed again in the
    next slot, so that a detector which needs several values does not wait `probe_slots` slots for each. It is so above
    the mean too, and in the first `probe_slots` slots after it was held: a drop after a short recovery is found only
    where the recovery was seen. Memory is bounded: a detector keeps a window.

    Args:
        inner: Any allocator.
        detector: Made anew for every stream and episode.
        probe_slots: At least 1.
        signal: See `Trigger`.
        hold_slots: At least 1. The default 5 retrains on at least four slots of samples that are all of the new kind.

    Attributes:
        doubt: Rather more than the noise of an agreement of 100 labelled samples.
        recent: The mean forgets by 1 / `recent` per agreement.

    Raises:
        MissingExtraError: At `reset`: `orric[sim]` is not installed.
    """

    doubt: ClassVar[float] = 0.05
    recent: ClassVar[int] = 5

    def __init__(
        self,
        inner: Allocator,
        detector: Callable[[], Detector] = Adwin,
        probe_slots: int = 3,
        hold_slots: int = 5,
        signal: Literal["agreement", "attention"] = "agreement",
    ) -> None:
        self.key = str(getattr(detector, "name", "drift")) if signal == "agreement" else signal
        self.signal = signal
        super().__init__(inner, probe_slots)
        _check_count(f"trigger {self.key!r}", "hold_slots", hold_slots)
        self.detector, self.hold_slots = detector, hold_slots

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        count = len(task.streams)
        self._detectors = [self.detector() for _ in range(count)]
        self._held_until = [0] * count
        # How many agreements a stream has given, how many since its last drop, the mean of these, and whether the last
        # one lies far from it.
        self._given, self._since, self._levels = [0] * count, [0] * count, [0.0] * count
        self._odd = [False] * count

    def wants(self, k: int, slot: int, retraining: int) -> bool:
        return self._given[k] < self._detectors[k].needed or slot <= self._held_until[k]

    def doubts(self, k: int) -> bool:
        held_until = self._held_until[k]
        return self._odd[k] or (held_until > 0 and self._labelled[k] < held_until + self.probe_slots)

    def learn(self, k: int, slot: int, agreement: float) -> None:
        self._given[k] += 1
        self._odd[k] = self._since[k] > 0 and abs(agreement - self._levels[k]) > self.doubt
        if self._detectors[k].drops(agreement):
            self._held_until[k] = slot + self.hold_slots
            self._since[k], self._levels[k] = 0, 0.0
        self._since[k] += 1
        self._levels[k] += (agreement - self._levels[k]) / min(self._since[k], self.recent)


class GainTriggered(Trigger):
    """Retrain while the gain that is to be had is worth its cost; see `Trigger`.

    With a stream's last agreement a, retraining by configuration i in slot t is estimated to gain

        (F - a) / A^T_max x A^T_i x h_t      correct requests per request,

    for C^T_i MACs per request: F is the best accuracy, h_t is what a unit of profit adds to the learning extents of all
    later slots (`future_weights`). Serving at the best inference configuration yields F A^I / C^I per MAC. A stream
    retrains while the first quotient is at least `threshold` times the second. Two assumptions: the agreement stands
    for the accuracy (it falls short of it by the teacher's own errors, so the gain is rather over-estimated), and the
    curve from here to F is a straight line (a concave one gains more at once and less later). While a stream's
    agreement is unknown it retrains as the inner allocator decides.

    Args:
        inner: Any allocator.
        threshold: At least 0. Retraining pays in many later slots and costs far more per request than serving, so that
            sensible values lie well below 1. With the default 0.003, on the published and the shipped profiles, a gap
            F - a of 0.2 is worth it until about a sixth of the horizon is left, a gap of 0.05 for the first half.
        probe_slots: At least 1.
    """

    key = "gain"

    def __init__(self, inner: Allocator, threshold: float = 0.003, probe_slots: int = 3) -> None:
        super().__init__(inner, probe_slots)
        if not threshold >= 0:
            raise ScenarioError(f"trigger {self.key!r}", f"threshold is {threshold!r}", "give a number of at least 0")
        self.threshold = threshold

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        weights = {stream.memory: future_weights(task.horizon, stream.memory).tolist() for stream in task.streams}
        self._weights = [weights[stream.memory] for stream in task.streams]

    def wants(self, k: int, slot: int, retraining: int) -> bool:
        agreement, stream = self._agreements[k], self.task.streams[k]
        if agreement is None:
            return True
        weight = self._weights[k][min(slot, self.task.horizon) - 1]
        chosen, serving = stream.retraining[retraining], stream.inference[-1]
        most = stream.retraining[-1].profit
        gain = (stream.best_accuracy - agreement) / most * chosen.profit * weight if most > 0 else 0.0
        # Multiplied out, as serving may cost nothing.
        bar = self.threshold * stream.best_accuracy * serving.profit * chosen.cost_macs
        return bool(gain > 0 and gain * serving.cost_macs >= bar)


def _check_count(where: str, name: str, value: Any) -> None:
    if not isinstance(value, int) or value < 1:
        raise ScenarioError(where, f"{name} is {value!r}", "give a whole number of at least 1")


TRIGGERS: dict[str, Callable[[Allocator], Trigger]] = {
    **{detector.name: partial(DriftTriggered, detector=detector) for detector in (Adwin, PageHinkley, Kswin)},
    "attention": partial(DriftTriggered, signal="attention"),
    GainTriggered.key: GainTriggered,
}
