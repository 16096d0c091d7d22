"""The event simulator: SimPy keeps the time, arrays serve the requests."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import numpy as np

from orric.accuracy import AccuracyModel
from orric.allocators.base import Allocator, Slot, StreamTask, Task
from orric.allocators.choice import Choice
from orric.allocators.guard import Guard
from orric.configuration import InferenceConfiguration, RetrainingConfiguration, StreamAllocation
from orric.exceptions import AllocatorError, BudgetError, ScenarioError, extra
from orric.objective import feasible, servable
from orric.profile import Profile
from orric.randomness import generator
from orric.records import Observation, Result, SlotRecord, columns_of
from orric.scenario import Scenario
from orric.simulation.gpu import Work, work_of
from orric.simulation.queueing import ROUNDING, FifoQueue
from orric.simulation.stream import arrival_times, forecasts

with extra("sim"):
    import simpy


def simulate(
    scenario: Scenario,
    allocator: Allocator,
    accuracy: AccuracyModel,
    seed: int,
    profile: Profile | None = None,
) -> Result:
    """Simulate an edge server slot by slot and request by request.

    In every slot the requests arrive, the allocator decides, the requests are served first in first out at the
    share that inference gets, and beside them the teacher labels and the student retrains at theirs. New
    weights take over at the next slot's start; retraining that is not finished by then is abandoned. Per slot
    there is a constant number of SimPy events, whatever the number of requests.

    Args:
        scenario: The server, the stream and the drift.
        allocator: Decides every slot.
        accuracy: Says how many of the served requests were right.
        seed: Every random draw follows from it; the same seed gives the same result to the byte.
        profile: Stands in for the scenario's own profile.

    Returns:
        One record per slot, and the latency of every served request.

    Raises:
        BudgetError: A slot's budget is below the cheapest pair and the scenario's overload is "error".
        AllocatorError: The allocator names an unknown configuration, exceeds the budget, raises or the like.
    """
    run = _Run(scenario, allocator, accuracy, seed, profile or scenario.profile)
    environment = simpy.Environment()
    environment.run(until=environment.process(run.slots(environment)))
    return Result(
        allocator=run.guard.name,
        engine="simulator",
        accuracy_model=accuracy.name,
        seed=seed,
        columns=columns_of(run.records),
        latencies_s=np.concatenate(run.latencies_s),
        seconds_deciding=run.seconds_deciding,
    )


class _Run:
    """The state of one simulation."""

    def __init__(
        self, scenario: Scenario, allocator: Allocator, accuracy: AccuracyModel, seed: int, profile: Profile
    ) -> None:
        self.scenario, self.accuracy, self.seed = scenario, accuracy, seed
        self.profile = profile
        self.stream = scenario.stream[0]
        self.requests = scenario.requests(seed)
        self.forecasts = forecasts(self.stream, self.requests)
        self.budgets_macs = scenario.budgets_macs(seed)
        self.drift = self.stream.drift.by_slot(scenario.slots, seed)
        parts = np.flatnonzero(self.requests % 1)
        if parts.size:
            raise ScenarioError(
                f"slot {parts[0] + 1}: requests", f"found {self.requests[parts[0]]:g}", "give whole numbers to simulate"
            )
        positive = self.requests[self.requests > 0]
        if not positive.size:
            raise ScenarioError("stream.requests", "no slot has any requests", "give at least one slot requests")
        self.task = Task(
            scenario.slots,
            (StreamTask.of(self.profile, float(positive.min()), float(positive.max()), self.stream.name),),
            (scenario.gpu[0].name,),
        )
        self.guard = Guard(allocator, self.task, generator(seed, "allocator"))
        self.choice = Choice(self.profile, self.guard.name)
        self.queue = FifoQueue()
        self.gained = np.zeros(scenario.slots)
        self.records: list[SlotRecord] = []
        self.latencies_s: list[np.ndarray[Any, np.dtype[np.float64]]] = [np.empty(0)]
        self.seconds_deciding = 0.0

    def slots(self, environment: simpy.Environment) -> Generator[simpy.Event]:
        """Run through the slots: the one process that lasts the whole simulation."""
        for slot in range(1, self.scenario.slots + 1):
            # Measured from the origin: adding slot lengths one by one would drift.
            start_s, end_s = (slot - 1) * self.scenario.slot_s, slot * self.scenario.slot_s
            decided, reason, shed = self._decide(slot)
            retraining, inference = self.choice.pair(slot, decided)
            requests, forecast = float(self.requests[slot - 1]), float(self.forecasts[slot - 1])
            budget_macs = float(self.budgets_macs[slot - 1])
            work = work_of(self.scenario, self.profile, decided, retraining, inference, forecast, budget_macs)

            count = int(requests)
            arrivals = arrival_times(self.stream, slot, count, self.scenario.slot_s, self.seed)
            self.accuracy.arrive(slot, count)
            self.accuracy.shed(shed)
            finished: list[float | None] = []
            job = environment.process(self._retrain(environment, slot, work, retraining, finished))
            yield environment.timeout(max(end_s - environment.now, 0.0))
            abandoned = 0.0
            if job.is_alive:
                if start_s + work.retraining_s <= end_s + ROUNDING * self.scenario.slot_s:
                    # A share that is exactly enough may end an instant late by rounding.
                    yield job
                else:
                    job.interrupt("the slot is over")
                    abandoned = self.scenario.slot_s / work.retraining_s

            latencies = self.queue.advance(arrivals[: count - shed], start_s, end_s, work.service_s)
            self.latencies_s.append(latencies)
            served = len(latencies)
            extent = self._extent(slot)
            correct = self.accuracy.serve(slot, extent, inference.name, served)
            retrained = float(bool(finished))
            agreement = finished[0] if finished else None
            self.gained[slot - 1] = retraining.profit * retrained
            deadline = self.stream.deadline_s
            late = int((latencies > deadline).sum()) if deadline is not None else 0
            quantiles = np.quantile(latencies, [0.5, 0.99]) if served else (np.nan, np.nan)
            self.records.append(
                SlotRecord(
                    slot=slot,
                    stream=self.stream.name,
                    corruption=self.drift.corruptions[slot - 1],
                    severity=int(self.drift.severities[slot - 1]),
                    requests=requests,
                    forecast=forecast,
                    budget_macs=budget_macs,
                    retraining=retraining.name,
                    inference=inference.name,
                    retraining_macs=forecast * retraining.cost_macs * (retrained + abandoned),
                    inference_macs=served * inference.cost_macs,
                    extent=extent,
                    served=float(served),
                    shed=float(shed),
                    waiting=float(self.queue.waiting),
                    late=float(late),
                    correct=correct,
                    accuracy=correct / served if served else float("nan"),
                    latency_mean_s=float(latencies.mean()) if served else float("nan"),
                    latency_p50_s=float(quantiles[0]),
                    latency_p99_s=float(quantiles[1]),
                    retrained=retrained if retraining.cost_macs else 0.0,
                    agreement=float("nan") if agreement is None else agreement,
                    reason=reason,
                )
            )
            self.accuracy.swap()
            self.guard.observe(
                Observation(
                    slot, self.stream.name, requests, float(served), float(late), float(shed), retrained, agreement
                )
            )

    def _retrain(
        self,
        environment: simpy.Environment,
        slot: int,
        work: Work,
        retraining: RetrainingConfiguration,
        finished: list[float | None],
    ) -> Generator[simpy.Event]:
        """Label, then train; what is done appears in `finished`."""
        # Uploads are there when the slot starts; otherwise the samples are those of the slot before.
        collected = slot if self.stream.arrivals == "upload" else slot - 1
        if retraining.cost_macs > 0 and (collected == 0 or not 0 < work.retraining_s < np.inf):
            return
        try:
            yield environment.timeout(work.labelling_s)
            yield environment.timeout(work.training_s)
        except simpy.Interrupt:
            return
        finished.append(self.accuracy.retrain(collected, retraining.name) if retraining.cost_macs > 0 else None)

    def _decide(self, slot: int) -> tuple[StreamAllocation, str, int]:
        """Ask the allocator; return its decision, its reason, and how many requests must be shed."""
        requests, budget_macs = float(self.forecasts[slot - 1]), float(self.budgets_macs[slot - 1])
        stream = self.task.streams[0]
        begun = time.perf_counter()
        allocation = self.guard.decide(Slot(slot, (budget_macs,), (requests,)))
        self.seconds_deciding += time.perf_counter() - begun
        decided = allocation.streams[0]
        if feasible(requests, 0.0, stream.cheapest_macs, budget_macs):
            retraining, inference = self.choice.pair(slot, decided)
            self.choice.check_budget(slot, requests, retraining.cost_macs, inference.cost_macs, budget_macs)
            self._check_shares(slot, decided, requests, retraining, inference, budget_macs)
            return decided, allocation.reason, 0
        if self.scenario.overload == "error":
            raise BudgetError(slot, budget_macs, requests * stream.cheapest_macs)
        cheapest = StreamAllocation(stream.retraining[0].name, stream.inference[0].name)
        arrived = self.requests[slot - 1]
        shed = int(arrived - servable(arrived, stream.inference[0].cost_macs, budget_macs))
        return cheapest, "overloaded: cheapest inference, the rest shed", shed

    def _check_shares(
        self,
        slot: int,
        decided: StreamAllocation,
        requests: float,
        retraining: RetrainingConfiguration,
        inference: InferenceConfiguration,
        budget_macs: float,
    ) -> None:
        whole, total = self.scenario.gpu[0].macs_per_s * self.scenario.slot_s, 0.0
        for share, cost in (
            (decided.retraining_share, retraining.cost_macs),
            (decided.inference_share, inference.cost_macs),
        ):
            if share is not None and not 0 <= share <= 1:
                raise AllocatorError(self.guard.name, slot, f"gives the share {share:g}", "give shares from 0 to 1")
            total += requests * cost / whole if share is None else share
        if total > budget_macs / whole * (1 + ROUNDING):
            raise AllocatorError(
                self.guard.name,
                slot,
                f"gives shares that sum to {total:g}, beyond the budget of {budget_macs / whole:g} of the GPU",
                "an allocation must fit",
            )

    def _extent(self, slot: int) -> float:
        past = slice(0, slot - 1)
        return float(self.profile.memory.extents(self.requests[past], self.gained[past])[-1])
