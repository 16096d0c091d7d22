"""How accuracy grows with retraining: the learning curve f and the learning extent x.

To add a form of curve, write a subclass of `LearningCurve` and register it in `FORMS`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, SerializeAsAny, model_validator

from orric.exceptions import OrricError, ProfileError, nearest
from orric.section import Count, Name, Positive, Real, Section

Array = np.ndarray[Any, np.dtype[np.float64]]


class LearningCurve(Section):
    """f: student accuracy against learning extent, increasing and concave (ORRIC, section III).

    The engines use it; allocators never see it.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    form: Name

    def __call__(self, extent: float | Array) -> Any:
        """Return the accuracy, in [0, 1], at a learning extent (at least 0; scalar or array)."""
        raise NotImplementedError

    def slope(self, extent: float | Array) -> Any:
        """Return the (right-hand) derivative in accuracy per profit at a learning extent (scalar or array)."""
        raise NotImplementedError

    def slope_before(self, extent: float | Array) -> Any:
        """Return the left-hand derivative, which differs from `slope` only at the kinks of measured points."""
        return self.slope(extent)

    def magnitude(self, most: float) -> float:
        """Return how large the terms get that add up to an accuracy, up to an extent: rounding is relative to them."""
        return abs(float(self(most)))

    def at(self, slot: int) -> LearningCurve:
        """Return the curve that holds in a slot (from 1): itself, unless it changes with time."""
        return self

    @property
    def pieces(self) -> tuple[LearningCurve, ...]:
        """The curves that hold in one slot or another, none of which changes with time."""
        return (self,)


class Exponential(LearningCurve):
    """f(x) = c - a exp(-k x).

    >>> curve = Exponential(c=0.8, a=0.2, k=3.0)
    >>> round(float(curve(0.0)), 6), round(float(curve.slope(0.0)), 6)
    (0.6, 0.6)
    """

    form: Literal["exponential"] = "exponential"
    c: Real
    a: Positive
    k: Positive

    def __call__(self, extent: float | Array) -> Any:
        return self.c - self.a * np.exp(-self.k * np.asarray(extent))

    def slope(self, extent: float | Array) -> Any:
        return self.a * self.k * np.exp(-self.k * np.asarray(extent))

    def magnitude(self, most: float) -> float:
        return abs(self.c) + self.a


class Power(LearningCurve):
    """f(x) = c - a (x + b)^-alpha."""

    form: Literal["power"] = "power"
    c: Real
    a: Positive
    b: Positive
    alpha: Positive

    def __call__(self, extent: float | Array) -> Any:
        return self.c - self.a * (np.asarray(extent) + self.b) ** -self.alpha

    def slope(self, extent: float | Array) -> Any:
        return self.a * self.alpha * (np.asarray(extent) + self.b) ** (-self.alpha - 1)

    def magnitude(self, most: float) -> float:
        # The power multiplies the relative error of its base by alpha.
        return float(abs(self.c) + (1 + self.alpha) * self.a * self.b**-self.alpha)


class Logarithmic(LearningCurve):
    """f(x) = a + b log(1 + k x)."""

    form: Literal["logarithmic"] = "logarithmic"
    a: Real
    b: Positive
    k: Positive

    def __call__(self, extent: float | Array) -> Any:
        return self.a + self.b * np.log1p(self.k * np.asarray(extent))

    def slope(self, extent: float | Array) -> Any:
        return self.b * self.k / (1 + self.k * np.asarray(extent))

    def magnitude(self, most: float) -> float:
        return float(abs(self.a) + self.b * np.log1p(self.k * most))


class Tabulated(LearningCurve):
    """f through measured points (x, y), linear between them and constant after the last.

    The first x is 0, x and y ascend, and the slopes do not rise (concavity).
    """

    form: Literal["tabulated"] = "tabulated"
    x: tuple[Real, ...]
    y: tuple[Real, ...]

    @model_validator(mode="after")
    def _concave_and_increasing(self) -> Tabulated:
        if len(self.x) != len(self.y) or len(self.x) < 2:
            raise ValueError(f"{len(self.x)} x and {len(self.y)} y; give as many x as y, two at least")
        if self.x[0] != 0:
            raise ValueError(f"the first x is {self.x[0]:g}; start at x = 0, the student before any retraining")
        if min(np.diff(self.x)) <= 0 or min(np.diff(self.y)) < 0:
            raise ValueError("the points do not ascend; sort them by x and remove any y that falls")
        slopes = np.diff(self.y) / np.diff(self.x)
        rises = np.flatnonzero(np.diff(slopes) > 1e-12 * max(abs(slopes)))
        if rises.size:
            place = int(rises[0]) + 1
            raise ValueError(
                f"the slope rises at x = {self.x[place]:g}, so the curve is not concave; "
                "smooth the points, or replace them by their upper concave hull"
            )
        return self

    def __call__(self, extent: float | Array) -> Any:
        return np.interp(extent, self.x, self.y)

    def slope(self, extent: float | Array) -> Any:
        slopes = np.append(np.diff(self.y) / np.diff(self.x), 0.0)
        return slopes[np.searchsorted(self.x, extent, side="right") - 1]

    def slope_before(self, extent: float | Array) -> Any:
        slopes = np.append(np.diff(self.y) / np.diff(self.x), 0.0)
        return slopes[np.maximum(np.searchsorted(self.x, extent, side="left") - 1, 0)]


