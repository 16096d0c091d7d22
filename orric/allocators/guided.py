"""Joint ORRIC that follows estimates as far as its guarantee allows."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from orric.allocators.base import Array, Slot, Task
from orric.allocators.chord import chord_factor
from orric.allocators.joint import JointOrric
from orric.allocators.timely import Choices, Plan
from orric.allocators.together import StreamsTogether
from orric.exceptions import ScenarioError
from orric.records import Observation

# How often the weight between estimates and guarantee is halved.
HALVINGS = 7


class GuidedOrric(JointOrric):
    """Joint ORRIC guided by how well each student does, within what is proved.

    ORRIC's weights know of a learning curve only its least slope L, which is why they value retraining so little and
    give what there is of it to one stream. Students tell more: by its agreement a with the teacher a student is
    F - a short of the best accuracy F, and a concave curve rises at least as steeply as the straight line
    (F - a) / A^T_max up to it. With that for the slope, and h_t as in ORRIC, a unit of profit is worth
    (F - a) h_t / A^T_max. Estimates up to what the chord of a curve grants (`chord_factor`) cost nothing of the
    guarantee with `start_accuracy` for f(0): ORRIC's weights are first raised towards them as far as that. An
    allocation by the estimates themselves is taken if by the raised weights it is worth at least 1 - `give_up` of the
    best; else the nearest mixture whose allocation is. So joint ORRIC's guarantee holds, times (1 - `give_up`),
    whatever the estimates are (compare algorithms with predictions: consistency by the estimates, robustness by the
    guarantee).

    The proof of the guarantee adds up over slots, and so does what may be given up: what a slot leaves unused is banked
    for later ones, and what later ones will be allowed at the least (by the least requests at the cheapest
    configuration, and the least part in time so far) may be borrowed. Where a slot's observations did not tell what was
    chosen, nothing is borrowed, and each slot keeps to its own part.

    An agreement that is not renewed goes back to `unknown` by a tenth of the difference per slot, so that no student is
    forgotten. At most 9 knapsacks per slot and GPU.

    Args:
        give_up: Part of the guarantee that may be given up over an episode, in [0, 1); left out, alpha / (1 + alpha),
            which leaves of (1 + alpha) f(0) / F what is proved of serving alone (see `orric.competitive.bounds`).
        unknown: What is assumed of a student that nobody has compared with the teacher, as a part of F, in [0, 1].
        gap: As in `JointOrric`, for every knapsack.

    Attributes:
        gaps: Of the last decision how much of the best by ORRIC's own weights was given up at most on each GPU.

    Raises:
        ScenarioError: A part is not in its range.
    """

    name: ClassVar[str] = "orric-guided"

    def __init__(self, give_up: float | None = None, unknown: float = 0.5, gap: float = 1e-6) -> None:
        super().__init__(gap)
        if not 0 <= unknown <= 1:
            raise ScenarioError(f"allocator {self.name!r}: unknown", f"found {unknown:g}", "give a part in [0, 1]")
        self.give_up, self.unknown = None if give_up is None else self._part("give_up", give_up), unknown

    def reset(self, task: Task, rng: np.random.Generator) -> None:
        super().reset(task, rng)
        self._alone = None
        self._numbers = {stream.name: k for k, stream in enumerate(task.streams)}
        self._best = np.array([stream.best_accuracy for stream in task.streams])
        self._most = np.array([stream.retraining[-1].profit or 1.0 for stream in task.streams])
        # Of every GPU what earlier slots left of what may be given up, and the least part in time so far.
        self._banks, self._in_time = np.zeros(len(task.gpus)), np.ones(len(task.gpus))
        # Up to which slot that is known.
        self._booked = [0] * len(task.gpus)
        self._factors = np.array([chord_factor(stream) for stream in task.streams])
        # Of every GPU the slot that was decided last, and what its weights were raised by.
        self._raised: dict[int, tuple[int, Array]] = {}
        self._agreements, self._told = self._best * self.unknown, np.zeros(len(task.streams))

    def observe(self, record: Observation) -> None:
        super().observe(record)
        if record.agreement is not None:
            k = self._numbers[record.stream]
            self._agreements[k], self._told[k] = min(record.agreement, self._best[k]), record.slot

    def _learn(self) -> None:
        """Learn from the slot before, and put into the bank what it left of what may be given up."""
        for gpu, group in self._groups:
            past = self._lessons.learn(group)
            if past is None:
                continue
            self._booked[gpu] = past.slot
            choices = group.choices(past.demand)
            if choices is None or past.slot > self.task.horizon:
                continue
            # Ranges are of what slots tell.
            weights = group.weights(past.slot, past.demand.requests * self._ranges.told[group.streams])
            # Any weights that the chord grants will do, but what was decided loses least by those of its decision.
            decided, raised = self._raised.get(gpu, (0, np.ones(0)))
            if decided == past.slot:
                weights[: len(raised)] *= raised
            best = choices.best(weights, self.gap)
            taken = choices.plan(past.retraining, past.inference, past.shares, weights)
            if best.inference_shares is not None:
                # As they are measured that were taken: by the shares that were given in the end.
                best = choices.plan(best.retraining, best.inference, best.inference_shares, weights)
            self._banks[gpu] += taken.value - best.value * (1 - self.allowed(group))
            # What was expected at the least of what could be had.
            self._in_time[gpu] = min(self._in_time[gpu], group.part_earned(taken, past.demand))

    def allowed(self, group: StreamsTogether) -> float:
        """Return which part of the guarantee of some streams may be given up."""
        return group.alpha / (1 + group.alpha) if self.give_up is None else self.give_up

    def slopes(self, slot: int) -> Array:
        """Return (F - a) / A^T_max of every stream by what is known at the start of a slot, shape (K,)."""
        age = np.maximum(slot - 1 - self._told, 0)
        unknown = self._best * self.unknown
        expected = unknown + (self._agreements - unknown) * 0.9**age
        slopes: Array = np.maximum(self._best - expected, 0.0) / self._most
        return slopes

    def solve(self, group: StreamsTogether, choices: Choices, slot: Slot) -> Plan:
        proved = group.weights(slot.index, choices.requests)
        half = len(group.streams)
        # At least what is proved: L is a floor under every slope.
        steep = np.maximum(self.slopes(slot.index)[group.streams] * group.future(slot.index), proved[:half])
        granted = np.minimum(steep, proved[:half] * self._factors[group.streams])
        raised = np.divide(granted, proved[:half], out=np.ones(half), where=proved[:half] > 0)
        self._raised[group.gpu] = slot.index, raised
        proved = np.concatenate([granted, proved[half:]])
        best = choices.best(proved, self.gap)
        estimated = np.concatenate([steep, proved[half:]])
        part = self.allowed(group)
        least = best.value * (1 - part)
        if self._booked[group.gpu] == slot.index - 1:
            later = max(self.task.horizon - slot.index, 0) * group.least * self._in_time[group.gpu]
            least -= max(self._banks[group.gpu] + part * later, 0.0)
        # The share of ORRIC's own weights in the mixture: as little as the guarantee allows.
        share, low, high = 0.0, 0.0, 1.0
        taken = best
        for _ in range(HALVINGS):
            plan = choices.best(estimated * (1 - share) + proved * share, self.gap)
            value = choices.value(plan, proved)
            if value >= least:
                taken, high = plan.weighed(value, best.bound), share
            else:
                low = share
            if high == 0:
                break
            share = (low + high) / 2
        return taken
