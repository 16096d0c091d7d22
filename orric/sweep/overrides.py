"""Set keys of a scenario and of its profiles, point by point."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from orric.exceptions import OrricError, ScenarioError, nearest
from orric.profile import Profile
from orric.scenario import Scenario
from orric.sweep.axes import Axis

PROFILE = "profile."
# Keys that repeat the scenario's own tables up to a number.
REPEATED = {"streams": "stream", "gpus": "gpu"}
# What the slot model reads of a scenario; the rest makes no difference to it.
OF_SLOTS = re.compile(
    r"slots|slot_s|overload|streams|gpus"
    r"|profile\.(best_accuracy|slope_floor|retraining|inference|curve|memory|drift_curve)(\..+)?|gpu\.[^.]+(\.(macs_per_s|budget)(\..+)?)?"
    r"|stream\.[^.]+(\.(profile|requests|drift)(\..+)?)?"
)
# What makes no difference to a run, or is the sweep's own affair.
FORBIDDEN = ("name", "seed", "allocators", "references", "format")


def known_keys(table: Any, before: str = "") -> Iterator[str]:
    """Walk the keys of a nested table, as axes name them: items of lists by their number from 1, or "*" for all."""
    if isinstance(table, dict):
        for name, value in table.items():
            yield f"{before}{name}"
            yield from known_keys(value, f"{before}{name}.")
    elif isinstance(table, (list, tuple)):
        for number, value in enumerate(table, start=1):
            for place in (number, "*"):
                yield f"{before}{place}"
                yield from known_keys(value, f"{before}{place}.")


def check_keys(base: Scenario, axes: Sequence[Axis], where: str, engine: str = "simulator") -> None:
    """Refuse an axis whose key is not in the scenario; the nearest one is named.

    Raises:
        ScenarioError: A key is unknown, set by two axes, or makes no difference to the engine.
    """
    known = [key for key in known_keys(base.model_dump()) if key not in FORBIDDEN]
    known += [*REPEATED, *(f"{PROFILE}{key}" for key in known_keys(base.profile.model_dump(exclude_none=True)))]
    seen: dict[str, int] = {}
    for number, axis in enumerate(axes, start=1):
        if axis.key not in known:
            raise ScenarioError(f"{where}: axis.{number}.key", f"{axis.key!r} is unknown", nearest(axis.key, known))
        if engine == "slot-model" and not OF_SLOTS.fullmatch(axis.key):
            found = f"{axis.key!r} makes no difference in the slot model"
            raise ScenarioError(f"{where}: axis.{number}.key", found, 'leave it out, or set engine = "simulator"')
        for key, before in seen.items():
            if _overlap(axis.key, key):
                found = f"{axis.key!r} is that of axis {before}, too" if key == axis.key else (
                    f"{axis.key!r} and {key!r} of axis {before} set the same"
                )  # fmt: skip
                raise ScenarioError(f"{where}: axis.{number}.key", found, "let one axis set it")
        seen[axis.key] = number


def _overlap(one: str, other: str) -> bool:
    """Whether two keys set the same thing, or one a part of the other."""
    pairs = zip(one.split("."), other.split("."), strict=False)
    return all(left == right or "*" in (left, right) for left, right in pairs)


def scenario_at(base: Scenario, axes: Sequence[Axis], values: Sequence[Any], where: str) -> Scenario:
    """Return the scenario of a point, validated.

    Args:
        base: The sweep's scenario.
        axes: What is set.
        values: To what, one for each axis.
        where: The point, for errors.

    Raises:
        OrricError: The scenario is not valid at this point.
    """
    table = _listed(base.model_dump(exclude_none=True))
    of_profiles: list[tuple[str, Any, bool]] = []
    # Streams and GPUs are repeated first, so that keys of all of them reach the new ones, too.
    for axis, value in sorted(zip(axes, values, strict=True), key=lambda one: one[0].key not in REPEATED):
        multiplied = axis.times is not None
        if axis.key.startswith(PROFILE):
            of_profiles.append((axis.key.removeprefix(PROFILE), value, multiplied))
        elif axis.key in REPEATED:
            _repeat(table, REPEATED[axis.key], value, where)
        else:
            _set(table, axis.key.split("."), value, multiplied, f"{where}: {axis.key}")
    with _told_at(where):
        made = type(base)(**table)
        made._folder = base._folder
        made._profiles = dict(base._profiles)
        if of_profiles:
            for name in {stream.profile for stream in made.stream}:
                profile = made._profiles.get(name) or Profile.load(made._folder / name)
                made._profiles[name] = _changed(_Same(profile), _Settings(of_profiles))
    made.check(where)
    return made


@contextmanager
def _told_at(where: str) -> Iterator[None]:
    """Let what a section or its profile refuses inside the block be told as the point's."""
    try:
        yield
    except OrricError as error:
        if len(error.args) != 3:
            raise
        place, found, remedy = error.args
        raise ScenarioError(f"{where}: {str(place).partition('.')[2] or place}", found, remedy) from None


