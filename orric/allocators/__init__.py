"""Allocators by name.

To add one, write a subclass of `Allocator` in a file of this folder and register it in `ALLOCATORS`; packages
of third parties register theirs under the entry-point group `orric.allocators`. The contract tests then run
on it by themselves. `TRIGGERS` are wrapped around an allocator by names such as "adwin+orric".
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from orric.allocators.adainf import AdaInf
from orric.allocators.base import Allocator
from orric.allocators.chord import ChordOrric, JointChordOrric
from orric.allocators.cloud import CloudRetraining
from orric.allocators.greedy import InferenceGreedy, InferenceOnly, KnowledgeDistillation, RetrainingGreedy
from orric.allocators.guard import BEFORE, blamed
from orric.allocators.guided import GuidedOrric
from orric.allocators.joint import ExactJointOrric, JointOrric
from orric.allocators.line import LineOrric
from orric.allocators.orric import FocusShift, Orric
from orric.allocators.placing import PlacingOrric
from orric.allocators.random_pairs import RandomPairs
from orric.allocators.thief import FairShare, Thief
from orric.allocators.triggers import TRIGGERS as TRIGGERS
from orric.allocators.turns import RoundRobin, WorstFirst
from orric.allocators.uniform import Uniform30, Uniform50, Uniform90
from orric.exceptions import AllocatorError, OrricError, ScenarioError, nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ALLOCATORS: dict[str, type[Allocator]] = {
    allocator.name: allocator
    for allocator in (
        Orric,
        JointOrric,
        ExactJointOrric,
        PlacingOrric,
        GuidedOrric,
        ChordOrric,
        JointChordOrric,
        LineOrric,
        CloudRetraining,
        InferenceOnly,
        InferenceGreedy,
        RetrainingGreedy,
        KnowledgeDistillation,
        FocusShift,
        Thief,
        FairShare,
        AdaInf,
        Uniform30,
        Uniform50,
        Uniform90,
        RoundRobin,
        WorstFirst,
        RandomPairs,
    )
}
ALIASES = {"student-only": "inference-only", "no-retraining": "inference-only"}
# Lines to draw beside allocators, which decide nothing themselves.
REFERENCES = ("teacher-only", "batch-norm-only")


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="orric.allocators")}


def _plain(name: str) -> bool:
    """Say whether one class is registered under a name, whatever signs are in it."""
    return ALIASES.get(name, name) in ALLOCATORS or name in _installed()


def check_name(name: str) -> None:
    """Refuse a name that no allocator has, without loading the package of one that is installed.

    A trigger, "+" and a name is a name, too.

    Raises:
        ScenarioError: The name, or a part of it, is unknown; the nearest known one is suggested. Or it is that of a
            reference line.
    """
    inner, where = name, ""
    while not _plain(inner):
        trigger, plus, rest = inner.partition("+")
        if not plus:
            break
        if trigger not in TRIGGERS:
            raise ScenarioError("allocator", f"{trigger!r} in {name!r} is no trigger", nearest(trigger, TRIGGERS))
        inner, where = rest, f" in {name!r}"
    else:
        return
    if inner in REFERENCES:
        found = f"{inner!r}{where} is a reference line, not an allocator"
        raise ScenarioError("allocator", found, f'have orric run draw it by references = ["{inner}"] in a scenario')
    if inner in TRIGGERS:
        found = f"{inner!r}{where} is a trigger, which is put before an allocator"
        raise ScenarioError("allocator", found, f"write for instance '{inner}+orric'")
    known = nearest(inner, [*ALLOCATORS, *ALIASES, *_installed()])
    raise ScenarioError("allocator", f"{inner!r}{where} is unknown", known)


def make_allocator(name: str) -> Allocator:
    """Construct an allocator by name; its triggers, if there are any, are wrapped around it.

    Raises:
        ScenarioError: The name is refused by `check_name`.
        AllocatorError: It cannot be loaded or constructed, or is no `Allocator`.

    >>> make_allocator("student-only").name
    'inference-only'
    >>> make_allocator("gain+orric").name
    'gain+orric'
    """
    check_name(name)
    if not _plain(name):
        trigger, _, inner = name.partition("+")
        return TRIGGERS[trigger](make_allocator(inner))
    registered = ALLOCATORS.get(ALIASES.get(name, name))
    module = _installed()[name].module if registered is None else registered.__module__
    try:
        made: object = (registered or _installed()[name].load())()
    except OrricError:
        raise
    except Exception as error:
        raise blamed(name, BEFORE, error, module) from error
    if not isinstance(made, Allocator):
        raise AllocatorError(name, BEFORE, f"is of the type {type(made).__name__}", "inherit from orric.Allocator")
    return made
