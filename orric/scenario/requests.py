"""How many requests a stream has: the count of each slot, or the rate of a process whose counts are outcomes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from orric.exceptions import ScenarioError
from orric.scenario.gpu import Array, Part, kind_of
from orric.section import Amount, Count, Name, Positive, Section
from orric.workload import KINDS

# Arrivals, or changes of a chain, beyond which a run would not end.
MOST_DRAWN = 1e10


class Counted(Section):
    """What requests that are given slot by slot have in common.

    Attributes:
        count: "exact": so many requests come in a slot; or "drawn": so many come on average, at a rate that is constant
            within the slot, and their number is an outcome of the arrivals.
    """

    count: Literal["exact", "drawn"] = "exact"


class ConstantRequests(Counted):
    """D(t) is the same in every slot."""

    kind: Literal["constant"]
    per_slot: Count


class RequestsWithin(Counted):
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


class Recorded(Section):
    """What requests that a file gives have in common.

    Attributes:
        low: Fewest requests of a slot that are expected, for allocators, who are told nothing of the file. Left out,
            they expect as many as in the first slot.
        high: Most requests of a slot that are expected; given with `low`, or not at all.
    """

    low: Annotated[int, Field(strict=True, ge=0)] | None = None
    high: Count | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.low is None) != (self.high is None):
            given, missing = ("low", "high") if self.high is None else ("high", "low")
            raise ValueError(f"{given} is given without {missing}; give both, or none")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; give low <= high")
        return self


class CsvRequests(Recorded, Counted):
    """D(t) is the column `requests` of a trace file, relative to the scenario's file."""

    csv: Name


class FromTimestamps(Recorded):
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


class RateRequests(Section):
    """Requests come at a constant rate, whatever the slots.

    Attributes:
        kind: "rate".
        per_s: How many in a second on average.
    """

    kind: Literal["rate"]
    per_s: Positive


class DayRequests(Section):
    """Requests come at a rate that follows the day: per_s (1 + swing cos(2 pi (t - peak_s) / period_s)).

    Attributes:
        kind: "day".
        per_s: Mean rate.
        swing: By which part of it the rate goes up and down.
        period_s: Length of a day.
        peak_s: When the rate is highest, from the first slot's start on.
    """

    kind: Literal["day"]
    per_s: Positive
    swing: Part = 0.5
    period_s: Positive = 86400.0
    peak_s: Amount = 50400.0


class ClosedRequests(Section):
    """So many clients send a request each, wait for its end, think, and send the next one: a closed loop.

    Attributes:
        kind: "closed".
        clients: How many there are.
        thinking_s: How long one thinks on average; times are exponential.
    """

    kind: Literal["closed"]
    clients: Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
    thinking_s: Positive

    def check(self, where: str, run_s: float, overload: str) -> None:
        """Refuse a loop that asks too often, or of which no slot may be too small though nobody knows how it asks.

        Raises:
            ScenarioError: It does.
        """
        most = self.clients * run_s / self.thinking_s
        if most > MOST_DRAWN:
            raise ScenarioError(where, f"may ask {most:.2g} times", f"think longer: {MOST_DRAWN:.0e} can be simulated")
        if overload == "error":
            raise ScenarioError(
                where,
                'is a closed loop, and overload is "error"',
                'set overload = "shed": nobody knows what it will ask',
            )


Requests = Annotated[
    Annotated[ConstantRequests, Tag("constant")]
    | Annotated[UniformRequests, Tag("uniform")]
    | Annotated[PatternRequests, Tag("bursty")]
    | Annotated[PatternRequests, Tag("periodic")]
    | Annotated[CsvRequests, Tag("csv")]
    | Annotated[FromTimestamps, Tag("timestamps")]
    | Annotated[RateRequests, Tag("rate")]
    | Annotated[DayRequests, Tag("day")]
    | Annotated[ClosedRequests, Tag("closed")],
    Discriminator(kind_of),
]


def declared(requests: Requests, slot_s: float) -> tuple[float, float] | None:
    """Return the fewest and the most requests of a slot that a scenario declares; None where it leaves that to a file.

    For counts that are drawn it is the range of their means. Of a closed loop it is what its clients ask when every
    answer comes at once. Outcomes may lie outside of either. Nobody is promised a slot without requests: the fewest are
    one, or the mean where that is less.

    Args:
        requests: As declared.
        slot_s: Length of a slot.
    """
    if isinstance(requests, Recorded):
        if requests.low is None or requests.high is None:
            return None
        low, high = float(requests.low), float(requests.high)
    elif isinstance(requests, ConstantRequests):
        low = high = float(requests.per_slot)
    elif isinstance(requests, RequestsWithin):
        low, high = float(requests.low), float(requests.high)
    elif isinstance(requests, ClosedRequests):
        low = high = requests.clients * slot_s / requests.thinking_s
    else:
        swing = requests.swing if isinstance(requests, DayRequests) else 0.0
        low, high = (requests.per_s * slot_s * (1 + sign * swing) for sign in (-1, 1))
    return min(max(low, 1.0), high), high