class TimeVarying(LearningCurve):
    """f_t: another curve from each of several slots on (one of the variants that the paper leaves open).

    Attributes:
        starts: First slot of each piece, ascending from 1.
        curves: The curve of each piece; one that changes with time itself counts the same slots.
    """

    form: Literal["time-varying"] = "time-varying"
    starts: tuple[Count, ...]
    curves: tuple[AnyCurve, ...]

    @model_validator(mode="after")
    def _ascending(self) -> TimeVarying:
        if not self.starts or self.starts[0] != 1 or sorted(set(self.starts)) != list(self.starts):
            raise ValueError(f"starts are {list(self.starts)}; give ascending slots, the first of them 1")
        if len(self.starts) != len(self.curves):
            raise ValueError(f"{len(self.starts)} starts and {len(self.curves)} curves; give one curve for each start")
        return self

    def at(self, slot: int) -> LearningCurve:
        return self.curves[int(np.searchsorted(self.starts, slot, side="right")) - 1].at(slot)

    @property
    def pieces(self) -> tuple[LearningCurve, ...]:
        return tuple(piece for curve in self.curves for piece in curve.pieces)

    def __call__(self, extent: float | Array) -> Any:
        """Return the accuracy of the first piece; use `at` for the others."""
        return self.curves[0](extent)

    def slope(self, extent: float | Array) -> Any:
        return np.minimum.reduce([curve.slope(extent) for curve in self.curves])


FORMS: dict[str, type[LearningCurve]] = {
    "exponential": Exponential,
    "power": Power,
    "logarithmic": Logarithmic,
    "tabulated": Tabulated,
    "time-varying": TimeVarying,
}