def _listed(value: Any) -> Any:
    """Return a nested table with lists in place of tuples, so that items can be set."""
    if isinstance(value, dict):
        return {name: _listed(one) for name, one in value.items()}
    return [_listed(one) for one in value] if isinstance(value, (list, tuple)) else value


def _set(table: Any, path: list[str], value: Any, multiplied: bool, where: str) -> None:
    """Set a key of a nested table; "*" sets it in every item."""
    head, *rest = path
    items: list[Any] = [head]
    if isinstance(table, list):
        items = list(range(len(table))) if head == "*" else [int(head) - 1]
        if items and items[-1] >= len(table):
            raise ScenarioError(where, f"there is no {head}", f"the scenario has {len(table)} at this point")
    for item in items:
        if rest:
            if isinstance(table, dict) and item not in table:
                raise ScenarioError(where, f"the scenario has no {item!r} at this point", "set it as a whole")
            _set(table[item], rest, value, multiplied, where)
        elif multiplied:
            own = table.get(item) if isinstance(table, dict) else table[item]
            if isinstance(own, bool) or not isinstance(own, (int, float)):
                raise ScenarioError(where, f"found {own!r}, which cannot be multiplied", "give values, not times")
            product = own * value
            # A whole number stays one, so that keys that take nothing else can be multiplied.
            table[item] = int(product) if isinstance(own, int) and float(product).is_integer() else product
        else:
            table[item] = copy.deepcopy(value)


def _repeat(table: dict[str, Any], kind: str, count: Any, where: str) -> None:
    """Repeat the tables of a kind, in turn, up to a number; repeated ones are numbered."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ScenarioError(f"{where}: {kind}s", f"found {count!r}", "give a whole number from 1 up")
    given = list(table[kind])
    made = []
    for number in range(count):
        one = copy.deepcopy(given[number % len(given)])
        if number >= len(given):
            one["name"] = f"{one['name']}-{number // len(given) + 1}"
        made.append(one)
    table[kind] = made
    # Who was placed by name is placed anew, since there are others now.
    if kind == "gpu" or count > len(given):
        for stream in table["stream"]:
            stream.pop("gpu", None)


class _Same:
    """A profile as a key of a cache: only the same object equals it."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def __hash__(self) -> int:
        return id(self.profile)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.profile is self.profile


class _Settings:
    """Keys and values as a key of a cache: those that Python writes alike are alike."""

    def __init__(self, every: list[tuple[str, Any, bool]]) -> None:
        self.every = every
        self._written = repr(every)

    def __hash__(self) -> int:
        return hash(self._written)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Settings) and other._written == self._written


@lru_cache(maxsize=256)
def _changed(same: _Same, settings: _Settings) -> Profile:
    """Return a profile with some keys set to values."""
    table = _listed(same.profile.model_dump(exclude_none=True))
    for key, value, multiplied in settings.every:
        _set(table, key.split("."), value, multiplied, f"{PROFILE}{key}")
    made = Profile(**table)
    return same.profile.model_copy(update={name: getattr(made, name) for name in Profile.model_fields})
