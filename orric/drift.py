"""How the images of a stream change from slot to slot: corruption, severity and mix of classes.

To add a kind of drift, write a subclass of `Drift` and register it in `KINDS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from orric.exceptions import nearest
from orric.randomness import generator
from orric.section import Amount, Count, Name, Section

Array = np.ndarray[Any, np.dtype[np.float64]]
Integers = np.ndarray[Any, np.dtype[np.int64]]

SEVERITIES = (1, 2, 3, 4, 5)
Severity = Annotated[int, Field(strict=True, ge=0, le=5)]


@dataclass(frozen=True, eq=False)
class DriftBySlot:
    """A drift laid out over the slots of one run.

    Attributes:
        corruptions: Corruption of each slot, "none" for clean images; length T.
        severities: Its severity, 0 (clean) to 5, shape (T,); 0 wherever the corruption is "none".
        label_mix: Part of each class among a slot's samples, rows that sum to 1, shape (T, classes); None where
            classes come as often as in the data set.
    """

    corruptions: tuple[str, ...]
    severities: Integers
    label_mix: Array | None = None


class LabelShift(Section):
    """How often each class comes, over the run.

    Attributes:
        kind: "steps" parts the run evenly among the mixes; "ramp" goes straight from each mix to the next, the
            first one in the first slot and the last one in the last.
        mixes: One weight per class in each mix, on any scale.
    """

    kind: Literal["steps", "ramp"]
    mixes: tuple[tuple[Amount, ...], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_weight_per_class(self) -> LabelShift:
        for number, mix in enumerate(self.mixes, start=1):
            if len(mix) != len(self.mixes[0]):
                raise ValueError(
                    f"mix {number} has {len(mix)} weights and mix 1 has {len(self.mixes[0])}; give one for each class"
                )
            if not sum(mix) > 0:
                raise ValueError(f"the weights of mix {number} sum to 0; give a class of it a weight above 0")
        return self

    def by_slot(self, slots: int) -> Array:
        """Return the part of each class in each slot, shape (slots, classes).

        >>> LabelShift(kind="ramp", mixes=((1, 0), (1, 3))).by_slot(3).tolist()
        [[1.0, 0.0], [0.625, 0.375], [0.25, 0.75]]
        """
        # Divided by the largest first, so that no sum of weights overflows.
        weights = np.array([np.array(mix) / max(mix) for mix in self.mixes])
        mixes = weights / weights.sum(axis=1, keepdims=True)
        if self.kind == "steps":
            return np.asarray(mixes[_parts(len(mixes), slots)])
        places = np.linspace(0, len(mixes) - 1, slots)
        known = np.arange(len(mixes))
        return np.stack([np.interp(places, known, parts) for parts in mixes.T], axis=1)


class Drift(Section):
    """What every kind of drift has in common: one or several corruptions, and optionally a label shift.

    Attributes:
        kind: Which of `KINDS`.
        corruption: Name of a corruption, or "none".
        corruptions: Several of them in place of one.
        corruption_slots: Length of a turn, where the corruptions take turns; left out, the run is parted evenly
            among them.
        labels: How often each class comes; left out, as often as in the data set.
    """

    kind: Name
    corruption: Name | None = None
    corruptions: Annotated[tuple[Name, ...], Field(min_length=1)] | None = None
    corruption_slots: Count | None = None
    labels: LabelShift | None = None

    @model_validator(mode="after")
    def _corruption_or_corruptions(self) -> Drift:
        if (self.corruption is None) == (self.corruptions is None):
            found = "neither corruption nor corruptions" if self.corruption is None else "corruption and corruptions"
            raise ValueError(f"found {found}; give one of the two")
        if self.corruption_slots is not None and self.corruptions is None:
            raise ValueError("corruption_slots without corruptions; give the corruptions that take turns")
        return self

    def levels(self, slots: int, rng: np.random.Generator) -> Integers:
        """Return the severity of each of `slots` slots, shape (slots,), whatever the corruption."""
        raise NotImplementedError

    def by_slot(self, slots: int, seed: int, stream: int = 0) -> DriftBySlot:
        """Lay the drift out over a run.

        Args:
            slots: T.
            seed: Seed of the run; only random kinds draw from it.
            stream: Index of the stream, from 0; every stream drifts on its own.
        """
        turns = self._turns(slots)
        return DriftBySlot(
            tuple(np.array(self._names)[turns].tolist()),
            self._severities(slots, turns, generator(seed, "drift", stream)),
            self.labels.by_slot(slots) if self.labels is not None else None,
        )

    def pairs(self, slots: int) -> set[tuple[str, int]]:
        """Return every pair of corruption and severity that a run may hold, whatever its seed."""
        turns = self._turns(slots)
        severities = self._severities(slots, turns, generator(0, "drift"))
        # Told apart as numbers, because runs of millions of slots have few pairs.
        levels = max(SEVERITIES) + 1
        found = np.flatnonzero(np.bincount(turns * levels + severities)).tolist()
        return {(self._names[code // levels], code % levels) for code in found}

    def _severities(self, slots: int, turns: Integers, rng: np.random.Generator) -> Integers:
        clean = np.array([name == "none" for name in self._names])[turns]
        return np.where(clean, 0, self.levels(slots, rng)).astype(np.int64)

    @property
    def _names(self) -> tuple[str, ...]:
        return self.corruptions or (self.corruption or "none",)

    def _turns(self, slots: int) -> Integers:
        """Return which corruption's turn each slot is, shape (slots,)."""
        if self.corruption_slots is None:
            return _parts(len(self._names), slots)
        return np.arange(slots) // self.corruption_slots % len(self._names)