def _by_form(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "form" not in value:
        raise ValueError(f"key 'form' is missing; add it: {', '.join(FORMS)}")
    form = value["form"]
    if form not in FORMS:
        raise ValueError(f"the form {form!r} is unknown; {nearest(str(form), FORMS)}")
    return FORMS[form].model_validate(value)


AnyCurve = Annotated[SerializeAsAny[LearningCurve], BeforeValidator(_by_form)]
TimeVarying.model_rebuild()


class LearningExtent(Section):
    """How the profits of past slots add up to the learning extent before the present one.

    ============  ====================================================================
    kind          x_t, with requests D(s) and retraining profits A(s) of slots s < t
    ============  ====================================================================
    uniform       sum_{s<t} D(s) A(s) / sum_{s<t} D(s) (the paper's)
    window        the same over the last `slots` slots only
    decay         the same with slot s weighted by `factor`^(t-1-s)
    ============  ====================================================================

    x_1 = 0, and slots without requests leave x unchanged. The fourth variant, a curve that changes with time,
    is `TimeVarying`.

    Attributes:
        kind: One of the above.
        slots: w, for a window.
        factor: d in (0, 1), for decay.
    """

    error: ClassVar[type[OrricError]] = ProfileError
    kind: Literal["uniform", "window", "decay"] = "uniform"
    slots: Count | None = None
    factor: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _parameters(self) -> LearningExtent:
        wanted = {"uniform": set(), "window": {"slots"}, "decay": {"factor"}}[self.kind]
        given = {name for name in ("slots", "factor") if getattr(self, name) is not None}
        if wanted != given:
            raise ValueError(
                f"kind {self.kind!r} with {sorted(given) or 'no parameter'}; "
                f"it takes {' and '.join(sorted(wanted)) or 'none'}"
            )
        return self

    def extents(self, requests: Array, profits: Array) -> Array:
        """Return x_1 .. x_{T+1} for requests D(t) and retraining profits, both of shape (T,).

        Complexity O(T). The last entry is the extent after the last slot.
        """
        requests, profits = np.asarray(requests, float), np.asarray(profits, float)
        gained = requests * profits
        if self.kind == "decay":
            assert self.factor is not None
            numerator, denominator = _decayed(gained, self.factor), _decayed(requests, self.factor)
        else:
            # Sums over a window are taken anew: differences of running sums would lose digits.
            if self.kind == "window":
                assert self.slots is not None
                numerator, denominator = _windowed(gained, self.slots), _windowed(requests, self.slots)
            else:
                numerator, denominator = np.cumsum(gained), np.cumsum(requests)
        extents = np.zeros(len(requests) + 1)
        counted = requests > 0
        extents[1:][counted] = numerator[counted] / denominator[counted]
        # A slot without requests keeps the extent from before it.
        kept = np.maximum.accumulate(np.concatenate([[0], np.where(counted, np.arange(1, len(requests) + 1), 0)]))
        return extents[kept]


class RunningExtent:
    """x_t kept slot by slot, in memory that does not grow with the slots: what `LearningExtent.extents` ends with.

    Args:
        memory: How profits add up.

    Attributes:
        value: x before the next slot.

    >>> extent = RunningExtent(UNIFORM)
    >>> extent.add(100, 1.0)
    >>> extent.value, extent.after(300, [0.0, 1.0])
    (1.0, [0.25, 1.0])
    """

    def __init__(self, memory: LearningExtent) -> None:
        self.value = 0.0
        self._factor = 1.0 if memory.factor is None else memory.factor
        # A window keeps its slots (gained, requests) and those that the value is made of, which are older where slots
        # without requests have followed since; the others keep two sums.
        self._slots: deque[list[float]] | None = None
        if memory.kind == "window":
            assert memory.slots is not None
            self._slots = deque(maxlen=memory.slots)
            self._counted: tuple[list[float], ...] = ()
            self._since = 0
        self._gained = self._requests = 0.0

    def _sums(self) -> tuple[float, float]:
        """Return what counts of the past in the next slot: the profits gained and the requests."""
        if self._slots is None:
            return self._gained * self._factor, self._requests * self._factor
        # The oldest one leaves when the next comes.
        kept = list(self._slots)[1 if len(self._slots) == self._slots.maxlen else 0 :]
        return math.fsum(gained for gained, _ in kept), math.fsum(requests for _, requests in kept)

    def after(self, requests: float, profits: Sequence[float]) -> list[float]:
        """Return what x would be after one more slot, for each of several profits; as it is without requests."""
        if requests <= 0:
            return [self.value] * len(profits)
        gained, past = self._sums()
        return [(gained + requests * profit) / (past + requests) for profit in profits]

    def add(self, requests: float, profit: float) -> None:
        """Take a slot in. Complexity O(1), O(w) for a window of w slots."""
        (self.value,) = self.after(requests, [profit])
        if self._slots is not None:
            self._slots.append([requests * profit, requests])
            self._since += 1
            if requests > 0:
                self._counted, self._since = tuple(self._slots), 0
            return
        gained, past = self._sums()
        self._gained, self._requests = gained + requests * profit, past + requests

    def revise(self, ago: int, requests: float, profit: float) -> None:
        """Let an earlier slot have gained some profit more: its retraining was done later.

        Args:
            ago: How many slots before the last one, 0 for that one.
            requests: Those of the slot.
            profit: What it gained for each.
        """
        if self._slots is not None:
            place = len(self._counted) - 1 - (ago - self._since)
            if ago < len(self._slots):
                # One and the same list stands in both.
                self._slots[-1 - ago][0] += requests * profit
            elif 0 <= place < len(self._counted):
                self._counted[place][0] += requests * profit
            past = math.fsum(requests for _, requests in self._counted)
            if past > 0:
                self.value = math.fsum(gained for gained, _ in self._counted) / past
            return
        self._gained += requests * profit * self._factor**ago
        if self._requests > 0:
            self.value = self._gained / self._requests


def _decayed(values: Array, factor: float) -> Array:
    from scipy.signal import lfilter  # imported late: scipy.signal takes longer to load than all of orric

    return np.asarray(lfilter([1.0], [1.0, -factor], values))


def _windowed(values: Array, slots: int) -> Array:
    if not len(values):
        return values
    slots = min(slots, len(values))
    padded = np.concatenate([np.zeros(slots - 1), values])
    sums: Array = np.lib.stride_tricks.sliding_window_view(padded, slots).sum(axis=1)
    return sums


UNIFORM = LearningExtent()
