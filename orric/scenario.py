"""Scenarios: what is simulated, as validated plain objects read from TOML."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from orric.accuracy import TableAccuracy
from orric.allocators import check_name
from orric.allocators.base import StreamTask
from orric.drift import AnyDrift, Steps
from orric.exceptions import BudgetError, ProfileError, ScenarioError
from orric.objective import feasible
from orric.profile import Profile
from orric.randomness import generator
from orric.section import Amount, Count, Name, Positive, Section
from orric.trace import Trace

Array = np.ndarray[Any, np.dtype[np.float64]]


class AccuracyChoice(Section):
    """Where accuracies come from: the profile's "curve" or "table", or the real models run by "onnx" Runtime."""

    model: Literal["curve", "table", "onnx"] = "curve"


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


class ConstantBudget(Section):
    """C(t) is the same part of what the GPU can do in every slot."""

    kind: Literal["constant"]
    fraction: Annotated[float, Field(strict=True, ge=0, le=1)]


class ConstantRequests(Section):
    """D(t) is the same in every slot."""

    kind: Literal["constant"]
    per_slot: Count


class UniformRequests(Section):
    """D(t) is drawn evenly from the whole numbers low..high."""

    kind: Literal["uniform"]
    low: Annotated[int, Field(strict=True, ge=0)]
    high: Count

    @model_validator(mode="after")
    def _ordered(self) -> UniformRequests:
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; give low <= high")
        return self


class FromCsv(Section):
    """The column of a trace file, relative to the scenario's file."""

    csv: Name


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "csv" if "csv" in value else str(value.get("kind"))
    return "csv" if isinstance(value, FromCsv) else str(getattr(value, "kind", None))


Budget = Annotated[
    Annotated[UniformBudget, Tag("uniform")]
    | Annotated[ConstantBudget, Tag("constant")]
    | Annotated[FromCsv, Tag("csv")],
    Discriminator(_kind),
]
Requests = Annotated[
    Annotated[ConstantRequests, Tag("constant")]
    | Annotated[UniformRequests, Tag("uniform")]
    | Annotated[FromCsv, Tag("csv")],
    Discriminator(_kind),
]


class Gpu(Section):
    """A GPU: what it can do, and the part of it that is ours.

    Attributes:
        name: For records.
        macs_per_s: Capacity at the efficiency of the profile's best inference configuration.
        budget: C(t) as a part of macs_per_s x slot_s, or in MACs from a file.
    """

    name: Name = "gpu0"
    macs_per_s: Positive
    budget: Budget


class Stream(Section):
    """A camera or group of clients with a student of its own.

    Attributes:
        name: For records.
        profile: Profile file, relative to the scenario's file.
        requests: D(t).
        arrivals: "upload" (all at the slot's start, as in the paper), "deterministic" (evenly spaced) or
            "poisson" (a Poisson process given the slot's count).
        forecast: What the allocator is told of D(t): "oracle" (the truth), "last" (the slot before) or "ewma"
            (exponentially weighted mean, weight 0.3). The first slot's is always exact.
        drift: How the images change.
        deadline_s: Requests served later than this after their arrival count as late; None for no deadline.
    """

    name: Name
    profile: Name
    requests: Requests
    arrivals: Literal["upload", "deterministic", "poisson"] = "upload"
    forecast: Literal["oracle", "last", "ewma"] = "oracle"
    drift: AnyDrift = Steps(corruption="none", severities=(0,))
    deadline_s: Positive | None = None

    @model_validator(mode="after")
    def _upload_is_known(self) -> Stream:
        if self.arrivals == "upload" and self.forecast != "oracle":
            raise ValueError(
                f"forecast is {self.forecast!r} but uploads are counted when they arrive, at the slot's start; "
                'leave forecast out, or set arrivals to "deterministic" or "poisson"'
            )
        return self


