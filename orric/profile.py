"""What was measured of the models: configurations, learning curve, provenance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, PrivateAttr, model_validator

from orric.by_drift import CLEAN_DRIFT, DriftCurve, Floors, TableEntry, drift_of
from orric.configuration import InferenceConfiguration, RetrainingConfiguration, undominated
from orric.exceptions import OrricError, ProfileError, nearest
from orric.learning import AnyCurve, LearningCurve, LearningExtent, Tabulated
from orric.real_models import Models, SelectorFigures, Training
from orric.section import Amount, Name, Positive, Section
from orric.transfer import Transfer


class TeacherFigures(Section):
    """The teacher's own figures, for the Teacher-Only reference line.

    Attributes:
        accuracy: Mean accuracy on the calibrated streams, in (0, 1].
        cost_macs: MACs per sample at the full resolution.
        latency_s: Seconds per sample on the whole device.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    accuracy: Annotated[float, Field(strict=True, gt=0, le=1)]
    cost_macs: Positive
    latency_s: Positive | None = None


class Device(Section):
    """The device that the latencies were measured on.

    Attributes:
        macs_per_s: Its speed at the best inference configuration.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    macs_per_s: Positive

    def beside(self, macs_per_s: float) -> str:
        """Say how a speed compares with the device's.

        >>> Device(macs_per_s=6e10).beside(6e6), Device(macs_per_s=6e10).beside(9e10)
        ('10,000 times below the 6e+10', '1.5 times above the 6e+10')
        """
        above = macs_per_s / self.macs_per_s
        times = max(above, 1 / above)
        shown = f"{times:,.0f}" if times >= 10 else f"{times:.2g}"
        how = "equal to" if shown == "1" else f"{shown} times {'above' if above > 1 else 'below'}"
        return f"{how} the {self.macs_per_s:g}"


class BatchLatency(Section):
    """How long a batch takes on the whole device: affine in its size.

    Attributes:
        inference: Name of the inference configuration.
        fixed_s: Seconds for any batch.
        each_s: Seconds for each of its requests.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    inference: Name
    fixed_s: Amount
    each_s: Positive


class Swap(Section):
    """What surrounds labelling and training.

    Attributes:
        pause_s: How long serving stands still while new weights take over.
        sampling_part: Part of the retraining work that is spent on drawing samples.
        swapping_part: Part of it that is spent on checking and loading the new weights.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    pause_s: Amount = 0.0
    sampling_part: Annotated[float, Field(strict=True, ge=0, lt=0.5)] = 0.0
    swapping_part: Annotated[float, Field(strict=True, ge=0, lt=0.5)] = 0.0


class Colocation(Section):
    """What serving suffers from retraining beside it on the same cores.

    Attributes:
        slowdown: Time of a batch beside retraining, the core shared as the operating system has it, divided by its
            time alone; at least 1 but for noise.
        switch_s: What is lost at the begin of a slice of serving where the two take turns.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    slowdown: Positive
    switch_s: Amount = 0.0


