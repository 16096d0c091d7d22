"""The streams of a scenario: requests, how they arrive and are served, how their student is retrained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from orric.drift import AnyDrift, Steps
from orric.scenario.requests import ClosedRequests, Counted, DayRequests, FromTimestamps, RateRequests, Requests
from orric.section import Amount, Count, Name, Positive, Section

# Arrivals whose counts may be drawn.
PROCESSES = ("poisson", "bursty", "gamma", "hawkes")


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


class Gamma(Section):
    """Independent gaps between arrivals, of a gamma distribution.

    Attributes:
        variation: Coefficient of variation of the gaps: below 1 they are more even than those of a Poisson process,
            above 1 less.
    """

    variation: Annotated[float, Field(strict=True, ge=0.01, le=100)] = 2.0


class Hawkes(Section):
    """Arrivals that excite further ones.

    Attributes:
        branching: How many further ones each excites on average.
        decay_s: After how long on average.
    """

    branching: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.5
    decay_s: Positive = 10.0


class Batch(Section):
    """How requests are put together.

    Attributes:
        most: Requests in a batch at most.
        wait_s: How long the first of them waits at most for the batch to fill.
    """

    most: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 1
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
        kind: "deadline" (they leave at the stream's deadline), "constant" (after `patience_s`) or "exponential" (after
            a time drawn for each, of mean `patience_s`).
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
            retraining share, while that slot's own retraining waits until it is done ("continue"; at most one waits,
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
        arrivals: "upload" (all at the slot's start, as in the paper), "deterministic" (evenly spaced), "timestamps" (as
            the file has them), the processes "poisson", "bursty" (of two rates), "gamma" (independent gaps) and
            "hawkes" (self-exciting), or "closed" (clients who wait for an answer before they ask again).
        burst: Of "bursty" arrivals.
        gamma: Of "gamma" arrivals.
        hawkes: Of "hawkes" arrivals.
        forecast: What the allocator is told of D(t): "oracle" (what will arrive), "last" (what arrived in the slot
            before) or "ewma" (exponentially weighted mean, weight 0.3). The first slot's is exact but for faults.
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
    arrivals: Literal["upload", "deterministic", "timestamps", "poisson", "bursty", "gamma", "hawkes", "closed"] = (
        "upload"
    )
    burst: Burst | None = None
    gamma: Gamma | None = None
    hawkes: Hawkes | None = None
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
        for kind, section, named in (
            ("timestamps", FromTimestamps, "file of timestamps"),
            ("closed", ClosedRequests, "closed loop"),
        ):
            if (self.arrivals == kind) != isinstance(self.requests, section):
                there = f"no {named}" if self.arrivals == kind else f"a {named}"
                raise ValueError(f"arrivals is {self.arrivals!r} and requests {there}; give both or neither")
        if self.drawn and self.arrivals not in PROCESSES:
            raise ValueError(
                f"arrivals is {self.arrivals!r}, and requests give a rate whose counts are drawn; "
                f"set arrivals to {', '.join(PROCESSES)}, or give exact counts"
            )
        if self.shed == "keep-latest" and self.queue_limit is not None:
            raise ValueError('shed is "keep-latest", under which one request waits; remove queue_limit')
        if self.abandonment is not None and self.abandonment.kind == "deadline" and self.deadline_s is None:
            raise ValueError("abandonment is at the deadline, and there is none; give deadline_s")
        if self.arrivals in ("gamma", "hawkes") and not self.drawn:
            raise ValueError(
                f"arrivals is {self.arrivals!r}, which cannot be had with a given count; "
                'set count = "drawn" in requests, or kind to "rate" or "day"'
            )
        if self.arrivals == "closed" and self.forecast == "oracle":
            raise ValueError(
                'forecast is \'oracle\', and nobody knows beforehand what a closed loop will ask; set "last" or "ewma"'
            )
        for name in ("burst", "gamma", "hawkes"):
            kind = {"burst": "bursty"}.get(name, name)
            if getattr(self, name) is not None and self.arrivals != kind:
                raise ValueError(f'arrivals is {self.arrivals!r}; {name} belongs to arrivals = "{kind}"')
        return self

    @property
    def drawn(self) -> bool:
        """Whether the count of a slot is an outcome of its arrivals, and not given."""
        given = self.requests
        return isinstance(given, RateRequests | DayRequests) or (isinstance(given, Counted) and given.count == "drawn")
