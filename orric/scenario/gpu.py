"""The GPUs of a scenario: capacity, budget over time, how work that runs side by side shares them, power."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from orric.randomness import generator
from orric.section import Amount, Count, Flag, Name, Positive, Section

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

    @property
    def expected(self) -> float:
        """The mean part."""
        return (self.low + self.high) / 2

    def fractions(self, slots: int, seed: int, gpu: int) -> Array:
        """Return C(t) as parts of what the GPU can do in a slot, shape (T,)."""
        return generator(seed, "budget", gpu).uniform(self.low, self.high, slots)


class ConstantBudget(Section):
    """C(t) is the same part of what the GPU can do in every slot."""

    kind: Literal["constant"]
    fraction: Part

    @property
    def expected(self) -> float:
        """The mean part."""
        return self.fraction

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

    @property
    def expected(self) -> float:
        """The mean part, but for what is cut off below 0 and above 1."""
        return 1 - self.mean

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
    """A hard partition: speed in proportion to the share, whether or not others use theirs."""

    model: Literal["fluid"] = "fluid"


class Saturating(Section):
    """A hard partition in which part of the work takes the same time at any share.

    Time at share r is `fixed` + (1 - `fixed`) / r of the whole's.

    Attributes:
        fixed: That part, measured by running at several shares.
    """

    model: Literal["saturating"]
    fixed: Annotated[float, Field(strict=True, ge=0, lt=1)]


class TimeSlice(Section):
    """A hard partition in time.

    Round-robin: every round goes round all jobs, each running alone and at full speed for its share of the round.

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


Slowdown = Annotated[float, Field(strict=True, ge=1)]


class Weighted(Section):
    """Work-conserving: who has work gets what others leave, in proportion to the shares, which are weights.

    Attributes:
        per: What a stream's inference share weighs: all its batches in service together ("stream"), or each of them
            ("batch").
        slowdown: How many times as long a batch takes while a retraining is under way on the GPU.
    """

    model: Literal["weighted"] = "weighted"
    per: Literal["stream", "batch"] = "stream"
    slowdown: Slowdown = 1.0


class Priority(Section):
    """Work-conserving: inference goes first, and retraining works while nobody is served.

    Attributes:
        grain_s: Work, in seconds at the whole GPU, for which retraining cannot be interrupted once it has begun: a step
            or a kernel. 0 for interruption at once.
        slowdown: How many times as long a batch takes while a retraining is under way on the GPU.
    """

    model: Literal["priority"]
    grain_s: Amount = 0.0
    slowdown: Slowdown = 1.0


HardPartition = Fluid | Saturating | TimeSlice


def _model_of(value: Any) -> Any:
    """Say which kind of sharing a table, or a word in its place, is; work-conserving unless it says otherwise."""
    if isinstance(value, dict):
        return value.get("model", "weighted")
    return getattr(value, "model", value)


def _table_of(value: Any) -> Any:
    """Let the name of a kind of sharing stand for a table with nothing else in it."""
    return {"model": value} if isinstance(value, str) else value


Sharing = Annotated[
    Annotated[Fluid, Tag("fluid")]
    | Annotated[Saturating, Tag("saturating")]
    | Annotated[TimeSlice, Tag("time-slice")]
    | Annotated[Weighted, Tag("weighted")]
    | Annotated[Priority, Tag("priority")],
    Discriminator(_model_of),
    BeforeValidator(_table_of),
]


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
        assumed: Whether that is a guess, which need not be near the device of the profile.
        budget: C(t) as a part of macs_per_s x slot_s, drawn or recorded, or in MACs from a file.
        memory_bytes: Room for the models of the streams placed on it; None for no limit.
        sharing: What a share is worth.
        fault_domain: Whether a client that crashes takes the others on this GPU down with it ("shared", as under CUDA's
            Multi-Process Service) or not ("separate").
        power: What it draws, None where unknown.
    """

    name: Name = "gpu0"
    macs_per_s: Positive
    assumed: Flag | None = None
    budget: Budget
    memory_bytes: Positive | None = None
    sharing: Sharing = Weighted()
    fault_domain: Literal["separate", "shared"] = "separate"
    power: Power | None = None

    @property
    def shared(self) -> bool:
        """Whether who has work gets what others leave; else it is a hard partition."""
        return isinstance(self.sharing, Weighted | Priority)