class Profile(Floors):
    """Measured numbers of one student and teacher on one device.

    Attributes:
        name: For reports.
        best_accuracy: The accuracy that stands for f(A^T_max), known to the allocator.
        slope_floor: L, the positive lower bound of f'(A^T_max) that the allocator assumes.
        retraining: Retraining configurations; one of them costs and gains nothing.
        inference: Inference configurations.
        curve: f, seen by the engines only.
        memory: How past retraining adds up.
        drift_curve: f under particular drift and of clean images, used by the engines instead of `curve`, which is the
            mean over all drift.
        table: Measured accuracies by drift and inference configuration, for `accuracy = "table"`.
        transfer: What a student that was retrained under one drift is worth under another, for the same; optional.
        teacher: Figures of the teacher, optional.
        device: The device behind the latencies; simulated GPUs of other speeds scale them. Optional.
        batch_latency: Latency of batches, for configurations for which it was measured; others take latency_s for each
            request.
        swap: What surrounds labelling and training.
        colocation: What serving suffers from retraining beside it, optional.
        models: The real models, optional.
        training: How they are retrained.
        selector: What selects the samples of retraining, by a name of one's own.
        provenance: How all this was measured; free keys.

    Raises:
        ProfileError: A number is impossible, a name stands twice, or the parts contradict one another.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    name: Name
    best_accuracy: Annotated[float, Field(strict=True, gt=0, le=1)]
    slope_floor: Positive
    retraining: tuple[RetrainingConfiguration, ...]
    inference: tuple[InferenceConfiguration, ...]
    curve: AnyCurve
    memory: LearningExtent = LearningExtent()
    drift_curve: tuple[DriftCurve, ...] = ()
    table: tuple[TableEntry, ...] = ()
    transfer: Transfer | None = None
    teacher: TeacherFigures | None = None
    device: Device | None = None
    batch_latency: tuple[BatchLatency, ...] = ()
    swap: Swap = Swap()
    colocation: Colocation | None = None
    models: Models | None = None
    training: Training = Training()
    selector: dict[str, SelectorFigures] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        for kind, configurations in (("retraining", self.retraining), ("inference", self.inference)):
            names = [configuration.name for configuration in configurations]
            if not names:
                raise ValueError(f"there is no {kind} configuration; give at least one")
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                raise ValueError(f"the {kind} configuration {repeated[0]!r} stands twice; name each one once")
        if not any(one.profit == 0 and one.cost_macs == 0 for one in self.retraining):
            raise ValueError(
                'no retraining configuration has profit 0 and cost_macs 0; add the choice not to retrain ("none")'
            )
        if max(one.profit for one in self.inference) > 1 + 1e-9:
            raise ValueError(
                f"the best inference profit is {max(one.profit for one in self.inference):g}; "
                "divide the accuracies by the best one, so that the largest profit is 1"
            )
        most = self.most_profit
        curves = self.curve, *(entry.curve for entry in self.drift_curve)
        ends = [(float(piece(0.0)), float(piece(most))) for curve in curves for piece in curve.pieces]
        start, top = min(start for start, _ in ends), max(end for _, end in ends)
        if not start > 0:
            raise ValueError(f"the curve starts at {start:g}; f(0) must be above 0")
        if self.best_accuracy < top - 1e-9:
            raise ValueError(
                f"best_accuracy is {self.best_accuracy:g} but the curve reaches {top:g} at x = {most:g}; "
                f"set best_accuracy to {top:g} at least, or ORRIC's bounds would not hold"
            )
        if self.slope_floor * most >= self.best_accuracy:
            raise ValueError(
                f"slope_floor is {self.slope_floor:g}; it must be below best_accuracy / largest profit = "
                f"{self.best_accuracy / most:g}"
            )
        served, measured = {one.name for one in self.inference}, [one.inference for one in self.batch_latency]
        for name in measured:
            if name not in served or measured.count(name) > 1:
                raise ValueError(f"batch_latency of {name!r} stands twice, or there is no such inference configuration")
        if self.models is not None:
            for kind, mapping, configurations in (
                ("resolution_px", self.models.resolution_px, self.inference),
                ("sampling_ratio", self.models.sampling_ratio, self.retraining),
            ):
                known = {configuration.name for configuration in configurations}
                if set(mapping) != known:
                    odd = min(set(mapping) ^ known)
                    raise ValueError(f"models.{kind} and the configurations differ in {odd!r}; name the same ones")
            for retraining, name in self.models.selector.items():
                if retraining not in {one.name for one in self.retraining}:
                    names = [one.name for one in self.retraining]
                    found = f"models.selector names the retraining configuration {retraining!r}"
                    raise ValueError(f"{found}; {nearest(retraining, names)}")
                if name not in self.selector:
                    remedy = nearest(name, self.selector) if self.selector else f"add a table [selector.{name}]"
                    raise ValueError(f"models.selector of {retraining!r} is {name!r}, which no table names; {remedy}")
        return self

    @model_validator(mode="after")
    def _table_is_consistent(self) -> Profile:
        names, seen = [one.name for one in self.inference], set()
        for number, entry in enumerate(self.table, start=1):
            if entry.inference not in names:
                found = f"entry {number} of table names the inference configuration {entry.inference!r}"
                raise ValueError(f"{found}; {nearest(entry.inference, names)}")
            key = (entry.corruption, entry.severity, entry.inference)
            if key in seen:
                found = (
                    f"the table has {entry.inference!r} under {entry.corruption!r} of severity {entry.severity} twice"
                )
                raise ValueError(f"{found}; keep one of them")
            seen.add(key)
            if entry.between and entry.between[-1][0] >= self.most_profit:
                found = f"entry {number} of table has the extent {entry.between[-1][0]:g} in between"
                raise ValueError(f"{found}; the largest profit is {self.most_profit:g}: stay below it")
        return self

    @model_validator(mode="after")
    def _transfer_is_consistent(self) -> Profile:
        names = [one.name for one in self.inference]
        for name in () if self.transfer is None else self.transfer.accuracy:
            if name not in names:
                raise ValueError(
                    f"transfer.accuracy names the inference configuration {name!r}; {nearest(name, names)}"
                )
        return self

    @property
    def most_profit(self) -> float:
        """A^T_max, after dominated configurations are removed."""
        return undominated(self.retraining)[-1].profit

    @property
    def uniform_ratios(self) -> list[float]:
        """Sampling ratios of the retraining configurations that draw uniformly, in their order."""
        assert self.models is not None, "the scenario or the calibration checks this"
        return [ratio for name, ratio in self.models.sampling_ratio.items() if name not in self.models.selector]

    def sampling_ratio(self, retraining: str) -> float:
        """Return the part of a slot's samples that a retraining configuration labels.

        Where no [models] say it, its profit stands for it, as in the ORRIC paper.
        """
        if self.models is not None:
            ratio, name = self.models.sampling_ratio[retraining], self.models.selector.get(retraining)
            if name is not None and self.selector[name].labels == "teacher":
                return min(ratio * self.selector[name].pool, 1.0)
            return ratio
        return min(next(one.profit for one in self.retraining if one.name == retraining), 1.0)

    def batch_seconds(self, inference: InferenceConfiguration, macs_per_s: float) -> tuple[float, float]:
        """Return what a batch takes on a device, and what each of its requests takes besides, in seconds.

        That is the measured batch latency where there is one, else latency_s for each request, both scaled from the
        measured device to this one, and elsewhere cost_macs / capacity.

        Args:
            inference: The configuration.
            macs_per_s: Capacity of the whole device.
        """
        scale = self.device.macs_per_s / macs_per_s if self.device else 1.0
        for one in self.batch_latency:
            if one.inference == inference.name:
                return one.fixed_s * scale, one.each_s * scale
        if inference.latency_s is not None:
            return 0.0, inference.latency_s * scale
        return 0.0, inference.cost_macs / macs_per_s

    def teacher_accuracy(self, corruption: str | None, severity: int | None) -> float:
        """Return how often the teacher is right under a corruption and severity; always, where nothing is known."""
        drift = drift_of(corruption, severity)
        for entry in self.drift_curve:
            if (entry.corruption, entry.severity) == drift and entry.teacher_accuracy is not None:
                return entry.teacher_accuracy
        return 1.0 if self.teacher is None else self.teacher.accuracy

    def excess_agreement(self, corruption: str | None, severity: int | None) -> tuple[float, float]:
        """Return by how much student and teacher agree more than if they were right independently of one another.

        Returns:
            Of the student before any retraining, and of the fully retrained one; 0 where nothing was measured.
        """
        drift = drift_of(corruption, severity)
        for entry in self.drift_curve:
            if (entry.corruption, entry.severity) == drift and entry.excess_agreement is not None:
                return entry.excess_agreement
        return 0.0, 0.0

    def curve_for(self, corruption: str | None, severity: int | None) -> LearningCurve:
        """Return the curve under a corruption and severity, or the general one where none was measured."""
        drift = drift_of(corruption, severity)
        for entry in self.drift_curve:
            if (entry.corruption, entry.severity) == drift:
                return entry.curve
        return self.curve

    @property
    def knows_clean(self) -> bool:
        """Whether clean images have a curve of their own, or need none, there being no curve of any drift."""
        return not self.drift_curve or any(entry.severity == 0 for entry in self.drift_curve)

    def with_clean_curve(self) -> Self:
        """Return the profile with a curve of clean images, taken from its table where none was measured.

        Such a profile is of an earlier version of orric. Where its table has clean images, their accuracies before and
        after retraining are joined by a line, which is level where retraining has done harm.
        """
        best = max(self.inference, key=lambda one: one.profit).name
        clean = [entry for entry in self.table if entry.severity == 0 and entry.inference == best]
        if self.knows_clean or not clean:
            return self
        before, after = clean[0].accuracy, clean[0].retrained
        after = before if after is None else max(before, after)
        line = Tabulated(x=(0.0, self.most_profit or 1.0), y=(before, after))
        added = DriftCurve(corruption=CLEAN_DRIFT[0], severity=CLEAN_DRIFT[1], curve=line)
        changed = {"best_accuracy": max(self.best_accuracy, after), "drift_curve": (*self.drift_curve, added)}
        return self.model_copy(update=changed)

    def curves_for(self, corruptions: Sequence[str | None], severities: Sequence[int | None]) -> list[LearningCurve]:
        """Return the curve of each slot t = 1..T for the drift of each slot.

        Without any drift curve that is the general one, whatever the drift. Where there are drift curves, and none of
        clean images, it is so in clean slots.

        Raises:
            ProfileError: There are drift curves, and none for the corruption and severity of a slot.
        """
        found: dict[tuple[str | None, int | None], LearningCurve] = {}
        curves = []
        for slot, drift in enumerate(zip(corruptions, severities, strict=True), start=1):
            if drift not in found:
                self._check_known(slot, *drift)
                found[drift] = self.curve_for(*drift)
            curves.append(found[drift].at(slot))
        return curves

    def _check_known(self, slot: int, corruption: str | None, severity: int | None) -> None:
        if not self.drift_curve or not corruption or corruption == "none":
            return
        names = sorted({entry.corruption for entry in self.drift_curve} - {"none"})
        if corruption not in names:
            found = f"profile {self.name!r} has no curve for the corruption {corruption!r}"
            raise ProfileError(f"slot {slot}", found, nearest(corruption, ["none", *names]))
        known = sorted({0} | {entry.severity for entry in self.drift_curve if entry.corruption == corruption})
        if severity not in known:
            level = "unknown severity" if severity is None else f"severity {severity}"
            found = f"profile {self.name!r} has no curve for {corruption!r} of {level}"
            raise ProfileError(f"slot {slot}", found, "known severities: " + ", ".join(map(str, known)))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a profile from TOML, format 1; one of an earlier version gets a curve of clean images from its table.

        Raises:
            ProfileError: With file, line, key, what was found and what is allowed.
        """
        return super().load(path).with_clean_curve().placed_in(Path(path).parent)

    def placed_in(self, folder: Path) -> Self:
        """Return the profile as if its file lay in a folder: what it names beside itself is looked for there."""
        placed = self.model_copy()
        placed._folder = folder.resolve()
        return placed

    def beside(self, relative: str) -> Path:
        """Resolve a path that the profile's file names relative to itself."""
        return self._folder / relative

    @property
    def data(self) -> Path | None:
        """Where the files of the models' data set lie, None where the profile does not say."""
        return None if self.models is None or self.models.data is None else self.beside(self.models.data)

    @property
    def anchors(self) -> Path | None:
        """Where the anchor set lies, None where the profile has none."""
        return None if self.models is None or self.models.anchors is None else self.beside(self.models.anchors)

    def with_data(self, path: Path) -> Self:
        """Return the profile with the data set's files looked for at a path."""
        if self.models is None:
            return self
        models = self.models.model_copy(update={"data": str(path.resolve())})
        return self.model_copy(update={"models": models}).placed_in(self._folder)

    def moved(self, folder: Path) -> Self:
        """Return the profile with its models and data named relative to another folder, to be saved there."""
        if self.models is None:
            return self
        named = {
            key: Path(os.path.relpath(self.beside(value).resolve(), folder.resolve())).as_posix()
            for key in ("student", "teacher", "data", "anchors")
            if (value := getattr(self.models, key)) is not None
        }
        return self.model_copy(update={"models": self.models.model_copy(update=named)}).placed_in(folder)

    def save(self, path: str | Path) -> None:
        """Write the profile as TOML, format 1; the file appears whole or not at all."""
        import tomli_w  # imported late: only those who measure or search write profiles

        target = Path(path)
        told = self.model_dump(exclude_none=True)
        # What it is called stands first.
        table = {"format": 1, **{name: told[name] for name in ("name", "best_accuracy", "slope_floor")}, **told}
        for name in ("drift_curve", "table", "batch_latency"):
            if not table[name]:
                del table[name]
        for entry in table.get("table", ()):
            if not entry["between"]:
                del entry["between"]
        if table.get("models", {}).get("selector") == {}:
            del table["models"]["selector"]
        for name, default in (("swap", Swap()), ("training", Training()), ("selector", {})):
            if getattr(self, name) == default:
                del table[name]
        partial = target.with_name(f".{target.name}.partial")
        try:
            partial.write_text(tomli_w.dumps(table), encoding="utf-8")
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
