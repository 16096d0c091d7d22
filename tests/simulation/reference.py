"""The plain model that the compiled queue must equal: SimPy, one process per request, one per batch in service."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

# Of what happens at one instant, completions come first, then arrivals, then starts.
COMPLETION, ARRIVAL, START = 0, 1, 2
NEVER = float("inf")


@dataclass(frozen=True)
class Stretch:
    """A time of constant speed. With slices a worker is on from `begin_s` for `slice_s` in every round only."""

    end_s: float
    speed: float
    version: int = 0
    phase: int = 0
    round_s: float = 0.0
    origin_s: float = 0.0
    begin_s: float = 0.0
    slice_s: float = 0.0


@dataclass
class Request:
    """What became of a request."""

    number: int
    arrival_s: float
    factor: float = 1.0
    start_s: float = NEVER
    finish_s: float = NEVER
    shed: bool = False
    version: int = -1
    done: Any = None


@dataclass
class Server:
    """Serves requests one event at a time.

    Attributes:
        stretches: Ascending ends, without a gap; nothing is done after the last.
        work_of: (time of the start, size of the batch) to the batch's work in seconds at speed 1.
        workers: Batches in service at once.
        most: Requests in a batch at most.
        wait_s: How long the first one waits at most for a batch to fill.
        limit: Requests that may wait.
    """

    stretches: Sequence[Stretch]
    work_of: Callable[[float, int], float]
    workers: int = 1
    most: int = 1
    wait_s: float = 0.0
    limit: float = NEVER
    waiting: list[Request] = field(default_factory=list)

    def run(self, requests: Sequence[Request]) -> None:
        """Fill in what becomes of the requests."""
        self.environment = simpy.Environment()
        self.idle = self.workers
        for request in requests:
            self.environment.process(self._request(request))
        for stretch in self.stretches:
            self._start_at(stretch.end_s)
        self.environment.run(until=self.stretches[-1].end_s)

    def _at(self, time_s: float, priority: int) -> simpy.Event:
        event = simpy.Event(self.environment)
        event._ok, event._value = True, None
        self.environment.schedule(event, priority, max(time_s - self.environment.now, 0.0))
        return event

    def _start_at(self, time_s: float) -> None:
        self._at(time_s, START).callbacks.append(lambda _: self._start())

    def _request(self, request: Request) -> Generator[simpy.Event]:
        yield self._at(request.arrival_s, ARRIVAL)
        if len(self.waiting) >= self.limit:
            # Whoever can be served at once is in nobody's way.
            self._start(1)
        if len(self.waiting) >= self.limit:
            request.shed = True
            return
        request.done = simpy.Event(self.environment)
        self.waiting.append(request)
        self._start_at(self.environment.now)
        self._start_at(request.arrival_s + self.wait_s)
        yield request.done
        request.finish_s = self.environment.now

    def _here(self) -> Stretch | None:
        return next((one for one in self.stretches if one.end_s > self.environment.now), None)

    def _start(self, most: int = 2**30) -> None:
        """Start as many batches as can start now, but no more than told."""
        now, here = self.environment.now, self._here()
        while most and self.idle and self.waiting and here is not None and here.speed > 0:
            waited = now >= self.waiting[0].arrival_s + self.wait_s - 1e-12
            if len(self.waiting) < self.most and not waited:
                return
            most -= 1
            batch, self.waiting = self.waiting[: self.most], self.waiting[self.most :]
            for request in batch:
                request.start_s, request.version = now, here.version
            self.idle -= 1
            self.environment.process(self._serve(batch, self.work_of(now, len(batch)) * batch[0].factor))

    def _serve(self, batch: list[Request], left_s: float) -> Generator[simpy.Event]:
        """Work through stretches and slices until nothing is left."""
        while True:
            here, now = self._here(), self.environment.now
            if here is None:
                return
            until_s, speed = here.end_s, here.speed
            if speed > 0 and here.round_s > 0:
                # From one begin or end of a slice to the next.
                rounds = int((now - here.origin_s) / here.round_s)
                edges = [
                    here.origin_s + n * here.round_s + place
                    for n in range(max(rounds - 1, 0), rounds + 3)
                    for place in (here.begin_s, here.begin_s + here.slice_s)
                ]
                following = [n for n, edge in enumerate(edges) if edge > now + 1e-12]
                until_s = min(until_s, edges[following[0]])
                speed = speed if following[0] % 2 else 0.0
            if speed > 0 and left_s <= (until_s - now) * speed:
                yield self._at(now + left_s / speed, COMPLETION)
                break
            yield self._at(until_s, COMPLETION)
            left_s -= (until_s - now) * speed
        self.idle += 1
        for request in batch:
            request.done.succeed()
        self._start_at(self.environment.now)
