"""Scenarios: what is simulated, as validated plain objects read from TOML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, PrivateAttr, ValidationInfo, field_validator

from orric.accuracy import TableAccuracy
from orric.allocators import check_name
from orric.budgets import load_budgets, load_free_parts, load_trace
from orric.exceptions import OrricError, ProfileError, ScenarioError
from orric.profile import Profile
from orric.randomness import generator
from orric.scenario.checks import check
from orric.scenario.cloud import Cloud
from orric.scenario.fault import Fault
from orric.scenario.gpu import Array, ConstantBudget, FromCsv, Gpu, RecordedLoad
from orric.scenario.requests import (
    MOST_DRAWN,
    ClosedRequests,
    ConstantRequests,
    CsvRequests,
    DayRequests,
    FromTimestamps,
    PatternRequests,
    RateRequests,
    UniformRequests,
    declared,
)
from orric.scenario.stream import Burst, Gamma, Hawkes, Stream
from orric.section import FolderName, Name, Positive, Section, with_line
from orric.timestamps import Timestamps
from orric.trace import Trace

if TYPE_CHECKING:
    from orric import processes

__all__ = ["AccuracyChoice", "Cloud", "ConstantBudget", "Fault", "Gpu", "Scenario", "Stream", "load_scenario"]


class AccuracyChoice(Section):
    """Where accuracies come from: the profile's "curve" or "table", or the real models run by "onnx" Runtime."""

    model: Literal["curve", "table", "onnx"] = "curve"


