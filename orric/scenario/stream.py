"""The streams of a scenario: requests, how they arrive and are served, how their student is retrained."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from orric.drift import AnyDrift, Steps
from orric.scenario.gpu import Array, FromCsv, kind_of
from orric.section import Amount, Count, Name, Positive, Section
from orric.workload import KINDS


class ConstantRequests(Section):
    """D(t) is the same in every slot."""

    kind: Literal["constant"]
    per_slot: Count


class RequestsWithin(Section):
    """What requests that are drawn between two numbers have in common."""

    low: Annotated[int, Field(strict=True, ge=0)]
    high: Count

    @model_validator(mode="after")
    def _ordered(self) -> RequestsWithin:
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; give low <= high")
        return self


class UniformRequests(RequestsWithin):
    """D(t) is drawn evenly from the whole numbers low..high."""

    kind: Literal["uniform"]


class PatternRequests(RequestsWithin):
    """D(t) between low and high, by a pattern of `orric.workload`.

    Attributes:
        kind: "bursty" stays near low and now and then near high; "periodic" rises and falls like a day's, with noise.
        period_slots: Length of a day, for "periodic".
    """

    kind: Literal["bursty", "periodic"]
    period_slots: Annotated[int, Field(strict=True, ge=2)] | None = None

    @model_validator(mode="after")
    def _periods_are_for_periodic(self) -> PatternRequests:
        if self.kind == "bursty" and self.period_slots is not None:
            raise ValueError('kind is "bursty", which has no period; remove period_slots')
        return self

    def by_slot(self, slots: int, rng: np.random.Generator) -> Array:
        """Return D(t), shape (slots,)."""
        places = KINDS[self.kind](slots, self.period_slots or 24, rng)
        drawn: Array = np.minimum(self.low + np.floor(places * (self.high - self.low + 1)), self.high)
        return drawn


class FromTimestamps(Section):
    """D(t) and the times of arrival from a file of timestamps (CSV, column arrival_s), relative to the scenario's file.

    Attributes:
        timestamps: The file.
        speedup: Its time is divided by this.
        part: Which of `parts` equal parts of the requests is this stream's, from 1: every `parts`-th request.
        parts: Among how many streams the file is dealt out.
    """

    timestamps: Name
    speedup: Positive = 1.0
    part: Count = 1
    parts: Count = 1

    @model_validator(mode="after")
    def _one_of_the_parts(self) -> FromTimestamps:
        if self.part > self.parts:
            raise ValueError(f"part is {self.part} and parts {self.parts}; give 1 <= part <= parts")
        return self


Requests = Annotated[
    Annotated[ConstantRequests, Tag("constant")]
    | Annotated[UniformRequests, Tag("uniform")]
    | Annotated[PatternRequests, Tag("bursty")]
    | Annotated[PatternRequests, Tag("periodic")]
    | Annotated[FromCsv, Tag("csv")]
    | Annotated[FromTimestamps, Tag("timestamps")],
    Discriminator(kind_of),
]


class Burst(Section):
    """Arrivals of two rates, as a Markov chain has them follow one another.

    Attributes:
        ratio: Rate within bursts divided by the rate between them.
        burst_s: Mean length of a burst.
        calm_s: Mean time between two.
    """

    ratio: Annotated[float, Field(strict=True, ge=1)] = 10.0
    burst_s: Positive = 1.0
    calm_s: Positive = 9.0


class Batch(Section):
    """How requests are put together.

    Attributes:
        most: Requests in a batch at most.
        wait_s: How long the first of them waits at most for the batch to fill.
    """

    most: Count = 1
    wait_s: Amount = 0.0


class Service(Section):
    """How service times vary around the profile's.

    Attributes:
        variability: "none", "exponential", "log-normal" (with `variation`) or "empirical" (drawn from `csv`).
        variation: Standard deviation divided by the mean, for "log-normal".
        csv: A file with one column of measured times, relative to the scenario's file, for "empirical"; they are
            divided by their mean.
    """

    variability: Literal["none", "exponential", "log-normal", "empirical"] = "none"
    variation: Positive | None = None
    csv: Name | None = None

    @model_validator(mode="after")
    def _parameters(self) -> Service:
        wanted = {"log-normal": "variation", "empirical": "csv"}.get(self.variability)
        for name in ("variation", "csv"):
            if (getattr(self, name) is not None) != (name == wanted):
                raise ValueError(
                    f'variability is "{self.variability}"; '
                    + (f"give {wanted}" if name == wanted else f"remove {name}")
                )
        return self


class Abandonment(Section):
    """Requests that leave when their service has not begun in time.

    Attributes:
        kind: "deadline" (they leave at the stream's deadline), "constant" (after `patience_s`) or "exponential" (after a
            time drawn for each, of mean `patience_s`).
        patience_s: How long they wait.
    """

    kind: Literal["deadline", "constant", "exponential"]
    patience_s: Positive | None = None

    @model_validator(mode="after")
    def _parameter(self) -> Abandonment:
        if (self.patience_s is None) != (self.kind == "deadline"):
            raise ValueError(
                f"kind is {self.kind!r}; " + ("remove patience_s" if self.kind == "deadline" else "give patience_s")
            )
        return self


class Pipeline(Section):
    """What becomes of retraining: sample, label, train, swap.

    Attributes:
        overrun: Retraining that is not done at the slot's end is given up ("abandon"), or goes on with the next slot's
            retraining share, while the next slot's own retraining waits until it is done ("continue"; at most one waits,
            the newest) or is left out ("skip").
        takeover: New weights serve from their "completion" on, or from the "slot-end".
    """

    overrun: Literal["abandon", "continue", "skip"] = "abandon"
    takeover: Literal["slot-end", "completion"] = "slot-end"


class Stream(Section):
    """A camera or group of clients with a student of its own.

    Attributes:
        name: For records.
        profile: Profile file, relative to the scenario's file.
        requests: D(t).
        arrivals: "upload" (all at the slot's start, as in the paper), "deterministic" (evenly spaced), "poisson" (a
            Poisson process given the slot's count), "bursty" (one of two rates) or "timestamps" (as the file has them).
        burst: Of "bursty" arrivals.
        forecast: What the allocator is told of D(t): "oracle" (the truth), "last" (the slot before) or "ewma"
            (exponentially weighted mean, weight 0.3). The first slot's is always exact.
        headroom: By which part more requests than forecast are planned for, so that what the forecast misses need not
            queue up. Budgets must pay for them.
        drift: How the images change.
        gpu: Where its models are; None places it on the first GPU with room, by demand.
        workers: Batches in service at once; they divide the stream's share.
        batch: How requests are put together.
        service: How service times vary.
        deadline_s: Requests served later than this after their arrival count as late; None for no deadline.
        queue_limit: Requests that may wait; further ones are shed. None for no limit.
        shed: Who is turned away where not all can be served. In an overloaded slot: every so manieth of those who come
            ("even"), the last ones ("newest") or the first ones ("oldest"). Where `queue_limit` requests wait: the
            newcomer, but under "oldest" who has waited longest. "keep-latest" lets the newest alone wait, and sheds all
            before it.
        abandonment: When requests give up waiting; None for never.
        memory_bytes: What its models take of a GPU's memory.
        retraining: What becomes of retraining.
    """

    name: Name
    profile: Name
    requests: Requests
    arrivals: Literal["upload", "deterministic", "poisson", "bursty", "timestamps"] = "upload"
    burst: Burst | None = None
    forecast: Literal["oracle", "last", "ewma"] = "oracle"
    headroom: Amount = 0.0
    drift: AnyDrift = Steps(corruption="none", severities=(0,))
    gpu: Name | None = None
    workers: Annotated[int, Field(strict=True, ge=1, le=1024)] = 1
    batch: Batch = Batch()
    service: Service = Service()
    deadline_s: Positive | None = None
    queue_limit: Count | None = None
    shed: Literal["even", "newest", "oldest", "keep-latest"] = "even"
    abandonment: Abandonment | None = None
    memory_bytes: Amount = 0.0
    retraining: Pipeline = Pipeline()

    @model_validator(mode="after")
    def _consistent(self) -> Stream:
        if self.arrivals == "upload" and self.forecast != "oracle":
            raise ValueError(
                f"forecast is {self.forecast!r} but uploads are counted when they arrive, at the slot's start; "
                'leave forecast out, or set arrivals to "deterministic" or "poisson"'
            )
        if (self.arrivals == "timestamps") != isinstance(self.requests, FromTimestamps):
            raise ValueError(
                f"arrivals is {self.arrivals!r} and requests {'' if self.arrivals == 'timestamps' else 'a '}"
                f"{'no ' if self.arrivals == 'timestamps' else ''}file of timestamps; give both or neither"
            )
        if self.shed == "keep-latest" and self.queue_limit is not None:
            raise ValueError('shed is "keep-latest", under which one request waits; remove queue_limit')
        if self.abandonment is not None and self.abandonment.kind == "deadline" and self.deadline_s is None:
            raise ValueError('abandonment is at the deadline, and there is none; give deadline_s')
        if self.burst is not None and self.arrivals != "bursty":
            raise ValueError(f'arrivals is {self.arrivals!r}; burst belongs to arrivals = "bursty"')
        return self
