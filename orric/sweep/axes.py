"""What a sweep varies: axes of values, and the points that they span."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from orric.exceptions import ScenarioError
from orric.randomness import generator
from orric.section import Name, Positive, Real, Section

Integers = np.ndarray[Any, np.dtype[np.int32]]
RANGES = ("uniform", "log_uniform")
MOST_POINTS = 10_000_000
GIVEN = ("values", "times", *RANGES)


class Axis(Section):
    """One thing that a sweep varies.

    Attributes:
        name: For tables and figures; the last part of the key when left out.
        key: What it sets in the scenario, as "gpu.1.budget.low"; "*" in place of a number means all. "profile.KEY" sets
            a key of the streams' profiles, "streams" and "gpus" repeat those of the scenario up to a number.
        values: What it is set to.
        times: What the scenario's own number is multiplied by.
        uniform: Least and largest, between which numbers are drawn evenly.
        log_uniform: The same on a logarithmic scale.
        labels: What the values are called, where they are tables or too long to show.
        together: Axes of the same word go through their values side by side, not crossed.
    """

    name: Name | None = None
    key: Name
    values: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    times: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    uniform: tuple[Real, Real] | None = None
    log_uniform: tuple[Positive, Positive] | None = None
    labels: tuple[Name, ...] | None = None
    together: Name | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Axis:
        given = [name for name in GIVEN if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"found {' and '.join(given) or 'no values'}; give one of {', '.join(GIVEN)}")
        if self.drawn:
            low, high = getattr(self, given[0])
            if not low < high:
                raise ValueError(f"{given[0]} goes from {low:g} to {high:g}; give the smaller number first")
            if self.together is not None or self.labels is not None:
                raise ValueError("what is drawn has no labels and no together; leave them out")
        elif self.labels is not None and len(self.labels) != self.count:
            raise ValueError(f"{self.count} values and {len(self.labels)} labels; give one for each")
        elif self.labels is None and any(isinstance(value, (dict, list)) for value in self.values or ()):
            raise ValueError("values that are tables or lists need labels; give one for each")
        if len(set(self.shown)) < len(self.shown):
            raise ValueError("a value stands twice; name each one once")
        return self

    @property
    def title(self) -> str:
        """What the axis is called."""
        return self.name or self.key.rsplit(".", 1)[-1]

    @property
    def drawn(self) -> bool:
        """Whether its values are drawn."""
        return self.uniform is not None or self.log_uniform is not None

    @property
    def count(self) -> int:
        """How many values are given; 0 where they are drawn."""
        return len(self.values or self.times or ())

    @property
    def shown(self) -> tuple[Any, ...]:
        """What stands for the given values in tables: labels, factors or the values."""
        return self.labels or self.values or self.times or ()

    def at(self, part: float) -> float:
        """Return the number at a part of the range, from 0 to 1."""
        if self.log_uniform is not None:
            low, high = np.log(self.log_uniform)
            return float(np.exp(low + part * (high - low)))
        assert self.uniform is not None, "only what is drawn has a range"
        low, high = self.uniform
        return float(low + part * (high - low))


class Draws(Section):
    """How the axes with a range are drawn, all of them together.

    Attributes:
        count: How many points.
        method: "latin-hypercube": every axis's range is parted into as many equal parts, and each part has one point;
            "random": every point on its own.
        seed: Of the draws.
    """

    count: Annotated[int, Field(strict=True, ge=1, le=MOST_POINTS)]
    method: Literal["latin-hypercube", "random"] = "latin-hypercube"
    seed: Annotated[int, Field(strict=True, ge=0)] = 1

    def parts(self, axes: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the place of every point in every range, in [0, 1), shape (count, axes)."""
        rng = generator(self.seed, "ensemble")
        within = rng.random((self.count, axes))
        if self.method == "random":
            return within
        cells = np.stack([rng.permutation(self.count) for _ in range(axes)], axis=1)
        return (cells + within) / self.count


@dataclass(frozen=True)
class Points:
    """All points that axes span, held as indices, so that a million of them fit into memory.

    The last axis varies fastest; axes that go together vary as one, and so do all that are drawn.

    Attributes:
        axes: The axes, in the order of the sweep.
        levels: Of each axis the values that it takes.
        shown: Of each axis what stands for them.
        which: Of each point and axis the index of its value, shape (points, axes).
    """

    axes: tuple[Axis, ...]
    levels: tuple[tuple[Any, ...], ...]
    shown: tuple[tuple[Any, ...], ...]
    which: Integers

    @classmethod
    def spanned(cls, axes: Sequence[Axis], draws: Draws | None) -> Points:
        """Span the points of axes.

        Args:
            axes: Those with values are crossed, but for those that go together; those with ranges are drawn.
            draws: How, where an axis has a range.
        """
        drawn = [number for number, axis in enumerate(axes) if axis.drawn]
        parts = draws.parts(len(drawn)) if draws is not None and drawn else np.empty((0, 0))
        levels = [
            tuple(axis.at(part) for part in parts[:, drawn.index(number)]) if axis.drawn else _given(axis)
            for number, axis in enumerate(axes)
        ]
        # One group for axes that vary as one, in the order of its first axis.
        groups: dict[str, list[int]] = {}
        for number, axis in enumerate(axes):
            word = "drawn" if axis.drawn else f"together {axis.together}" if axis.together else f"axis {number}"
            groups.setdefault(word, []).append(number)
        sizes = [len(levels[members[0]]) for members in groups.values()]
        if prod(sizes) > MOST_POINTS:
            found = f"the axes span {prod(sizes):,} points"
            raise ScenarioError("axes", found, f"at most {MOST_POINTS:,}: draw them, with [sample]")
        which = np.empty((prod(sizes), len(axes)), np.int32)
        if sizes:
            places = np.unravel_index(np.arange(prod(sizes)), sizes)
            for members, place in zip(groups.values(), places, strict=True):
                which[:, members] = place[:, None]
        shown = tuple(axis.shown or one for axis, one in zip(axes, levels, strict=True))
        return cls(tuple(axes), tuple(levels), shown, which)

    def __len__(self) -> int:
        return len(self.which)

    def values(self, point: int) -> list[Any]:
        """Return what each axis is set to at a point, from 0."""
        return [level[place] for level, place in zip(self.levels, self.which[point].tolist(), strict=True)]

    def labels(self, point: int) -> dict[str, Any]:
        """Return what stands for the values of a point, by the axes' titles."""
        places = self.which[point].tolist()
        return {axis.title: one[place] for axis, one, place in zip(self.axes, self.shown, places, strict=True)}


def _given(axis: Axis) -> tuple[Any, ...]:
    return tuple(axis.values or axis.times or ())