class Scenario(Section):
    """A simulated edge server, its streams, and the allocators to compare.

    Attributes:
        name: For reports.
        seed: Seed of every random draw; results hold it as a 64-bit integer.
        slots: T, which must fit into memory.
        slot_s: Length of a slot in seconds.
        warmup_slots: The first slots, in which queues fill up: what is said of overload leaves them out.
        overload: "shed" serves what fits when a slot's budget is below the cheapest pairs; "error" refuses it.
        spare: What becomes of budget that the allocation leaves over (in a hard partition also of the share of
            retraining that is not under way): "idle", or faster "inference".
        allocators: Names of the allocators to compare.
        references: Lines to draw beside them: "teacher-only" (the teacher serves, whatever the budget) and
            "batch-norm-only" (ORRIC's allocation, but only batch-norm statistics are refreshed).
        accuracy: Where accuracies come from.
        gpu: The GPUs.
        stream: The streams.
        fault: What goes wrong.
        cloud: Where retraining may be sent, if anywhere.
    """

    name: FolderName
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] = 1
    slots: Annotated[int, Field(strict=True, ge=1, le=10_000_000)]
    slot_s: Positive
    warmup_slots: Annotated[int, Field(strict=True, ge=0)] = 0
    overload: Literal["shed", "error"] = "shed"
    spare: Literal["idle", "inference"] = "inference"
    allocators: tuple[Name, ...] = Field(min_length=1)
    references: tuple[Literal["teacher-only", "batch-norm-only"], ...] = ()
    accuracy: AccuracyChoice = AccuracyChoice()
    gpu: tuple[Gpu, ...] = Field(min_length=1)
    stream: tuple[Stream, ...] = Field(min_length=1)
    fault: tuple[Fault, ...] = ()
    cloud: Cloud | None = None
    _folder: Path = PrivateAttr(default=Path())
    # What was read, by name of the file.
    _profiles: dict[str, Profile] = PrivateAttr(default_factory=dict)
    _timestamps: dict[str, Timestamps] = PrivateAttr(default_factory=dict)
    # Drawn counts, by all that they depend on: copies of the scenario share them.
    _drawn: dict[Any, Array] = PrivateAttr(default_factory=dict)

    @field_validator("allocators")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            check_name(name)
        if len(set(names)) != len(names):
            raise ValueError("an allocator stands twice; name each one once")
        return names

    @field_validator("warmup_slots")
    @classmethod
    def _within(cls, warmup_slots: int, info: ValidationInfo) -> int:
        slots = info.data.get("slots")
        if slots is not None and warmup_slots >= slots:
            raise ValueError(f"found {warmup_slots}, and the scenario has {slots} slots; leave some to look at")
        return warmup_slots

    @field_validator("gpu", "stream")
    @classmethod
    def _distinct(cls, owners: tuple[Gpu | Stream, ...]) -> tuple[Gpu | Stream, ...]:
        names = [owner.name for owner in owners]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the name {name!r} stands twice; name each one once")
        return owners

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read and check a scenario, its profiles and its traces.

        Raises:
            OrricError: With file, line, key, what was found and what is allowed.
        """
        scenario = super().load(path)
        scenario._folder = Path(path).resolve().parent
        try:
            scenario.check(str(path))
        except OrricError as error:
            raise with_line(error, path) from None
        return scenario

    def check(self, where: str) -> None:
        """Check what only shows once the profiles and the traces are read; raise in one line."""
        check(self, where)

    def with_accuracy(self, model: Literal["curve", "table", "onnx"], where: str) -> Self:
        """Return the scenario with another accuracy model, checked again."""
        scenario = self.model_copy(update={"accuracy": AccuracyChoice(model=model)})
        scenario.check(where)
        return scenario

    def with_data(self, path: Path) -> Self:
        """Return the scenario with the files of its data sets looked for at a path."""
        scenario = self.model_copy()
        kept = {stream.profile: profile for stream, profile in zip(self.stream, self.profiles, strict=True)}
        scenario._profiles = {name: profile.with_data(path) for name, profile in kept.items()}
        return scenario

    @property
    def has_tables(self) -> bool:
        """Whether every stream's drift is in its profile's accuracy table."""
        for stream, profile in zip(self.stream, self.profiles, strict=True):
            corruptions, severities = zip(*sorted(stream.drift.pairs(self.slots)), strict=True)
            try:
                TableAccuracy(profile, corruptions, severities)
            except ProfileError:
                return False
        return True

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """The profile of every stream; streams of one file have one profile."""
        for name in {stream.profile for stream in self.stream} - set(self._profiles):
            self._profiles[name] = Profile.load(self._folder / name)
        return tuple(self._profiles[stream.profile] for stream in self.stream)

    @property
    def profile(self) -> Profile:
        """The profile of the first stream."""
        return self.profiles[0]

    def placement(self) -> tuple[str, ...]:
        """Return the GPU of every stream: the given one, else the first with room for the stream's demand.

        Demand is what the requests that are expected of a slot cost at the best inference configuration; a GPU has room
        while the demands on it stay within the budget that is expected and the models within its memory. Expected is
        the middle of what is declared; of a file, which nobody knows beforehand, its first slot. Streams without a GPU
        of their own are placed by demand, the largest first; where none has room the least loaded one with memory is
        taken.

        Raises:
            ScenarioError: No GPU has the memory for a stream's models.
        """
        load, memory = {gpu.name: 0.0 for gpu in self.gpu}, {gpu.name: 0.0 for gpu in self.gpu}
        rooms = {gpu.name: self._expected_macs(n) for n, gpu in enumerate(self.gpu)}
        limits = {gpu.name: gpu.memory_bytes or float("inf") for gpu in self.gpu}
        demands = [
            self._expected_requests(k) * max(one.cost_macs for one in profile.inference)
            for k, profile in enumerate(self.profiles)
        ]
        placed: dict[int, str] = {}
        order = sorted(range(len(self.stream)), key=lambda k: (self.stream[k].gpu is None, -demands[k], k))
        for k in order:
            stream = self.stream[k]
            names = [stream.gpu] if stream.gpu is not None else list(load)
            fitting = [name for name in names if memory[name] + stream.memory_bytes <= limits[name]]
            if not fitting:
                most = max(limits[name] - memory[name] for name in names)
                raise ScenarioError(
                    f"stream {stream.name!r}",
                    f"its models take {stream.memory_bytes:g} bytes, and {most:g} are left on "
                    + (f"GPU {stream.gpu!r}" if stream.gpu else "the emptiest GPU"),
                    "raise memory_bytes of a GPU, or place streams otherwise",
                )
            roomy = [name for name in fitting if load[name] + demands[k] <= rooms[name]]
            name = roomy[0] if roomy else min(fitting, key=lambda one: load[one] / max(rooms[one], 1e-300))
            placed[k], load[name] = name, load[name] + demands[k]
            memory[name] += stream.memory_bytes
        return tuple(placed[k] for k in range(len(self.stream)))

    def _expected_requests(self, stream: int) -> float:
        found = declared(self.stream[stream].requests, self.slot_s)
        return float(self.requests(self.seed, stream)[0]) if found is None else sum(found) / 2

    def _expected_macs(self, gpu: int) -> float:
        owner = self.gpu[gpu]
        if isinstance(owner.budget, FromCsv | RecordedLoad):
            return float(self.budgets_macs(self.seed, gpu)[0])
        return owner.budget.expected * owner.macs_per_s * self.slot_s

    def resolved(self, folder: Path, seed: int, model: str) -> dict[str, Any]:
        """Return the scenario as a plain table, with the choices of a command made.

        Args:
            folder: Where the table will be saved; its paths are relative to it.
            seed: The seed chosen.
            model: The accuracy model chosen.
        """
        table = self.model_dump(exclude_none=True, exclude_defaults=False)
        table["seed"], table["accuracy"]["model"] = seed, model
        owners = [(stream, "profile") for stream in table["stream"]]
        owners += [(stream["requests"], key) for stream in table["stream"] for key in ("csv", "timestamps")]
        owners += [(stream["service"], "csv") for stream in table["stream"]]
        owners += [(gpu["budget"], key) for gpu in table["gpu"] for key in ("csv", "utilisation")]
        for owner, key in owners:
            if key in owner:
                there = (self._folder / owner[key]).resolve()
                owner[key] = Path(os.path.relpath(there, folder.resolve())).as_posix()
        if not table["fault"]:
            del table["fault"]
        return {"format": 1, **table}

    def requests(self, seed: int, stream: int = 0) -> Array:
        """Return D(t) of a stream, shape (T,), faults left out: as given, or as the seed draws it.

        Of a closed loop it is what would come if every answer came at once.
        """
        owner = self.stream[stream]
        if isinstance(owner.requests, ClosedRequests):
            return np.full(self.slots, owner.requests.clients * self.slot_s / owner.requests.thinking_s)
        if not owner.drawn:
            return self._given(seed, stream)
        key = (
            self._folder, self.slots, self.slot_s, seed, stream, owner.requests, owner.arrivals, owner.burst,
            owner.gamma, owner.hawkes,
        )  # fmt: skip
        if key not in self._drawn:
            counts = self.process(seed, stream).counts(self.slots, self.slot_s)
            counts.setflags(write=False)
            while len(self._drawn) >= 4 * len(self.stream):
                del self._drawn[next(iter(self._drawn))]
            self._drawn[key] = counts
        return self._drawn[key]

    def _given(self, seed: int, stream: int) -> Array:
        """Return what is given of each slot, shape (T,): the count, or the mean of a drawn one."""
        given, rng = self.stream[stream].requests, generator(seed, "arrivals", stream)
        if isinstance(given, CsvRequests):
            return self._column(self._folder / given.csv, load_trace(self._folder / given.csv, self.slot_s).requests)
        if isinstance(given, FromTimestamps):
            return self.timestamps(stream).counts(self.slot_s, self.slots).astype(np.float64)
        if isinstance(given, ConstantRequests):
            return np.full(self.slots, float(given.per_slot))
        if isinstance(given, PatternRequests):
            return given.by_slot(self.slots, rng)
        if isinstance(given, UniformRequests):
            return rng.integers(given.low, given.high + 1, self.slots).astype(np.float64)
        assert isinstance(given, RateRequests | DayRequests), "a closed loop gives no count"
        return np.full(self.slots, given.per_s * self.slot_s)

    def process(self, seed: int, stream: int, factors: Array | None = None) -> processes.Process:
        """Return the process of drawn arrivals, from the run's start on; each one begins anew and draws the same.

        Args:
            seed: Seed of the run.
            stream: Place of the stream, from 0.
            factors: What its rate is multiplied by in each slot, shape (T,).

        Raises:
            ScenarioError: More requests would come than can be simulated.
        """
        # Compiled, and so not there without the extra "sim".
        from orric import processes

        owner, day = self.stream[stream], {}
        given = owner.requests
        if isinstance(given, RateRequests | DayRequests):
            per_s = np.full(self.slots, given.per_s)
        else:
            per_s = self._given(seed, stream) / self.slot_s
        if isinstance(given, DayRequests):
            day = {"swing": given.swing, "period_s": given.period_s, "peak_s": given.peak_s}
        rate = processes.Rate.of_slots(per_s if factors is None else per_s * factors, self.slot_s, **day)
        if rate.expected > MOST_DRAWN:
            raise ScenarioError(
                f"stream {owner.name!r}: requests",
                f"about {rate.expected:.3g} would come in all",
                f"lower the rate or the number of slots; {MOST_DRAWN:g} can be simulated",
            )
        rng = generator(seed, "arrivals", stream, 0)
        if owner.arrivals == "bursty":
            return processes.Bursty(rate, rng, self.chain(seed, stream))
        if owner.arrivals == "hawkes":
            hawkes = owner.hawkes or Hawkes()
            return processes.Hawkes(rate, rng, hawkes.branching, hawkes.decay_s)
        variation = (owner.gamma or Gamma()).variation if owner.arrivals == "gamma" else 1.0
        return processes.Renewal(rate, rng, variation)

    def chain(self, seed: int, stream: int) -> processes.Chain:
        """Return the chain of bursts and calms of bursty arrivals, from the run's start on.

        Raises:
            ScenarioError: It changes more often than can be simulated.
        """
        from orric import processes

        owner = self.stream[stream]
        burst = owner.burst or Burst()
        if self.slots * self.slot_s / (burst.burst_s + burst.calm_s) > MOST_DRAWN:
            raise ScenarioError(
                f"stream {owner.name!r}: burst",
                f"bursts of {burst.burst_s:g} s every {burst.calm_s:g} s are too many for {self.slots} slots",
                "give longer ones",
            )
        rng = generator(seed, "arrivals", stream, 0, 1)
        return processes.Chain(rng, burst.ratio, burst.burst_s, burst.calm_s)

    def timestamps(self, stream: int) -> Timestamps:
        """Return the given times of arrival of a stream, in the scenario's time."""
        given = self.stream[stream].requests
        assert isinstance(given, FromTimestamps), "only such streams have times of arrival of their own"
        if given.timestamps not in self._timestamps:
            self._timestamps[given.timestamps] = Timestamps.load(self._folder / given.timestamps)
        return self._timestamps[given.timestamps].share(given.part, given.parts).compressed(given.speedup)

    def service_factors(self, stream: int) -> Array:
        """Return measured service times divided by their mean, shape (n,), for an "empirical" stream."""
        service = self.stream[stream].service
        assert service.csv is not None, "the stream checks this"
        path = self._folder / service.csv
        try:
            values = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=1)
        except OSError:
            raise ScenarioError(str(path), "no such file", "check the path") from None
        except ValueError as error:
            raise ScenarioError(str(path), f"is not a column of numbers ({error})", "one time a line") from None
        if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values > 0)).all():
            raise ScenarioError(str(path), "holds something else than one column of times", "give times above 0")
        return np.asarray(values / values.mean())

    def budgets_macs(self, seed: int, gpu: int = 0) -> Array:
        """Return C(t) of a GPU in MACs, shape (T,)."""
        owner = self.gpu[gpu]
        if isinstance(owner.budget, FromCsv):
            path = self._folder / owner.budget.csv
            return self._column(path, load_budgets(path, owner.name, owner.macs_per_s * self.slot_s, self.slot_s))
        if isinstance(owner.budget, RecordedLoad):
            path = self._folder / owner.budget.utilisation
            parts = load_free_parts(path, self.slots, self.slot_s, owner.budget.start_s)
        else:
            parts = owner.budget.fractions(self.slots, seed, gpu)
        return parts * (owner.macs_per_s * self.slot_s)

    def trace(self, seed: int) -> Trace:
        """Return the requests, budgets and drift of a seed as a trace for the slot model, which knows one stream.

        Raises:
            ScenarioError: There are several streams or GPUs.
        """
        if len(self.stream) > 1 or len(self.gpu) > 1:
            raise ScenarioError(
                f"scenario {self.name!r}",
                f"holds {len(self.stream)} streams and {len(self.gpu)} GPUs",
                "the slot model takes one of each; use orric run",
            )
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

    def _column(self, path: Path, values: Array) -> Array:
        if len(values) != self.slots:
            remedy = "add rows" if len(values) < self.slots else "cut the file"
            raise ScenarioError(
                str(path),
                f"holds {len(values)} slots and the scenario asks for {self.slots}",
                f"{remedy}, or set slots = {len(values)}",
            )
        return values


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