class Steps(Drift):
    """The run is parted evenly among severities, in the order given.

    Attributes:
        severities: Severities from 0 (clean) to 5.

    >>> Steps(corruption="fog", severities=(1, 3)).by_slot(5, seed=1).severities.tolist()
    [1, 1, 1, 3, 3]
    """

    kind: Literal["steps"] = "steps"
    severities: tuple[Severity, ...] = Field(SEVERITIES, min_length=1)

    def levels(self, slots: int, rng: np.random.Generator) -> Integers:
        return np.asarray(np.array(self.severities)[_parts(len(self.severities), slots)])


class Ramp(Drift):
    """The severity goes straight from one to another over the run, rounded to whole severities.

    Attributes:
        start: Severity of the first slot.
        end: Severity of the last slot.

    >>> Ramp(corruption="fog", start=1, end=3).by_slot(6, seed=1).severities.tolist()
    [1, 1, 2, 2, 3, 3]
    """

    kind: Literal["ramp"] = "ramp"
    start: Severity
    end: Severity

    def levels(self, slots: int, rng: np.random.Generator) -> Integers:
        return _rounded(np.linspace(self.start, self.end, slots))


class _Bounded(Drift):
    """A drift between two severities."""

    low: Severity
    high: Severity

    @model_validator(mode="after")
    def _ordered(self) -> _Bounded:
        if self.low > self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; give low <= high")
        return self


class Periodic(_Bounded):
    """The severity goes from low to high and back, again and again, rounded to whole severities.

    Attributes:
        low: Least severity, that of the first slot.
        high: Largest severity, reached half a period later.
        period_slots: Length of a period, at least 2 slots.
        shape: "triangle" rises and falls straight; "sine" lingers at both ends.

    >>> Periodic(corruption="fog", low=1, high=3, period_slots=4).by_slot(6, seed=1).severities.tolist()
    [1, 2, 3, 2, 1, 2]
    """

    kind: Literal["periodic"] = "periodic"
    period_slots: Annotated[int, Field(strict=True, ge=2)]
    shape: Literal["triangle", "sine"] = "triangle"

    def levels(self, slots: int, rng: np.random.Generator) -> Integers:
        phase = np.arange(slots) % self.period_slots / self.period_slots
        height = 1 - abs(2 * phase - 1) if self.shape == "triangle" else (1 - np.cos(2 * np.pi * phase)) / 2
        return _rounded(self.low + (self.high - self.low) * height)


class RandomWalk(_Bounded):
    """The severity goes up or down by one, at random, and never leaves its bounds.

    Attributes:
        low: Least severity.
        high: Largest severity.
        move: Probability of a step in a slot; up and down are alike, and a step out of bounds is not made.
        start: Severity of the first slot; `low` when left out.
    """

    kind: Literal["random-walk"] = "random-walk"
    move: Annotated[float, Field(strict=True, ge=0, le=1)]
    start: Severity | None = None

    @model_validator(mode="after")
    def _starts_within(self) -> RandomWalk:
        if not self.low <= self._first <= self.high:
            raise ValueError(f"start is {self.start}; give one from low = {self.low} to high = {self.high}")
        return self

    @property
    def _first(self) -> int:
        return self.low if self.start is None else self.start

    def levels(self, slots: int, rng: np.random.Generator) -> Integers:
        moves, ways = rng.random(slots), rng.integers(0, 2, slots) * 2 - 1
        steps = np.where(moves < self.move, ways, 0)
        steps[:1] = 0
        # A free walk folded back at both ends is the bounded walk, and needs no loop over the slots.
        count = self.high - self.low + 1
        place = (self._first - self.low + np.cumsum(steps)) % (2 * count)
        return np.asarray(self.low + np.minimum(place, 2 * count - 1 - place))

    def pairs(self, slots: int) -> set[tuple[str, int]]:
        found: set[tuple[str, int]] = set()
        turns = self._turns(slots)
        for index, name in enumerate(self._names):
            at = np.flatnonzero(turns == index)
            if name == "none" or not at.size:
                found |= {(name, 0)} if at.size else set()
                continue
            reach = int(at[-1]) if self.move else 0
            least, most = max(self.low, self._first - reach), min(self.high, self._first + reach)
            found |= {(name, severity) for severity in range(least, most + 1)}
        return found


KINDS: dict[str, type[Drift]] = {
    "steps": Steps,
    "ramp": Ramp,
    "periodic": Periodic,
    "random-walk": RandomWalk,
}


def _by_kind(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kind = str(value.get("kind", "steps"))
    if kind not in KINDS:
        raise ValueError(f"the kind {kind!r} is unknown; {nearest(kind, KINDS)}")
    known = KINDS[kind].model_fields
    for key in value:
        # Said here, because a key of another kind would be met with itself as the nearest known one.
        if key not in known:
            raise ValueError(f"unknown key {key!r} for the kind {kind!r}; {nearest(key, known)}")
    return KINDS[kind].model_validate(value)


AnyDrift = Annotated[SerializeAsAny[Drift], BeforeValidator(_by_kind)]


def _parts(count: int, slots: int) -> Integers:
    """Part slots evenly, the earlier parts one longer where it does not come out even; return each slot's part."""
    sizes = slots // count + (np.arange(count) < slots % count)
    return np.repeat(np.arange(count), sizes)


def _rounded(values: Array) -> Integers:
    """Round to whole numbers, halves up; NumPy's own rounding would favour even severities."""
    return np.floor(values + 0.5).astype(np.int64)