class Scenario(Section):
    """A simulated edge server, its streams, and the allocators to compare.

    Attributes:
        name: For reports.
        seed: Seed of every random draw; results hold it as a 64-bit integer.
        slots: T, which must fit into memory.
        slot_s: Length of a slot in seconds.
        overload: "shed" serves what fits when a slot's budget is below the cheapest pair; "error" refuses it.
        spare: What becomes of budget that the allocation leaves over: "idle", or faster "inference".
        allocators: Names of the allocators to compare.
        references: Lines to draw beside them: "teacher-only" (the teacher serves, whatever the budget) and
            "batch-norm-only" (ORRIC's allocation, but only batch-norm statistics are refreshed).
        accuracy: Where accuracies come from.
        gpu: One GPU.
        stream: One stream.
    """

    name: Name
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] = 1
    slots: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    slot_s: Positive
    overload: Literal["shed", "error"] = "shed"
    spare: Literal["idle", "inference"] = "idle"
    allocators: tuple[Name, ...] = Field(min_length=1)
    references: tuple[Literal["teacher-only", "batch-norm-only"], ...] = ()
    accuracy: AccuracyChoice = AccuracyChoice()
    gpu: tuple[Gpu, ...] = Field(min_length=1, max_length=1)
    stream: tuple[Stream, ...] = Field(min_length=1, max_length=1)
    _folder: Path = PrivateAttr(default=Path())

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if name.startswith(".") or "/" in name or "\\" in name:
            raise ValueError(f"found {name!r}, which cannot name a result folder; leave out slashes and a leading dot")
        return name

    @field_validator("allocators")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            check_name(name)
        if len(set(names)) != len(names):
            raise ValueError("an allocator stands twice; name each one once")
        return names

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a scenario, its profile and its traces.

        Raises:
            OrricError: With file, line, key, what was found and what is allowed.
        """
        scenario = super().load(path)
        scenario._folder = Path(path).resolve().parent
        scenario.check(str(path))
        return scenario

    def check(self, where: str) -> None:
        """Check what only shows once the profile and the traces are read; raise in one line."""
        profile, stream = self.profile, self.stream[0]
        if self.accuracy.model == "onnx" and profile.models is None:
            raise ScenarioError(
                f"{where}: accuracy.model",
                f'is "onnx" but the profile {stream.profile} names no [models]',
                'set model = "curve", or use a profile made by orric calibrate',
            )
        corruptions, severities = zip(*sorted(stream.drift.pairs(self.slots)), strict=True)
        try:
            profile.curves_for(corruptions, severities)
        except ProfileError as error:
            _, found, remedy = error.args
            raise ScenarioError(f"{where}: stream.1.drift", found, remedy) from None
        if self.accuracy.model == "table":
            try:
                TableAccuracy(profile, corruptions, severities)
            except ProfileError as error:
                _, found, remedy = error.args
                raise ScenarioError(f"{where}: accuracy.model", found, remedy) from None
        if "teacher-only" in self.references and profile.teacher is None and self.accuracy.model != "onnx":
            raise ScenarioError(
                f"{where}: references", f"the profile {stream.profile} has no [teacher]", 'remove "teacher-only"'
            )
        requests, budgets = self.requests(self.seed), self.budgets_macs(self.seed)
        if self.overload == "error":
            cheapest = StreamTask.of(profile, 1.0, 1.0).cheapest_macs
            unfit = np.flatnonzero(~feasible(requests, 0.0, cheapest, budgets))
            if unfit.size:
                slot = int(unfit[0])
                raise BudgetError(slot + 1, float(budgets[slot]), float(requests[slot] * cheapest))

    def with_accuracy(self, model: Literal["curve", "table", "onnx"], where: str) -> Self:
        """Return the scenario with another accuracy model, checked again."""
        scenario = self.model_copy(update={"accuracy": AccuracyChoice(model=model)})
        scenario.check(where)
        return scenario

    @cached_property
    def profile(self) -> Profile:
        """The profile of the stream."""
        return Profile.load(self._folder / self.stream[0].profile)

    def resolved(self, folder: Path, seed: int, model: str) -> dict[str, Any]:
        """Return the scenario as a plain table, with the choices of a command made.

        Args:
            folder: Where the table will be saved; its paths are relative to it.
            seed: The seed chosen.
            model: The accuracy model chosen.
        """
        table = self.model_dump(exclude_none=True)
        table["seed"], table["accuracy"]["model"] = seed, model
        for owner, key in (
            (table["stream"][0], "profile"),
            (table["stream"][0]["requests"], "csv"),
            (table["gpu"][0]["budget"], "csv"),
        ):
            if key in owner:
                there = (self._folder / owner[key]).resolve()
                owner[key] = Path(os.path.relpath(there, folder.resolve())).as_posix()
        return {"format": 1, **table}

    def requests(self, seed: int) -> Array:
        """Return D(t), shape (T,)."""
        given = self.stream[0].requests
        if isinstance(given, FromCsv):
            return self._column(given, "requests")
        if isinstance(given, ConstantRequests):
            return np.full(self.slots, float(given.per_slot))
        return generator(seed, "arrivals", 0).integers(given.low, given.high + 1, self.slots).astype(np.float64)

    def budgets_macs(self, seed: int) -> Array:
        """Return C(t) in MACs, shape (T,)."""
        gpu = self.gpu[0]
        if isinstance(gpu.budget, FromCsv):
            return self._column(gpu.budget, "budget_macs")
        whole = gpu.macs_per_s * self.slot_s
        if isinstance(gpu.budget, ConstantBudget):
            return np.full(self.slots, gpu.budget.fraction * whole)
        return generator(seed, "budget", 0).uniform(gpu.budget.low, gpu.budget.high, self.slots) * whole

    def trace(self, seed: int) -> Trace:
        """Return the requests, budgets and drift of a seed as a trace for the slot model."""
        drift = self.stream[0].drift.by_slot(self.slots, seed)
        return Trace(
            requests=self.requests(seed),
            budget_macs=self.budgets_macs(seed),
            stream=self.stream[0].name,
            duration_s=np.full(self.slots, self.slot_s),
            corruption=drift.corruptions,
            severity=tuple(drift.severities.tolist()),
            source=f"scenario {self.name}",
        )

    def _column(self, given: FromCsv, name: str) -> Array:
        path = self._folder / given.csv
        values: Array = getattr(Trace.load(path), name)
        if len(values) < self.slots:
            raise ScenarioError(
                str(path),
                f"holds {len(values)} slots and the scenario asks for {self.slots}",
                f"add rows, or set slots = {len(values)}",
            )
        return values[: self.slots]


def load_scenario(path: str | Path) -> Scenario:
    """Read a scenario from TOML, format 1.

    Args:
        path: The file; the paths in it are relative to it.

    Returns:
        The validated scenario.

    Raises:
        OrricError: With file, line, key, what was found and what is allowed.
    """
    return Scenario.load(path)
