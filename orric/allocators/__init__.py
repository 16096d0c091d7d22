"""Allocators by name.

To add one, write a subclass of `Allocator` in a file of this folder and register it in `ALLOCATORS`; packages
of third parties register theirs under the entry-point group `orric.allocators`. The contract tests then run
on it by themselves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from orric.allocators.base import Allocator
from orric.allocators.cloud import CloudRetraining
from orric.allocators.greedy import InferenceGreedy, InferenceOnly, KnowledgeDistillation, RetrainingGreedy
from orric.allocators.guard import BEFORE, blamed
from orric.allocators.guided import GuidedOrric
from orric.allocators.joint import ExactJointOrric, JointOrric
from orric.allocators.orric import FocusShift, Orric
from orric.allocators.placing import PlacingOrric
from orric.allocators.thief import FairShare, Thief
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
        CloudRetraining,
        InferenceOnly,
        InferenceGreedy,
        RetrainingGreedy,
        KnowledgeDistillation,
        FocusShift,
        Thief,
        FairShare,
    )
}
ALIASES = {"student-only": "inference-only"}
# Lines to draw beside allocators, which decide nothing themselves.
REFERENCES = ("teacher-only", "batch-norm-only")


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group="orric.allocators")}


def check_name(name: str) -> None:
    """Refuse a name that no allocator has, without loading the package of one that is installed.

    Raises:
        ScenarioError: The name is unknown; the nearest known one is suggested. Or it is that of a reference line.
    """
    if ALIASES.get(name, name) in ALLOCATORS or name in _installed():
        return
    if name in REFERENCES:
        found = f"{name!r} is a reference line, not an allocator"
        raise ScenarioError("allocator", found, f'have orric run draw it by references = ["{name}"] in a scenario')
    raise ScenarioError("allocator", f"{name!r} is unknown", nearest(name, [*ALLOCATORS, *ALIASES, *_installed()]))


def make_allocator(name: str) -> Allocator:
    """Construct an allocator by name.

    Raises:
        ScenarioError: The name is refused by `check_name`.
        AllocatorError: It cannot be loaded or constructed, or is no `Allocator`.

    >>> make_allocator("student-only").name
    'inference-only'
    """
    check_name(name)
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
