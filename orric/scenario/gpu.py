"""The GPUs of a scenario: capacity, budget over time, how work that runs side by side shares them, power."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, model_validator

from orric.randomness import generator
from orric.section import Amount, Count, Name, Positive, Section

Array = np.ndarray[Any, np.dtype[np.float64]]
Part = Annotated[float, Field(strict=True, ge=0, le=1)]


class UniformBudget(Section):
    """C(t) drawn evenly between two parts of what the GPU can do in a slot."""

    kind: Literal["uniform"]
    low: Amount
    high: Amount

    @model_validator(mode="after")
    def _ordered(self) -> UniformBudget:
        if not self.low <= self.high <= 1:
            raise ValueError(f"low is {self.low:g} and high {self.high:g}; give 0 <= low <= high <= 1")
        return self

    def fractions(self, slots: int, seed: int, gpu: int) -> Array:
        """Return C(t) as parts of what the GPU can do in a slot, shape (T,)."""
        return generator(seed, "budget", gpu).uniform(self.low, self.high, slots)


class ConstantBudget(Section):
    """C(t) is the same part of what the GPU can do in every slot."""

    kind: Literal["constant"]
    fraction: Part

    def fractions(self, slots: int, seed: int, gpu: int) -> Array:
        """Return C(t) as parts of what the GPU can do in a slot, shape (T,)."""
        return np.full(slots, self.fraction)


class BackgroundBudget(Section):
    """C(t) is what another tenant leaves, whose load swings like a day's.

    Attributes:
        mean: The other's mean share.
        swing: How far its share goes above and below that.
        period_slots: Length of a day.
        noise: Standard deviation of what chance adds to the share.
    """

    kind: Literal["background"]
    mean: Part
    swing: Part = 0.0
    period_slots: Count = 24
    noise: Amount = 0.0

    def fractions(self, slots: int, seed: int, gpu: int) -> Array:
        """Return C(t) as parts of what the GPU can do in a slot, shape (T,)."""
        day = np.sin(2 * np.pi * np.arange(slots) / self.period_slots)
        chance = generator(seed, "budget", gpu).standard_normal(slots)
        return np.clip(1 - self.mean - self.swing * day - self.noise * chance, 0.0, 1.0)


class RecordedLoad(Section):
    """C(t) is what others left of the GPU while their load was recorded.

    Attributes:
        utilisation: The record (CSV, columns seconds and utilisation), relative to the scenario's file; see
            `orric.budgets.load_free_parts`.
        start_s: Second of the record at which the first slot begins.
    """

    utilisation: Name
    start_s: Amount = 0.0


class FromCsv(Section):
    """The column of a trace file, relative to the scenario's file."""

    csv: Name


def kind_of(value: Any) -> str:
    """Say which kind of budget or of requests a table is."""
    names = ("csv", "timestamps", "utilisation")
    if isinstance(value, dict):
        return next((name for name in names if name in value), str(value.get("kind")))
    return next((name for name in names if hasattr(value, name)), str(getattr(value, "kind", None)))


Budget = Annotated[
    Annotated[UniformBudget, Tag("uniform")]
    | Annotated[ConstantBudget, Tag("constant")]
    | Annotated[BackgroundBudget, Tag("background")]
    | Annotated[RecordedLoad, Tag("utilisation")]
    | Annotated[FromCsv, Tag("csv")],
    Discriminator(kind_of),
]


class Fluid(Section):
    """Speed in proportion to the share."""

    model: Literal["fluid"] = "fluid"


class Saturating(Section):
    """Part of the work takes the same time at any share: time at share r is `fixed` + (1 - `fixed`) / r of the whole's.

    Attributes:
        fixed: That part, measured by running at several shares.
    """

    model: Literal["saturating"]
    fixed: Annotated[float, Field(strict=True, ge=0, lt=1)]


class TimeSlice(Section):
    """Round-robin: every round goes round all jobs, each running alone and at full speed for its share of the round.

    Attributes:
        round_s: Length of a round.
        switch_s: What a change of jobs costs, at the begin of every slice.
    """

    model: Literal["time-slice"]
    round_s: Positive
    switch_s: Amount = 0.0

    @model_validator(mode="after")
    def _switches_fit(self) -> TimeSlice:
        if self.switch_s >= self.round_s:
            raise ValueError(f"switch_s is {self.switch_s:g}; it must be below round_s = {self.round_s:g}")
        return self


Sharing = Annotated[Fluid | Saturating | TimeSlice, Field(discriminator="model")]


class Power(Section):
    """What a GPU draws.

    Attributes:
        idle_w: When nothing runs.
        busy_w: When all of it works; in between in proportion to the share at work.
    """

    idle_w: Amount
    busy_w: Positive

    @model_validator(mode="after")
    def _ordered(self) -> Power:
        if self.busy_w < self.idle_w:
            raise ValueError(f"busy_w is {self.busy_w:g}; it must be idle_w = {self.idle_w:g} at least")
        return self


class Gpu(Section):
    """A GPU: what it can do, and the part of it that is ours.

    Attributes:
        name: For records.
        macs_per_s: Capacity at the efficiency of the profile's best inference configuration.
        budget: C(t) as a part of macs_per_s x slot_s, drawn or recorded, or in MACs from a file.
        memory_bytes: Room for the models of the streams placed on it; None for no limit.
        sharing: What a share is worth.
        power: What it draws, None where unknown.
    """

    name: Name = "gpu0"
    macs_per_s: Positive
    budget: Budget
    memory_bytes: Positive | None = None
    sharing: Sharing = Fluid()
    power: Power | None = None
